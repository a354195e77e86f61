import type { CommitNumber, FileOffset, Ino, Time } from "./types.ts";

/** What `stat` tells. */
export interface Attributes {
  readonly ino: Ino;
  /** Counts up each time the inode id is used again. */
  readonly generation: number;
  /** Type and permission bits. */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  /** Device number of a device node, as Linux encodes it for user space (32 bits). */
  readonly rdev: number;
  /** Bytes. */
  readonly size: number;
  /** Allocated room in units of 512 bytes. */
  readonly blocks: number;
  readonly atime: Time;
  readonly mtime: Time;
  readonly ctime: Time;
  /** Time of creation. */
  readonly btime: Time;
}

/** What {@linkcode Filesystem.setAttributes} changes; what is left out stays. ctime moves by itself. */
export interface AttributeChanges {
  /** Permission bits; type bits are ignored. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Cuts or extends a regular file. */
  readonly size?: number;
  readonly atime?: Time;
  readonly mtime?: Time;
  /** Only for a kernel with write-back cache, which keeps ctime itself. */
  readonly ctime?: Time;
}

/** A new node. */
export interface NodeSpec {
  /** Type and permission bits, umask already applied. Type decides: file, directory, symlink, FIFO, ... */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev?: number;
  /** Where a symlink points, 1 to 4095 bytes. */
  readonly target?: Uint8Array;
}

/** One directory entry as listed. `cookie` is where to go on after it. */
export interface ListedEntry {
  readonly name: Uint8Array;
  readonly ino: Ino;
  readonly cookie: number;
}

export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;

/** `fallocate` modes (linux/falloc.h). */
export const FALLOC_FL_KEEP_SIZE = 1;
export const FALLOC_FL_PUNCH_HOLE = 2;
export const FALLOC_FL_ZERO_RANGE = 16;

export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;

/** What `statfs` tells. Counts of blocks of 4096 bytes. */
export interface FilesystemStatistics {
  readonly blocks: number;
  readonly free: number;
  /** Free for ordinary users: `free` less the reserve. */
  readonly available: number;
  readonly files: number;
  readonly filesFree: number;
}

/**
 * A filesystem by inode ids: what a mount, the command line and the tests use. `Volume` implements it over a
 * container, the tests' model in plain memory. Metadata operations are synchronous; those on data may answer by a
 * promise. Names are bytes, any but `/` and NUL. Every method throws (or rejects with) `FsError`; a block that
 * does not verify gives `IntegrityError`, which callers treat as EIO.
 *
 * Permissions are *not* checked here: the kernel does it (`default_permissions`). The time is taken at each call.
 */
export interface Filesystem {
  readonly readOnly: boolean;

  /** Call before each changing operation and await the answer if it is a promise: back-pressure of the journal. */
  admit(): void | Promise<void>;

  /** @returns the entry's inode, or undefined if there is none. `.` and `..` are answered too. */
  lookup(directory: Ino, name: Uint8Array): Ino | undefined;
  attributes(ino: Ino): Attributes;
  setAttributes(ino: Ino, changes: AttributeChanges): Attributes;
  /** Makes a node and its entry. A directory with S_ISGID gives its group on. Errors: EEXIST, ENOTDIR, ENOENT, ENAMETOOLONG, ENOSPC. */
  create(directory: Ino, name: Uint8Array, spec: NodeSpec): Ino;
  /** Makes a regular file without a name (`O_TMPFILE`), nlink 0; hold it at once. */
  createUnnamed(spec: NodeSpec): Ino;
  link(ino: Ino, directory: Ino, name: Uint8Array): void;
  unlink(directory: Ino, name: Uint8Array): void;
  rmdir(directory: Ino, name: Uint8Array): void;
  /** @param flags 0, RENAME_NOREPLACE or RENAME_EXCHANGE */
  rename(from: Ino, name: Uint8Array, to: Ino, newName: Uint8Array, flags?: number): void;
  readlink(ino: Ino): Uint8Array;
  /**
   * Entries of a directory without `.` and `..`, from behind `cookie` (0: from the start) on, in an order that
   * stays while entries come and go. Cookies rise; a new or renamed entry comes last.
   */
  list(directory: Ino, cookie?: number): IterableIterator<ListedEntry>;
  /** The last cookie that {@linkcode list} would give now; 0 for an empty directory. */
  newest(directory: Ino): number;
  /** The directory that holds this directory; the root's parent is the root. */
  parent(directory: Ino): Ino;

  /** Keeps an inode alive though its last name may go: one reference for each handle and each kernel lookup. */
  hold(ino: Ino): void;
  /** Gives references back; an inode without names and references is removed. */
  drop(ino: Ino, count?: number): void;

  /**
   * @param into room for `length` bytes, to be used over and over; left out, memory is allocated
   * @returns at most `length` bytes, fewer only at the end of the file, which are the caller's. They may lie in `into`,
   * which is in use until then.
   */
  read(
    ino: Ino,
    offset: FileOffset,
    length: number,
    into?: Uint8Array,
  ): Uint8Array | Promise<Uint8Array>;
  /** Writes all of `data` (copied before the answer). Clears nothing but times; set-id bits are the kernel's. */
  write(ino: Ino, offset: FileOffset, data: Uint8Array): void | Promise<void>;
  /** `fallocate`: 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE (with or without KEEP_SIZE); else ENOTSUP. */
  allocate(ino: Ino, offset: FileOffset, length: number, mode: number): void | Promise<void>;
  /** `lseek` SEEK_DATA / SEEK_HOLE. ENXIO past the end. */
  seek(ino: Ino, offset: FileOffset, what: "data" | "hole"): FileOffset;
  /** Copies a range between files; @returns bytes copied. */
  copy(from: Ino, offset: FileOffset, to: Ino, toOffset: FileOffset, length: number): Promise<number>;
  /** A handle was closed (`flush` of FUSE): reports, once, the failure of a background write of that file. */
  closed(ino: Ino): void;
  /** Resolves when the file's data and metadata, and all metadata operations before, are durable. */
  fsync(ino: Ino, options?: { dataOnly?: boolean }): Promise<void>;
  /** Makes everything durable. */
  sync(): Promise<CommitNumber>;

  /** @returns undefined if there is no such attribute: the kernel asks so often that an error would cost too much. */
  getXattr(ino: Ino, name: Uint8Array): Uint8Array | undefined;
  setXattr(ino: Ino, name: Uint8Array, value: Uint8Array, flags?: number): void;
  listXattr(ino: Ino): Uint8Array[];
  removeXattr(ino: Ino, name: Uint8Array): void;

  statistics(): FilesystemStatistics;
}
