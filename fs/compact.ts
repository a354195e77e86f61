/** Moving what lies at the end of a container into its holes, so that it can be made shorter. */
import { IntegrityError } from "../crypto/errors.ts";
import { BLOCK } from "../crypto/sealer.ts";
import { readSealed, writeSealed } from "./block/sealed.ts";
import type { BlockStore } from "./block/store.ts";
import { Container } from "./container.ts";
import { blocksFor } from "./layout/extent_tree.ts";
import type { Run } from "./layout/superblock.ts";
import type { ContainerKeys, DurablePoint } from "./loading.ts";
import { Mending } from "./mending.ts";
import type { CommitNumber, FileOffset, Ino, Position } from "./types.ts";

/** Blocks that are moved before a commit makes their old places free. */
const BATCH_BLOCKS = 4096;
/** Blocks that are moved at once. */
const MOVE_RUN = 256;
/** How often what the moves and the metadata have left at the end is looked at again. */
const PASSES = 4;

/** How to compact. */
export interface CompactOptions {
  /** The writer session's id, 16 random bytes that the store was told of. */
  readonly session: Uint8Array;
  /** As of `Container.open`. */
  readonly check?: ((loaded: Container) => void) | undefined;
  /** Told of progress: blocks moved. What it throws ends the work; what was committed stays moved. */
  readonly onProgress?: (moved: number) => void;
}

/** What compacting has done, in blocks. */
export interface Compacted {
  readonly before: number;
  readonly after: number;
  readonly moved: number;
  /** Blocks that stay where they are, as they or their neighbours do not verify. */
  readonly unreadable: number;
  readonly durable: DurablePoint | undefined;
}

/** A part of a file that lies too far behind. */
interface Part extends Run {
  readonly ino: Ino;
  readonly offset: FileOffset;
  readonly length: number;
  readonly birth: CommitNumber;
}

/**
 * Makes a container as short as its content and the reserve allow, as far as whole runs of metadata find a place. It
 * moves by commits like any other: it may be interrupted at any moment.
 *
 * @throws {CoverError} as `Container.open`
 */
export async function compactContainer(
  store: BlockStore,
  keys: ContainerKeys,
  options: CompactOptions,
): Promise<Compacted> {
  const before = await store.size();
  const { session, check } = options;
  const container = await Container.open(store, keys, { mode: "write", session, check });
  const mover = new Mover(container, options);
  try {
    for (let pass = 0; pass < PASSES; pass++) {
      const moved = await mover.pass();
      if (!moved && pass > 0) break;
      // Twice, since the checkpoint before the newest one is kept.
      for (let i = 0; i < 2; i++) await mover.checkpoint();
    }
  } finally {
    await container.end();
  }
  const { moved, unreadable } = mover, after = await store.size();
  return { before, after, moved, unreadable: unreadable.size, durable: container.durable };
}

class Mover {
  moved = 0;
  readonly unreadable = new Set<Position>();
  readonly #container: Container;
  readonly #mending: Mending;
  readonly #options: CompactOptions;

  constructor(container: Container, options: CompactOptions) {
    this.#container = container;
    this.#mending = new Mending(container);
    this.#options = options;
  }

  async checkpoint(): Promise<void> {
    const { inodes } = this.#container.tables;
    await this.#mending.commit();
    await this.#container.checkpoint({
      sizeOf: (ino) => inodes.size[ino]!,
      commit: () => Promise.resolve(),
      pause: () => Promise.resolve(),
    });
  }

  /** Moves what lies behind the place where a container without holes would end. @returns false if that is nothing */
  async pass(): Promise<boolean> {
    const { space } = this.#container, goal = space.used + space.reserve;
    let pending = 0, any = false;
    for (const part of this.#behind(goal)) {
      for (let at = 0; at < part.count;) {
        const runs = space.takeFirst(Math.min(MOVE_RUN, part.count - at), goal);
        if (runs.length === 0) {
          if (pending === 0) return any;
          await this.#mending.commit();
          pending = 0;
          continue;
        }
        for (const run of runs) {
          await this.#move(piece(part, at, run.count), run);
          at += run.count;
          pending += run.count;
        }
        any = true;
        if (pending >= BATCH_BLOCKS) await this.#mending.commit(), pending = 0;
        await this.#mending.step();
        this.#options.onProgress?.(this.moved);
      }
    }
    return any;
  }

  /** Parts of files from a position on, the last ones first. */
  #behind(goal: number): Part[] {
    const parts: Part[] = [];
    this.#container.tables.extents.everyExtent((ino, offset, length, position, birth) => {
      const count = blocksFor(length), inside = Math.max(0, goal - position);
      if (inside < count) {
        parts.push(piece({ ino, offset, length, position, birth, count }, inside, count - inside));
      }
    });
    return parts.sort((a, b) => b.position - a.position);
  }

  async #move(part: Part, to: Run): Promise<void> {
    const { store, tables, space, openCommit, keys: { sealer } } = this.#container;
    const plain = new Uint8Array(part.count * BLOCK);
    try {
      await readSealed(store, sealer, this.#container.dataIdentity(part.position, part.birth), plain);
    } catch (error) {
      if (!(error instanceof IntegrityError)) throw error;
      for (let i = 0; i < part.count; i++) this.unreadable.add(part.position + i);
      space.forget(to.position, to.count);
      return;
    }
    await writeSealed(store, sealer, this.#container.dataIdentity(to.position, openCommit), plain);
    const { ino, offset, length } = part, forget = space.forget.bind(space);
    tables.extents.set(ino, offset, length, to.position, openCommit, forget);
    this.#mending.log.extent(ino, offset, length, to.position, openCommit);
    this.moved += part.count;
  }
}

/** Blocks of a part of a file, from `at` on. */
function piece(part: Part, at: number, count: number): Part {
  const offset = part.offset + at * BLOCK;
  const length = Math.min(part.length - at * BLOCK, count * BLOCK);
  return { ...part, position: part.position + at, count, offset, length };
}
