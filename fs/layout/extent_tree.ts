/** The extents of one file that has several: sorted by file offset, in leaves. */
import { BLOCK } from "../../crypto/sealer.ts";
import type { CommitNumber, FileOffset, Position } from "../types.ts";

/** Numbers an extent takes in a row of columns: file offset, bytes, position, birth. */
export const FIELDS = 4;
export const OFFSET = 0, LENGTH = 1, POSITION = 2, BIRTH = 3;
/** Extents of a leaf, at the beginning and at most. */
const LEAF_LEAST = 4, LEAF_MOST = 256;
/** An extent's length stays below this (u32). */
export const LENGTH_LIMIT = 2 ** 32;

/** Called for blocks that a file no longer refers to. It must not change the table. */
export type FreedVisitor = (position: Position, blocks: number, birth: CommitNumber) => void;

/** Called for extents or parts of them; answering `false` ends the visit. It must not change the table. */
export type ExtentVisitor = (
  offset: FileOffset,
  length: number,
  position: Position,
  birth: CommitNumber,
) => void | boolean;

/** Blocks that hold this many bytes. */
export function blocksFor(bytes: number): number {
  return Math.ceil(bytes / BLOCK);
}

/** A sorted piece of the list, never empty while it is in the tree. */
class Leaf {
  rows: Float64Array;
  count = 0;

  constructor(capacity: number) {
    this.rows = new Float64Array(capacity * FIELDS);
  }

  insert(index: number, offset: FileOffset, length: number, position: Position, birth: CommitNumber): void {
    const at = index * FIELDS;
    if (this.count * FIELDS === this.rows.length) {
      const larger = new Float64Array(Math.min(LEAF_MOST * FIELDS, this.rows.length * 4));
      larger.set(this.rows);
      this.rows = larger;
    }
    const { rows } = this;
    rows.copyWithin(at + FIELDS, at, this.count * FIELDS);
    rows[at + OFFSET] = offset;
    rows[at + LENGTH] = length;
    rows[at + POSITION] = position;
    rows[at + BIRTH] = birth;
    this.count++;
  }

  /** Removes the extents from `from` to before `to`. */
  remove(from: number, to: number): void {
    this.rows.copyWithin(from * FIELDS, to * FIELDS, this.count * FIELDS);
    this.count -= to - from;
  }

  end(index: number): FileOffset {
    const at = index * FIELDS;
    return this.rows[at + OFFSET]! + blocksFor(this.rows[at + LENGTH]!) * BLOCK;
  }
}

/**
 * Extents of one file, none overlapping. All offsets are multiples of 4096, all lengths in bytes; only whole blocks
 * are mapped, so an extent reaches to the end of its last block whatever its length is.
 */
export class ExtentTree {
  readonly #leaves: Leaf[] = [];
  /** Extents. */
  count = 0;
  /** Allocated blocks. */
  blocks = 0;
  /** Where {@linkcode #seek} stopped. */
  #leaf = 0;
  #index = 0;

  /** Finds the first extent that ends behind `offset`. @returns false if there is none */
  #seek(offset: FileOffset): boolean {
    const leaves = this.#leaves;
    let low = 0, high = leaves.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (leaves[middle]!.rows[OFFSET]! <= offset) low = middle;
      else high = middle - 1;
    }
    this.#leaf = low;
    this.#index = 0;
    const leaf = leaves[low];
    if (leaf === undefined) return false;
    let least = 0, most = leaf.count - 1;
    while (least < most) {
      const middle = (least + most + 1) >> 1;
      if (leaf.rows[middle * FIELDS + OFFSET]! <= offset) least = middle;
      else most = middle - 1;
    }
    this.#index = leaf.end(least) <= offset ? least + 1 : least;
    return this.#settle();
  }

  /** A place behind a leaf's last extent is the beginning of the next one. */
  #settle(): boolean {
    const leaf = this.#leaves[this.#leaf];
    if (leaf !== undefined && this.#index >= leaf.count) {
      this.#leaf++;
      this.#index = 0;
    }
    return this.#leaf < this.#leaves.length;
  }

  /** Visits the extents that have blocks in [from, to), whole. */
  each(from: FileOffset, to: FileOffset, visit: ExtentVisitor): void {
    if (!this.#seek(from)) return;
    const leaves = this.#leaves;
    for (let l = this.#leaf, i = this.#index; l < leaves.length; l++, i = 0) {
      const { rows, count } = leaves[l]!;
      for (; i < count; i++) {
        const at = i * FIELDS, offset = rows[at + OFFSET]!;
        if (offset >= to) return;
        if (visit(offset, rows[at + LENGTH]!, rows[at + POSITION]!, rows[at + BIRTH]!) === false) return;
      }
    }
  }

  /** The end of the last extent's bytes. */
  end(): FileOffset {
    const leaf = this.#leaves[this.#leaves.length - 1];
    if (leaf === undefined) return 0;
    const at = (leaf.count - 1) * FIELDS;
    return leaf.rows[at + OFFSET]! + leaf.rows[at + LENGTH]!;
  }

  /** Copies the first extent to `rows` from `at`. */
  first(rows: Float64Array, at: number): void {
    rows.set(this.#leaves[0]!.rows.subarray(0, FIELDS), at);
  }

  /** Unmaps the whole blocks of [from, to), both multiples of 4096 (or `to` infinite). */
  carve(from: FileOffset, to: FileOffset, freed: FreedVisitor): void {
    while (this.#seek(from)) {
      const leaf = this.#leaves[this.#leaf]!, { rows } = leaf, index = this.#index, at = index * FIELDS;
      const offset = rows[at + OFFSET]!, length = rows[at + LENGTH]!, end = leaf.end(index);
      const position = rows[at + POSITION]!, birth = rows[at + BIRTH]!;
      if (offset >= to) return;
      const cutFrom = Math.max(offset, from), cutTo = Math.min(end, to);
      if (offset >= from && end <= to) {
        let stop = index;
        for (; stop < leaf.count && leaf.end(stop) <= to; stop++) {
          const row = stop * FIELDS, blocks = blocksFor(rows[row + LENGTH]!);
          this.blocks -= blocks;
          freed(rows[row + POSITION]!, blocks, rows[row + BIRTH]!);
        }
        this.#remove(index, stop);
        continue;
      }
      const blocks = (cutTo - cutFrom) / BLOCK;
      this.blocks -= blocks;
      if (offset < from) {
        rows[at + LENGTH] = from - offset;
        if (end > to) {
          this.#index++;
          this.#insert(to, length - (to - offset), position + (to - offset) / BLOCK, birth);
        }
      } else {
        rows[at + OFFSET] = to;
        rows[at + LENGTH] = length - (to - offset);
        rows[at + POSITION] = position + (to - offset) / BLOCK;
      }
      freed(position + (cutFrom - offset) / BLOCK, blocks, birth);
      if (end >= to) return;
    }
  }

  /** Maps blocks where nothing is mapped, merging with neighbours. */
  put(offset: FileOffset, length: number, position: Position, birth: CommitNumber): void {
    const found = this.#seek(offset), blocks = blocksFor(length);
    this.blocks += blocks;
    const leaves = this.#leaves, inside = found && this.#index > 0;
    const left = leaves[inside ? this.#leaf : this.#leaf - 1];
    const index = left === undefined ? -1 : (inside ? this.#index : left.count) - 1, at = index * FIELDS;
    const joinsLeft = left !== undefined && joins(left.rows, at, offset, length, position, birth);
    const right = found ? leaves[this.#leaf]! : undefined, row = this.#index * FIELDS;
    if (right !== undefined && right.rows[row + OFFSET] === offset + length) {
      const whole = joinsLeft ? left.rows[at + LENGTH]! + length : length, more = right.rows[row + LENGTH]!;
      const follows = right.rows[row + POSITION] === position + blocks && right.rows[row + BIRTH] === birth;
      if (follows && whole + more < LENGTH_LIMIT) {
        if (joinsLeft) {
          left.rows[at + LENGTH] = whole + more;
          this.#remove(this.#index, this.#index + 1);
        } else {
          right.rows[row + OFFSET] = offset;
          right.rows[row + LENGTH] = length + more;
          right.rows[row + POSITION] = position;
        }
        return;
      }
    }
    if (joinsLeft) left.rows[at + LENGTH] = left.rows[at + LENGTH]! + length;
    else this.#insert(offset, length, position, birth);
  }

  /**
   * If the block with the byte `from` holds no valid bytes behind `to`, its bytes from `from` on end to be valid.
   * `from` is no multiple of 4096.
   */
  shorten(from: FileOffset, to: FileOffset): void {
    const block = Math.floor(from / BLOCK) * BLOCK, next = block + BLOCK;
    if (!this.#seek(block)) return;
    const leaf = this.#leaves[this.#leaf]!, at = this.#index * FIELDS, { rows } = leaf;
    const offset = rows[at + OFFSET]!, length = rows[at + LENGTH]!, valid = Math.min(next, offset + length);
    if (offset > block || valid <= from || valid > to) return;
    rows[at + LENGTH] = from - offset;
    if (offset + length <= next) return;
    this.#index++;
    const position = rows[at + POSITION]! + (next - offset) / BLOCK;
    this.#insert(next, length - (next - offset), position, rows[at + BIRTH]!);
  }

  /** Where the valid bytes of the block at `offset` end; `offset` itself if it is not mapped. */
  validEnd(offset: FileOffset): FileOffset {
    if (!this.#seek(offset)) return offset;
    const { rows } = this.#leaves[this.#leaf]!, at = this.#index * FIELDS, start = rows[at + OFFSET]!;
    return start > offset ? offset : Math.min(offset + BLOCK, start + rows[at + LENGTH]!);
  }

  /** Inserts at the place found, which may be behind everything or behind a leaf's last extent. */
  #insert(offset: FileOffset, length: number, position: Position, birth: CommitNumber): void {
    const leaves = this.#leaves;
    // Behind a leaf is as good as before the next one, and fills the leaves of a file written from the start.
    if (this.#index === 0 && this.#leaf > 0) this.#index = leaves[--this.#leaf]!.count;
    let leaf = leaves[this.#leaf];
    if (leaf === undefined) leaves.push(leaf = new Leaf(LEAF_LEAST));
    else if (leaf.count === LEAF_MOST) {
      const half = this.#index === LEAF_MOST ? LEAF_MOST : LEAF_MOST / 2, next = new Leaf(LEAF_MOST);
      next.rows.set(leaf.rows.subarray(half * FIELDS));
      next.count = LEAF_MOST - half;
      leaf.count = half;
      leaves.splice(this.#leaf + 1, 0, next);
      if (this.#index >= half) {
        this.#leaf++;
        this.#index -= half;
        leaf = next;
      }
    }
    leaf.insert(this.#index, offset, length, position, birth);
    this.count++;
  }

  /** Removes extents of the leaf found. */
  #remove(from: number, to: number): void {
    const leaves = this.#leaves, leaf = leaves[this.#leaf]!;
    leaf.remove(from, to);
    this.count -= to - from;
    const next = leaves[this.#leaf + 1];
    if (leaf.count === 0) leaves.splice(this.#leaf, 1);
    else if (next !== undefined && leaf.count + next.count <= LEAF_MOST / 2) {
      const rows = new Float64Array(LEAF_MOST * FIELDS);
      rows.set(leaf.rows.subarray(0, leaf.count * FIELDS));
      rows.set(next.rows.subarray(0, next.count * FIELDS), leaf.count * FIELDS);
      leaf.rows = rows;
      leaf.count += next.count;
      leaves.splice(this.#leaf + 1, 1);
    }
  }
}

/** Tells whether blocks continue the extent in a row: in the file, in the container, and of the same birth. */
export function joins(
  rows: Float64Array,
  at: number,
  offset: FileOffset,
  length: number,
  position: Position,
  birth: CommitNumber,
): boolean {
  const had = rows[at + LENGTH]!;
  return rows[at + OFFSET]! + had === offset && rows[at + POSITION]! + had / BLOCK === position &&
    rows[at + BIRTH] === birth && had + length < LENGTH_LIMIT;
}
