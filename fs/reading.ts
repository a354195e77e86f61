/** Reading of file data: dirty pages over extents over zeros. */
import { IntegrityError } from "../crypto/errors.ts";
import { BLOCK, type RunIdentity, SEALED } from "../crypto/sealer.ts";
import { RUN_BLOCKS, type RunBuffers } from "./block/buffers.ts";
import type { Container } from "./container.ts";
import type { CommitNumber, FileOffset, Ino, Position } from "./types.ts";
import type { WriteBack } from "./write_back.ts";

/** Where file data is read from. */
export interface ReadSource {
  readonly container: Container;
  /** Undefined for a reader, who has no dirty pages. */
  readonly dirty: WriteBack | undefined;
  readonly buffers: RunBuffers;
  /** Asked when a block does not verify: true if the tables changed, so that reading again may help. */
  readonly moved: () => Promise<boolean>;
}

/** What is to be read: `length` bytes from `offset` on, all of them inside the file. */
export interface ReadRange {
  readonly ino: Ino;
  readonly offset: FileOffset;
  readonly length: number;
  /** Room for the answer, in shared memory where the sealer works in parallel; left out, memory is allocated. */
  readonly into?: Uint8Array | undefined;
}

/** A piece of a file as it lies in the container, at most {@linkcode RUN_BLOCKS} blocks. */
interface Piece {
  readonly offset: FileOffset;
  readonly length: number;
  readonly position: Position;
  readonly birth: CommitNumber;
}

/** How often a read begins anew because the blocks were freed and reused under it. */
const ATTEMPTS = 5;

/** The pieces of a range, in order. */
function piecesOf(container: Container, { ino, offset, length }: ReadRange): Piece[] {
  const pieces: Piece[] = [], most = RUN_BLOCKS * BLOCK;
  container.tables.extents.lookup(ino, offset, length, (offset, length, position, birth) => {
    for (let at = 0; at < length; at += most) {
      const piece = { offset: offset + at, length: Math.min(most, length - at) };
      pieces.push({ ...piece, position: position + at / BLOCK, birth });
    }
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
 * Reads a range of a file.
 *
 * @returns the bytes; at the beginning of `range.into`, where that is given
 * @throws {IntegrityError} if a block does not verify
 */
export function readRange(source: ReadSource, range: ReadRange): Uint8Array | Promise<Uint8Array> {
  const { container } = source, out = range.into?.subarray(0, range.length) ?? new Uint8Array(range.length);
  // What is dirty now is copied now: while blocks are read, pages may be flushed and change places.
  const covered = copyDirty(source, range, out);
  if (covered === undefined) return out;
  const pieces = piecesOf(container, range), waits: Promise<void>[] = [];
  if (range.into) clearHoles(range, pieces, { out, covered });
  try {
    for (const piece of pieces) {
      const waiting = readPiece(source, piece, { out, covered, offset: range.offset });
      if (waiting) waits.push(waiting);
    }
  } catch (error) {
    waits.push(Promise.reject(error));
  }
  if (waits.length === 0) return out;
  return settle(waits).then(() => out, (error) => readAgain(source, range, { pieces, error }));
}

/** The blocks may have been freed and reused while they were read: then the tables have changed. */
async function readAgain(
  source: ReadSource,
  range: ReadRange,
  { pieces, error }: { pieces: readonly Piece[]; error: unknown },
): Promise<Uint8Array> {
  if (!(error instanceof IntegrityError)) throw error;
  for (let attempt = 1; attempt < ATTEMPTS; attempt++) {
    if (same(pieces, piecesOf(source.container, range)) && !await source.moved()) throw error;
    try {
      return await readRange({ ...source, moved: () => Promise.resolve(false) }, range);
    } catch (again) {
      if (!(again instanceof IntegrityError)) throw again;
    }
  }
  throw error;
}

/** Copies what is dirty of the range. @returns the numbers of these pages, or undefined if that is all of it */
function copyDirty(
  { dirty }: ReadSource,
  { ino, offset, length }: ReadRange,
  out: Uint8Array,
): ReadonlySet<number> | undefined {
  const covered = new Set<number>(), file = dirty?.file(ino);
  if (file === undefined) return covered;
  const first = Math.floor(offset / BLOCK), last = Math.floor((offset + length - 1) / BLOCK);
  for (let number = first; number <= last; number++) {
    const page = file.pages.get(number);
    if (page === undefined) continue;
    covered.add(number);
    put(out, offset, page.data, number * BLOCK, BLOCK);
  }
  return covered.size === last - first + 1 ? undefined : covered;
}

/** Zeroes what no piece and no dirty page fills of a buffer that was used before. */
function clearHoles(
  { offset, length }: ReadRange,
  pieces: readonly Piece[],
  { out, covered }: { out: Uint8Array; covered: ReadonlySet<number> },
): void {
  const clear = (from: FileOffset, to: FileOffset) => {
    if (covered.size === 0) return void out.fill(0, from - offset, to - offset);
    for (let at = from; at < to;) {
      const number = Math.floor(at / BLOCK), next = Math.min(to, (number + 1) * BLOCK);
      if (!covered.has(number)) out.fill(0, at - offset, next - offset);
      at = next;
    }
  };
  let filled = offset;
  for (const piece of pieces) {
    if (piece.offset > filled) clear(filled, piece.offset);
    filled = piece.offset + piece.length;
  }
  if (filled < offset + length) clear(filled, offset + length);
}

/** Reads a piece and puts the part of it that is asked for and not dirty into `out`. */
function readPiece(
  source: ReadSource,
  piece: Piece,
  to: { out: Uint8Array; covered: ReadonlySet<number>; offset: FileOffset },
): void | Promise<void> {
  const { out, covered, offset } = to, count = Math.ceil(piece.length / BLOCK);
  const identity = source.container.dataIdentity(piece.position, piece.birth);
  const whole = piece.offset >= offset && piece.length === count * BLOCK && covered.size === 0 &&
    piece.offset + piece.length <= offset + out.length;
  if (whole) {
    const start = piece.offset - offset;
    return openRun(source, identity, out.subarray(start, start + piece.length));
  }
  const { plain } = source.buffers, buffer = plain.take(count * BLOCK);
  const target = buffer.subarray(0, count * BLOCK);
  const finish = () => {
    for (let i = 0; i < count; i++) {
      const at = piece.offset + i * BLOCK;
      if (covered.has(at / BLOCK)) continue;
      const valid = Math.min(BLOCK, piece.offset + piece.length - at);
      put(out, offset, target.subarray(i * BLOCK, i * BLOCK + valid), at, valid);
    }
  };
  return using(() => openRun(source, identity, target), finish, () => plain.give(buffer));
}

/** Reads and opens a run of blocks into `plain`. */
function openRun(source: ReadSource, run: RunIdentity, plain: Uint8Array): void | Promise<void> {
  const { container: { store, keys: { sealer } }, buffers } = source;
  const count = plain.length / BLOCK, buffer = buffers.sealed.take(count * SEALED);
  let verified = false;
  return using(
    () => {
      const sealed = store.read(run.position, count, buffer.subarray(0, count * SEALED));
      if (sealed instanceof Promise) return sealed.then((bytes) => sealer.unseal(run, bytes, plain));
      return sealer.unseal(run, sealed, plain);
    },
    () => void (verified = true),
    () => {
      buffers.sealed.give(buffer);
      if (!verified) store.doubt?.(run.position, count);
    },
  );
}

/** Does `work`, then `finish` unless that failed, then `release` in any case; at once where `work` answers at once. */
function using(
  work: () => void | Promise<void>,
  finish: () => void,
  release: () => void,
): void | Promise<void> {
  let later: void | Promise<void>;
  try {
    later = work();
    if (later === undefined) finish();
  } catch (error) {
    release();
    throw error;
  }
  if (later) return later.then(finish).finally(release);
  release();
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
