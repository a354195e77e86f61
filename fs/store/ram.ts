/** A store in memory: gone with the object. */
import { SEALED } from "../../crypto/sealer.ts";
import { blockOffset, BLOCKS_AT, blocksIn, blocksOf, HEADER_AT } from "../block/byte_layout.ts";
import {
  type BlockStore,
  HEADER_BYTES,
  type HeaderRegion,
  type StoreSpace,
  type StoreTraits,
} from "../block/store.ts";
import { Broken, FsError } from "../errors.ts";
import type { Position } from "../types.ts";

/** Blocks in one piece of memory. */
const PIECE = 256;
const COPIES = [0, 1] as const, REGIONS = ["key", "super"] as const;

/**
 * Holds sealed blocks in RAM, in pieces of 256 blocks that are made when they are first written. Closing it keeps
 * what it holds, so that it can be used again.
 */
export class RamStore implements BlockStore {
  readonly traits: StoreTraits = {
    atomicFlush: false,
    preallocates: true,
    runBlocks: 256,
    commitSeconds: 5,
  };
  readonly #pieces = new Map<number, Uint8Array>();
  readonly #headers = new Map<string, Uint8Array>();
  readonly #quota: number;
  #size = 0;
  #failure: Broken | undefined;

  /** @param options.quota blocks that it may hold at most */
  constructor(options: { quota?: number } = {}) {
    this.#quota = options.quota ?? Infinity;
  }

  /** Makes a store of a container's bytes as they lie in a file; what is cut off at the end reads as zeros. */
  static fromBytes(image: Uint8Array): RamStore {
    const store = new RamStore();
    for (const region of REGIONS) {
      for (const copy of COPIES) {
        const header = new Uint8Array(HEADER_BYTES[region]), at = HEADER_AT[region][copy];
        header.set(image.subarray(at, at + header.length));
        store.#headers.set(region + copy, header);
      }
    }
    const blocks = new Uint8Array(Math.ceil(Math.max(0, image.length - BLOCKS_AT) / SEALED) * SEALED);
    blocks.set(image.subarray(BLOCKS_AT));
    if (blocks.length > 0) store.write(0, blocks);
    store.#size = blocksIn(image.length);
    return store;
  }

  /** The container's bytes as they would lie in a file. */
  toBytes(): Uint8Array {
    const image = new Uint8Array(blockOffset(this.#size));
    for (const region of REGIONS) {
      for (const copy of COPIES) {
        image.set(this.#headers.get(region + copy) ?? [], HEADER_AT[region][copy]);
      }
    }
    image.set(this.read(0, this.#size), BLOCKS_AT);
    return image;
  }

  read(position: Position, count: number, into?: Uint8Array): Uint8Array {
    const out = into?.subarray(0, count * SEALED) ?? new Uint8Array(count * SEALED);
    this.#each(position, count, (piece, from, blocks, at) => {
      const bytes = this.#pieces.get(piece);
      if (bytes) out.set(bytes.subarray(from * SEALED, (from + blocks) * SEALED), at * SEALED);
      else if (into) out.fill(0, at * SEALED, (at + blocks) * SEALED);
    });
    return out;
  }

  write(position: Position, bytes: Uint8Array): Promise<void> | void {
    const count = blocksOf(bytes);
    if (position + count > this.#quota) {
      const cause = new FsError("ENOSPC", "The store in memory is full");
      this.#failure ??= new Broken("Cannot write: the store in memory is full", { cause });
    }
    if (this.#failure) return Promise.reject(this.#failure);
    this.#each(position, count, (piece, from, blocks, at) => {
      let target = this.#pieces.get(piece);
      if (target === undefined) this.#pieces.set(piece, target = new Uint8Array(PIECE * SEALED));
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
    return this.#failure ? Promise.reject(this.#failure) : Promise.resolve();
  }

  reserve(blocks: number): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    if (blocks > this.#quota) {
      return Promise.reject(new FsError("ENOSPC", `Cannot reserve ${blocks} blocks: the store is full`));
    }
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
    if (this.#failure) return Promise.reject(this.#failure);
    this.#size = Math.min(this.#size, blocks);
    for (const [piece, bytes] of this.#pieces) {
      if (piece * PIECE >= blocks) this.#pieces.delete(piece);
      else if ((piece + 1) * PIECE > blocks) bytes.fill(0, (blocks - piece * PIECE) * SEALED);
    }
    return Promise.resolve();
  }

  readHeader(region: HeaderRegion, copy: 0 | 1): Promise<Uint8Array> {
    const bytes = this.#headers.get(region + copy);
    return Promise.resolve(bytes ? bytes.slice() : new Uint8Array(HEADER_BYTES[region]));
  }

  writeHeader(region: HeaderRegion, copy: 0 | 1, bytes: Uint8Array): Promise<void> | void {
    if (bytes.length !== HEADER_BYTES[region]) {
      throw new RangeError(`Not a ${region} header: ${bytes.length} bytes`);
    }
    if (this.#failure) return Promise.reject(this.#failure);
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
