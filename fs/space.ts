/** Room in the container: what is free, what is promised to accepted writes, and the reserve. */
import type { BlockStore } from "./block/store.ts";
import { FsError } from "./errors.ts";
import type { FreeSpace } from "./layout/free_space.ts";
import type { Run } from "./layout/superblock.ts";
import type { CommitNumber, Position } from "./types.ts";

/** The container grows by a 64th of its size, within these bounds (blocks). */
const GROW_LEAST = 256, GROW_MOST = 4096;
/** Growing again within this time takes a larger step, in ms; or within so many times what growing took. */
const GROWTH_SOON = 500, GROWTHS_SOON = 8;
/** From this time on that growing takes, in ms, a stream does not wait for it, and the steps may be twice as large. */
const GROWTH_SLOW = 10;
/** What stays for commits though everything else is full, besides the next checkpoint: 64 blocks and two chunks. */
const RESERVE_BASE = 64, RESERVE_CHUNKS = 2;
/** How many holes are looked at for a place apart from others. */
const HOLES_LOOKED_AT = 4096;
/** Blocks of a journal chunk that holds the largest record. */
const CHUNK_LEAST = 264;

/**
 * Allocates blocks. Ordinary data takes only what was promised to it; metadata (journal, checkpoint) may go into the
 * reserve, so that a full container can always commit, and so delete.
 */
export class Space {
  readonly #store: BlockStore;
  readonly #free: FreeSpace;
  #promised = 0;
  #chunkBlocks = CHUNK_LEAST;
  #checkpointBlocks = 0;
  #hint: Position = 0;
  /** While set, blocks are taken from the beginning of the container on, not where the last ones were. */
  lowest = false;
  #growing: Promise<void> | undefined;
  #step = 0;
  #lastGrowth = -Infinity;
  /** How long the store took to grow, in ms. */
  #growthTook = 0;
  /** The container grows, without anyone waiting for it, when fewer blocks than these are available. */
  #ahead = 0;
  #full = false;
  #grownTo: number;
  /** Runs that the open commit forgets. */
  #forgotten: Run[] = [];
  /** Runs that frozen commits forget, released when those are durable. */
  readonly #waiting: { commit: CommitNumber; runs: Run[] }[] = [];

  /** @param capacity blocks that the store holds now */
  constructor(store: BlockStore, free: FreeSpace, capacity: number) {
    this.#store = store;
    this.#free = free;
    this.#grownTo = Math.max(capacity, free.tailStart());
    free.limit = this.#grownTo;
  }

  /** Blocks that the container has room for without growing. */
  get capacity(): number {
    return this.#grownTo;
  }

  /** Blocks kept for commits and checkpoints. It grows with what it must hold. */
  get reserve(): number {
    return RESERVE_BASE + RESERVE_CHUNKS * this.#chunkBlocks + this.#checkpointBlocks;
  }

  /** Says how large the next journal chunk and the next checkpoint may be, in blocks. */
  expect(chunk: number, checkpoint: number): void {
    this.#chunkBlocks = Math.max(CHUNK_LEAST, chunk);
    this.#checkpointBlocks = checkpoint;
  }

  /** Free blocks that ordinary data may still take without growing. */
  get available(): number {
    return this.#free.freeBlocks - this.#promised - this.reserve;
  }

  /** Free blocks and those that will be when the commits under way are durable. */
  get freeBlocks(): number {
    return this.#free.freeBlocks - this.#promised;
  }

  /** Tells whether ordinary room is used up and the store refused to grow when last asked. */
  get full(): boolean {
    return this.#full && this.available < 1;
  }

  /** Tells whether the reserve is used for more than single commits: the next checkpoint and its chunk still fit. */
  get short(): boolean {
    return this.available < -RESERVE_BASE;
  }

  /** Tells whether a commit would make blocks free. */
  get hasForgotten(): boolean {
    return this.#forgotten.length > 0 || this.#waiting.length > 0;
  }

  /**
   * Sees that `blocks` more ordinary blocks can be promised, growing the container if need be.
   *
   * @throws {FsError} ENOSPC or EDQUOT
   */
  ensure(blocks: number): void | Promise<void> {
    if (this.available >= blocks) return;
    return this.#grow(blocks);
  }

  async #grow(blocks: number): Promise<void> {
    while (this.available < blocks) {
      if (this.#growing) await this.#growing;
      else {
        const missing = blocks - this.available;
        await this.#reserve(missing, Math.max(missing, this.#nextStep()));
      }
    }
  }

  /**
   * A 64th of the size; twice the last step where that is soon used up, as by a stream. Behind a slow link, where growing
   * takes as long as all that is on its way, the next step is taken before it is needed.
   */
  #nextStep(): number {
    const now = performance.now(), slow = this.#growthTook >= GROWTH_SLOW;
    const soon = now - this.#lastGrowth < Math.max(GROWTH_SOON, GROWTHS_SOON * this.#growthTook);
    this.#lastGrowth = now;
    const step = Math.max(GROW_LEAST, Math.ceil(this.#grownTo / 64), soon ? 2 * this.#step : 0);
    this.#step = Math.min(slow ? 2 * GROW_MOST : GROW_MOST, step);
    this.#ahead = soon && slow ? this.#step : 0;
    return this.#step;
  }

  /** Where the store refuses, whoever needs the room asks again, and is told. */
  #growAhead(): void {
    const step = this.#nextStep();
    this.#growing = this.#reserveTo(this.#grownTo + step).catch(() => void (this.#ahead = 0))
      .finally(() => this.#growing = undefined);
  }

  /** One at a time, as each begins where the one before has ended. */
  async #reserve(missing: number, step: number): Promise<void> {
    while (this.#growing) await this.#growing.catch(() => {});
    this.#growing = this.#extend(missing, step).finally(() => this.#growing = undefined);
    await this.#growing;
  }

  async #extend(missing: number, step: number): Promise<void> {
    try {
      await this.#reserveTo(this.#grownTo + step);
    } catch (error) {
      this.#full = true;
      this.#ahead = 0;
      if (!(error instanceof FsError) || step === missing) throw error;
      await this.#reserveTo(this.#grownTo + missing);
    }
    this.#full = false;
  }

  async #reserveTo(target: number): Promise<void> {
    const began = performance.now();
    await this.#store.reserve(target);
    this.#growthTook = performance.now() - began;
    this.#grownTo = target;
    this.#free.limit = target;
  }

  /** Promises room to an accepted write; {@linkcode ensure} said that it is there. */
  promise(blocks: number): void {
    this.#promised += blocks;
    if (this.available < this.#ahead && this.#growing === undefined) this.#growAhead();
  }

  /** Takes a promise back: the blocks were taken, or the data is gone. */
  unpromise(blocks: number): void {
    this.#promised -= blocks;
  }

  get #near(): Position {
    return this.lowest ? 0 : this.#hint;
  }

  /**
   * Takes promised blocks, in as few runs as there are. What is left in the end lies at the end of the container: the
   * journal needs runs, and would find none if the reserve were single blocks all over.
   */
  take(blocks: number): Run[] {
    const near = this.#near, below = this.#grownTo - this.reserve;
    const runs = this.#free.allocate(blocks, { near, below }) ?? this.#free.allocate(blocks, { near });
    if (runs === undefined) throw new FsError("ENOSPC", "Cannot allocate blocks: the container is full");
    this.#promised -= blocks;
    const last = runs[runs.length - 1]!;
    this.#hint = last.position + last.count;
    return runs;
  }

  /**
   * Takes the first free blocks below a position, for data that is moved there; less than asked for if there are not as
   * many that the reserve can spare.
   */
  takeFirst(blocks: number, below: Position): Run[] {
    const runs: Run[] = [];
    let left = Math.min(blocks, this.available);
    for (const { position, count } of this.#free.runs()) {
      if (left <= 0 || position >= below) break;
      const taken = Math.min(count, left, below - position);
      runs.push({ position, count: taken });
      left -= taken;
    }
    for (const run of runs) this.#free.use(run.position, run.count);
    return runs;
  }

  /** The first free run that ends behind a position. */
  nextFree(position: Position): Run | undefined {
    return this.#free.next(position);
  }

  /** Takes blocks that {@linkcode nextFree} has just named, for as long as they are written without being anybody's. */
  takeFree({ position, count }: Run): void {
    this.#free.use(position, count);
  }

  /** Blocks in use. */
  get used(): number {
    return this.#grownTo - this.#free.freeBlocks;
  }

  /**
   * Takes blocks for metadata, in at most `most` runs, from the reserve if the container cannot grow.
   *
   * @param options `apart`: blocks that these should not be among, if there are others
   */
  async takeMetadata(
    blocks: number,
    most: number,
    options: { readonly apart?: Run | undefined } = {},
  ): Promise<Run[]> {
    if (this.available < blocks) {
      try {
        await this.#grow(blocks);
      } catch (error) {
        if (!(error instanceof FsError)) throw error;
      }
    }
    const apart = options.apart && this.#allocateApart(blocks, options.apart);
    if (apart) return [apart];
    const runs = this.#allocate(blocks, most) ?? await this.#stretch(blocks, most);
    if (runs === undefined) throw new FsError("ENOSPC", "Cannot write metadata: the container is full");
    return runs;
  }

  /** Takes a run for a chunk of journal: `wanted` blocks where there is ordinary room for them, else `least`. */
  async takeChunk(wanted: number, least: number): Promise<Run> {
    try {
      await this.ensure(wanted);
      return (await this.takeMetadata(wanted, 1))[0]!;
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      return (await this.takeMetadata(least, 1))[0]!;
    }
  }

  /** The first free run that is long enough and not among others, the tail at last. */
  #allocateApart(blocks: number, from: Run): Run | undefined {
    const free = this.#free, tail = { position: free.tailStart(), count: free.limit - free.tailStart() };
    const after = from.position + from.count;
    let looked = 0;
    const fit = ({ position, count }: Run): Position | undefined => {
      if (Math.min(position + count, from.position) - position >= blocks) return position;
      const start = Math.max(position, after);
      return position + count - start >= blocks ? start : undefined;
    };
    for (const run of free.runs()) {
      if (++looked > HOLES_LOOKED_AT) return undefined;
      const position = fit(run);
      if (position !== undefined) return free.use(position, blocks), { position, count: blocks };
    }
    const position = tail.position >= after ? fit(tail) : undefined;
    if (position === undefined) return undefined;
    free.use(position, blocks);
    return { position, count: blocks };
  }

  #allocate(blocks: number, most: number): Run[] | undefined {
    const whole = this.#free.allocate(blocks, { contiguous: true, near: this.#near });
    if (whole || most === 1) return whole;
    return this.#free.allocate(blocks, { near: this.#near, max: most });
  }

  /** There is room, but not in one piece: adds that much at the end. */
  async #stretch(blocks: number, most: number): Promise<Run[] | undefined> {
    await this.#reserve(blocks, blocks);
    return this.#allocate(blocks, most);
  }

  /** The open commit no longer refers to these blocks. */
  forget(position: Position, count: number): void {
    const last = this.#forgotten[this.#forgotten.length - 1];
    if (last && last.position + last.count === position) {
      this.#forgotten[this.#forgotten.length - 1] = { position: last.position, count: last.count + count };
    } else this.#forgotten.push({ position, count });
  }

  /** The open commit is frozen with this number. */
  freeze(commit: CommitNumber): void {
    if (this.#forgotten.length === 0) return;
    this.#waiting.push({ commit, runs: this.#forgotten });
    this.#forgotten = [];
  }

  /** Commits up to this one are durable: what they forgot may be used again. */
  durable(commit: CommitNumber): void {
    while (this.#waiting.length > 0 && this.#waiting[0]!.commit <= commit) {
      for (const run of this.#waiting.shift()!.runs) this.release(run);
    }
  }

  /** Blocks that nothing durable refers to any more. */
  release(run: Run): void {
    this.#free.release(run.position, run.count);
    this.#store.discard(run.position, run.count);
  }

  /**
   * Gives free blocks at the end back to the store, all but the reserve; while the session goes on only if they are
   * many, as the next writes would have them made again.
   */
  async shrink(options: { readonly ended: boolean }): Promise<void> {
    if (options.ended) await this.#growing?.catch(() => {});
    if (this.#growing) return; // what is being added is wanted
    const inside = this.#free.freeBlocks - (this.#grownTo - this.#free.tailStart());
    const keep = Math.max(0, this.reserve + this.#promised - inside);
    const end = this.#free.tailStart() + keep;
    if (this.#grownTo - end < (options.ended ? GROW_LEAST : Math.max(GROW_LEAST / 2, end / 8))) return;
    this.#free.limit = end;
    this.#grownTo = end;
    await this.#store.truncate(end);
  }
}
