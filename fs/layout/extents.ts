/** Where the blocks of all files lie: extents in memory. */
import { BLOCK } from "../../crypto/sealer.ts";
import type { CommitNumber, FileOffset, Ino, Position } from "../types.ts";
import {
  BIRTH,
  blocksFor,
  ExtentTree,
  type ExtentVisitor,
  FIELDS,
  type FreedVisitor,
  joins,
  LENGTH,
  LENGTH_LIMIT,
  OFFSET,
  POSITION,
} from "./extent_tree.ts";

export type { ExtentVisitor, FreedVisitor } from "./extent_tree.ts";

/** First extents lie in pieces of 256 files (8 KiB), made when needed: ids may be far apart. */
const PIECE_BITS = 8, PIECE_MASK = 255;

/**
 * The extents of all files. An extent maps `length` bytes from file offset `offset` (a multiple of 4096) to the
 * blocks from `position` on, all of birth `birth`; its last block may be partial, what is missing in it reads as
 * zeros. Files with one extent have it inline (32 bytes a file), others a tree of their own.
 *
 * Visitors must not change the table.
 */
export class ExtentTable {
  /**
   * Four numbers a file. A length above 0: its only extent. Otherwise the position is 0 for a file without extents,
   * or minus the number of its tree.
   */
  readonly #pieces: (Float64Array | undefined)[] = [];
  /** Trees by number; number 0 is not used. */
  readonly #trees: (ExtentTree | undefined)[] = [undefined];
  readonly #freeTrees: number[] = [];

  /** All files with extents have ids below this. */
  get end(): Ino {
    return this.#pieces.length << PIECE_BITS;
  }

  /**
   * Visits the mapped pieces of [offset, offset + length), in order. A piece begins at a block boundary: that of the
   * block with the range's first byte, or its extent's. It ends with the range or with the extent's valid bytes; a
   * piece without valid bytes in the range is left out. `position` is that of its first block.
   *
   * @param visit may answer `false` to end the visit
   */
  lookup(ino: Ino, offset: FileOffset, length: number, visit: ExtentVisitor): void {
    const piece = this.#pieces[ino >>> PIECE_BITS], at = (ino & PIECE_MASK) * FIELDS, stop = offset + length;
    if (piece === undefined || length <= 0) return;
    const from = Math.floor(offset / BLOCK) * BLOCK;
    if (piece[at + LENGTH]! > 0) {
      const start = piece[at + OFFSET]!, first = Math.max(start, from);
      const last = Math.min(start + piece[at + LENGTH]!, stop);
      if (last <= first || last <= offset) return;
      visit(first, last - first, piece[at + POSITION]! + (first - start) / BLOCK, piece[at + BIRTH]!);
    } else if (piece[at + POSITION]! < 0) {
      this.#trees[-piece[at + POSITION]!]!.each(from, stop, (start, bytes, position, birth) => {
        const first = Math.max(start, from), last = Math.min(start + bytes, stop);
        if (last <= first || last <= offset) return true;
        return visit(first, last - first, position + (first - start) / BLOCK, birth);
      });
    }
  }

  /** Tells whether the block at `offset` (a multiple of 4096) is mapped. */
  maps(ino: Ino, offset: FileOffset): boolean {
    let found = false;
    this.lookup(ino, offset, BLOCK, () => {
      found = true;
    });
    return found;
  }

  /** Visits the extents of a file, whole and in order. */
  each(ino: Ino, visit: ExtentVisitor): void {
    this.lookup(ino, 0, Infinity, visit);
  }

  /**
   * Maps [offset, offset + length), and the rest of its last block, in place of what was there. Neighbours merge.
   *
   * @param offset a multiple of 4096
   * @param length 1 to 2^32 - 1 bytes
   * @param freed told of the blocks that are no longer referred to; those of the new extent itself are not
   */
  set(
    ino: Ino,
    offset: FileOffset,
    length: number,
    position: Position,
    birth: CommitNumber,
    freed: FreedVisitor,
  ): void {
    if (!(length > 0 && length < LENGTH_LIMIT && offset % BLOCK === 0)) {
      throw new RangeError("Cannot set extent: offset or length out of range");
    }
    const piece = this.#pieces[ino >>> PIECE_BITS] ??= new Float64Array(FIELDS << PIECE_BITS);
    const at = (ino & PIECE_MASK) * FIELDS, had = piece[at + LENGTH]!, start = piece[at + OFFSET]!;
    const end = offset + blocksFor(length) * BLOCK;
    if (had > 0 && joins(piece, at, offset, length, position, birth)) {
      piece[at + LENGTH] = had + length;
      return;
    }
    if (had > 0 ? start < offset || start + had > end : piece[at + POSITION] !== 0) {
      const tree = this.#open(piece, at);
      tree.carve(offset, end, freedExcept(position, length, freed));
      tree.put(offset, length, position, birth);
      this.#close(piece, at, tree);
      return;
    }
    if (had > 0) {
      freedExcept(position, length, freed)(piece[at + POSITION]!, blocksFor(had), piece[at + BIRTH]!);
    }
    piece[at + OFFSET] = offset;
    piece[at + LENGTH] = length;
    piece[at + POSITION] = position;
    piece[at + BIRTH] = birth;
  }

  /**
   * Unmaps [from, to), any byte offsets, as far as whole blocks allow: a block without valid bytes before `from` or
   * behind `to` is freed; one with valid bytes only before `from` keeps those and reads as zeros from there on. A
   * block with valid bytes behind `to` stays whole: the caller rewrites it, with zeros in place of what was cut.
   */
  cut(ino: Ino, from: FileOffset, to: FileOffset, freed: FreedVisitor): void {
    const piece = this.#pieces[ino >>> PIECE_BITS], at = (ino & PIECE_MASK) * FIELDS;
    if (piece === undefined || to <= from || this.countOf(ino) === 0) return;
    const start = Math.ceil(from / BLOCK) * BLOCK;
    let stop = Math.floor(to / BLOCK) * BLOCK;
    const tree = this.#open(piece, at);
    if (start > from) tree.shorten(from, to);
    if (stop < to && tree.validEnd(stop) <= to) stop += BLOCK;
    if (start < stop) tree.carve(start, stop, freed);
    this.#close(piece, at, tree);
  }

  /** Unmaps everything from `size` on; the block with the byte before it stays, shortened. */
  truncate(ino: Ino, size: FileOffset, freed: FreedVisitor): void {
    this.cut(ino, size, Infinity, freed);
  }

  /** Unmaps the whole file. */
  clear(ino: Ino, freed: FreedVisitor): void {
    this.cut(ino, 0, Infinity, freed);
  }

  /** How many blocks a file has. */
  blocksOf(ino: Ino): number {
    const piece = this.#pieces[ino >>> PIECE_BITS], at = (ino & PIECE_MASK) * FIELDS;
    if (piece === undefined) return 0;
    if (piece[at + LENGTH]! > 0) return blocksFor(piece[at + LENGTH]!);
    return this.#trees[-piece[at + POSITION]!]?.blocks ?? 0;
  }

  /** How many extents a file has. */
  countOf(ino: Ino): number {
    const piece = this.#pieces[ino >>> PIECE_BITS], at = (ino & PIECE_MASK) * FIELDS;
    if (piece === undefined) return 0;
    return piece[at + LENGTH]! > 0 ? 1 : this.#trees[-piece[at + POSITION]!]?.count ?? 0;
  }

  /** Where the last valid byte of a file's last extent ends; 0 without extents. */
  endOf(ino: Ino): FileOffset {
    const piece = this.#pieces[ino >>> PIECE_BITS], at = (ino & PIECE_MASK) * FIELDS;
    if (piece === undefined) return 0;
    if (piece[at + LENGTH]! > 0) return piece[at + OFFSET]! + piece[at + LENGTH]!;
    return this.#trees[-piece[at + POSITION]!]?.end() ?? 0;
  }

  /** Visits all extents of all files, file after file. */
  everyExtent(visit: (ino: Ino, ...extent: Parameters<ExtentVisitor>) => void): void {
    for (let p = 0; p < this.#pieces.length; p++) {
      if (this.#pieces[p] === undefined) continue;
      for (let ino = p << PIECE_BITS; ino < (p + 1) << PIECE_BITS; ino++) {
        this.each(ino, (offset, length, position, birth) => visit(ino, offset, length, position, birth));
      }
    }
  }

  /** The smallest id from `ino` on that has extents, or {@linkcode end}. */
  nextFile(ino: Ino): Ino {
    for (; ino < this.end; ino++) {
      if (this.#pieces[ino >>> PIECE_BITS] === undefined) ino |= PIECE_MASK;
      else if (this.countOf(ino) > 0) return ino;
    }
    return this.end;
  }

  /** A file's extents as a tree: its own, or a passing one. Each change ends with {@linkcode #close}. */
  #open(piece: Float64Array, at: number): ExtentTree {
    if (piece[at + LENGTH] === 0 && piece[at + POSITION]! < 0) return this.#trees[-piece[at + POSITION]!]!;
    const tree = new ExtentTree();
    if (piece[at + LENGTH]! > 0) {
      tree.put(piece[at + OFFSET]!, piece[at + LENGTH]!, piece[at + POSITION]!, piece[at + BIRTH]!);
    }
    return tree;
  }

  #close(piece: Float64Array, at: number, tree: ExtentTree): void {
    let number = piece[at + LENGTH] === 0 ? -piece[at + POSITION]! : 0;
    if (tree.count > 1) {
      if (number > 0) return;
      number = this.#freeTrees.pop() ?? this.#trees.length;
      this.#trees[number] = tree;
      piece.fill(0, at, at + FIELDS);
      piece[at + POSITION] = -number;
      return;
    }
    if (number > 0) {
      this.#trees[number] = undefined;
      this.#freeTrees.push(number);
    }
    piece.fill(0, at, at + FIELDS);
    if (tree.count === 1) tree.first(piece, at);
  }
}

/** Passes on what is freed, but not the blocks that the new extent of `length` bytes at `position` refers to. */
function freedExcept(position: Position, length: number, freed: FreedVisitor): FreedVisitor {
  const stop = position + blocksFor(length);
  return (from, blocks, birth) => {
    const end = from + blocks;
    if (end <= position || from >= stop) return freed(from, blocks, birth);
    if (from < position) freed(from, position - from, birth);
    if (end > stop) freed(stop, end - stop, birth);
  };
}
