/** Opens a container that somebody or something has changed, in every way there is, and tells what came of it. */
import { CoverError } from "../../crypto/errors.ts";
import { type Medium, MediumStore } from "../../fs/block/medium.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { FsError } from "../../fs/errors.ts";
import { checkContainer } from "../../fs/fsck.ts";
import type { ContainerKeys } from "../../fs/loading.ts";
import { S_IFMT, S_IFREG } from "../../fs/types.ts";
import type { Picture } from "./crash_judge.ts";
import { namesOf } from "./crash_workload.ts";
import { equal, openVolume, walk } from "./fixture.ts";

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

/**
 * Opens a container to check, to read all of it and to write.
 *
 * @throws {Error} whatever is no documented answer to damage
 */
export async function examine(medium: Medium, keys: ContainerKeys): Promise<Examined> {
  const store = new MediumStore(medium.fork()), named: string[] = [], unreadable: string[] = [];
  let damaged = false, picture: Picture | undefined, writes = false;
  try {
    const { findings } = await checkContainer(store, keys, { scrub: true });
    for (const { severity, message } of findings) {
      named.push(message);
      damaged ||= severity === "damage";
    }
  } catch (error) {
    named.push(told(error));
    damaged = true;
  }
  try {
    const reader = await openVolume(store, "read", { keys }), files = new Map<string, Uint8Array>();
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
    picture = { commit: reader.container.last, names: namesOf(reader), files };
  } catch (error) {
    named.push(told(error));
  }
  try {
    await endOf(new MediumStore(medium.fork()), keys);
    writes = true;
  } catch (error) {
    named.push(told(error));
  }
  return { named, damaged, picture, unreadable, writes };
}

async function endOf(store: BlockStore, keys: ContainerKeys): Promise<void> {
  const writer = await openVolume(store, "write", { atime: "noatime", keys });
  await writer.end();
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
