import { FsError } from "../../fs/errors.ts";
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
} from "../../fs/filesystem.ts";
import {
  FILE_SIZE_MAX,
  type Ino,
  NAME_MAX,
  nearestTime,
  ROOT,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_ISGID,
  type Time,
} from "../../fs/types.ts";

const BLOCK = 4096;
const NOTHING = new Uint8Array(0);

interface Entry {
  ino: Ino;
  /** Counts up within the directory: where a listing goes on. */
  readonly cookie: number;
}

interface Node {
  attributes: Attributes;
  references: number;
  readonly xattrs: Map<string, Uint8Array>;
  /** Regular files: blocks that are not holes, by number. */
  readonly blocks: Map<number, Uint8Array>;
  /** Directories: entries by name, in the order in which they were made. */
  readonly entries: Map<string, Entry>;
  parent: Ino;
  target: Uint8Array;
  lastCookie: number;
}

/** Names as map keys: one character a byte. */
function key(name: Uint8Array): string {
  return String.fromCharCode(...name);
}

function bytesOf(name: string): Uint8Array {
  return Uint8Array.from(name, (character) => character.charCodeAt(0));
}

/** How a {@linkcode MemoryFilesystem} is made. */
export interface MemoryFilesystemOptions {
  readonly readOnly?: boolean;
  /** The clock; by default the machine's, never standing still. */
  readonly now?: () => Time;
  /** How many blocks of 4096 bytes of data it holds. Default 2^20. */
  readonly blocks?: number;
}

/**
 * A filesystem in plain memory, as simple as can be: the reference that others are compared with, and something to
 * mount where no container is needed. Everything is answered at once, and nothing is checked that the kernel checks.
 */
export class MemoryFilesystem implements Filesystem {
  readonly readOnly: boolean;
  readonly #nodes = new Map<Ino, Node>();
  readonly #now: () => Time;
  readonly #capacity: number;
  #usedBlocks = 0;
  #lastIno: Ino = ROOT;
  #lastTime = 0n;
  #commits = 0;

  constructor(options: MemoryFilesystemOptions = {}) {
    this.readOnly = options.readOnly ?? false;
    this.#capacity = options.blocks ?? 2 ** 20;
    this.#now = options.now ?? (() => this.#clock());
    this.#make({ mode: S_IFDIR | 0o755, uid: 0, gid: 0 }, { ino: ROOT, parent: ROOT, nlink: 2 });
  }

  #clock(): Time {
    const time = BigInt(Math.floor((performance.timeOrigin + performance.now()) * 1000)) * 1000n;
    this.#lastTime = time > this.#lastTime ? time : this.#lastTime + 1n;
    return {
      seconds: Number(this.#lastTime / 1_000_000_000n),
      nanoseconds: Number(this.#lastTime % 1_000_000_000n),
    };
  }

  #make(spec: NodeSpec, options: { ino: Ino; parent: Ino; nlink: number }): Node {
    const now = this.#now();
    const target = spec.target?.slice() ?? NOTHING;
    const node: Node = {
      attributes: {
        ...{
          ino: options.ino,
          generation: 0,
          mode: spec.mode,
          nlink: options.nlink,
          uid: spec.uid,
          gid: spec.gid,
        },
        ...{ rdev: spec.rdev ?? 0, size: target.length, blocks: 0 },
        ...{ atime: now, mtime: now, ctime: now, btime: now },
      },
      references: 0,
      xattrs: new Map(),
      blocks: new Map(),
      entries: new Map(),
      parent: options.parent,
      target,
      lastCookie: 0,
    };
    this.#nodes.set(options.ino, node);
    return node;
  }

  #node(ino: Ino): Node {
    const node = this.#nodes.get(ino);
    if (!node) throw new FsError("ESTALE");
    return node;
  }

  #type(node: Node): number {
    return node.attributes.mode & S_IFMT;
  }

  #directory(ino: Ino): Node {
    const node = this.#node(ino);
    if (this.#type(node) !== S_IFDIR) throw new FsError("ENOTDIR");
    return node;
  }

  #file(ino: Ino): Node {
    const node = this.#node(ino);
    if (this.#type(node) === S_IFDIR) throw new FsError("EISDIR");
    if (this.#type(node) !== S_IFREG) throw new FsError("EINVAL");
    return node;
  }

  #set(node: Node, changes: Partial<Attributes>): void {
    node.attributes = { ...node.attributes, ...changes };
  }

  /** Content has changed: mtime and ctime. */
  #touch(node: Node): void {
    const now = this.#now();
    this.#set(node, { mtime: now, ctime: now });
  }

  /** Content was read: atime moves if it is not newer than the last change, as with `relatime`. */
  #accessed(node: Node): void {
    const { atime, mtime, ctime } = node.attributes;
    const since = ({ seconds, nanoseconds }: Time) =>
      atime.seconds < seconds || (atime.seconds === seconds && atime.nanoseconds <= nanoseconds);
    if (!this.readOnly && (since(mtime) || since(ctime))) this.#set(node, { atime: this.#now() });
  }

  #checkChange(): void {
    if (this.readOnly) throw new FsError("EROFS");
  }

  #checkName(name: Uint8Array): string {
    this.#checkChange();
    if (name.length === 0) throw new FsError("ENOENT");
    if (name.length > NAME_MAX) throw new FsError("ENAMETOOLONG");
    if (name.includes(47) || name.includes(0)) throw new FsError("EINVAL");
    return key(name);
  }

  #entry(directory: Node, name: string): Node {
    const entry = directory.entries.get(name);
    if (!entry) throw new FsError("ENOENT");
    return this.#node(entry.ino);
  }

  /** A directory in which something may be made: one that was removed takes nothing more. */
  #living(ino: Ino): Node {
    const directory = this.#directory(ino);
    if (directory.attributes.nlink === 0) throw new FsError("ENOENT");
    return directory;
  }

  #addEntry(directory: Node, name: string, node: Node): void {
    directory.entries.set(name, { ino: node.attributes.ino, cookie: ++directory.lastCookie });
    if (this.#type(node) === S_IFDIR) {
      node.parent = directory.attributes.ino;
      this.#set(directory, { nlink: directory.attributes.nlink + 1 });
    }
    this.#touch(directory);
  }

  #removeEntry(directory: Node, name: string, node: Node): void {
    directory.entries.delete(name);
    if (this.#type(node) === S_IFDIR) this.#set(directory, { nlink: directory.attributes.nlink - 1 });
    this.#touch(directory);
  }

  /** A name of `node` has gone for good. */
  #unlinked(node: Node): void {
    const nlink = this.#type(node) === S_IFDIR ? 0 : node.attributes.nlink - 1;
    this.#set(node, { nlink, ctime: this.#now() });
    this.#removeIfUnused(node);
  }

  #removeIfUnused(node: Node): void {
    if (node.attributes.nlink > 0 || node.references > 0) return;
    this.#usedBlocks -= node.blocks.size;
    this.#nodes.delete(node.attributes.ino);
  }

  admit(): void {}

  lookup(directory: Ino, name: Uint8Array): Ino | undefined {
    const node = this.#directory(directory);
    if (name.length > NAME_MAX) throw new FsError("ENAMETOOLONG");
    const text = key(name);
    if (text === ".") return directory;
    if (text === "..") return node.parent;
    return node.entries.get(text)?.ino;
  }

  attributes(ino: Ino): Attributes {
    const node = this.#node(ino);
    return { ...node.attributes, blocks: node.blocks.size * (BLOCK / 512) };
  }

  setAttributes(ino: Ino, changes: AttributeChanges): Attributes {
    this.#checkChange();
    const node = this.#node(ino);
    const { mode, uid, gid, size, atime, mtime } = changes;
    if (size !== undefined) this.#resize(this.#file(ino), size);
    const ctime = changes.ctime ?? this.#now();
    this.#set(node, {
      ...(mode !== undefined && { mode: this.#type(node) | (mode & 0o7777) }),
      ...(uid !== undefined && { uid }),
      ...(gid !== undefined && { gid }),
      ...(size !== undefined && { mtime: ctime }),
      ...(atime && { atime: nearestTime(atime) }),
      ...(mtime && { mtime: nearestTime(mtime) }),
      ctime,
    });
    return this.attributes(ino);
  }

  create(directory: Ino, name: Uint8Array, spec: NodeSpec): Ino {
    const text = this.#checkName(name);
    const parent = this.#living(directory);
    if (text === "." || text === ".." || parent.entries.has(text)) throw new FsError("EEXIST");
    const isDirectory = (spec.mode & S_IFMT) === S_IFDIR;
    const inherited = parent.attributes.mode & S_ISGID
      ? { gid: parent.attributes.gid, mode: spec.mode | (isDirectory ? S_ISGID : 0) }
      : {};
    const node = this.#make({ ...spec, ...inherited }, {
      ino: ++this.#lastIno,
      parent: directory,
      nlink: isDirectory ? 2 : 1,
    });
    this.#addEntry(parent, text, node);
    return node.attributes.ino;
  }

  createUnnamed(spec: NodeSpec): Ino {
    this.#checkChange();
    return this.#make(spec, { ino: ++this.#lastIno, parent: ROOT, nlink: 0 }).attributes.ino;
  }

  link(ino: Ino, directory: Ino, name: Uint8Array): void {
    const text = this.#checkName(name);
    const node = this.#node(ino);
    if (this.#type(node) === S_IFDIR) throw new FsError("EPERM");
    const parent = this.#living(directory);
    if (text === "." || text === ".." || parent.entries.has(text)) throw new FsError("EEXIST");
    this.#addEntry(parent, text, node);
    this.#set(node, { nlink: node.attributes.nlink + 1, ctime: this.#now() });
  }

  unlink(directory: Ino, name: Uint8Array): void {
    const text = this.#checkName(name);
    const parent = this.#directory(directory);
    const node = this.#entry(parent, text);
    if (this.#type(node) === S_IFDIR) throw new FsError("EISDIR");
    this.#removeEntry(parent, text, node);
    this.#unlinked(node);
  }

  rmdir(directory: Ino, name: Uint8Array): void {
    const text = this.#checkName(name);
    if (text === ".") throw new FsError("EINVAL");
    if (text === "..") throw new FsError("ENOTEMPTY");
    const parent = this.#directory(directory);
    const node = this.#entry(parent, text);
    if (this.#type(node) !== S_IFDIR) throw new FsError("ENOTDIR");
    if (node.entries.size > 0) throw new FsError("ENOTEMPTY");
    this.#removeEntry(parent, text, node);
    this.#unlinked(node);
  }

  rename(from: Ino, name: Uint8Array, to: Ino, newName: Uint8Array, flags = 0): void {
    const oldText = this.#checkName(name), newText = this.#checkName(newName);
    if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE) || flags === (RENAME_NOREPLACE | RENAME_EXCHANGE)) {
      throw new FsError("EINVAL");
    }
    if ([oldText, newText].some((text) => text === "." || text === "..")) throw new FsError("EBUSY");
    const source = this.#directory(from), target = this.#living(to);
    const node = this.#entry(source, oldText);
    const replacedIno = target.entries.get(newText)?.ino;
    const replaced = replacedIno === undefined ? undefined : this.#node(replacedIno);
    if (replaced && flags === RENAME_NOREPLACE) throw new FsError("EEXIST");
    if (!replaced && flags === RENAME_EXCHANGE) throw new FsError("ENOENT");
    this.#checkNotBelow(node, to);
    if (flags === RENAME_EXCHANGE) this.#checkNotBelow(replaced!, from);
    if (replaced === node) return;
    if (replaced && flags !== RENAME_EXCHANGE) this.#checkReplaceable(node, replaced);
    this.#removeEntry(source, oldText, node);
    if (replaced) this.#removeEntry(target, newText, replaced);
    this.#addEntry(target, newText, node);
    this.#set(node, { ctime: this.#now() });
    if (!replaced) return;
    if (flags === RENAME_EXCHANGE) {
      this.#addEntry(source, oldText, replaced);
      this.#set(replaced, { ctime: this.#now() });
    } else this.#unlinked(replaced);
  }

  /** A directory must not come to lie below itself. */
  #checkNotBelow(node: Node, directory: Ino): void {
    if (this.#type(node) !== S_IFDIR) return;
    for (let at = directory;; at = this.#node(at).parent) {
      if (at === node.attributes.ino) throw new FsError("EINVAL");
      if (at === ROOT) return;
    }
  }

  #checkReplaceable(node: Node, replaced: Node): void {
    const isDirectory = this.#type(node) === S_IFDIR;
    if (this.#type(replaced) === S_IFDIR) {
      if (!isDirectory) throw new FsError("EISDIR");
      if (replaced.entries.size > 0) throw new FsError("ENOTEMPTY");
    } else if (isDirectory) throw new FsError("ENOTDIR");
  }

  readlink(ino: Ino): Uint8Array {
    const node = this.#node(ino);
    if (this.#type(node) !== S_IFLNK) throw new FsError("EINVAL");
    this.#accessed(node);
    return node.target.slice();
  }

  *list(directory: Ino, cookie = 0): IterableIterator<ListedEntry> {
    const node = this.#directory(directory);
    this.#accessed(node);
    // Maps keep the order in which names came, and go on rightly while names come and go.
    for (const [name, entry] of node.entries) {
      if (entry.cookie > cookie) yield { name: bytesOf(name), ino: entry.ino, cookie: entry.cookie };
    }
  }

  newest(directory: Ino): number {
    return this.#directory(directory).lastCookie;
  }

  parent(directory: Ino): Ino {
    return this.#directory(directory).parent;
  }

  hold(ino: Ino): void {
    this.#node(ino).references++;
  }

  drop(ino: Ino, count = 1): void {
    const node = this.#node(ino);
    if (node.references < count) throw new Error(`inode ${ino} is dropped more often than it was held`);
    node.references -= count;
    this.#removeIfUnused(node);
  }

  read(ino: Ino, offset: number, length: number): Uint8Array {
    const node = this.#file(ino);
    const bytes = new Uint8Array(Math.max(0, Math.min(length, node.attributes.size - offset)));
    this.#eachBlock(offset, bytes.length, (number, start, end, done) => {
      const block = node.blocks.get(number);
      if (block) bytes.set(block.subarray(start, end), done);
    });
    if (bytes.length > 0) this.#accessed(node);
    return bytes;
  }

  write(ino: Ino, offset: number, data: Uint8Array): void {
    this.#checkChange();
    const node = this.#file(ino);
    if (offset + data.length > FILE_SIZE_MAX) throw new FsError("EFBIG");
    if (data.length === 0) return; // write(2): nothing else happens to a regular file
    this.#fill(node, offset, data.length);
    this.#eachBlock(offset, data.length, (number, start, end, done) => {
      node.blocks.get(number)!.set(data.subarray(done, done + end - start), start);
    });
    this.#set(node, { size: Math.max(node.attributes.size, offset + data.length) });
    this.#touch(node);
  }

  /** Calls `visit` with each block of a range: its number, the range within it, and how many bytes lie before. */
  #eachBlock(
    offset: number,
    length: number,
    visit: (number: number, start: number, end: number, done: number) => void,
  ): void {
    for (let done = 0; done < length;) {
      const number = Math.floor((offset + done) / BLOCK);
      const start = offset + done - number * BLOCK;
      const end = Math.min(BLOCK, start + length - done);
      visit(number, start, end, done);
      done += end - start;
    }
  }

  /** Makes blocks of zeros where there are holes. */
  #fill(node: Node, offset: number, length: number): void {
    const missing: number[] = [];
    this.#eachBlock(offset, length, (number) => void (node.blocks.has(number) || missing.push(number)));
    if (this.#usedBlocks + missing.length > this.#capacity) throw new FsError("ENOSPC");
    for (const number of missing) node.blocks.set(number, new Uint8Array(BLOCK));
    this.#usedBlocks += missing.length;
  }

  /** Zeroes a range; blocks that it covers whole become holes. */
  #punch(node: Node, offset: number, length: number): void {
    const end = offset + length;
    for (const [number, block] of [...node.blocks]) {
      const start = Math.max(offset - number * BLOCK, 0), stop = Math.min(end - number * BLOCK, BLOCK);
      if (start >= stop) continue;
      if (stop - start === BLOCK) {
        node.blocks.delete(number);
        this.#usedBlocks--;
      } else block.fill(0, start, stop);
    }
  }

  #resize(node: Node, size: number): void {
    if (size > FILE_SIZE_MAX) throw new FsError("EFBIG");
    if (size < node.attributes.size) {
      this.#punch(node, size, Math.ceil(node.attributes.size / BLOCK) * BLOCK - size);
    }
    this.#set(node, { size });
  }

  allocate(ino: Ino, offset: number, length: number, mode: number): void {
    this.#checkChange();
    const node = this.#file(ino);
    if (length <= 0) throw new FsError("EINVAL");
    if (offset + length > FILE_SIZE_MAX) throw new FsError("EFBIG");
    const keep = (mode & FALLOC_FL_KEEP_SIZE) !== 0;
    switch (mode & ~FALLOC_FL_KEEP_SIZE) {
      case 0:
        this.#fill(node, offset, length);
        break;
      case FALLOC_FL_PUNCH_HOLE:
        if (!keep) throw new FsError("ENOTSUP");
        this.#punch(node, offset, length);
        break;
      case FALLOC_FL_ZERO_RANGE:
        this.#punch(node, offset, length);
        this.#fill(node, offset, length);
        break;
      default:
        throw new FsError("ENOTSUP");
    }
    if (!keep) this.#set(node, { size: Math.max(node.attributes.size, offset + length) });
    this.#touch(node);
  }

  seek(ino: Ino, offset: number, what: "data" | "hole"): number {
    const node = this.#file(ino);
    const { size } = node.attributes;
    if (offset >= size) throw new FsError("ENXIO");
    if (node.blocks.has(Math.floor(offset / BLOCK)) === (what === "data")) return offset;
    if (what === "hole") {
      let number = Math.floor(offset / BLOCK);
      while (node.blocks.has(number)) number++;
      return Math.min(number * BLOCK, size);
    }
    const following = [...node.blocks.keys()].map((number) => number * BLOCK).filter((at) =>
      at > offset && at < size
    );
    if (following.length === 0) throw new FsError("ENXIO");
    return following.reduce((least, at) => Math.min(least, at));
  }

  async copy(from: Ino, offset: number, to: Ino, toOffset: number, length: number): Promise<number> {
    const bytes = this.read(from, offset, length);
    if (bytes.length > 0) await this.write(to, toOffset, bytes);
    return bytes.length;
  }

  closed(_ino: Ino): void {}

  fsync(ino: Ino): Promise<void> {
    this.#node(ino);
    return Promise.resolve();
  }

  sync(): Promise<number> {
    return Promise.resolve(++this.#commits);
  }

  getXattr(ino: Ino, name: Uint8Array): Uint8Array | undefined {
    return this.#node(ino).xattrs.get(key(name))?.slice();
  }

  setXattr(ino: Ino, name: Uint8Array, value: Uint8Array, flags = 0): void {
    this.#checkChange();
    const node = this.#node(ino);
    const exists = node.xattrs.has(key(name));
    if (flags & XATTR_CREATE && exists) throw new FsError("EEXIST");
    if (flags & XATTR_REPLACE && !exists) throw new FsError("ENODATA");
    node.xattrs.set(key(name), value.slice());
    this.#set(node, { ctime: this.#now() });
  }

  listXattr(ino: Ino): Uint8Array[] {
    return [...this.#node(ino).xattrs.keys()].map(bytesOf);
  }

  removeXattr(ino: Ino, name: Uint8Array): void {
    this.#checkChange();
    const node = this.#node(ino);
    if (!node.xattrs.delete(key(name))) throw new FsError("ENODATA");
    this.#set(node, { ctime: this.#now() });
  }

  statistics(): FilesystemStatistics {
    const free = this.#capacity - this.#usedBlocks;
    const files = 2 ** 31 - 1;
    const filesFree = files - this.#nodes.size;
    return { blocks: this.#capacity, free, available: free, files, filesFree };
  }

  /** How many references are held in all, and on how many inodes: for tests that nothing is left behind. */
  get held(): { inodes: number; references: number } {
    const held = [...this.#nodes.values()].filter((node) => node.references > 0);
    return { inodes: held.length, references: held.reduce((sum, node) => sum + node.references, 0) };
  }

  /** How many inodes there are, the root included. */
  get inodeCount(): number {
    return this.#nodes.size;
  }
}
