/** Data blocks that files refer to and that no flush of the store covers yet. */
import { BLOCK } from "../crypto/sealer.ts";
import type { Container } from "./container.ts";
import { blocksFor } from "./layout/extent_tree.ts";
import type { BornRun } from "./layout/journal.ts";
import type { CommitNumber, FileOffset, Ino, Position } from "./types.ts";

/** How many blocks a record may list rather than have them flushed before it: all are read again after a crash. */
const LISTED_MOST = 64;

/** A piece of a file that has become the container's. */
export interface WrittenPiece {
  readonly ino: Ino;
  readonly offset: FileOffset;
  /** Bytes. */
  readonly length: number;
  readonly position: Position;
  readonly birth: CommitNumber;
}

/** Remembers pieces until a flush has covered them, or they are too many to be listed. */
export class UnflushedBlocks {
  readonly #container: Container;
  #pieces: (WrittenPiece & { readonly begun: number })[] = [];
  #blocks = 0;
  /** How many flushes had been begun when there were last too many. */
  #tooMany = -1;

  constructor(container: Container) {
    this.#container = container;
  }

  /** Call when the store has taken the blocks. */
  add(piece: WrittenPiece): void {
    const begun = this.#container.session.flushesBegun;
    this.#pieces.push({ ...piece, begun });
    this.#blocks += blocksFor(piece.length);
    if (this.#blocks <= LISTED_MOST) return;
    this.#forgetFlushed();
    if (this.#blocks <= LISTED_MOST) return;
    this.#tooMany = begun;
    this.#pieces = [];
    this.#blocks = 0;
  }

  #forgetFlushed(): void {
    this.#pieces = this.#pieces.filter(({ begun }) => !this.#container.session.isFlushed(begun));
    this.#blocks = this.#pieces.reduce((sum, { length }) => sum + blocksFor(length), 0);
  }

  /**
   * The blocks, or undefined if they are too many. Blocks that no file refers to any more are left out: they may be
   * used again as soon as the commit that forgets them is durable.
   */
  runs(): BornRun[] | undefined {
    if (this.#tooMany >= 0 && !this.#container.session.isFlushed(this.#tooMany)) return undefined;
    this.#forgetFlushed();
    const runs: BornRun[] = [];
    for (const { ino, offset, length, position, birth } of this.#pieces) {
      this.#container.tables.extents.lookup(ino, offset, length, (at, bytes, now, born) => {
        if (born !== birth || now !== position + (at - offset) / BLOCK) return;
        runs.push({ position: now, count: blocksFor(bytes), birth });
      });
    }
    return runs;
  }
}
