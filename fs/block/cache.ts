/** Sealed blocks kept in memory, as they came from a store that takes its time; and reading ahead of who asks. */
import { SEALED } from "../../crypto/sealer.ts";
import type { Position } from "../types.ts";
import { blocksOf } from "./byte_layout.ts";
import { StoreDecorator } from "./decorator.ts";
import type { BlockStore } from "./store.ts";

/** Bytes that are kept unless said otherwise. */
const CACHE_BYTES = 64 << 20;
/** Longer runs are not kept: who streams keeps them himself, and they would drive out all else. */
const KEPT_RUN = 64;

/** Blocks that are on their way. */
interface Fetch {
  readonly position: Position;
  readonly bytes: Promise<Uint8Array>;
}

/**
 * Keeps blocks that were read or written, up to a limit in bytes, least recently used first out. What is discarded or
 * cut off is forgotten, and everything when the store says that something may have changed.
 */
export class CachedStore extends StoreDecorator {
  readonly #most: number;
  /** Least recently used first. */
  readonly #blocks = new Map<Position, Uint8Array>();
  readonly #fetches = new Map<Position, Fetch>();
  #fetching = 0;
  /** Something that was written here is kept. */
  #written = false;

  /** @param options `bytes`: how much is kept; default 64 MiB */
  constructor(base: BlockStore, options: { readonly bytes?: number | undefined } = {}) {
    super(base);
    this.#most = Math.floor((options.bytes ?? CACHE_BYTES) / SEALED);
  }

  /** Bytes that are kept now. */
  get bytes(): number {
    return this.#blocks.size * SEALED;
  }

  /** Blocks that are kept or on their way are left out; nothing is fetched beyond the limit. */
  override prefetch(position: Position, count: number): void {
    const { runBlocks } = this.traits;
    for (let at = position, end = position + count; at < end;) {
      if (this.#known(at)) {
        at++;
        continue;
      }
      let run = 1;
      while (run < runBlocks && at + run < end && !this.#known(at + run)) run++;
      if (this.#fetching + run > this.#most / 2) return;
      this.#fetch(at, run);
      at += run;
    }
  }

  #known(position: Position): boolean {
    return this.#blocks.has(position) || this.#fetches.has(position);
  }

  #fetch(position: Position, count: number): void {
    const bytes = Promise.resolve(this.base.read(position, count)), fetch = { position, bytes };
    this.#fetching += count;
    for (let i = 0; i < count; i++) this.#fetches.set(position + i, fetch);
    const ended = () => {
      this.#fetching -= count;
      const mine: number[] = [];
      for (let i = 0; i < count; i++) if (this.#fetches.get(position + i) === fetch) mine.push(i);
      for (const i of mine) this.#fetches.delete(position + i);
      return mine;
    };
    // Blocks that were written meanwhile are no longer this fetch's, and not kept. A failure is told to who asks.
    bytes.then((sealed) => {
      for (const i of ended()) this.#keep(position + i, sealed.subarray(i * SEALED, (i + 1) * SEALED));
    }, ended);
  }

  #keep(position: Position, sealed: Uint8Array): void {
    this.#blocks.delete(position);
    this.#blocks.set(position, sealed.slice());
    if (this.#blocks.size > this.#most) this.#blocks.delete(this.#blocks.keys().next().value!);
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
    this.#fetch(position, count);
    return this.#fetches.get(position)!.bytes;
  }

  /** Reads the first blocks of a range, as many as lie in the same place. @returns how many */
  #readPart(
    position: Position,
    most: number,
    to: { out: Uint8Array; at: number; waits: Promise<void>[] },
  ): number {
    const { out, at, waits } = to, block = this.#blocks.get(position);
    if (block) {
      this.#blocks.delete(position);
      this.#blocks.set(position, block);
      out.set(block, at);
      return 1;
    }
    const fetch = this.#fetches.get(position);
    let count = 1;
    if (fetch) {
      while (count < most && this.#fetches.get(position + count) === fetch) count++;
      const from = (position - fetch.position) * SEALED, end = from + count * SEALED;
      waits.push(fetch.bytes.then((sealed) => out.set(sealed.subarray(from, end), at)));
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
      this.#fetches.delete(position + i);
    }
  }

  #forgetAll(): void {
    this.#blocks.clear();
    this.#fetches.clear();
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
        this.#keep(position + i, bytes.subarray(i * SEALED, (i + 1) * SEALED));
      }
    }
    return super.write(position, bytes);
  }

  override discard(position: Position, count: number): void {
    this.#forget(position, count);
    super.discard(position, count);
  }

  override truncate(blocks: number): Promise<void> {
    for (const kept of [this.#blocks, this.#fetches]) {
      for (const position of kept.keys()) if (position >= blocks) kept.delete(position);
    }
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
