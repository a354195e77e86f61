/** A store in memory: gone when it is closed. */
import { SEALED } from "../../crypto/sealer.ts";
import { type BlockStore, HEADER_BYTES, type HeaderRegion, type StoreSpace } from "../block/store.ts";
import { FsError } from "../errors.ts";
import type { Position } from "../types.ts";

/** Blocks in one piece of memory. */
const PIECE = 256;

/** Holds sealed blocks in RAM, in pieces of 256 blocks that are made when they are first written. */
export class RamStore implements BlockStore {
  readonly traits = { atomicFlush: false, preallocates: true, runBlocks: 256, commitSeconds: 5 };
  readonly #pieces: (Uint8Array | undefined)[] = [];
  readonly #headers = new Map<string, Uint8Array>();
  readonly #quota: number;
  #size = 0;

  /** @param options.quota blocks that it may hold at most */
  constructor(options: { quota?: number } = {}) {
    this.#quota = options.quota ?? Infinity;
  }

  read(position: Position, count: number): Uint8Array {
    const out = new Uint8Array(count * SEALED);
    this.#each(position, count, (piece, from, blocks, at) => {
      const bytes = this.#pieces[piece];
      if (bytes) out.set(bytes.subarray(from * SEALED, (from + blocks) * SEALED), at * SEALED);
    });
    return out;
  }

  write(position: Position, bytes: Uint8Array): void {
    const count = bytes.length / SEALED;
    this.#each(position, count, (piece, from, blocks, at) => {
      const target = this.#pieces[piece] ??= new Uint8Array(PIECE * SEALED);
      target.set(bytes.subarray(at * SEALED, (at + blocks) * SEALED), from * SEALED);
    });
    this.#size = Math.max(this.#size, position + count);
  }

  #each(
    position: Position,
    count: number,
    visit: (piece: number, from: number, blocks: number, at: number) => void,
  ): void {
    for (let at = 0; at < count;) {
      const from = (position + at) % PIECE, blocks = Math.min(count - at, PIECE - from);
      visit((position + at - from) / PIECE, from, blocks, at);
      at += blocks;
    }
  }

  discard(_position: Position, _count: number): void {}

  flush(): Promise<void> {
    return Promise.resolve();
  }

  reserve(blocks: number): Promise<void> {
    if (blocks > this.#quota) return Promise.reject(new FsError("ENOSPC"));
    this.#size = Math.max(this.#size, blocks);
    return Promise.resolve();
  }

  size(): Promise<number> {
    return Promise.resolve(this.#size);
  }

  space(): Promise<StoreSpace> {
    return Promise.resolve({ free: this.#quota - this.#size, quota: this.#quota });
  }

  truncate(blocks: number): Promise<void> {
    this.#size = Math.min(this.#size, blocks);
    const whole = Math.floor(blocks / PIECE), rest = blocks % PIECE;
    this.#pieces.length = Math.min(this.#pieces.length, rest ? whole + 1 : whole);
    this.#pieces[whole]?.fill(0, rest * SEALED);
    return Promise.resolve();
  }

  readHeader(region: HeaderRegion, copy: 0 | 1): Promise<Uint8Array> {
    const bytes = this.#headers.get(region + copy);
    return Promise.resolve(bytes ? bytes.slice() : new Uint8Array(HEADER_BYTES[region]));
  }

  writeHeader(region: HeaderRegion, copy: 0 | 1, bytes: Uint8Array): void {
    this.#headers.set(region + copy, bytes.slice());
  }

  refresh(): Promise<boolean> {
    return Promise.resolve(true);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
