/** Buffers that are used over and over: a fresh megabyte costs more than to seal a part of it. */
import { BLOCK, SEALED } from "../../crypto/sealer.ts";

/** Blocks of the longest run that a buffer of {@linkcode RunBuffers} holds. */
export const RUN_BLOCKS = 256;
/** How many buffers of a kind are kept when nobody uses them. */
const KEPT = 12;

/** Buffers of one size. What they hold when they are taken is undefined. */
export class BufferPool {
  readonly #bytes: number;
  readonly #shared: boolean;
  readonly #free: Uint8Array[] = [];

  /**
   * @param bytes size of each buffer
   * @param options `shared`: in memory that other threads can work on
   */
  constructor(bytes: number, options: { readonly shared: boolean }) {
    this.#bytes = bytes;
    this.#shared = options.shared;
  }

  take(): Uint8Array {
    return this.#free.pop() ?? this.fresh(this.#bytes);
  }

  /** A buffer of any size in the same kind of memory, which is not given back. */
  fresh(bytes: number): Uint8Array {
    return new Uint8Array(this.#shared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes));
  }

  /** Gives a buffer back, which nobody may use any more. */
  give(buffer: Uint8Array): void {
    if (this.#free.length < KEPT) this.#free.push(buffer);
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
