/** The filesystem over a container: what a mount and the command line use. */
import { CoverError } from "../crypto/errors.ts";
import { BLOCK } from "../crypto/sealer.ts";
import { now } from "./clock.ts";
import { Committer } from "./committer.ts";
import type { Container, DurablePoint } from "./container.ts";
import { FsError } from "./errors.ts";
import {
  type AttributeChanges,
  type Attributes,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  type Filesystem,
  type FilesystemStatistics,
  type ListedEntry,
  type NodeSpec,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  XATTR_CREATE,
  XATTR_REPLACE,
} from "./filesystem.ts";
import { ChangeLog, fromLatin1, isDirectory, latin1, TARGET_MAX, XATTR_MAX } from "./layout/changes.ts";
import type { Tables } from "./layout/tables.ts";
import { readRange } from "./reading.ts";
import {
  type CommitNumber,
  FILE_SIZE_MAX,
  type FileOffset,
  type Ino,
  NAME_MAX,
  ROOT,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_ISGID,
} from "./types.ts";
import { WriteBack } from "./write_back.ts";

/** Hard links of a file at most, as on ext4. */
const LINK_MAX = 65000;
/** Inode ids that a filesystem tells it can have. */
const FILES_MAX = 0x7fff_ffff;
const DAY = 86400;
/** The largest time that the format can hold, in seconds before and after 1970: seventy million years. */
const SECONDS_MAX = 2 ** 51 - 1;

/** Options of a volume. */
export interface VolumeOptions {
  /** Bytes of dirty data before writers wait. */
  readonly dirtyBytes?: number;
  /** Access times: moved when older than the last change or a day (`relatime`), or never. */
  readonly atime?: "relatime" | "noatime";
  /** Called when a commit is durable: what a client remembers against rollback. */
  readonly onDurable?: (point: DurablePoint) => void;
}

/** A filesystem in a container. */
export class Volume implements Filesystem, AsyncDisposable {
  readonly container: Container;
  readonly readOnly: boolean;
  readonly #log = new ChangeLog();
  readonly #dirty: WriteBack;
  readonly #committer: Committer;
  readonly #references = new Map<Ino, number>();
  readonly #dirtyPages: number;
  readonly #relatime: boolean;
  #ended = false;

  constructor(container: Container, options: VolumeOptions = {}) {
    this.container = container;
    this.readOnly = container.readOnly;
    this.#dirty = new WriteBack(container, this.#log);
    this.#committer = new Committer(container, this.#log, this.#dirty);
    this.#dirtyPages = Math.ceil((options.dirtyBytes ?? 64 << 20) / BLOCK);
    this.#relatime = options.atime !== "noatime" && !this.readOnly;
    this.#committer.onDurable = () => {
      const point = container.durable;
      if (point) options.onDurable?.(point);
    };
    if (!this.readOnly) this.#removeOrphans();
  }

  get #tables(): Tables {
    return this.container.tables;
  }

  /** Files that were open and unlinked when the last writer went away. */
  #removeOrphans(): void {
    const { inodes } = this.#tables;
    for (let ino = ROOT + 1; ino < inodes.end; ino++) {
      if (inodes.has(ino) && inodes.nlink[ino] === 0) this.#remove(ino);
    }
  }

  #writable(): void {
    if (this.readOnly) throw new FsError("EROFS");
    if (this.#committer.failure !== undefined || this.#ended) {
      throw new FsError("EIO", "The container can no longer be written", { cause: this.#committer.failure });
    }
  }

  #live(ino: Ino): void {
    if (!this.#tables.inodes.has(ino)) throw new FsError("ESTALE");
  }

  #directory(ino: Ino): void {
    this.#live(ino);
    if (!isDirectory(this.#tables.inodes.mode[ino]!)) throw new FsError("ENOTDIR");
  }

  #regular(ino: Ino): void {
    this.#live(ino);
    const type = this.#tables.inodes.mode[ino]! & S_IFMT;
    if (type === S_IFDIR) throw new FsError("EISDIR");
    if (type !== S_IFREG) throw new FsError("EINVAL");
  }

  /** A name that may be given to a new entry of a directory that still exists. */
  #newName(directory: Ino, name: Uint8Array): void {
    this.#directory(directory);
    checkName(name);
    if (this.#tables.inodes.nlink[directory] === 0) throw new FsError("ENOENT");
  }

  #find(directory: Ino, name: Uint8Array): { slot: number; ino: Ino } {
    this.#directory(directory);
    checkName(name);
    const slot = this.#tables.dentries.find(directory, name);
    if (slot < 0) throw new FsError("ENOENT");
    return { slot, ino: this.#tables.dentries.inoAt(slot) };
  }

  /** Marks what changed; `m` moves mtime too. */
  #changed(ino: Ino, m = false): void {
    const { inodes } = this.#tables, [seconds, nanoseconds] = now();
    inodes.ctimeS[ino] = seconds, inodes.ctimeN[ino] = nanoseconds;
    if (m) inodes.mtimeS[ino] = seconds, inodes.mtimeN[ino] = nanoseconds;
    this.#log.inode(ino);
  }

  #forget = (position: number, blocks: number): void => this.container.space.forget(position, blocks);

  admit(): void | Promise<void> {
    if (this.readOnly || this.#committer.failure !== undefined) return;
    const waiting = this.#committer.admit();
    if (waiting) return waiting.catch(() => {});
    if (this.container.space.available >= 1) return;
    // A change needs room for its record: grow now, so that the operation itself need not wait.
    return this.#room(1).catch(() => {});
  }

  /** What adds something needs more than the reserve, which is for commits and for deleting. */
  #growing(): void {
    if (this.container.space.full) throw new FsError("ENOSPC");
  }

  /** Room for that many blocks; before ENOSPC a commit is forced that may free some. */
  async #room(blocks: number): Promise<void> {
    const { space } = this.container;
    try {
      await space.ensure(blocks);
    } catch (error) {
      if (!(error instanceof FsError) || !space.hasForgotten) throw error;
      await this.#commit({});
      await space.ensure(blocks);
    }
  }

  lookup(directory: Ino, name: Uint8Array): Ino | undefined {
    this.#directory(directory);
    if (name.length > NAME_MAX) throw new FsError("ENAMETOOLONG");
    if (name.length === 1 && name[0] === 0x2e) return directory;
    if (name.length === 2 && name[0] === 0x2e && name[1] === 0x2e) return this.parent(directory);
    const slot = this.#tables.dentries.find(directory, name);
    return slot < 0 ? undefined : this.#tables.dentries.inoAt(slot);
  }

  parent(directory: Ino): Ino {
    const slot = this.#tables.dentries.directoryEntryOf(directory);
    return slot < 0 ? ROOT : this.#tables.dentries.parentAt(slot);
  }

  attributes(ino: Ino): Attributes {
    this.#live(ino);
    const t = this.#tables.inodes;
    const mode = t.mode[ino]!, symlink = (mode & S_IFMT) === S_IFLNK;
    return {
      ino,
      generation: t.generation[ino]!,
      mode,
      nlink: t.nlink[ino]!,
      uid: t.uid[ino]!,
      gid: t.gid[ino]!,
      rdev: t.rdev[ino]!,
      size: symlink ? t.targets.get(ino)?.length ?? 0 : t.size[ino]!,
      blocks: (this.#tables.extents.blocksOf(ino) + this.#dirty.freshBlocks(ino)) * (BLOCK / 512),
      atime: { seconds: t.atimeS[ino]!, nanoseconds: t.atimeN[ino]! },
      mtime: { seconds: t.mtimeS[ino]!, nanoseconds: t.mtimeN[ino]! },
      ctime: { seconds: t.ctimeS[ino]!, nanoseconds: t.ctimeN[ino]! },
      btime: { seconds: t.btimeS[ino]!, nanoseconds: t.btimeN[ino]! },
    };
  }

  setAttributes(ino: Ino, changes: AttributeChanges): Attributes {
    this.#live(ino);
    this.#writable();
    const t = this.#tables.inodes, { atime, mtime, ctime } = changes;
    for (const time of [atime, mtime, ctime]) {
      if (time && Math.abs(time.seconds) > SECONDS_MAX) throw new FsError("EINVAL", "A time is out of range");
    }
    if (changes.size !== undefined) this.#resize(ino, changes.size);
    if (changes.mode !== undefined) t.mode[ino] = (t.mode[ino]! & S_IFMT) | (changes.mode & 0o7777);
    if (changes.uid !== undefined) t.uid[ino] = changes.uid;
    if (changes.gid !== undefined) t.gid[ino] = changes.gid;
    this.#changed(ino, changes.size !== undefined);
    if (atime) t.atimeS[ino] = atime.seconds, t.atimeN[ino] = atime.nanoseconds;
    if (mtime) t.mtimeS[ino] = mtime.seconds, t.mtimeN[ino] = mtime.nanoseconds;
    if (ctime) t.ctimeS[ino] = ctime.seconds, t.ctimeN[ino] = ctime.nanoseconds;
    this.#committer.touched();
    return this.attributes(ino);
  }

  #resize(ino: Ino, size: number): void {
    this.#regular(ino);
    if (!Number.isSafeInteger(size) || size < 0) throw new FsError(size < 0 ? "EINVAL" : "EFBIG");
    const { inodes, extents } = this.#tables, before = inodes.size[ino]!;
    if (size < before) {
      this.#dirty.truncate(ino, size);
      extents.truncate(ino, size, this.#forget);
      this.#log.truncate(ino, size);
      if (size === 0) this.#emptied.add(ino);
    }
    inodes.size[ino] = size;
    this.#dirty.sizeSet(ino);
  }

  /** Files that were cut to nothing: when they are closed, their new data belongs into the next commit. */
  readonly #emptied = new Set<Ino>();

  create(directory: Ino, name: Uint8Array, spec: NodeSpec): Ino {
    this.#writable();
    this.#newName(directory, name);
    const { inodes, dentries } = this.#tables;
    if (dentries.find(directory, name) >= 0) throw new FsError("EEXIST");
    this.#growing();
    const folder = isDirectory(spec.mode), parentMode = inodes.mode[directory]!;
    const inherits = (parentMode & S_ISGID) !== 0;
    const ino = this.#make(
      inherits
        ? { ...spec, gid: inodes.gid[directory]!, mode: folder ? spec.mode | S_ISGID : spec.mode }
        : spec,
      folder ? 2 : 1,
    );
    dentries.insert(directory, name, ino, { directory: folder });
    this.#log.entry(directory, name, ino, folder);
    if (folder) inodes.nlink[directory]!++;
    this.#changed(directory, true);
    this.#committer.touched();
    return ino;
  }

  createUnnamed(spec: NodeSpec): Ino {
    this.#writable();
    this.#growing();
    const ino = this.#make(spec, 0);
    this.#committer.touched();
    return ino;
  }

  #make(spec: NodeSpec, nlink: number): Ino {
    const { inodes } = this.#tables, symlink = (spec.mode & S_IFMT) === S_IFLNK;
    if (symlink && (!spec.target || spec.target.length === 0)) throw new FsError("ENOENT");
    if (symlink && spec.target!.length > TARGET_MAX) throw new FsError("ENAMETOOLONG");
    const ino = inodes.allocate(), [seconds, nanoseconds] = now();
    inodes.mode[ino] = spec.mode;
    inodes.uid[ino] = spec.uid;
    inodes.gid[ino] = spec.gid;
    inodes.rdev[ino] = spec.rdev ?? 0;
    inodes.nlink[ino] = nlink;
    inodes.size[ino] = 0;
    inodes.atimeS[ino] =
      inodes.mtimeS[ino] =
      inodes.ctimeS[ino] =
      inodes.btimeS[ino] =
        seconds;
    inodes.atimeN[ino] =
      inodes.mtimeN[ino] =
      inodes.ctimeN[ino] =
      inodes.btimeN[ino] =
        nanoseconds;
    if (symlink) {
      const target = spec.target!.slice();
      inodes.targets.set(ino, target);
      this.#log.target(ino, target);
    }
    this.#log.inode(ino);
    return ino;
  }

  link(ino: Ino, directory: Ino, name: Uint8Array): void {
    this.#writable();
    this.#live(ino);
    this.#newName(directory, name);
    const { inodes, dentries } = this.#tables;
    if (isDirectory(inodes.mode[ino]!)) throw new FsError("EPERM");
    if (dentries.find(directory, name) >= 0) throw new FsError("EEXIST");
    if (inodes.nlink[ino]! >= LINK_MAX) throw new FsError("EMLINK");
    this.#growing();
    dentries.insert(directory, name, ino, { directory: false });
    this.#log.entry(directory, name, ino, false);
    inodes.nlink[ino]!++;
    this.#changed(ino);
    this.#changed(directory, true);
    this.#committer.touched();
  }

  unlink(directory: Ino, name: Uint8Array): void {
    this.#writable();
    const { slot, ino } = this.#find(directory, name);
    if (isDirectory(this.#tables.inodes.mode[ino]!)) throw new FsError("EISDIR");
    this.#removeEntry(directory, name, slot);
    this.#unlinked(ino);
    this.#committer.touched();
  }

  rmdir(directory: Ino, name: Uint8Array): void {
    this.#writable();
    const { slot, ino } = this.#find(directory, name);
    this.#emptyDirectory(ino);
    this.#removeEntry(directory, name, slot);
    this.#directoryGone(ino, directory);
    this.#committer.touched();
  }

  #emptyDirectory(ino: Ino): void {
    this.#directory(ino);
    if (this.#tables.dentries.countOf(ino) > 0) throw new FsError("ENOTEMPTY");
  }

  #removeEntry(directory: Ino, name: Uint8Array, slot: number): void {
    this.#tables.dentries.remove(slot);
    this.#log.removeEntry(directory, name);
    this.#changed(directory, true);
  }

  #unlinked(ino: Ino): void {
    const { inodes } = this.#tables;
    inodes.nlink[ino]!--;
    this.#changed(ino);
    if (inodes.nlink[ino] === 0 && !this.#references.has(ino)) this.#remove(ino);
  }

  #directoryGone(ino: Ino, parent: Ino): void {
    const { inodes, dentries } = this.#tables;
    inodes.nlink[parent]!--;
    inodes.nlink[ino] = 0;
    dentries.forgetDirectory(ino);
    this.#changed(ino);
    if (!this.#references.has(ino)) this.#remove(ino);
  }

  /** The inode has no name and nobody uses it. */
  #remove(ino: Ino): void {
    const { inodes, extents } = this.#tables;
    this.#dirty.drop(ino, 0, Infinity);
    extents.clear(ino, this.#forget);
    this.#emptied.delete(ino);
    const generation = inodes.generation[ino]!;
    inodes.remove(ino);
    this.#log.removeInode(ino, generation);
    this.#committer.dead(ino);
  }

  rename(from: Ino, name: Uint8Array, to: Ino, newName: Uint8Array, flags = 0): void {
    this.#writable();
    if (
      (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) !== 0 || flags === (RENAME_NOREPLACE | RENAME_EXCHANGE)
    ) {
      throw new FsError("EINVAL");
    }
    this.#directory(from);
    this.#directory(to);
    const { slot, ino } = this.#find(from, name), { inodes, dentries } = this.#tables;
    this.#newName(to, newName);
    const folder = isDirectory(inodes.mode[ino]!), otherSlot = dentries.find(to, newName);
    if (folder && from !== to) this.#notInside(ino, to);
    if (otherSlot < 0) {
      if (flags & RENAME_EXCHANGE) throw new FsError("ENOENT");
    } else if (flags & RENAME_NOREPLACE) throw new FsError("EEXIST");
    else if (flags & RENAME_EXCHANGE) return this.#exchange(from, name, slot, to, newName, otherSlot);
    else {
      const other = dentries.inoAt(otherSlot);
      if (other === ino) return; // two names of one file: POSIX says that nothing happens
      const otherFolder = isDirectory(inodes.mode[other]!);
      if (folder && !otherFolder) throw new FsError("ENOTDIR");
      if (!folder && otherFolder) throw new FsError("EISDIR");
      if (otherFolder) this.#emptyDirectory(other);
      this.#removeEntry(to, newName, otherSlot);
      if (otherFolder) this.#directoryGone(other, to);
      else {
        this.#unlinked(other);
        this.#committer.must(ino);
      }
    }
    this.#removeEntry(from, name, slot);
    dentries.insert(to, newName, ino, { directory: folder });
    this.#log.entry(to, newName, ino, folder);
    if (folder && from !== to) inodes.nlink[from]!--, inodes.nlink[to]!++;
    this.#changed(ino);
    this.#changed(to, true);
    this.#committer.touched();
  }

  /** A directory does not move into itself or below itself. */
  #notInside(ino: Ino, directory: Ino): void {
    for (let at = directory; at !== ROOT; at = this.parent(at)) {
      if (at === ino) throw new FsError("EINVAL");
    }
  }

  #exchange(
    from: Ino,
    name: Uint8Array,
    slot: number,
    to: Ino,
    newName: Uint8Array,
    otherSlot: number,
  ): void {
    const { inodes, dentries } = this.#tables;
    const ino = dentries.inoAt(slot), other = dentries.inoAt(otherSlot);
    if (ino === other) return;
    const folder = isDirectory(inodes.mode[ino]!), otherFolder = isDirectory(inodes.mode[other]!);
    if (otherFolder && from !== to) this.#notInside(other, from);
    this.#removeEntry(from, name, slot);
    this.#removeEntry(to, newName, otherSlot);
    dentries.insert(from, name, other, { directory: otherFolder });
    dentries.insert(to, newName, ino, { directory: folder });
    this.#log.entry(from, name, other, otherFolder);
    this.#log.entry(to, newName, ino, folder);
    if (from !== to && folder !== otherFolder) {
      inodes.nlink[folder ? from : to]!--;
      inodes.nlink[folder ? to : from]!++;
    }
    for (const one of [ino, other]) this.#changed(one);
    for (const one of [from, to]) this.#changed(one, true);
    this.#committer.touched();
  }

  readlink(ino: Ino): Uint8Array {
    this.#live(ino);
    const target = this.#tables.inodes.targets.get(ino);
    if ((this.#tables.inodes.mode[ino]! & S_IFMT) !== S_IFLNK || !target) throw new FsError("EINVAL");
    return target;
  }

  list(directory: Ino, cookie = 0): IterableIterator<ListedEntry> {
    this.#directory(directory);
    return this.#tables.dentries.list(directory, cookie);
  }

  hold(ino: Ino): void {
    this.#live(ino);
    this.#references.set(ino, (this.#references.get(ino) ?? 0) + 1);
  }

  drop(ino: Ino, count = 1): void {
    const left = (this.#references.get(ino) ?? 0) - count;
    if (left > 0) {
      this.#references.set(ino, left);
      return;
    }
    this.#references.delete(ino);
    const { inodes } = this.#tables;
    if (this.readOnly || this.#ended || !inodes.has(ino) || inodes.nlink[ino] !== 0) return;
    if (this.#committer.failure !== undefined) return;
    this.#remove(ino);
    this.#committer.touched();
  }

  read(ino: Ino, offset: FileOffset, length: number): Uint8Array | Promise<Uint8Array> {
    this.#regular(ino);
    const size = this.#tables.inodes.size[ino]!, end = Math.min(size, offset + length);
    if (end <= offset) return new Uint8Array(0);
    if (this.#relatime) this.#accessed(ino);
    const range = { ino, offset, length: end - offset };
    return readRange(
      this.container,
      this.readOnly ? undefined : this.#dirty,
      this.container.store,
      range,
      () => this.readOnly ? this.container.refresh() : Promise.resolve(false),
    );
  }

  #accessed(ino: Ino): void {
    const t = this.#tables.inodes, at = t.atimeS[ino]!, seconds = Math.floor(Date.now() / 1000);
    const older = (s: number, n: number) => at < s || (at === s && t.atimeN[ino]! <= n);
    const due = older(t.mtimeS[ino]!, t.mtimeN[ino]!) || older(t.ctimeS[ino]!, t.ctimeN[ino]!) ||
      seconds - at >= DAY;
    if (!due || this.#committer.failure !== undefined || this.#ended) return;
    [t.atimeS[ino], t.atimeN[ino]] = now();
    this.#log.inode(ino);
    this.#committer.touched();
  }

  write(ino: Ino, offset: FileOffset, data: Uint8Array): void | Promise<void> {
    this.#writable();
    this.#regular(ino);
    if (offset + data.length > FILE_SIZE_MAX) throw new FsError("EFBIG");
    if (data.length === 0) return;
    const waiting = this.#prepare(ino, offset, data.length);
    if (waiting) {
      const copy = data.slice();
      return this.#writeLater(ino, offset, copy, waiting);
    }
    this.#apply(ino, offset, data, undefined);
  }

  async #writeLater(ino: Ino, offset: FileOffset, data: Uint8Array, waiting: Promise<Base[]>): Promise<void> {
    for (let next: Promise<Base[]> | undefined = waiting;;) {
      const bases: Base[] = await next;
      this.#writable();
      this.#live(ino);
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
    const first = Math.floor(offset / BLOCK), last = Math.floor((offset + length - 1) / BLOCK);
    const file = this.#dirty.file(ino), missing: number[] = [];
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
    const full = this.#dirty.pages + fresh > this.#dirtyPages;
    const { space } = this.container;
    if (!full && missing.length === 0 && space.available >= fresh) return undefined;
    return (async () => {
      if (full) await this.#flushSome();
      if (space.available < fresh) await this.#room(fresh);
      const read = bases.filter((one) => !missing.includes(one.number));
      for (const number of missing) {
        const mapping = this.#mapping(ino, number);
        if (mapping === undefined) continue;
        const size = this.#tables.inodes.size[ino]!, at = number * BLOCK;
        const bytes = await this.#readBase(ino, at, Math.min(BLOCK, size - at));
        const data = new Uint8Array(BLOCK);
        data.set(bytes);
        read.push({ number, mapping, data });
      }
      return read;
    })();
  }

  #readBase(ino: Ino, offset: FileOffset, length: number): Uint8Array | Promise<Uint8Array> {
    return readRange(
      this.container,
      this.#dirty,
      this.container.store,
      { ino, offset, length },
      () => Promise.resolve(false),
    );
  }

  /** What the container has for a page: undefined for nothing (zeros). Equal as long as the content is. */
  #mapping(ino: Ino, number: number): string | undefined {
    let mapping: string | undefined;
    this.#tables.extents.lookup(ino, number * BLOCK, BLOCK, (_offset, length, position, birth) => {
      mapping = `${position}:${birth}:${length}`;
    });
    return mapping;
  }

  #apply(ino: Ino, offset: FileOffset, data: Uint8Array, bases: Base[] | undefined): void {
    const { inodes } = this.#tables, end = offset + data.length;
    for (let at = offset; at < end;) {
      const number = Math.floor(at / BLOCK), start = at - number * BLOCK;
      const count = Math.min(BLOCK - start, end - at);
      const base = bases?.find((one) => one.number === number)?.data;
      const mapped = base !== undefined || this.#mapping(ino, number) !== undefined;
      this.#dirty.page(ino, number, base, !mapped).set(
        data.subarray(at - offset, at - offset + count),
        start,
      );
      at += count;
    }
    if (end > inodes.size[ino]!) inodes.size[ino] = end;
    this.#changed(ino, true);
    this.#committer.touched();
  }

  /** Flushes dirty data until half of the limit is left; writers wait for it. */
  #flushSome(): Promise<void> {
    this.#flushing ??= (async () => {
      for (const file of [...this.#dirty.files()]) {
        if (this.#dirty.pages <= this.#dirtyPages / 2) break;
        await this.#dirty.flush(file.ino);
      }
    })().finally(() => this.#flushing = undefined);
    return this.#flushing;
  }
  #flushing: Promise<void> | undefined;

  allocate(ino: Ino, offset: FileOffset, length: number, mode: number): void | Promise<void> {
    this.#writable();
    this.#regular(ino);
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
    await this.#room(Math.ceil(length / BLOCK));
    this.#live(ino);
    if (!keep && end > this.#tables.inodes.size[ino]!) this.setAttributes(ino, { size: end });
    else this.#changed(ino);
  }

  /** Makes a range read as zeros: whole pages become holes, parts of pages are written. */
  async #zero(ino: Ino, offset: FileOffset, end: FileOffset, keep: boolean): Promise<void> {
    const { inodes, extents } = this.#tables, size = inodes.size[ino]!;
    const inside = Math.min(end, size), firstWhole = Math.ceil(offset / BLOCK) * BLOCK;
    const lastWhole = inside === size
      ? Math.ceil(inside / BLOCK) * BLOCK
      : Math.floor(inside / BLOCK) * BLOCK;
    const part = async (from: FileOffset, to: FileOffset) => {
      const number = Math.floor(from / BLOCK), dirty = this.#dirty.file(ino)?.pages.has(number);
      if (to > from && (dirty || this.#mapping(ino, number))) {
        await this.write(ino, from, new Uint8Array(to - from));
      }
    };
    if (offset < inside) {
      await part(offset, Math.min(firstWhole, inside));
      if (lastWhole < inside && lastWhole >= firstWhole) await part(lastWhole, inside);
      this.#live(ino);
      if (lastWhole > firstWhole) {
        this.#dirty.drop(ino, firstWhole, lastWhole);
        extents.cut(ino, firstWhole, lastWhole, this.#forget);
        this.#log.cut(ino, firstWhole, lastWhole);
      }
    }
    if (!keep && end > inodes.size[ino]!) inodes.size[ino] = end, this.#dirty.sizeSet(ino);
    this.#changed(ino, true);
    this.#committer.touched();
  }

  seek(ino: Ino, offset: FileOffset, what: "data" | "hole"): FileOffset {
    this.#regular(ino);
    const size = this.#tables.inodes.size[ino]!;
    if (offset < 0 || offset >= size) throw new FsError("ENXIO");
    const file = this.#dirty.file(ino);
    // The nearest data at or behind a place: of an extent, or of a dirty page.
    const ranges: [FileOffset, FileOffset][] = [];
    this.#tables.extents.lookup(ino, offset, size - offset, (at, length) => {
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

  async copy(from: Ino, offset: FileOffset, to: Ino, toOffset: FileOffset, length: number): Promise<number> {
    this.#regular(from);
    this.#regular(to);
    // What the copy itself adds to the end of the same file is not copied.
    const end = Math.min(length, this.#tables.inodes.size[from]! - offset), step = 1 << 20;
    let done = 0;
    while (done < end) {
      await this.admit();
      const bytes = await this.read(from, offset + done, Math.min(step, end - done));
      if (bytes.length === 0) break;
      await this.write(to, toOffset + done, bytes);
      done += bytes.length;
    }
    return done;
  }

  closed(ino: Ino): void {
    if (this.#emptied.delete(ino)) this.#committer.must(ino);
    const { failure } = this.#committer;
    if (failure !== undefined && this.#dirty.file(ino)) {
      throw new FsError("EIO", "Data could not be written", { cause: failure });
    }
  }

  async fsync(ino: Ino, _options?: { dataOnly?: boolean }): Promise<void> {
    if (this.readOnly) return;
    await this.#commit({ ino });
  }

  async sync(): Promise<CommitNumber> {
    if (!this.readOnly) await this.#commit({ all: true });
    return this.container.last;
  }

  async #commit(what: { ino?: Ino; all?: boolean }): Promise<void> {
    try {
      await this.#committer.commit(what);
    } catch (error) {
      if (error instanceof FsError) throw error;
      throw new FsError("EIO", "Cannot commit", { cause: error });
    }
  }

  /** Writes a checkpoint now, so that the next opening has no journal to replay. */
  async checkpoint(): Promise<void> {
    this.#writable();
    await this.#committer.checkpoint();
  }

  getXattr(ino: Ino, name: Uint8Array): Uint8Array | undefined {
    this.#live(ino);
    return this.#tables.inodes.xattrs.get(ino)?.get(latin1(name));
  }

  setXattr(ino: Ino, name: Uint8Array, value: Uint8Array, flags = 0): void {
    this.#writable();
    this.#live(ino);
    if (name.length === 0 || name.length > NAME_MAX) throw new FsError("ERANGE");
    if (value.length > XATTR_MAX) throw new FsError("E2BIG");
    const { xattrs } = this.#tables.inodes, all = xattrs.get(ino) ?? new Map<string, Uint8Array>();
    const key = latin1(name), known = all.has(key);
    if (known && flags & XATTR_CREATE) throw new FsError("EEXIST");
    if (!known && flags & XATTR_REPLACE) throw new FsError("ENODATA");
    this.#growing();
    const total = [...all].reduce(
      (sum, [one, bytes]) => sum + (one === key ? 0 : one.length + bytes.length),
      0,
    );
    if (total + key.length + value.length > XATTR_MAX) throw new FsError("ENOSPC");
    const copy = value.slice();
    xattrs.set(ino, all.set(key, copy));
    this.#log.xattr(ino, name, copy);
    this.#changed(ino);
    this.#committer.touched();
  }

  listXattr(ino: Ino): Uint8Array[] {
    this.#live(ino);
    return [...this.#tables.inodes.xattrs.get(ino)?.keys() ?? []].map(fromLatin1);
  }

  removeXattr(ino: Ino, name: Uint8Array): void {
    this.#writable();
    this.#live(ino);
    const { xattrs } = this.#tables.inodes, all = xattrs.get(ino);
    if (!all?.delete(latin1(name))) throw new FsError("ENODATA");
    if (all.size === 0) xattrs.delete(ino);
    this.#log.removeXattr(ino, name);
    this.#changed(ino);
    this.#committer.touched();
  }

  statistics(): FilesystemStatistics {
    const files = this.#tables.inodes.count;
    if (this.readOnly) return { blocks: 0, free: 0, available: 0, files, filesFree: 0 };
    const { space } = this.container, free = Math.max(0, space.freeBlocks);
    const room = this.#outside === Infinity ? 2 ** 40 : this.#outside;
    return {
      blocks: space.capacity + room,
      free: free + room,
      available: Math.max(0, space.available) + room,
      files: FILES_MAX,
      filesFree: FILES_MAX - files,
    };
  }

  /** Blocks that the store can still add, as of the last {@linkcode refreshSpace}. */
  #outside = Infinity;

  /** Asks the store how much room it has, for {@linkcode statistics}. */
  async refreshSpace(): Promise<void> {
    this.#outside = (await this.container.store.space()).free;
  }

  /** Readers: goes on to the newest commit. */
  async refresh(): Promise<boolean> {
    return await this.container.refresh();
  }

  /**
   * Commits everything and ends the session. The container stays open; nothing can be written any more.
   *
   * @throws {CoverError} "data-lost" if something could not be committed
   */
  async end(): Promise<void> {
    if (this.#ended) return;
    if (this.readOnly) {
      this.#ended = true;
      return;
    }
    try {
      for (const ino of [...this.#references.keys()]) this.drop(ino, Infinity);
      await this.#committer.end();
      this.#ended = true;
      await this.container.end();
    } catch (cause) {
      this.#ended = true;
      throw new CoverError("data-lost", "Cannot commit: data that was not flushed is lost", { cause });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.end();
    } finally {
      await this.container.close();
    }
  }
}

/** The old content of a page, and what it was read from. */
interface Base {
  readonly number: number;
  readonly mapping: string;
  readonly data: Uint8Array;
}

function checkName(name: Uint8Array): void {
  if (name.length > NAME_MAX) throw new FsError("ENAMETOOLONG");
  if (name.length === 0) throw new FsError("ENOENT");
  const dots = name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
  if (dots || name.includes(0) || name.includes(0x2f)) throw new FsError("EINVAL");
}
