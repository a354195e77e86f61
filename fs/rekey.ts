/** Sealing all of a container anew under the newest master key, so that the older ones open nothing any more. */
import { IntegrityError } from "../crypto/errors.ts";
import { renewCheckpoint } from "./compact.ts";
import { type MoveOptions, Mover } from "./mover.ts";
import type { CommitNumber } from "./types.ts";
import type { VolumeState } from "./volume_state.ts";

/** What sealing anew has done, in blocks. */
export interface Rekeyed {
  readonly moved: number;
  /** Blocks that do not verify under any key: they stay as they are, and whoever gives up the older keys gives them up. */
  readonly unreadable: number;
}

/**
 * Writes data, journal and checkpoints anew that are sealed under older generations of the master key. The container
 * may be in use meanwhile. It may be interrupted at any moment and begun anew, with all keys: what is sealed under the
 * newest one already is left alone. When this has resolved, nothing but unreadable blocks needs the older ones.
 *
 * @throws {FsError} ENOSPC if there is no room for a mebibyte; if nothing can be committed any more
 */
export async function rekey(state: VolumeState, options: MoveOptions): Promise<Rekeyed> {
  const { container, space } = state, { generation } = container.keys, mover = new Mover(state, options);
  const isOld = (birth: CommitNumber): boolean => {
    try {
      return container.dataIdentity(0, birth).generation !== generation;
    } catch (error) {
      if (error instanceof IntegrityError) return false; // of no known session: no key opens it
      throw error;
    }
  };
  // What a file gets by the older keys ends with the sessions before this one: one pass finds it all.
  await mover.pass({
    wants: (run, birth) => isOld(birth) ? run : undefined,
    take: async (blocks) => {
      await state.room(blocks);
      space.promise(blocks);
      return space.take(blocks);
    },
  });
  // Journal and checkpoints of before are needed until there are two newer ones.
  for (let i = 0; i < 2; i++) await renewCheckpoint(state);
  return { moved: mover.moved, unreadable: mover.unreadable };
}
