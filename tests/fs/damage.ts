/** Opens a container that somebody or something has changed, in every way there is, and tells what came of it. */
import { CoverError } from "../../crypto/errors.ts";
import type { Medium } from "../../fs/block/medium.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { FsError } from "../../fs/errors.ts";
import { checkContainer } from "../../fs/fsck.ts";
import type { ContainerKeys } from "../../fs/loading.ts";
import { S_IFMT, S_IFREG } from "../../fs/types.ts";
import type { Picture } from "./crash_judge.ts";
import { namesOf } from "./crash_workload.ts";
import { equal, openVolume, walk } from "./fixture.ts";
import { ReadMemo } from "./read_memo.ts";

/** What came of opening a container. */
export interface Examined {
  /** What was said of the damage: by fsck's findings and by errors. */
  readonly named: readonly string[];
  /** Something was found that lost something, or an error was thrown. */
  readonly damaged: boolean;
  /** What a reader sees; files that give an error are left out. Undefined where it cannot be opened to read. */
  readonly picture: Picture | undefined;
  readonly unreadable: readonly string[];
  /** It opens to write, and what it holds can be ended. */
  readonly writes: boolean;
}

/** Errors that may come of damage. All others are thrown on: they are a fault of the program. */
function told(error: unknown): string {
  const documented = error instanceof CoverError
    ? ["damaged", "integrity", "rollback", "unsupported"].includes(error.kind)
    : error instanceof FsError && error.code === "EIO";
  if (!documented) throw error;
  return (error as Error).message;
}

/** What a part of the examination gave. */
interface Part {
  readonly named: readonly string[];
  readonly damaged?: boolean;
  readonly picture?: Picture;
  readonly unreadable?: readonly string[];
}

/** Opens changed containers: to check, to read all of them, and to write. What nobody looks at costs nothing. */
export class Examiner {
  readonly #parts: readonly ReadMemo<Part>[];

  constructor(keys: ContainerKeys) {
    this.#parts = [check, read, write].map((part) => new ReadMemo((store) => part(store, keys)));
  }

  /** @throws {Error} whatever is no documented answer to damage */
  async examine(medium: Medium): Promise<Examined> {
    const parts: Part[] = [];
    for (const part of this.#parts) parts.push(await part.of(medium));
    const [checked, seen, written] = parts as [Part, Part, Part];
    return {
      named: parts.flatMap(({ named }) => named),
      damaged: checked.damaged === true,
      picture: seen.picture,
      unreadable: seen.unreadable ?? [],
      writes: !written.damaged,
    };
  }
}

async function check(store: BlockStore, keys: ContainerKeys): Promise<Part> {
  try {
    const { findings } = await checkContainer(store, keys, { scrub: true });
    return {
      named: findings.map(({ message }) => message),
      damaged: findings.some(({ severity }) => severity === "damage"),
    };
  } catch (error) {
    return { named: [told(error)], damaged: true };
  }
}

async function read(store: BlockStore, keys: ContainerKeys): Promise<Part> {
  const named: string[] = [], unreadable: string[] = [], files = new Map<string, Uint8Array>();
  try {
    const reader = await openVolume(store, "read", { keys });
    for (const { path, ino } of walk(reader)) {
      const { mode, size } = reader.attributes(ino);
      if ((mode & S_IFMT) !== S_IFREG) continue;
      try {
        files.set(path, (await reader.read(ino, 0, size)).slice());
      } catch (error) {
        named.push(told(error));
        unreadable.push(path);
      }
    }
    return { named, unreadable, picture: { commit: reader.container.last, names: namesOf(reader), files } };
  } catch (error) {
    return { named: [told(error)] };
  }
}

/** Opens to write, and ends. */
async function write(store: BlockStore, keys: ContainerKeys): Promise<Part> {
  try {
    const writer = await openVolume(store, "write", { atime: "noatime", keys });
    await writer.end();
    return { named: [] };
  } catch (error) {
    return { named: [told(error)], damaged: true };
  }
}

/** What a container held before it was changed. */
export interface Before {
  readonly newest: Picture;
  /** What it held after earlier commits: all that may be left where the journal's damage is named. */
  readonly earlier: readonly Picture[];
}

/** Why what came of opening a changed container must not be: wrong data, or a loss that is not told. */
export function faultOf(examined: Examined, before: Before): string | undefined {
  const { picture, named, damaged, unreadable, writes } = examined;
  if (picture === undefined) return named.length === 0 ? "it does not open, and nobody says why" : undefined;
  const known = [before.newest, ...before.earlier].find(({ names }) => names === picture.names);
  if (known === undefined) return "it shows a tree that there never was";
  for (const [path, bytes] of picture.files) {
    if (!equal(bytes, known.files.get(path)!)) return `"${path}" shows what it never held`;
  }
  if (unreadable.length > 0 && !damaged) return `"${unreadable[0]}" is damaged, and fsck did not find it`;
  if (known !== before.newest) {
    if (!damaged) return "a commit is lost, and fsck did not find it";
    if (writes) return "a commit is lost, and yet it opens to write";
  }
  return undefined;
}
