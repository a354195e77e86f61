/**
 * A container's bytes in memory, of which any number of states can be kept that differ little: what crash tests and
 * sweeps over damage open thousands of times. A state shares with the one that it was forked from all that neither
 * has written since.
 */
import { SEALED } from "../../crypto/sealer.ts";
import { Broken, FsError } from "../errors.ts";
import type { Position } from "../types.ts";
import { blockOffset, BLOCKS_AT, blocksIn, blocksOf, HEADER_AT } from "./byte_layout.ts";
import {
  type BlockStore,
  HEADER_BYTES,
  type HeaderRegion,
  type StoreSpace,
  type StoreTraits,
} from "./store.ts";

/** Bytes of a piece before the first block; from there on each block is a piece. */
const HEADER_PIECE = 4096, HEADER_PIECES = BLOCKS_AT / HEADER_PIECE;

/** Number of a piece of a {@linkcode Medium}. */
export type Piece = number;

function pieceAt(offset: number): Piece {
  return offset < BLOCKS_AT
    ? Math.floor(offset / HEADER_PIECE)
    : HEADER_PIECES + Math.floor((offset - BLOCKS_AT) / SEALED);
}

function offsetOfPiece(piece: Piece): number {
  return piece < HEADER_PIECES ? piece * HEADER_PIECE : BLOCKS_AT + (piece - HEADER_PIECES) * SEALED;
}

/** 53 bits that differ where the bytes do, but by chance; 0 for zeros only. Not against an attacker. */
function hashWords(words: ArrayLike<number>): number {
  let a = 0, b = 0;
  for (let i = 0; i < words.length; i++) {
    a = Math.imul(a ^ words[i]!, 0x9e3779b1);
    a ^= a >>> 15;
    b = Math.imul(b ^ words[i]!, 0x85ebca6b);
    b ^= b >>> 13;
  }
  return (a >>> 0) * 2 ** 21 + (b >>> 11);
}

/** A container's file as bytes that can be forked; what was never written, and what was cut off, reads as zeros. */
export class Medium {
  #pieces: (Uint8Array | undefined)[] = [];
  #hashes: (number | undefined)[] = [];
  /** Pieces that were written since the last fork; all others are shared. */
  #own = new Set<Piece>();
  #length = 0;

  /** @param bytes copied */
  static fromBytes(bytes: Uint8Array): Medium {
    const medium = new Medium();
    medium.write(0, bytes);
    return medium;
  }

  get length(): number {
    return this.#length;
  }

  /** Another medium with the same bytes, in time that grows with the number of pieces only. */
  fork(): Medium {
    const other = new Medium();
    other.#pieces = this.#pieces.slice();
    other.#hashes = this.#hashes.slice();
    other.#length = this.#length;
    this.#own = new Set();
    return other;
  }

  /** Tells whether a piece was written (or cut off) since this medium was forked. */
  wrote(piece: Piece): boolean {
    return this.#own.has(piece);
  }

  /** The pieces of a range of bytes. */
  *piecesOf(offset: number, length: number): Generator<Piece> {
    for (let piece = pieceAt(offset); offsetOfPiece(piece) < offset + length; piece++) yield piece;
  }

  #each(offset: number, length: number, visit: (piece: Piece, from: number, to: number, at: number) => void) {
    for (let at = 0; at < length;) {
      const piece = pieceAt(offset + at), start = offsetOfPiece(piece), end = offsetOfPiece(piece + 1);
      const from = offset + at - start, to = Math.min(end, offset + length) - start;
      visit(piece, from, to, at);
      at += to - from;
    }
  }

  /** The piece's bytes, to be changed. */
  #writable(piece: Piece, whole: boolean): Uint8Array {
    this.#hashes[piece] = undefined;
    if (this.#own.has(piece)) return this.#pieces[piece] ??= this.#blank(piece);
    this.#own.add(piece);
    const old = whole ? undefined : this.#pieces[piece];
    return this.#pieces[piece] = old?.slice() ?? this.#blank(piece);
  }

  #blank(piece: Piece): Uint8Array {
    return new Uint8Array(piece < HEADER_PIECES ? HEADER_PIECE : SEALED);
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#each(offset, bytes.length, (piece, from, to, at) => {
      const target = this.#writable(piece, to - from === offsetOfPiece(piece + 1) - offsetOfPiece(piece));
      target.set(bytes.subarray(at, at + to - from), from);
    });
    this.grow(offset + bytes.length);
  }

  /**
   * Becomes like another medium in a range of whole blocks, which the two share from then on. What lies past the
   * end of this medium stays out of it.
   */
  share(from: Medium, blocks: { readonly position: Position; readonly count: number }): void {
    const first = HEADER_PIECES + blocks.position;
    for (let piece = first; piece < first + blocks.count; piece++) {
      if (offsetOfPiece(piece + 1) > this.#length) break;
      this.#own.delete(piece);
      from.#own.delete(piece);
      this.#pieces[piece] = from.#pieces[piece];
      this.#hashes[piece] = from.hashOf(piece);
    }
  }

  /** Reads into `out`, as much as that holds. */
  read(offset: number, out: Uint8Array): void {
    this.#each(offset, out.length, (piece, from, to, at) => {
      const bytes = this.#pieces[piece];
      if (bytes) out.set(bytes.subarray(from, to), at);
      else out.fill(0, at, at + to - from);
    });
  }

  grow(length: number): void {
    this.#length = Math.max(this.#length, length);
  }

  cut(length: number): void {
    if (length >= this.#length) return;
    const first = pieceAt(length), inside = length - offsetOfPiece(first);
    if (inside > 0 && this.#pieces[first]) this.#writable(first, false).fill(0, inside);
    for (let piece = first + (inside > 0 ? 1 : 0); piece <= pieceAt(this.#length); piece++) {
      this.#own.add(piece);
      this.#pieces[piece] = undefined;
      this.#hashes[piece] = undefined;
    }
    this.#length = length;
  }

  /** Fills a range, as far as there is one, with garbage that follows from one number of `random`. */
  garble(from: number, to: number, random: () => number): void {
    let x = Math.floor(random() * 0xffff_fffe) + 1;
    const length = Math.min(to, this.#length) - from;
    if (length <= 0) return;
    const garbage = new Uint8Array(length);
    for (let i = 0; i < length; i++) {
      x ^= x << 13, x ^= x >>> 17, x ^= x << 5;
      garbage[i] = x;
    }
    this.write(from, garbage);
  }

  /** All bytes; a copy. */
  toBytes(): Uint8Array {
    const bytes = new Uint8Array(this.#length);
    this.read(0, bytes);
    return bytes;
  }

  /** 53 bits that tell a piece's content. */
  hashOf(piece: Piece): number {
    const known = this.#hashes[piece];
    if (known !== undefined) return known;
    const bytes = this.#pieces[piece];
    return this.#hashes[piece] = bytes ? hashWords(new Int32Array(bytes.buffer)) : 0;
  }

  /** 53 bits that tell all of the content. */
  hash(): number {
    const words = [this.#length];
    for (let piece = 0; piece < this.#pieces.length; piece++) {
      const hash = this.hashOf(piece);
      // Zeros and what was never written are the same, at the end too.
      if (hash !== 0) words.push(piece, hash / 2 ** 32, hash);
    }
    return hashWords(words);
  }
}

/** What is asked of a {@linkcode MediumStore}: a piece of its medium, or how long that is. */
export type Asked = Piece | "size";

/** A store over a {@linkcode Medium}: what it writes is there at once, and the medium can be forked at any moment. */
export class MediumStore implements BlockStore {
  readonly traits: StoreTraits = {
    atomicFlush: false,
    preallocates: true,
    runBlocks: 256,
    commitSeconds: 5,
  };
  readonly medium: Medium;
  readonly #quota: number;
  readonly #onAsked: ((asked: Asked) => void) | undefined;
  #failure: Broken | undefined;

  /** @param options `quota`: blocks that it may hold at most; `onAsked`: told of all that is read, each time */
  constructor(
    medium: Medium,
    options: { readonly quota?: number; readonly onAsked?: (asked: Asked) => void } = {},
  ) {
    this.medium = medium;
    this.#quota = options.quota ?? Infinity;
    this.#onAsked = options.onAsked;
  }

  #read(offset: number, out: Uint8Array): Uint8Array {
    if (this.#onAsked) {
      for (const piece of this.medium.piecesOf(offset, out.length)) this.#onAsked(piece);
    }
    this.medium.read(offset, out);
    return out;
  }

  read(position: Position, count: number, into?: Uint8Array): Uint8Array {
    const out = into?.subarray(0, count * SEALED) ?? new Uint8Array(count * SEALED);
    return this.#read(blockOffset(position), out);
  }

  #change(change: () => void): Promise<void> | void {
    if (this.#failure) return Promise.reject(this.#failure);
    change();
  }

  write(position: Position, bytes: Uint8Array): Promise<void> | void {
    if (position + blocksOf(bytes) > this.#quota) {
      const cause = new FsError("ENOSPC", "The medium is full");
      this.#failure ??= new Broken("Cannot write: the medium is full", { cause });
    }
    return this.#change(() => this.medium.write(blockOffset(position), bytes));
  }

  discard(_position: Position, _count: number): void {}

  async flush(): Promise<void> {
    await this.#change(() => {});
  }

  async reserve(blocks: number): Promise<void> {
    await this.#change(() => {
      if (blocks <= this.#quota) return this.medium.grow(blockOffset(blocks));
      throw new FsError("ENOSPC", `Cannot reserve ${blocks} blocks: the medium is full`);
    });
  }

  size(): Promise<number> {
    this.#onAsked?.("size");
    return Promise.resolve(blocksIn(this.medium.length));
  }

  space(): Promise<StoreSpace> {
    return Promise.resolve({ free: this.#quota - blocksIn(this.medium.length), quota: this.#quota });
  }

  async truncate(blocks: number): Promise<void> {
    await this.#change(() => this.medium.cut(blockOffset(blocks)));
  }

  readHeader(region: HeaderRegion, copy: 0 | 1): Promise<Uint8Array> {
    return Promise.resolve(this.#read(HEADER_AT[region][copy], new Uint8Array(HEADER_BYTES[region])));
  }

  writeHeader(region: HeaderRegion, copy: 0 | 1, bytes: Uint8Array): Promise<void> | void {
    if (bytes.length !== HEADER_BYTES[region]) {
      throw new RangeError(`Not a ${region} header: ${bytes.length} bytes`);
    }
    return this.#change(() => this.medium.write(HEADER_AT[region][copy], bytes));
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
