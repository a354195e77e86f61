/** The contents of regular files: reading and writing, holes, sizes. */
import { BLOCK } from "../crypto/sealer.ts";
import { FsError } from "./errors.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE } from "./filesystem.ts";
import { ReadAhead } from "./read_ahead.ts";
import { readRange } from "./reading.ts";
import { FILE_SIZE_MAX, type FileOffset, type Ino } from "./types.ts";
import type { VolumeState } from "./volume_state.ts";

const never = () => Promise.resolve(false);

/** The old content of a page, and what it was read from. */
interface Base {
  readonly number: number;
  readonly mapping: string;
  readonly data: Uint8Array;
}

/** Reads and writes regular files; see `Filesystem` for what each operation promises. */
export class FileData {
  readonly #state: VolumeState;
  readonly #readAhead: ReadAhead;
  /** Files that were cut to nothing: when they are closed, their new data belongs into the next commit. */
  readonly #emptied = new Set<Ino>();
  readonly #moved: () => Promise<boolean>;

  constructor(state: VolumeState) {
    this.#state = state;
    this.#readAhead = new ReadAhead(state.container);
    this.#moved = state.readOnly ? () => state.container.refresh() : never;
  }

  read(
    ino: Ino,
    offset: FileOffset,
    length: number,
    into?: Uint8Array,
  ): Uint8Array | Promise<Uint8Array> {
    const state = this.#state;
    state.regular(ino);
    const size = state.tables.inodes.size[ino]!, end = Math.min(size, offset + length);
    if (end <= offset) return new Uint8Array(0);
    state.accessed(ino);
    this.#readAhead.reading(ino, { offset, end, size });
    return this.#readRange({ ino, offset, length: end - offset, into }, this.#moved);
  }

  #readRange(
    range: { ino: Ino; offset: FileOffset; length: number; into?: Uint8Array | undefined },
    moved: () => Promise<boolean>,
  ): Uint8Array | Promise<Uint8Array> {
    const { container, buffers, readOnly } = this.#state, dirty = readOnly ? undefined : this.#state.dirty;
    return readRange({ container, dirty, buffers, moved }, range);
  }

  write(ino: Ino, offset: FileOffset, data: Uint8Array): void | Promise<void> {
    this.#state.writable();
    this.#state.regular(ino);
    if (offset + data.length > FILE_SIZE_MAX) throw new FsError("EFBIG");
    if (data.length === 0) return;
    const waiting = this.#prepare(ino, offset, data.length);
    if (waiting) return this.#writeLater(ino, offset, data.slice(), waiting);
    this.#apply(ino, offset, data, []);
  }

  async #writeLater(ino: Ino, offset: FileOffset, data: Uint8Array, waiting: Promise<Base[]>): Promise<void> {
    for (let next: Promise<Base[]> | undefined = waiting;;) {
      const bases: Base[] = await next;
      this.#state.writable();
      this.#state.live(ino);
      // Meanwhile other requests were served: go on only if what was read and ensured still holds.
      const again = this.#prepare(ino, offset, data.length, bases);
      if (again === undefined) return this.#apply(ino, offset, data, bases);
      next = again;
    }
  }

  /**
   * Sees that a write can be applied at once: room for its pages, the dirty limit, and the old content of pages
   * that it covers in part. Answers nothing if that is so, else a promise of what was read.
   */
  #prepare(ino: Ino, offset: FileOffset, length: number, bases: Base[] = []): Promise<Base[]> | undefined {
    const { dirty, space } = this.#state;
    const first = Math.floor(offset / BLOCK), last = Math.floor((offset + length - 1) / BLOCK);
    const file = dirty.file(ino), missing: number[] = [];
    let fresh = 0;
    for (let number = first; number <= last; number++) {
      const page = file?.pages.get(number);
      if (page === undefined || page.flushing) fresh++;
      if (page !== undefined) continue;
      const inside = number * BLOCK >= offset && (number + 1) * BLOCK <= offset + length;
      if (inside) continue;
      const mapping = this.#mapping(ino, number);
      if (mapping === undefined) continue;
      const base = bases.find((one) => one.number === number);
      if (base?.mapping !== mapping) missing.push(number);
    }
    if (dirty.admits(fresh) && missing.length === 0 && space.available >= fresh) return undefined;
    const valid = bases.filter((one) => !missing.includes(one.number));
    return this.#makeReady(ino, { fresh, missing, bases: valid });
  }

  async #makeReady(
    ino: Ino,
    { fresh, missing, bases }: { fresh: number; missing: readonly number[]; bases: Base[] },
  ): Promise<Base[]> {
    const { dirty, space, tables } = this.#state;
    if (!dirty.admits(fresh)) await dirty.admission(fresh);
    if (space.available < fresh) await this.#state.room(fresh);
    for (const number of missing) {
      const mapping = this.#mapping(ino, number);
      if (mapping === undefined) continue;
      const size = tables.inodes.size[ino]!, at = number * BLOCK;
      const range = { ino, offset: at, length: Math.min(BLOCK, size - at) };
      const data = new Uint8Array(BLOCK);
      data.set(await this.#readRange(range, never));
      bases.push({ number, mapping, data });
    }
    return bases;
  }

  /** What the container has for a page: undefined for nothing (zeros). Equal as long as the content is. */
  #mapping(ino: Ino, number: number): string | undefined {
    let mapping: string | undefined;
    this.#state.tables.extents.lookup(ino, number * BLOCK, BLOCK, (_offset, length, position, birth) => {
      mapping = `${position}:${birth}:${length}`;
    });
    return mapping;
  }

  #apply(ino: Ino, offset: FileOffset, data: Uint8Array, bases: readonly Base[]): void {
    const { dirty, tables: { inodes, extents } } = this.#state, end = offset + data.length;
    const mappedEnd = extents.endOf(ino);
    for (let at = offset; at < end;) {
      const number = Math.floor(at / BLOCK), start = at - number * BLOCK;
      const count = Math.min(BLOCK - start, end - at);
      // What was read and has become a hole meanwhile must not come back.
      const base = bases.find((one) => one.number === number && one.mapping === this.#mapping(ino, number))
        ?.data;
      const fresh = number * BLOCK >= mappedEnd || !extents.maps(ino, number * BLOCK);
      dirty.page(ino, number, base, fresh).set(data.subarray(at - offset, at - offset + count), start);
      at += count;
    }
    if (end > inodes.size[ino]!) inodes.size[ino] = end;
    this.#state.changed(ino, true);
    this.#state.committer.touched();
    dirty.behind(ino);
  }

  /** Cuts or extends a file; times and record are the caller's. */
  resize(ino: Ino, size: number): void {
    const { dirty, log } = this.#state;
    this.#state.regular(ino);
    if (!Number.isSafeInteger(size) || size < 0) throw new FsError(size < 0 ? "EINVAL" : "EFBIG");
    const { inodes, extents } = this.#state.tables, before = inodes.size[ino]!;
    if (size < before) {
      dirty.truncate(ino, size);
      extents.truncate(ino, size, this.#state.forget);
      log.truncate(ino, size);
      if (size === 0) this.#emptied.add(ino);
    }
    inodes.size[ino] = size;
    dirty.sizeSet(ino);
  }

  /** The inode is being removed: its data goes. */
  remove(ino: Ino): void {
    this.#state.dirty.drop(ino, 0, Infinity);
    this.#state.tables.extents.clear(ino, this.#state.forget);
    this.#emptied.delete(ino);
  }

  /** A handle was closed. @throws {FsError} EIO if the file's data could not be written */
  closed(ino: Ino): void {
    const { committer } = this.#state;
    if (this.#emptied.delete(ino)) committer.must(ino);
    if (committer.lost(ino)) {
      throw new FsError("EIO", "Data could not be written", { cause: committer.failure });
    }
  }

  allocate(ino: Ino, offset: FileOffset, length: number, mode: number): void | Promise<void> {
    this.#state.writable();
    this.#state.regular(ino);
    const keep = (mode & FALLOC_FL_KEEP_SIZE) !== 0, end = offset + length;
    if (offset < 0 || length <= 0) throw new FsError("EINVAL");
    if (end > FILE_SIZE_MAX) throw new FsError("EFBIG");
    switch (mode & ~FALLOC_FL_KEEP_SIZE) {
      case 0:
        return this.#preallocate(ino, end, length, keep);
      case FALLOC_FL_PUNCH_HOLE:
        if (!keep) throw new FsError("ENOTSUP");
        return this.#zero(ino, offset, end, true);
      case FALLOC_FL_ZERO_RANGE:
        return this.#zero(ino, offset, end, keep);
      default:
        throw new FsError("ENOTSUP");
    }
  }

  /** Copy on write has no use for blocks set aside: it is enough that there is room. */
  async #preallocate(ino: Ino, end: FileOffset, length: number, keep: boolean): Promise<void> {
    await this.#state.room(Math.ceil(length / BLOCK));
    this.#state.live(ino);
    const grows = !keep && end > this.#state.tables.inodes.size[ino]!;
    if (grows) this.resize(ino, end);
    this.#state.changed(ino, grows);
    this.#state.committer.touched();
  }

  /** Makes a range read as zeros: whole pages become holes, parts of pages are written. */
  async #zero(ino: Ino, offset: FileOffset, end: FileOffset, keep: boolean): Promise<void> {
    const { dirty, log } = this.#state, { inodes, extents } = this.#state.tables;
    const part = async (from: FileOffset, to: FileOffset) => {
      const number = Math.floor(from / BLOCK);
      for (let bases: Base[] = [];;) {
        const length = Math.min(to, inodes.size[ino]!) - from;
        const exists = dirty.file(ino)?.pages.has(number) || extents.maps(ino, number * BLOCK);
        if (length <= 0 || !exists) return;
        const waiting = this.#prepare(ino, from, length, bases);
        if (waiting === undefined) return this.#apply(ino, from, new Uint8Array(length), bases);
        bases = await waiting;
        this.#state.writable();
        this.#state.live(ino);
      }
    };
    // By the size of that moment: while a part waits, others may append, whose bytes are no hole, and cut.
    const endOfWhole = () => {
      const size = inodes.size[ino]!;
      return end < size ? Math.floor(end / BLOCK) * BLOCK : Math.ceil(size / BLOCK) * BLOCK;
    };
    const firstWhole = Math.ceil(offset / BLOCK) * BLOCK;
    await part(offset, Math.min(firstWhole, end));
    let lastWhole = -1;
    while (lastWhole !== endOfWhole()) {
      lastWhole = endOfWhole();
      await part(Math.max(firstWhole, lastWhole), end);
    }
    this.#state.live(ino);
    if (lastWhole > firstWhole) {
      dirty.drop(ino, firstWhole, lastWhole);
      extents.cut(ino, firstWhole, lastWhole, this.#state.forget);
      log.cut(ino, firstWhole, lastWhole);
    }
    if (!keep && end > inodes.size[ino]!) inodes.size[ino] = end, dirty.sizeSet(ino);
    this.#state.changed(ino, true);
    this.#state.committer.touched();
  }

  seek(ino: Ino, offset: FileOffset, what: "data" | "hole"): FileOffset {
    this.#state.regular(ino);
    const { tables, dirty } = this.#state, size = tables.inodes.size[ino]!;
    if (offset < 0 || offset >= size) throw new FsError("ENXIO");
    const file = dirty.file(ino);
    // The nearest data at or behind a place: of an extent, or of a dirty page.
    const ranges: [FileOffset, FileOffset][] = [];
    tables.extents.lookup(ino, offset, size - offset, (at, length) => {
      ranges.push([at, at + Math.ceil(length / BLOCK) * BLOCK]);
    });
    if (file) { for (const number of file.pages.keys()) ranges.push([number * BLOCK, (number + 1) * BLOCK]); }
    ranges.sort((a, b) => a[0] - b[0]);
    let at = offset;
    for (const [from, to] of ranges) {
      if (to <= at) continue;
      if (what === "data") return Math.max(from, at);
      if (from > at) break;
      at = to;
    }
    if (what === "data") throw new FsError("ENXIO");
    return Math.min(at, size);
  }
}
