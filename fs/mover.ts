/**
 * Moving of data blocks to other places, by commits like any other, while the files are read, written, cut and removed.
 * A block is read and written anew; only then, in one step, does the file refer to the new place, as far as it still
 * refers to the old one.
 */
import { IntegrityError } from "../crypto/errors.ts";
import { BLOCK } from "../crypto/sealer.ts";
import { readSealed, writeSealed } from "./block/sealed.ts";
import { breathe } from "./clock.ts";
import { FsError } from "./errors.ts";
import { blocksFor } from "./layout/extent_tree.ts";
import type { Run } from "./layout/superblock.ts";
import type { CommitNumber, FileOffset, Ino, Position } from "./types.ts";
import type { VolumeState } from "./volume_state.ts";

/** Blocks that are moved before a commit makes their old places free. */
const BATCH_BLOCKS = 4096;
/** Blocks that are moved at once: requests are served in between. */
const MOVE_RUN = 256;
/** How long the search for what is to be moved may hold the event loop, in ms. */
const SLICE = 4;

/** What is moved, and where to. */
export interface MovePlan {
  /** Which of the blocks of one extent are to be moved, all of one birth; undefined for none. */
  readonly wants: (run: Run, birth: CommitNumber) => Run | undefined;
  /** Takes up to so many free blocks for them; none where only a commit makes some free. */
  readonly take: (blocks: number) => Run[] | Promise<Run[]>;
}

/** How long work is done besides the requests. */
export interface MoveOptions {
  /** Ends the work between two moves; what was moved stays moved. */
  readonly signal?: AbortSignal | undefined;
  /** Told of progress: blocks moved. */
  readonly onProgress?: ((moved: number) => void) | undefined;
}

/** Blocks of a file. How many bytes of the last one are valid is asked only when they have been moved. */
interface Part extends Run {
  readonly ino: Ino;
  readonly offset: FileOffset;
  readonly birth: CommitNumber;
}

/** An extent of a file, or a part of one. */
interface Held {
  readonly offset: FileOffset;
  readonly length: number;
  readonly position: Position;
}

/** Moves blocks of a volume's files. */
export class Mover {
  readonly #state: VolumeState;
  readonly #options: MoveOptions;
  readonly #unreadable = new Set<Position>();
  #moved = 0;
  /** Blocks moved since the last commit of its own. */
  #pending = 0;

  constructor(state: VolumeState, options: MoveOptions = {}) {
    this.#state = state;
    this.#options = options;
  }

  /** Blocks moved so far. */
  get moved(): number {
    return this.#moved;
  }

  /** Blocks that stay where they are, as they do not verify. */
  get unreadable(): number {
    return this.#unreadable.size;
  }

  /**
   * Goes through all files once and moves what the plan wants. What is written meanwhile may be missed. Ends early
   * where there is no room to move anything to.
   *
   * @returns blocks moved; all of it is durable
   * @throws {FsError} if nothing can be committed any more
   */
  async pass(plan: MovePlan): Promise<number> {
    const { extents } = this.#state.tables, before = this.#moved, stop = extents.end;
    let since = performance.now();
    files:
    for (let ino = extents.nextFile(0); ino < stop; ino = extents.nextFile(ino + 1)) {
      const end = blocksFor(extents.endOf(ino)) * BLOCK;
      for (let part = this.#next(plan, ino, 0, end); part; part = this.#next(plan, ino, endOf(part), end)) {
        if (!await this.#moveAll(plan, part)) break files;
      }
      if (performance.now() - since <= SLICE) continue;
      await this.#breathe();
      since = performance.now();
    }
    await this.#commit();
    return this.#moved - before;
  }

  /** The first part of a file in a range that the plan wants. */
  #next({ wants }: MovePlan, ino: Ino, from: FileOffset, end: FileOffset): Part | undefined {
    let found: Part | undefined;
    this.#state.tables.extents.lookup(ino, from, end - from, (offset, length, position, birth) => {
      const whole = { ino, offset, position, birth, count: blocksFor(length) };
      const run = wants(whole, birth);
      if (run) found = piece(whole, run.position - position, run.count);
      return found === undefined;
    });
    return found;
  }

  /** @returns false if there is no room */
  async #moveAll(plan: MovePlan, part: Part): Promise<boolean> {
    for (let at = 0; at < part.count;) {
      await this.#state.committer.admit();
      const runs = await plan.take(Math.min(MOVE_RUN, part.count - at));
      if (runs.length === 0) {
        if (this.#pending === 0) return false;
        await this.#commit();
        continue;
      }
      const moves = runs.map((to) => {
        const move = { part: piece(part, at, to.count), to };
        at += to.count;
        this.#pending += to.count;
        return move;
      });
      await this.#moveEach(moves);
      if (this.#pending >= BATCH_BLOCKS) await this.#commit();
      this.#options.onProgress?.(this.#moved);
      await this.#breathe();
    }
    return true;
  }

  async #commit(): Promise<void> {
    this.#pending = 0;
    await this.#state.commit({});
  }

  async #breathe(): Promise<void> {
    await breathe();
    this.check();
  }

  /** @throws where the work is to end */
  check(): void {
    this.#options.signal?.throwIfAborted();
    this.#state.writable();
    if (this.#state.ending) throw new FsError("EIO", "Cannot move blocks: the container is being closed");
  }

  /** Moves one after the other; of a failure the blocks that were taken for the later ones are given back. */
  async #moveEach(moves: readonly { readonly part: Part; readonly to: Run }[]): Promise<void> {
    for (const [i, { part, to }] of moves.entries()) {
      try {
        await this.#move(part, to);
      } catch (error) {
        for (const { to: { position, count } } of moves.slice(i + 1)) this.#state.forget(position, count);
        throw error;
      }
    }
  }

  /**
   * Moves a part as far as the file still has it when its blocks are written. What was cut, overwritten or removed
   * meanwhile leaves blocks behind that nothing ever refers to.
   */
  async #move(part: Part, to: Run): Promise<void> {
    const { container, space } = this.#state, { store, keys: { sealer } } = container;
    const plain = new Uint8Array(part.count * BLOCK);
    let birth: CommitNumber;
    try {
      await readSealed(store, sealer, container.dataIdentity(part.position, part.birth), plain);
      birth = container.session.openCommit;
      await writeSealed(store, sealer, container.dataIdentity(to.position, birth), plain);
    } catch (error) {
      if (error instanceof IntegrityError) return await this.#moveApart(part, to);
      space.forget(to.position, to.count);
      throw error;
    }
    let next = 0;
    for (const { offset, length, position } of this.#held(part)) {
      const skipped = (offset - part.offset) / BLOCK;
      if (skipped > next) space.forget(to.position + next, skipped - next);
      this.#refer(part.ino, { offset, length, position: to.position + position - part.position, birth });
      next = skipped + blocksFor(length);
    }
    if (next < to.count) space.forget(to.position + next, to.count - next);
    this.#moved += part.count;
  }

  /** Some of its blocks do not verify: moves the others. Blocks that were used anew while they were read are neither. */
  async #moveApart(part: Part, to: Run): Promise<void> {
    const { container: { store }, space } = this.#state;
    store.doubt?.(part.position, part.count);
    if (part.count === 1) {
      if (this.#held(part).length > 0) this.#unreadable.add(part.position);
      return space.forget(to.position, 1);
    }
    const single = (_: unknown, i: number) => ({
      part: piece(part, i, 1),
      to: { position: to.position + i, count: 1 },
    });
    await this.#moveEach(Array.from({ length: part.count }, single));
  }

  /** What the file has of a part still, at the same place and of the same birth: no block is ever both twice. */
  #held({ ino, count, ...part }: Part): Held[] {
    const held: Held[] = [];
    this.#state.tables.extents.lookup(ino, part.offset, count * BLOCK, (offset, length, position, birth) => {
      const same = birth === part.birth && position === part.position + (offset - part.offset) / BLOCK;
      if (same) held.push({ offset, length, position });
    });
    return held;
  }

  #refer(ino: Ino, to: Held & { readonly birth: CommitNumber }): void {
    const { tables, log, dirty, committer, forget } = this.#state, { offset, length, position, birth } = to;
    tables.extents.set(ino, offset, length, position, birth, forget);
    log.extent(ino, offset, length, position, birth);
    dirty.written({ ino, ...to });
    committer.touched();
  }
}

function endOf(part: Part): FileOffset {
  return part.offset + part.count * BLOCK;
}

/** Blocks of a part of a file, from `at` on. */
function piece(part: Part, at: number, count: number): Part {
  return { ...part, position: part.position + at, count, offset: part.offset + at * BLOCK };
}
