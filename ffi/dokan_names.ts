/**
 * Paths of Windows in a container: without regard to case, and yet each name as it was given.
 *
 * The rule: a name that is there exactly counts. Else, of those that differ in case only, the one that has been in its
 * directory for longest. So every name can be reached, as long as no two names of a directory are asked for by the same
 * other spelling.
 */
import { concat, fromUtf8, utf8 } from "../crypto/bytes.ts";
import type { Filesystem } from "../fs/filesystem.ts";
import { foldName } from "../fs/folded_names.ts";
import { type Ino, ROOT, S_IFDIR, S_IFLNK, S_IFMT } from "../fs/types.ts";
import { StatusRefusal } from "./ntstatus.ts";

/** Symbolic links that one path may lead through (as Linux: MAXSYMLINKS). */
const LINKS_MAX = 40;
/** Directories whose names are remembered folded. */
const REMEMBERED = 64;

// Characters that Windows has no names with appear as those 0xf000 further on, in the private use area, as with Cygwin and
// the Linux subsystem of Windows; so do, as with Cygwin, bytes that are no UTF-8.
const PRIVATE = 0xf000;
// deno-lint-ignore no-control-regex
const FORBIDDEN = /[\x01-\x1f"*:<>?\\|]|[. ]$/g;
const MAPPED = /[\uf001-\uf01f\uf022\uf02a\uf03a\uf03c\uf03e\uf03f\uf05c\uf07c]|[\uf02e\uf020]$/g;
const BYTES = /[\uf080-\uf0ff]/;

/** A name of a container as Windows sees it. */
export function shownName(name: Uint8Array): string {
  return textOf(name).replace(FORBIDDEN, (one) => String.fromCharCode(one.charCodeAt(0) + PRIVATE));
}

function textOf(name: Uint8Array): string {
  try {
    return fromUtf8(name);
  } catch {
    let text = "";
    for (let at = 0; at < name.length;) {
      const lead = name[at]!, length = lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
      try {
        text += fromUtf8(name.subarray(at, at + length));
        at += length;
      } catch {
        text += String.fromCharCode(PRIVATE + lead);
        at++;
      }
    }
    return text;
  }
}

/** A name of Windows as a container has it: what is shown so. @throws {StatusRefusal} OBJECT_NAME_INVALID */
export function storedName(shown: string): Uint8Array {
  // A colon: a stream of a file, of which there is only one.
  if (shown.includes(":") || !shown.isWellFormed()) throw new StatusRefusal("OBJECT_NAME_INVALID");
  const text = shown.replace(MAPPED, (one) => String.fromCharCode(one.charCodeAt(0) - PRIVATE));
  if (!BYTES.test(text)) return utf8(text);
  const bytes = concat(
    ...Array.from(text, (one) => BYTES.test(one) ? Uint8Array.of(one.charCodeAt(0) - PRIVATE) : utf8(one)),
  );
  return shownName(bytes) === shown ? bytes : utf8(text); // together they are UTF-8: then they stand for themselves
}

/** A place for an entry, and what is there. */
export interface NamePlace {
  readonly directory: Ino;
  /** As it is stored, or would be. */
  readonly name: Uint8Array;
  readonly ino: Ino | undefined;
}

/** Finds what paths name. */
export class DokanNames {
  readonly #filesystem: Filesystem;
  /** By directory: names by how they fold, and how far the directory was read. */
  readonly #folded = new Map<Ino, { newest: number; names: Map<string, Uint8Array> }>();

  constructor(filesystem: Filesystem) {
    this.#filesystem = filesystem;
  }

  /** Forgets what was read: another state is shown. */
  clear(): void {
    this.#folded.clear();
  }

  /**
   * Finds where a path such as `\folder\file` leads; undefined for the root.
   *
   * @param options.follow whether a symbolic link at the end is followed
   * @throws {StatusRefusal} OBJECT_PATH_NOT_FOUND, OBJECT_NAME_INVALID
   */
  place(path: string, options: { readonly follow: boolean }): NamePlace | undefined {
    const rest = path.split("\\").filter((part) => part !== "").map(storedName).reverse();
    let directory = ROOT, at: NamePlace | undefined, links = 0;
    while (rest.length > 0) {
      const name = rest.pop()!;
      if (at !== undefined) {
        if (at.ino === undefined || !this.isDirectory(at.ino)) {
          throw new StatusRefusal("OBJECT_PATH_NOT_FOUND");
        }
        directory = at.ino;
      }
      at = this.#entry(directory, name);
      const last = rest.length === 0;
      if (at.ino === undefined || (last && !options.follow) || !this.#isLink(at.ino)) continue;
      if (++links > LINKS_MAX) throw new StatusRefusal("OBJECT_PATH_NOT_FOUND");
      const target = this.#filesystem.readlink(at.ino);
      // An absolute one leads from the container's root: there is no other that it could mean.
      if (target[0] === 0x2f) directory = ROOT;
      at = undefined;
      rest.push(...split(target).reverse());
    }
    return at;
  }

  isDirectory(ino: Ino): boolean {
    return (this.#filesystem.attributes(ino).mode & S_IFMT) === S_IFDIR;
  }

  #isLink(ino: Ino): boolean {
    return (this.#filesystem.attributes(ino).mode & S_IFMT) === S_IFLNK;
  }

  #entry(directory: Ino, name: Uint8Array): NamePlace {
    const exact = this.#filesystem.lookup(directory, name);
    if (exact !== undefined) return { directory, name, ino: exact };
    return this.#other(directory, foldName(shownName(name))) ?? { directory, name, ino: undefined };
  }

  /** The oldest name of a directory that folds so. */
  #other(directory: Ino, folded: string): NamePlace | undefined {
    for (const again of [false, true]) {
      const name = this.#names(directory, again).get(folded);
      if (name === undefined) return undefined;
      const ino = this.#filesystem.lookup(directory, name);
      if (ino !== undefined) return { directory, name, ino };
    } // it was removed since
    return undefined;
  }

  #names(directory: Ino, again: boolean): Map<string, Uint8Array> {
    // What is new comes last, and raises the last cookie.
    const newest = this.#filesystem.newest(directory), known = this.#folded.get(directory);
    if (known !== undefined && known.newest === newest && !again) return known.names;
    const names = new Map<string, Uint8Array>();
    for (const { name } of this.#filesystem.list(directory)) {
      const folded = foldName(shownName(name));
      if (!names.has(folded)) names.set(folded, name.slice());
    }
    this.#folded.delete(directory);
    if (this.#folded.size >= REMEMBERED) this.#folded.delete(this.#folded.keys().next().value!);
    this.#folded.set(directory, { newest, names });
    return names;
  }
}

/** The components of a link's target. */
function split(target: Uint8Array): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let from = 0; from <= target.length;) {
    const slash = target.indexOf(0x2f, from), to = slash < 0 ? target.length : slash;
    if (to > from) parts.push(target.subarray(from, to));
    from = to + 1;
  }
  return parts;
}
