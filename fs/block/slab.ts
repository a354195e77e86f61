/** Sealed blocks kept by position, in memory that is used over and over: one allocation a block would cost four times. */
import { SEALED } from "../../crypto/sealer.ts";
import type { Position } from "../types.ts";

/** Blocks for which memory is allocated at a time. */
const PIECE = 256;

/** Copies of at most so many blocks, least recently used first out. */
export class Slab {
  readonly #most: number;
  /** Where a block lies in the pieces, in blocks. Least recently used first. */
  readonly #places = new Map<Position, number>();
  #pieces: Uint8Array[] = [];
  /** Places that were given back. */
  #free: number[] = [];

  /** @param most blocks that are kept */
  constructor(most: number) {
    this.#most = most;
  }

  /** Blocks that are kept now. */
  get size(): number {
    return this.#places.size;
  }

  has(position: Position): boolean {
    return this.#places.has(position);
  }

  /** Positions that are kept. They may be deleted meanwhile. */
  positions(): IterableIterator<Position> {
    return this.#places.keys();
  }

  /** Copies a block out to the beginning of `to`; @returns whether there is one */
  get(position: Position, to: Uint8Array): boolean {
    const place = this.#places.get(position);
    if (place === undefined) return false;
    this.#places.delete(position);
    this.#places.set(position, place);
    to.set(this.#block(place));
    return true;
  }

  /** Copies a block in. */
  set(position: Position, sealed: Uint8Array): void {
    if (this.#most < 1) return;
    this.delete(position);
    if (this.#places.size >= this.#most) this.delete(this.#places.keys().next().value!);
    const place = this.#free.pop() ?? this.#places.size;
    if (place >= this.#pieces.length * PIECE) this.#pieces.push(new Uint8Array(PIECE * SEALED));
    this.#block(place).set(sealed);
    this.#places.set(position, place);
  }

  delete(position: Position): void {
    const place = this.#places.get(position);
    if (place === undefined) return;
    this.#places.delete(position);
    this.#free.push(place);
  }

  /** Forgets all, and gives the memory back. */
  clear(): void {
    this.#places.clear();
    this.#pieces = [];
    this.#free = [];
  }

  #block(place: number): Uint8Array {
    const at = (place % PIECE) * SEALED;
    return this.#pieces[Math.floor(place / PIECE)]!.subarray(at, at + SEALED);
  }
}
