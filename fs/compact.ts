/** Moving what lies at the end of a container into its holes, so that it can be made shorter. */
import { type MoveOptions, Mover } from "./mover.ts";
import { ROOT } from "./types.ts";
import type { VolumeState } from "./volume_state.ts";

/** How often what the moves, the metadata and other changes have left at the end is looked at again. */
const PASSES = 4;

/** What compacting has done, in blocks. */
export interface Compacted {
  readonly before: number;
  readonly after: number;
  readonly moved: number;
  /** Blocks that stay where they are, as they do not verify. */
  readonly unreadable: number;
}

/**
 * Makes a container as short as its content and the reserve allow, as far as whole runs of metadata find a place. It
 * may be in use meanwhile, and be interrupted at any moment.
 *
 * @throws {FsError} if nothing can be committed any more; what the signal's reason is
 */
export async function compact(state: VolumeState, options: MoveOptions): Promise<Compacted> {
  const { container, space } = state,
    before = await container.store.size(),
    mover = new Mover(state, options);
  space.lowest = true;
  try {
    for (let pass = 0; pass < PASSES; pass++) {
      mover.check();
      // Where all that is in use would end if there were no holes: the reserve then lies behind it in one piece.
      const goal = space.used;
      const moved = await mover.pass({
        wants: ({ position, count }) => {
          const inside = Math.max(0, goal - position);
          return inside < count ? { position: position + inside, count: count - inside } : undefined;
        },
        take: (blocks) => space.takeFirst(blocks, goal),
      });
      if (moved === 0 && pass > 0) break;
      // Twice, since the checkpoint before the newest one is kept.
      for (let i = 0; i < 2; i++) await renewCheckpoint(state);
    }
  } finally {
    space.lowest = false;
  }
  await container.session.shrink();
  const { moved, unreadable } = mover;
  return { before, after: await container.store.size(), moved, unreadable };
}

/** Writes a checkpoint, also where nothing has changed: metadata then lies elsewhere. */
export async function renewCheckpoint(state: VolumeState): Promise<void> {
  state.log.inode(ROOT);
  await state.commit({});
  await state.committer.checkpoint({ fresh: true });
}
