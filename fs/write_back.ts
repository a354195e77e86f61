/**
 * Dirty pages: what was written to files and is not yet sealed. They are the only plaintext in the process, and
 * bounded. Data is never overwritten in place: pages are sealed and written to free blocks in long runs, and the
 * tables then point to the new blocks.
 */
import { BLOCK, SEALED } from "../crypto/sealer.ts";
import { RUN_BLOCKS, type RunBuffers } from "./block/buffers.ts";
import { breathe } from "./clock.ts";
import type { Container } from "./container.ts";
import type { ChangeLog } from "./layout/changes.ts";
import type { BornRun } from "./layout/journal.ts";
import type { Run } from "./layout/superblock.ts";
import type { FileOffset, Ino } from "./types.ts";
import { UnflushedBlocks, type WrittenPiece } from "./unflushed.ts";

/** How long a flush may hold the event loop, in ms. */
const SLICE = 4;
/** Runs that are sealed at the same time, where that is done by others; they are written one after another. */
const RUNS_AT_ONCE = 6;
/** From how many dirty pages of a file on they are written without being asked for. */
const BEHIND_PAGES = 1024;
/** A file's inode takes as much room in a record as so many extents. */
const INODE_PAGES = 4;
/** Pages whose memory is kept when they are clean. */
const SPARE_PAGES = 4096;

/** One page of a file that is newer than the container. */
export class DirtyPage {
  /** 4096 bytes; zeros beyond what was written. */
  data: Uint8Array;
  /** The file has no block there: it adds to what `stat` counts. */
  fresh: boolean;
  /** Its content is on the way to the container and has not changed since. */
  flushing = false;
  /** How many bytes of what is on the way have not been cut off since. */
  kept = BLOCK;

  constructor(data: Uint8Array, fresh: boolean) {
    this.data = data;
    this.fresh = fresh;
  }
}

/** A run of blocks that is on the way. */
interface RunUnderway {
  written: boolean;
  /** Makes the blocks the file's. */
  readonly adopt: () => void;
}

/** A flush of one file: the pages that were dirty when it began, and the runs that are not yet the file's. */
interface Flush {
  readonly file: DirtyFile;
  readonly wanted: ReadonlyMap<number, DirtyPage>;
  readonly order: RunUnderway[];
  /** Resolves when the store has taken what was sealed so far: it is given one run after another. */
  turn: Promise<void>;
}

/** The dirty pages of one file. */
export class DirtyFile {
  readonly ino: Ino;
  /** By page number. */
  readonly pages = new Map<number, DirtyPage>();
  fresh = 0;
  /** The size up to which the container has (or a record says so) the data. */
  writtenSize: number;
  /** The size when the flush under way began, or to which it was cut since. */
  flushSize = 0;
  flushing: Promise<void> | undefined;

  constructor(ino: Ino, writtenSize: number) {
    this.ino = ino;
    this.writtenSize = writtenSize;
  }

  /** First page of a range that lies beyond `size` in part or whole; undefined if there is none. */
  firstBeyond(size: number): number | undefined {
    let first: number | undefined;
    for (const page of this.pages.keys()) {
      if ((page + 1) * BLOCK > size && (first === undefined || page < first)) first = page;
    }
    return first;
  }
}

/** How a {@linkcode WriteBack} works. */
export interface WriteBackOptions {
  /** Bytes of dirty data before writers wait. */
  readonly dirtyBytes: number;
  readonly buffers: RunBuffers;
  /** Waits while the next record has no room for what is written. */
  readonly recordable: () => void | Promise<void>;
  /** Told when data could not be written, once. */
  readonly onFailure: (error: unknown) => void;
}

/** Collects and flushes dirty pages. */
export class WriteBack {
  readonly #container: Container;
  readonly #log: ChangeLog;
  readonly #options: WriteBackOptions;
  readonly #files = new Map<Ino, DirtyFile>();
  readonly #spare: Uint8Array[] = [];
  readonly #unflushed: UnflushedBlocks;
  /** Writers who wait until there are fewer dirty pages. */
  #waiting: (() => void)[] = [];
  /** Flushes under way, also of files that are gone. */
  readonly #running = new Set<Promise<void>>();
  #pages = 0;
  #failed = false;

  constructor(container: Container, log: ChangeLog, options: WriteBackOptions) {
    this.#container = container;
    this.#log = log;
    this.#options = options;
    this.#unflushed = new UnflushedBlocks(container);
  }

  /** What files refer to and no flush covers, as `Container.append` wants it at the moment of a freeze. */
  unflushed(): BornRun[] | undefined {
    return this.#unflushed.runs();
  }

  /** Blocks with the content that the container has already are the file's from now on, in the place of others. */
  written(piece: WrittenPiece): void {
    this.#unflushed.add(piece);
  }

  /** Dirty pages in all. */
  get pages(): number {
    return this.#pages;
  }

  file(ino: Ino): DirtyFile | undefined {
    return this.#files.get(ino);
  }

  files(): IterableIterator<DirtyFile> {
    return this.#files.values();
  }

  /** Blocks that the file's dirty pages add to those that it has. */
  freshBlocks(ino: Ino): number {
    return this.#files.get(ino)?.fresh ?? 0;
  }

  /** Tells whether so many more dirty pages are within the limit. One write alone always is. */
  admits(pages: number): boolean {
    return this.#pages === 0 || (this.#pages + pages) * BLOCK <= this.#options.dirtyBytes;
  }

  /** Has dirty data written until so many more pages are admitted, or it cannot be written. */
  async admission(pages: number): Promise<void> {
    while (!this.admits(pages) && !this.#failed) {
      const full = this.#options.recordable();
      if (full) {
        const done = await full.then(() => true, () => false);
        if (!done) return; // the write finds that nothing is taken any more
        continue;
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.push(resolve);
      let under = 0;
      for (const file of this.#files.values()) {
        if (under * 2 * BLOCK >= this.#options.dirtyBytes) break;
        under += file.pages.size + INODE_PAGES;
        if (file.flushing === undefined) this.#flushBehind(file);
      }
      await promise;
    }
  }

  #progress(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** Begins to write a file's dirty data if there is much of it. */
  behind(ino: Ino): void {
    const file = this.#files.get(ino);
    if (
      file !== undefined && file.pages.size >= BEHIND_PAGES && file.flushing === undefined && !this.#failed
    ) {
      this.#flushBehind(file);
    }
  }

  #flushBehind(file: DirtyFile): void {
    this.flush(file.ino).catch(() => {}); // `onFailure` was told
  }

  /** The page to write to; made (from `base`, or zeros) if it is not dirty yet. Room must have been ensured. */
  page(ino: Ino, number: number, base: Uint8Array | undefined, fresh: boolean): Uint8Array {
    let file = this.#files.get(ino);
    if (file === undefined) {
      file = new DirtyFile(ino, this.#container.tables.inodes.size[ino]!);
      this.#files.set(ino, file);
    }
    let page = file.pages.get(number);
    if (page === undefined) {
      page = new DirtyPage(base ?? this.#spare.pop() ?? new Uint8Array(BLOCK), fresh);
      file.pages.set(number, page);
      if (fresh) file.fresh++;
      this.#pages++;
      this.#container.session.space.promise(1);
    }
    this.#changed(page);
    return page.data;
  }

  /** A page whose content is on the way changes: that block is not its own any more, it needs another one. */
  #changed(page: DirtyPage): void {
    if (!page.flushing) return;
    page.flushing = false;
    this.#container.session.space.promise(1);
  }

  /** Takes a page out; a page on the way has given its promise of room for a block already. */
  #remove(file: DirtyFile, number: number): void {
    const page = file.pages.get(number)!;
    file.pages.delete(number);
    if (page.fresh) file.fresh--;
    this.#pages--;
    if (!page.flushing) this.#container.session.space.unpromise(1);
    if (file.pages.size === 0) this.#files.delete(file.ino);
    if (this.#spare.length < SPARE_PAGES) this.#spare.push(page.data.fill(0));
  }

  /** Drops the pages that lie wholly in the byte range. */
  drop(ino: Ino, from: FileOffset, to: FileOffset): void {
    const file = this.#files.get(ino);
    if (file === undefined) return;
    const first = Math.ceil(from / BLOCK), end = to === Infinity ? Infinity : Math.floor(to / BLOCK);
    for (const number of [...file.pages.keys()]) {
      if (number >= first && number < end) this.#remove(file, number);
    }
    this.#progress();
  }

  /** Cuts the file's dirty data at `size`. */
  truncate(ino: Ino, size: number): void {
    this.drop(ino, size, Infinity);
    const file = this.#files.get(ino);
    if (file === undefined) return;
    const tail = file.pages.get(Math.floor(size / BLOCK));
    if (tail) {
      tail.data.fill(0, size % BLOCK);
      tail.kept = Math.min(tail.kept, size % BLOCK);
      this.#changed(tail);
    }
    file.writtenSize = Math.min(file.writtenSize, size);
    file.flushSize = Math.min(file.flushSize, size);
  }

  /** The size to record: never one whose data is not written. */
  recordedSize(ino: Ino): number {
    const size = this.#container.tables.inodes.size[ino]!, file = this.#files.get(ino);
    if (file === undefined) return size;
    const beyond = file.firstBeyond(file.writtenSize);
    file.writtenSize = beyond === undefined ? size : Math.max(file.writtenSize, beyond * BLOCK);
    return Math.min(size, file.writtenSize);
  }

  /** The size was set on purpose: it may be recorded if no dirty data lies beyond what was recorded so far. */
  sizeSet(ino: Ino): void {
    const file = this.#files.get(ino);
    if (file && file.firstBeyond(file.writtenSize) === undefined) {
      file.writtenSize = this.#container.tables.inodes.size[ino]!;
    }
  }

  /** Seals and writes all pages that the file has now. The data is durable with the next commit. */
  async flush(ino: Ino): Promise<void> {
    for (let file = this.#files.get(ino); file?.flushing; file = this.#files.get(ino)) await file.flushing;
    const file = this.#files.get(ino);
    if (file === undefined) return;
    const flushing = file.flushing = this.#flush(file);
    this.#running.add(flushing);
    try {
      await flushing;
    } catch (error) {
      if (!this.#failed) this.#options.onFailure(error);
      this.#failed = true;
      throw error;
    } finally {
      file.flushing = undefined;
      this.#running.delete(flushing);
      this.#progress();
    }
  }

  /** Resolves when nothing is on its way any more: a block that arrives later could be another session's by then. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#running);
  }

  /**
   * Writes the pages that are dirty now, and no others; their blocks become the file's in the order of the pages. So
   * whenever a commit is made, the container holds the file as it was, up to a page, and nothing behind that.
   */
  async #flush(file: DirtyFile): Promise<void> {
    const wanted = new Map(file.pages), flush: Flush = { file, wanted, order: [], turn: Promise.resolve() };
    const numbers = [...wanted.keys()].sort((a, b) => a - b), under = new Set<Promise<void>>();
    file.flushSize = this.#container.tables.inodes.size[file.ino]!;
    const most = Math.min(RUN_BLOCKS, this.#container.store.traits.runBlocks);
    let since = performance.now(), failure: { readonly error: unknown } | undefined;
    for (let at = 0; at < numbers.length && failure === undefined;) {
      const first = numbers[at]!;
      let count = 1;
      while (at + count < numbers.length && count < most && numbers[at + count] === first + count) count++;
      at += count;
      const failed = (error: unknown) => failure ??= { error };
      try {
        for (const writing of this.#writePages(flush, first, first + count)) {
          const settled: Promise<void> = writing.catch(failed).then(() => void under.delete(settled));
          under.add(settled);
        }
      } catch (error) {
        failed(error);
      }
      if (under.size >= RUNS_AT_ONCE) await Promise.race(under);
      if (performance.now() - since > SLICE) {
        await breathe();
        since = performance.now();
      }
    }
    await Promise.all(under);
    if (failure) throw failure.error;
    file.writtenSize = Math.max(file.writtenSize, file.flushSize);
  }

  /** Writes the pages from `first` to before `end`, as far as they are still there; yields what is not done yet. */
  *#writePages(flush: Flush, first: number, end: number): Generator<Promise<void>> {
    const { file, wanted } = flush;
    const there = (number: number) => number < end && file.pages.get(number) === wanted.get(number);
    for (let number = first; number < end;) {
      let present = 0;
      while (there(number + present)) present++;
      for (const run of present > 0 ? this.#container.session.space.take(present) : []) {
        const writing = this.#writeRun(flush, number, run);
        if (writing) yield writing;
        number += run.count;
      }
      while (number < end && !there(number)) number++;
    }
  }

  /** Seals the pages from `first` on and writes them to a run of blocks. */
  #writeRun(flush: Flush, first: number, run: Run): void | Promise<void> {
    const { file, order } = flush;
    const { store, keys: { sealer }, session: { openCommit: birth } } = this.#container,
      { buffers } = this.#options;
    const plainBuffer = buffers.plain.take(run.count * BLOCK),
      plain = plainBuffer.subarray(0, run.count * BLOCK);
    const pages: DirtyPage[] = [];
    for (let i = 0; i < run.count; i++) {
      const page = file.pages.get(first + i)!;
      plain.set(page.data, i * BLOCK);
      page.flushing = true;
      page.kept = BLOCK;
      pages.push(page);
    }
    const sealedBuffer = buffers.sealed.take(run.count * SEALED);
    const sealed = sealedBuffer.subarray(0, run.count * SEALED);
    const { position } = run, size = this.#container.tables.inodes.size[file.ino]!;
    const adopt = () => this.#adopt(file, first, pages, { position, birth, size });
    const underway: RunUnderway = { written: false, adopt };
    order.push(underway);
    const done = () => {
      buffers.sealed.give(sealedBuffer);
      underway.written = true;
      while (order[0]?.written) order.shift()!.adopt();
    };
    const sealing = sealer.seal(this.#container.dataIdentity(run.position, birth), plain, sealed);
    const write = () => {
      buffers.plain.give(plainBuffer);
      return store.write(run.position, sealed);
    };
    if (sealing) {
      const written = Promise.all([flush.turn, sealing]).then(write);
      flush.turn = written.catch(() => {}); // told below
      return written.then(done);
    }
    const writing = write();
    if (writing) return writing.then(done);
    done();
  }

  /**
   * Written blocks become the file's. A page that has changed meanwhile gets its block too, since an fsync that began
   * before the change promises what was there then; it stays dirty.
   */
  #adopt(
    file: DirtyFile,
    first: number,
    pages: DirtyPage[],
    run: { readonly position: number; readonly birth: number; readonly size: number },
  ): void {
    const { tables, session: { space } } = this.#container, log = this.#log, { birth } = run;
    for (let i = 0; i < pages.length;) {
      const position = run.position + i, offset = (first + i) * BLOCK;
      let count = 0, length = 0;
      while (i + count < pages.length && length === count * BLOCK) {
        const page = pages[i + count]!;
        if (file.pages.get(first + i + count) !== page) break;
        length += page.kept;
        count++;
      }
      if (count === 0) {
        // Gone meanwhile: nothing will ever refer to the block.
        space.forget(position, 1);
        i++;
        continue;
      }
      length = Math.min(length, run.size - offset);
      tables.extents.set(file.ino, offset, length, position, birth, (at, blocks) => space.forget(at, blocks));
      log.extent(file.ino, offset, length, position, birth);
      this.#unflushed.add({ ino: file.ino, offset, length, position, birth });
      file.writtenSize = Math.max(file.writtenSize, offset + length);
      for (let j = 0; j < count; j++) {
        const page = pages[i + j]!;
        if (page.flushing) this.#remove(file, first + i + j);
        else if (page.fresh) page.fresh = false, file.fresh--;
      }
      log.inode(file.ino);
      i += count;
    }
    this.#progress();
  }
}
