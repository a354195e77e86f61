/** Reading of file data: dirty pages over extents over zeros. */
import { IntegrityError } from "../crypto/errors.ts";
import { BLOCK } from "../crypto/sealer.ts";
import { readSealed } from "./block/sealed.ts";
import type { BlockStore } from "./block/store.ts";
import type { Container } from "./container.ts";
import type { CommitNumber, FileOffset, Ino, Position } from "./types.ts";
import type { WriteBack } from "./write_back.ts";

/** A piece of a file as it lies in the container. */
interface Piece {
  readonly offset: FileOffset;
  readonly length: number;
  readonly position: Position;
  readonly birth: CommitNumber;
}

/** How often a read begins anew because the blocks were freed and reused under it. */
const ATTEMPTS = 5;

/** The pieces of a range, in order. */
function piecesOf(container: Container, ino: Ino, offset: FileOffset, length: number): Piece[] {
  const pieces: Piece[] = [];
  container.tables.extents.lookup(ino, offset, length, (offset, length, position, birth) => {
    pieces.push({ offset, length, position, birth });
  });
  return pieces;
}

function same(a: readonly Piece[], b: readonly Piece[]): boolean {
  return a.length === b.length && a.every((one, i) => {
    const other = b[i]!;
    return one.offset === other.offset && one.position === other.position && one.birth === other.birth;
  });
}

/**
 * Reads `length` bytes, all of them inside the file, from `offset` on.
 *
 * @param blocks where sealed blocks come from: the store or its cache
 * @param moved asked when a block does not verify: true if the tables changed, so that reading again may help
 * @throws {IntegrityError} if a block does not verify
 */
export function readRange(
  container: Container,
  dirty: WriteBack | undefined,
  blocks: Pick<BlockStore, "read">,
  range: { ino: Ino; offset: FileOffset; length: number },
  moved: () => Promise<boolean>,
): Uint8Array | Promise<Uint8Array> {
  const { ino, offset, length } = range, end = offset + length;
  const out = new Uint8Array(length);
  // What is dirty now is copied now: while blocks are read, pages may be flushed and change places.
  const covered = new Set<number>(), file = dirty?.file(ino);
  if (file !== undefined) {
    const first = Math.floor(offset / BLOCK), last = Math.floor((end - 1) / BLOCK);
    for (let number = first; number <= last; number++) {
      const page = file.pages.get(number);
      if (page === undefined) continue;
      covered.add(number);
      put(out, offset, page.data, number * BLOCK, BLOCK);
    }
    if (covered.size === last - first + 1) return out;
  }
  const pieces = piecesOf(container, ino, offset, length);
  const waits: Promise<void>[] = [];
  const start = (piece: Piece): void | Promise<void> => {
    const count = Math.ceil(piece.length / BLOCK),
      whole = piece.offset >= offset &&
        piece.length === count * BLOCK && piece.offset + piece.length <= end && covered.size === 0;
    const target = whole
      ? out.subarray(piece.offset - offset, piece.offset - offset + piece.length)
      : new Uint8Array(count * BLOCK);
    const opening = readSealed(
      blocks,
      container.keys.sealer,
      container.dataIdentity(piece.position, piece.birth),
      target,
    );
    if (whole) return opening;
    const finish = () => {
      for (let i = 0; i < count; i++) {
        const at = piece.offset + i * BLOCK;
        if (covered.has(at / BLOCK)) continue;
        const valid = Math.min(BLOCK, piece.offset + piece.length - at);
        put(out, offset, target.subarray(i * BLOCK, i * BLOCK + valid), at, valid);
      }
    };
    if (opening) return opening.then(finish);
    finish();
  };
  try {
    for (const piece of pieces) {
      const waiting = start(piece);
      if (waiting) waits.push(waiting);
    }
  } catch (error) {
    waits.push(Promise.reject(error));
  }
  if (waits.length === 0) return out;
  return settle(waits).then(() => out, async (error) => {
    if (!(error instanceof IntegrityError)) throw error;
    for (let attempt = 1; attempt < ATTEMPTS; attempt++) {
      const fresh = piecesOf(container, ino, offset, length);
      if (same(pieces, fresh) && !await moved()) throw error;
      try {
        return await readRange(container, dirty, blocks, range, () => Promise.resolve(false));
      } catch (again) {
        if (!(again instanceof IntegrityError)) throw again;
      }
    }
    throw error;
  });
}

/** Waits for all, so that nobody writes to a buffer that was given up; then fails if one did. */
async function settle(waits: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(waits)) {
    if (result.status === "rejected") throw result.reason;
  }
}

/** Copies the part of `bytes` (which lies at file offset `at`) that falls into `out` (at file offset `offset`). */
function put(out: Uint8Array, offset: FileOffset, bytes: Uint8Array, at: FileOffset, length: number): void {
  const from = Math.max(offset, at), to = Math.min(offset + out.length, at + length);
  if (to > from) out.set(bytes.subarray(from - at, to - at), from - offset);
}
