/** Buffers that are used over and over: a fresh megabyte costs more than to seal a part of it. */
import { BLOCK, SEALED } from "../../crypto/sealer.ts";

/** Blocks of the longest run that a buffer of {@linkcode RunBuffers} holds. */
export const RUN_BLOCKS = 256;
/** How many buffers of a kind are kept when nobody uses them, unless told otherwise. */
const KEPT = 12;
/** What needs less than this part of a buffer gets memory of its own where so many are in use. */
const SMALL = 1 / 8;

/** Buffers of one size, and where many are in use, smaller ones. What they hold when they are taken is undefined. */
export class BufferPool {
  readonly #bytes: number;
  readonly #shared: boolean;
  readonly #kept: number;
  readonly #free: Uint8Array[] = [];
  #taken = 0;

  /**
   * @param bytes size of each buffer
   * @param options `shared`: in memory that other threads can work on; `kept`: how many are kept when nobody uses them
   */
  constructor(bytes: number, options: { readonly shared: boolean; readonly kept?: number }) {
    this.#bytes = bytes;
    this.#shared = options.shared;
    this.#kept = options.kept ?? KEPT;
  }

  /** @param bytes how many of it will be used: a fragmented file is read in hundreds of short runs at once */
  take(bytes = this.#bytes): Uint8Array {
    if (bytes < SMALL * this.#bytes && this.#taken >= this.#kept) return new Uint8Array(bytes);
    this.#taken++;
    return this.#free.pop() ??
      new Uint8Array(this.#shared ? new SharedArrayBuffer(this.#bytes) : new ArrayBuffer(this.#bytes));
  }

  /** Gives a buffer back, which nobody may use any more. */
  give(buffer: Uint8Array): void {
    if (buffer.length !== this.#bytes) return;
    this.#taken--;
    if (this.#free.length < this.#kept) this.#free.push(buffer);
  }

  /** Keeps none of those that nobody uses: for now there is no need of them. */
  drop(): void {
    this.#free.length = 0;
  }
}

/** Buffers for runs of up to {@linkcode RUN_BLOCKS} blocks, plain and sealed. */
export class RunBuffers {
  readonly plain: BufferPool;
  readonly sealed: BufferPool;

  /** @param options `shared`: as the sealer says, see `Sealer.parallel` */
  constructor(options: { readonly shared: boolean }) {
    this.plain = new BufferPool(RUN_BLOCKS * BLOCK, options);
    this.sealed = new BufferPool(RUN_BLOCKS * SEALED, options);
  }
}
