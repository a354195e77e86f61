import type { Fenced } from "../errors.ts";
import type { Position } from "../types.ts";

/** What a store can do; the code above asks these, never which store it is. */
export interface StoreTraits {
  /** A flush publishes all writes since the last one together or not at all. */
  readonly atomicFlush: boolean;
  /** {@linkcode BlockStore.reserve} makes room that later writes cannot lack. */
  readonly preallocates: boolean;
  /** How many blocks one read or write should carry to be efficient. */
  readonly runBlocks: number;
  /** How long a commit may wait for more, in seconds, when nobody asks for durability. */
  readonly commitSeconds: number;
}

/** The two copies of the encryption block (4096 bytes each) and of the superblock (4128 bytes each). */
export type HeaderRegion = "key" | "super";

/** Bytes of a header copy. */
export const HEADER_BYTES: Readonly<Record<HeaderRegion, number>> = { key: 4096, super: 4128 };

/** Room of a store, in sealed blocks; `Infinity` where there is no bound that the store knows. */
export interface StoreSpace {
  /** Blocks that can still be added. */
  readonly free: number;
  /** Blocks that the store may hold at most. */
  readonly quota: number;
}

/**
 * Where sealed blocks lie. Positions and counts are in blocks of 4128 bytes; nothing above a store computes a
 * byte offset. After a failed write, truncate or flush every later one rejects with `Broken` (or `Fenced`) until
 * the store is opened anew. Transient faults are retried inside, bounded.
 */
export interface BlockStore extends AsyncDisposable {
  readonly traits: StoreTraits;
  /**
   * Reads `count` blocks from `position`; sees writes that are not flushed yet. The answer is `count × 4128` bytes,
   * owned by the caller (it may be a view on a larger buffer, but nobody writes to it any more). What was never
   * written, and what lies past the end, reads as zeros or undefined bytes, never as an error. May be repeated.
   *
   * @param into may be used for the answer, which may be in other memory all the same
   */
  read(position: Position, count: number, into?: Uint8Array): Uint8Array | Promise<Uint8Array>;
  /**
   * Writes `bytes` (n × 4128) from `position`; they belong to the store until this has answered. A promise, where one is
   * returned, is back-pressure and not durability.
   */
  write(position: Position, bytes: Uint8Array): Promise<void> | void;
  /** Says that these blocks will soon be read: whoever has to wait for them may begin to. */
  prefetch?(position: Position, count: number): void;
  /** Says that what was read there does not verify: whoever keeps it is to ask again next time. */
  doubt?(position: Position, count: number): void;
  /** Says that these blocks are no longer needed, ordered like a write; call it only once that is durable. */
  discard(position: Position, count: number): void;
  /**
   * Resolves only when every earlier write, header write and truncate is durable; the first one also those of writers
   * before this one, who may have been killed.
   */
  flush(): Promise<void>;
  /**
   * Makes room for `blocks` blocks in all, for good where the store preallocates.
   *
   * @throws {FsError} ENOSPC or EDQUOT; the store stays usable.
   */
  reserve(blocks: number): Promise<void>;
  /** How many blocks the store holds: positions below this have been written or reserved. */
  size(): Promise<number>;
  space(): Promise<StoreSpace>;
  /** Forgets all blocks from position `blocks` on. Ordered like a write. */
  truncate(blocks: number): Promise<void>;
  /** Reads one header copy, always the full {@linkcode HEADER_BYTES}; what is missing reads as zeros. */
  readHeader(region: HeaderRegion, copy: 0 | 1): Promise<Uint8Array>;
  /** Writes one header copy; ordered with the writes, durable at the next flush. */
  writeHeader(region: HeaderRegion, copy: 0 | 1, bytes: Uint8Array): Promise<void> | void;
  /** Readers: advance to the newest durable state; true if something may have changed. */
  refresh(): Promise<boolean>;
  /** Where another writer may take over: resolves when one has. */
  readonly fenced?: Promise<Fenced> | undefined;
  /** Gives everything back; does not flush. May be called twice. */
  close(): Promise<void>;
}

/** How a store is to be opened. `create` makes an empty one and refuses if there is something already. */
export type StoreMode = "read" | "write" | "create";
