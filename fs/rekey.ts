/** Sealing all of a container anew under the newest master key, so that the older ones open nothing any more. */
import { IntegrityError } from "../crypto/errors.ts";
import { SEALED } from "../crypto/sealer.ts";
import { breathe } from "./clock.ts";
import { renewCheckpoint } from "./compact.ts";
import type { Container } from "./container.ts";
import { blocksFor } from "./layout/extent_tree.ts";
import { type MoveOptions, Mover } from "./mover.ts";
import type { Run } from "./layout/superblock.ts";
import type { CommitNumber } from "./types.ts";
import type { VolumeState } from "./volume_state.ts";

/** Blocks that are overwritten at once. */
const WIPE_RUN = 256;

/** Tells whether data of this birth is sealed under an older generation of the master key. */
function isOld(container: Container, birth: CommitNumber): boolean {
  try {
    return container.dataIdentity(0, birth).generation !== container.keys.generation;
  } catch (error) {
    if (error instanceof IntegrityError) return false; // of no known session: no key opens it
    throw error;
  }
}

/** How many blocks of files are sealed under older generations of the master key. */
export function olderBlocks(container: Container): number {
  let blocks = 0;
  container.tables.extents.everyExtent((_ino, _offset, length, _position, birth) => {
    if (isOld(container, birth)) blocks += blocksFor(length);
  });
  return blocks;
}

/** What sealing anew has done, in blocks. */
export interface Rekeyed {
  readonly moved: number;
  /** Blocks that do not verify under any key: they stay as they are, and whoever gives up the older keys gives them up. */
  readonly unreadable: number;
}

/**
 * Writes data, journal and checkpoints anew that are sealed under older generations of the master key. The container
 * may be in use meanwhile. It may be interrupted at any moment and begun anew, with all keys: what is sealed under the
 * newest one already is left alone. When this has resolved, nothing but unreadable blocks needs the older ones, and
 * nothing else that they could open is left in the container: what is free is overwritten.
 *
 * @throws {FsError} ENOSPC if there is no room for a mebibyte; if nothing can be committed any more
 */
export async function rekey(state: VolumeState, options: MoveOptions): Promise<Rekeyed> {
  const { container, space } = state, mover = new Mover(state, options);
  // What a file gets by the older keys ends with the sessions before this one: one pass finds it all.
  await mover.pass({
    wants: (run, birth) => isOld(container, birth) ? run : undefined,
    take: async (blocks) => {
      await state.room(blocks);
      space.promise(blocks);
      return space.take(blocks);
    },
  });
  // Journal and checkpoints of before are needed until there are two newer ones.
  const renew = async () => {
    for (let i = 0; i < 2; i++) await renewCheckpoint(state);
  };
  await renew();
  await container.session.shrink();
  const wiped = await wipe(state, mover, []);
  // The chunks of journal were begun where old blocks lay, and are not full: others now take their place.
  await renew();
  await wipe(state, mover, wiped);
  return { moved: mover.moved, unreadable: mover.unreadable };
}

/** Overwrites all free blocks but those of `done`, which is in order. @returns what it has overwritten, in order */
async function wipe(state: VolumeState, mover: Mover, done: readonly Run[]): Promise<Run[]> {
  const { container: { store }, space } = state, wiped: Run[] = [], zeros = new Uint8Array(WIPE_RUN * SEALED);
  let at = 0, next = 0;
  for (let free = space.nextFree(at); free; free = space.nextFree(at)) {
    const position = Math.max(at, free.position);
    while (next < done.length && endOf(done[next]!) <= position) next++;
    const skipped = done[next];
    if (skipped && skipped.position <= position) {
      at = endOf(skipped);
      continue;
    }
    at = Math.min(endOf(free), position + WIPE_RUN, skipped?.position ?? Infinity);
    const run = { position, count: at - position };
    space.takeFree(run);
    try {
      await store.write(position, zeros.subarray(0, run.count * SEALED));
    } finally {
      space.release(run);
    }
    wiped.push(run);
    await breathe();
    mover.check();
  }
  return wiped;
}

function endOf({ position, count }: Run): number {
  return position + count;
}
