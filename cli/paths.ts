/** Paths inside a container: always from its root, as bytes; symbolic links as POSIX tools follow them. */
import { CoverError, IntegrityError } from "../crypto/errors.ts";
import { type ErrnoName, FsError } from "../fs/errors.ts";
import type { Filesystem } from "../fs/filesystem.ts";
import { type Ino, ROOT, S_IFDIR, S_IFLNK, S_IFMT } from "../fs/types.ts";
import { errnoWords } from "./exit.ts";
import { nameText } from "./output.ts";

/** Symbolic links that one path may lead through (as Linux: MAXSYMLINKS). */
const LINKS_MAX = 40;
const SLASH = 0x2f;

/** A place for an entry: the directory, and the name in it. */
export interface Place {
  readonly directory: Ino;
  readonly name: Uint8Array;
  /** The inode that is there, if any; a symbolic link itself. */
  readonly ino: Ino | undefined;
}

/** An errno that names the path it is about. */
export function pathError(code: ErrnoName, path: string, cause?: unknown): FsError {
  return new FsError(code, `"${path}": ${errnoWords(code)}`, cause === undefined ? undefined : { cause });
}

/** Runs something that concerns a path, and names the path in the errno or the damage that comes out of it. */
export async function about<T>(path: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof FsError && error.message === error.code) {
      throw pathError(error.code, path, error.cause);
    }
    if (error instanceof IntegrityError) {
      throw new CoverError("integrity", `"${path}": a block of it does not verify`, {
        hint: "It is damaged, or was changed without the key: coverfs fsck --scrub finds all such files",
        cause: error,
      });
    }
    throw error;
  }
}

/** The components of a path; empty ones and `.` left out. */
export function components(path: Uint8Array): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let from = 0; from <= path.length;) {
    const slash = path.indexOf(SLASH, from), to = slash < 0 ? path.length : slash;
    const part = path.subarray(from, to);
    if (part.length > 0 && !(part.length === 1 && part[0] === 0x2e)) parts.push(part);
    from = to + 1;
  }
  return parts;
}

/** Joins a directory's path and a name, for messages and listings. */
export function joinPath(directory: Uint8Array, name: Uint8Array): Uint8Array {
  const slash = directory.length > 0 && directory[directory.length - 1] === SLASH ? 0 : 1;
  const whole = new Uint8Array(directory.length + slash + name.length);
  whole.set(directory);
  if (slash) whole[directory.length] = SLASH;
  whole.set(name, directory.length + slash);
  return whole;
}

/** The last component of a path as text; empty for the root. */
export function lastName(path: string): string {
  const parts = components(encode(path)), last = parts[parts.length - 1];
  return last === undefined ? "" : nameText(last);
}

const encode = (text: string) => new TextEncoder().encode(text);
const isDots = (name: Uint8Array) => name.length === 2 && name[0] === 0x2e && name[1] === 0x2e;

/**
 * Finds what a path names.
 *
 * @param options.follow whether a symbolic link at the end is followed; a path that ends in `/` always is
 * @throws {FsError} ENOENT, ENOTDIR, ELOOP, with the path in the message
 */
export function resolve(filesystem: Filesystem, path: string, options: { follow: boolean }): Ino {
  const found = walk(filesystem, path, options.follow || path.endsWith("/"));
  if (found.ino === undefined) throw pathError("ENOENT", path);
  if (path.endsWith("/") && !isDirectory(filesystem, found.ino)) throw pathError("ENOTDIR", path);
  return found.ino;
}

/**
 * Finds where a path's last component is or would be; the directories before it must be there.
 *
 * @throws {FsError} ENOENT, ENOTDIR, ELOOP; EINVAL if the path names no entry: the root, or ends in `..`
 */
export function place(filesystem: Filesystem, path: string): Place {
  const found = walk(filesystem, path, false);
  if (found.name === undefined) {
    throw new FsError("EINVAL", `"${path}": neither the root nor a path that ends in ".." can be changed`);
  }
  return { directory: found.directory, name: found.name, ino: found.ino };
}

interface Walked {
  readonly directory: Ino;
  /** Undefined where the walk ended at the root or by `..`. */
  readonly name: Uint8Array | undefined;
  readonly ino: Ino | undefined;
}

function walk(filesystem: Filesystem, path: string, follow: boolean): Walked {
  const rest = components(encode(path)).reverse();
  let at: Walked = { directory: ROOT, name: undefined, ino: ROOT }, links = 0;
  while (rest.length > 0) {
    const name = rest.pop()!, directory = at.ino;
    if (directory === undefined) throw pathError("ENOENT", path);
    if (!isDirectory(filesystem, directory)) throw pathError("ENOTDIR", path);
    if (name.length > 255) throw pathError("ENAMETOOLONG", path);
    if (name.includes(0)) throw pathError("EINVAL", path);
    if (isDots(name)) {
      const parent = filesystem.parent(directory);
      at = { directory: parent, name: undefined, ino: parent };
      continue;
    }
    const ino = filesystem.lookup(directory, name);
    const link = ino !== undefined && (filesystem.attributes(ino).mode & S_IFMT) === S_IFLNK;
    if (!link || (rest.length === 0 && !follow)) {
      at = { directory, name, ino };
      continue;
    }
    if (++links > LINKS_MAX) throw pathError("ELOOP", path);
    const target = filesystem.readlink(ino);
    rest.push(...components(target).reverse());
    const from = target[0] === SLASH ? ROOT : directory;
    at = { directory: from, name: undefined, ino: from };
  }
  return at;
}

/** Tells whether an inode is a directory. */
export function isDirectory(filesystem: Filesystem, ino: Ino): boolean {
  return (filesystem.attributes(ino).mode & S_IFMT) === S_IFDIR;
}
