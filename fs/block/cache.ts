/** Sealed blocks kept in memory, as they came from a store that takes its time; and reading ahead of who asks. */
import { SEALED } from "../../crypto/sealer.ts";
import type { Position } from "../types.ts";
import { blocksOf } from "./byte_layout.ts";
import { StoreDecorator } from "./decorator.ts";
import { Slab } from "./slab.ts";
import type { BlockStore } from "./store.ts";

/** Bytes that are kept unless said otherwise. */
const CACHE_BYTES = 64 << 20;
/** Longer runs are not kept: who streams keeps them himself, and they would drive out all else. */
const KEPT_RUN = 64;
/** Of what was fetched ahead so many blocks are kept when they are read at once, and of more the last one alone. */
const KEPT_AHEAD = 8;

/** What was fetched ahead and nobody has asked for after so long (ms) makes room for what another reader needs. */
const STALE = 1000;

/** Blocks that are on their way, or were fetched ahead and not asked for yet. */
interface Fetch {
  readonly position: Position;
  readonly count: number;
  readonly bytes: Promise<Uint8Array>;
  readonly ahead: boolean;
  /** Blocks that are still to be had from it. */
  left: number;
  settled: boolean;
  /** What has come, of a fetch ahead, and when, as `performance.now()`. */
  sealed?: Uint8Array;
  came: number;
}

/**
 * Keeps blocks that were read or written, up to a limit in bytes, least recently used first out; half of it is for what
 * is fetched ahead, which is given away as it is read. What is discarded or cut off is forgotten, and everything when
 * the store says that something may have changed.
 */
export class CachedStore extends StoreDecorator {
  /** Blocks that may be fetched ahead and not read. */
  readonly #mostAhead: number;
  readonly #blocks: Slab;
  readonly #fetches = new Map<Position, Fetch>();
  /** What was fetched ahead and has come, oldest first. */
  readonly #ahead = new Set<Fetch>();
  /** Blocks of that, and of what is on its way ahead. */
  #aheadBlocks = 0;
  /** Something that was written here is kept. */
  #written = false;

  /** @param options `bytes`: how much is kept; default 64 MiB */
  constructor(base: BlockStore, options: { readonly bytes?: number | undefined } = {}) {
    super(base);
    const most = Math.floor((options.bytes ?? CACHE_BYTES) / SEALED);
    this.#mostAhead = Math.floor(most / 2);
    this.#blocks = new Slab(most - this.#mostAhead);
  }

  /** Bytes that are kept now or on their way ahead. */
  get bytes(): number {
    return (this.#blocks.size + this.#aheadBlocks) * SEALED;
  }

  /** Blocks that are kept or on their way are left out. Nothing is fetched beyond the limit. */
  override prefetch(position: Position, count: number): void {
    const { runBlocks } = this.traits;
    for (let at = position, end = position + count; at < end;) {
      if (this.#known(at)) {
        at++;
        continue;
      }
      let run = 1;
      while (run < runBlocks && at + run < end && !this.#known(at + run)) run++;
      while (this.#aheadBlocks + run > this.#mostAhead) {
        const [oldest] = this.#ahead;
        if (oldest === undefined || performance.now() - oldest.came < STALE) return;
        this.#drop(oldest);
      }
      this.#fetch(at, run, true);
      at += run;
    }
  }

  #known(position: Position): boolean {
    return this.#blocks.has(position) || this.#fetches.has(position);
  }

  #fetch(position: Position, count: number, ahead: boolean): Promise<Uint8Array> {
    const bytes = Promise.resolve(this.base.read(position, count));
    const fetch: Fetch = { position, count, bytes, ahead, left: count, settled: false, came: 0 };
    if (ahead) this.#aheadBlocks += count;
    for (let i = 0; i < count; i++) this.#fetches.set(position + i, fetch);
    bytes.then((sealed) => {
      this.#settle(fetch);
      if (ahead && fetch.left > 0) {
        fetch.sealed = sealed;
        fetch.came = performance.now();
        this.#ahead.add(fetch);
      } else for (let i = 0; i < count; i++) this.#keep(fetch, position + i, sealed);
    }, () => { // a failure is told to who asks
      this.#settle(fetch);
      this.#drop(fetch);
    });
    return bytes;
  }

  /** Keeps a block of a fetch, unless it was written meanwhile. */
  #keep(fetch: Fetch, position: Position, sealed: Uint8Array): void {
    if (!this.#take(fetch, position)) return;
    const at = (position - fetch.position) * SEALED;
    this.#blocks.set(position, sealed.subarray(at, at + SEALED));
  }

  /** The block is no longer to be had from the fetch; @returns whether it was */
  #take(fetch: Fetch, position: Position): boolean {
    if (this.#fetches.get(position) !== fetch) return false;
    this.#fetches.delete(position);
    if (--fetch.left === 0) this.#end(fetch);
    return true;
  }

  #settle(fetch: Fetch): void {
    fetch.settled = true;
    if (fetch.left === 0) this.#end(fetch);
  }

  /** Its memory is free once it has come and nothing is to be had from it. */
  #end(fetch: Fetch): void {
    if (!fetch.ahead || !fetch.settled) return;
    this.#aheadBlocks -= fetch.count;
    this.#ahead.delete(fetch);
  }

  #drop(fetch: Fetch): void {
    for (let i = 0; i < fetch.count; i++) this.#take(fetch, fetch.position + i);
  }

  override read(position: Position, count: number, into?: Uint8Array): Uint8Array | Promise<Uint8Array> {
    let known = 0;
    for (let i = 0; i < count; i++) if (this.#known(position + i)) known++;
    if (known === 0) return this.#readThrough(position, count, into);
    const out = into?.subarray(0, count * SEALED) ?? new Uint8Array(count * SEALED);
    const waits: Promise<void>[] = [];
    for (let i = 0; i < count;) i += this.#readPart(position + i, count - i, { out, at: i * SEALED, waits });
    if (waits.length === 0) return out;
    // A part that comes after another has failed must not find the buffer in other hands.
    return Promise.allSettled(waits).then(() => Promise.all(waits)).then(() => out);
  }

  /** Reads from the store, and keeps what is worth it unless it was changed meanwhile. */
  #readThrough(position: Position, count: number, into?: Uint8Array): Uint8Array | Promise<Uint8Array> {
    if (count > KEPT_RUN) return this.base.read(position, count, into);
    return this.#fetch(position, count, false);
  }

  /** Reads the first blocks of a range, as many as lie in the same place. @returns how many */
  #readPart(
    position: Position,
    most: number,
    to: { out: Uint8Array; at: number; waits: Promise<void>[] },
  ): number {
    const { out, at, waits } = to;
    if (this.#blocks.get(position, out.subarray(at))) return 1;
    const fetch = this.#fetches.get(position);
    let count = 1;
    if (fetch) {
      while (count < most && this.#fetches.get(position + count) === fetch) count++;
      const from = (position - fetch.position) * SEALED,
        kept = count > KEPT_AHEAD ? position + count - 1 : position;
      const copy = (sealed: Uint8Array) => {
        out.set(sealed.subarray(from, from + count * SEALED), at);
        if (fetch.ahead) { for (let i = kept; i < position + count; i++) this.#keep(fetch, i, sealed); }
      };
      if (fetch.ahead) { for (let i = position; i < kept; i++) this.#take(fetch, i); }
      if (fetch.sealed) copy(fetch.sealed);
      else waits.push(fetch.bytes.then(copy));
      return count;
    }
    while (count < most && !this.#known(position + count)) count++;
    const bytes = this.#readThrough(position, count);
    if (bytes instanceof Uint8Array) out.set(bytes, at);
    else waits.push(bytes.then((sealed) => out.set(sealed, at)));
    return count;
  }

  #forget(position: Position, count: number): void {
    for (let i = 0; i < count; i++) {
      this.#blocks.delete(position + i);
      const fetch = this.#fetches.get(position + i);
      if (fetch) this.#take(fetch, position + i);
    }
  }

  #forgetAll(): void {
    this.#blocks.clear();
    for (const [position, fetch] of this.#fetches) this.#take(fetch, position);
  }

  override doubt(position: Position, count: number): void {
    this.#forget(position, count);
    super.doubt(position, count);
  }

  /** What is written in small pieces may soon be wanted to change a part of it. */
  override write(position: Position, bytes: Uint8Array): Promise<void> | void {
    const count = blocksOf(bytes);
    this.#forget(position, count);
    if (count <= KEPT_RUN) {
      this.#written = true;
      for (let i = 0; i < count; i++) {
        this.#blocks.set(position + i, bytes.subarray(i * SEALED, (i + 1) * SEALED));
      }
    }
    return super.write(position, bytes)?.catch((error) => {
      this.#forget(position, count); // what was refused, as to a writer that was replaced, is nowhere
      throw error;
    });
  }

  override discard(position: Position, count: number): void {
    this.#forget(position, count);
    super.discard(position, count);
  }

  override truncate(blocks: number): Promise<void> {
    for (const position of this.#blocks.positions()) if (position >= blocks) this.#blocks.delete(position);
    for (const [position, fetch] of this.#fetches) if (position >= blocks) this.#take(fetch, position);
    return super.truncate(blocks);
  }

  /** Who reads anew after a writer was replaced must not find what that one has written and nobody has taken. */
  override async refresh(): Promise<boolean> {
    const changed = await super.refresh();
    if (changed || this.#written) this.#forgetAll();
    this.#written = false;
    return changed;
  }

  override close(): Promise<void> {
    this.#forgetAll();
    return super.close();
  }
}
