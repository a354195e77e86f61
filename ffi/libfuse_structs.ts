/**
 * Layouts of the C structures that cross the border to libfuse3 and the kernel, as sizes and offsets in bytes.
 * `tests/ffi/libfuse_structs_test.ts` compares every number with what a C compiler says about the installed
 * headers.
 */

import type { Attributes, FilesystemStatistics } from "../fs/filesystem.ts";
import { inodeNumber, type Time } from "../fs/types.ts";

/** A structure's size and the offsets of its fields that are used. */
export interface Layout {
  readonly size: number;
  readonly [field: string]: number;
}

/** `struct stat` (glibc, `bits/struct_stat.h`); it differs between the two machines. */
export const STAT = {
  x86_64: {
    size: 144,
    st_dev: 0,
    st_ino: 8,
    st_nlink: 16,
    st_mode: 24,
    st_uid: 28,
    st_gid: 32,
    st_rdev: 40,
    st_size: 48,
    st_blksize: 56,
    st_blocks: 64,
    st_atim: 72,
    st_mtim: 88,
    st_ctim: 104,
  },
  aarch64: {
    size: 128,
    st_dev: 0,
    st_ino: 8,
    st_nlink: 20,
    st_mode: 16,
    st_uid: 24,
    st_gid: 28,
    st_rdev: 32,
    st_size: 48,
    st_blksize: 56,
    st_blocks: 64,
    st_atim: 72,
    st_mtim: 88,
    st_ctim: 104,
  },
} as const satisfies Record<typeof Deno.build.arch, Layout>;

/** `struct statvfs` of 64-bit Linux. */
export const STATVFS = {
  size: 112,
  f_bsize: 0,
  f_frsize: 8,
  f_blocks: 16,
  f_bfree: 24,
  f_bavail: 32,
  f_files: 40,
  f_ffree: 48,
  f_favail: 56,
  f_namemax: 80,
} as const satisfies Layout;

/** `struct fuse_entry_param` for a `struct stat` of this layout. */
export function entryParamLayout(stat: Layout) {
  const behind = 16 + stat.size;
  return {
    size: behind + 16,
    ino: 0,
    generation: 8,
    attr: 16,
    attr_timeout: behind,
    entry_timeout: behind + 8,
  };
}

/** `struct fuse_file_info` by the number behind `libfuse3.so.`; what is used lies at the same places. */
export const FILE_INFO = {
  3: { size: 40, flags: 0, bits: 4, fh: 16, lock_owner: 24, poll_events: 32 },
  4: { size: 64, flags: 0, bits: 4, fh: 16, lock_owner: 24, poll_events: 32 },
} as const satisfies Record<number, Layout>;
/** Bits of the word at `bits`: the same in every version that has them, unlike those behind them (3.15 moved those). */
export const FILE_INFO_DIRECT_IO = 1 << 1;
export const FILE_INFO_KEEP_CACHE = 1 << 2;
export const FILE_INFO_NO_FLUSH = 1 << 7;

/** `struct fuse_conn_info`: the part that all versions share. */
export const CONN_INFO = {
  size: 128,
  proto_major: 0,
  proto_minor: 4,
  max_write: 8,
  max_read: 12,
  max_readahead: 16,
  capable: 20,
  want: 24,
  max_background: 28,
  congestion_threshold: 32,
  time_gran: 36,
} as const satisfies Layout;

/** `struct fuse_buf` by the number behind `libfuse3.so.`. */
export const BUF = {
  3: { size: 40, length: 0, flags: 8, mem: 16, fd: 24, pos: 32 },
  4: { size: 48, length: 0, flags: 8, mem: 16, fd: 24, pos: 32, mem_size: 40 },
} as const satisfies Record<number, Layout>;

/** `struct fuse_args`. */
export const ARGS = { size: 24, argc: 0, argv: 8, allocated: 16 } as const satisfies Layout;
/** `struct fuse_ctx`. */
export const CTX = { size: 16, uid: 0, gid: 4, pid: 8, umask: 12 } as const satisfies Layout;
/** `struct fuse_forget_data`. */
export const FORGET = { size: 16, ino: 0, nlookup: 8 } as const satisfies Layout;
/** `struct pollfd`. */
export const POLLFD = { size: 8, fd: 0, events: 4, revents: 6 } as const satisfies Layout;

/** The members of `struct fuse_lowlevel_ops`, in their order; `tmpfile` came with 3.17. */
export const OPERATIONS = [
  "init",
  "destroy",
  "lookup",
  "forget",
  "getattr",
  "setattr",
  "readlink",
  "mknod",
  "mkdir",
  "unlink",
  "rmdir",
  "symlink",
  "rename",
  "link",
  "open",
  "read",
  "write",
  "flush",
  "release",
  "fsync",
  "opendir",
  "readdir",
  "releasedir",
  "fsyncdir",
  "statfs",
  "setxattr",
  "getxattr",
  "listxattr",
  "removexattr",
  "access",
  "create",
  "getlk",
  "setlk",
  "bmap",
  "ioctl",
  "poll",
  "write_buf",
  "retrieve_reply",
  "forget_multi",
  "flock",
  "fallocate",
  "readdirplus",
  "copy_file_range",
  "lseek",
  "tmpfile",
] as const;
/** Name of a member of `struct fuse_lowlevel_ops`. */
export type OperationName = typeof OPERATIONS[number];
/** How many members the table has in a library of this `fuse_version()`, as far as they are known here. */
export function operationCount(version: number): number {
  return version >= 317 ? OPERATIONS.length : OPERATIONS.indexOf("tmpfile");
}

/** `FUSE_CAP_*` of `fuse_common.h`. */
export const Capability = {
  asyncRead: 1 << 0,
  posixLocks: 1 << 1,
  atomicTruncate: 1 << 3,
  exportSupport: 1 << 4,
  dontMask: 1 << 6,
  spliceWrite: 1 << 7,
  spliceMove: 1 << 8,
  spliceRead: 1 << 9,
  flockLocks: 1 << 10,
  autoInvalidateData: 1 << 12,
  readdirplus: 1 << 13,
  readdirplusAuto: 1 << 14,
  asyncDirectIo: 1 << 15,
  writebackCache: 1 << 16,
  parallelDirectoryOperations: 1 << 18,
  handleKillpriv: 1 << 20,
  handleKillprivV2: 1 << 21,
  cacheSymlinks: 1 << 23,
  directIoMmap: 1 << 28,
} as const;

/** What of the kernel's own protocol (`linux/fuse.h`) is needed besides libfuse's: offsets in messages, and flags. */
export const FuseMessage = {
  /** `fuse_in_header.opcode`, and its value for INIT. */
  opcode: 4,
  init: 26,
  /** `fuse_in_header.uid`: for whom the program acts that asks (`setfsuid(2)`). */
  uid: 24,
  /** `fuse_in_header.pid`: the thread that asks. */
  pid: 32,
  /** `fuse_init_in.flags`, behind the header. */
  requestFlags: 40 + 12,
  /** `fuse_out_header.error`, and `fuse_init_out.flags` behind that header. */
  replyError: 4,
  replyFlags: 16 + 12,
  /** `FUSE_HANDLE_KILLPRIV_V2`. */
  handleKillprivV2: 1 << 28,
  /** `fuse_write_in.write_flags`, behind the header, with `FUSE_WRITE_CACHE` and `FUSE_WRITE_KILL_SUIDGID`. */
  writeFlags: 40 + 20,
  writeCache: 1 << 0,
  writeKillSetId: 1 << 2,
} as const;

/** `FUSE_SET_ATTR_*` of `fuse_lowlevel.h`. */
export const SetAttr = {
  mode: 1 << 0,
  uid: 1 << 1,
  gid: 1 << 2,
  size: 1 << 3,
  atime: 1 << 4,
  mtime: 1 << 5,
  atimeNow: 1 << 7,
  mtimeNow: 1 << 8,
  ctime: 1 << 10,
} as const;

/** Writes an unsigned number of up to 53 bits without making a bigint. */
export function setU64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value % 0x1_0000_0000, true);
  view.setUint32(offset + 4, value / 0x1_0000_0000, true);
}

/** Writes a signed number of up to 53 bits without making a bigint. */
export function setI64(view: DataView, offset: number, value: number): void {
  const high = Math.floor(value / 0x1_0000_0000);
  view.setUint32(offset, value - high * 0x1_0000_0000, true);
  view.setInt32(offset + 4, high, true);
}

function setTimespec(view: DataView, offset: number, time: Time): void {
  setI64(view, offset, time.seconds);
  setU64(view, offset + 8, time.nanoseconds);
}

/** Fills a zeroed or earlier filled `struct stat` at `at`. Inode numbers are shown one higher: 0 is none in POSIX. */
export function writeStat(
  view: DataView,
  at: number,
  options: { layout: typeof STAT.x86_64 | typeof STAT.aarch64; attributes: Attributes },
): void {
  const { layout, attributes } = options;
  setU64(view, at + layout.st_ino, inodeNumber(attributes.ino));
  // 64 bits on x86-64, where the upper half stays zero, and 32 bits on aarch64.
  view.setUint32(at + layout.st_nlink, attributes.nlink, true);
  view.setUint32(at + layout.st_mode, attributes.mode, true);
  view.setUint32(at + layout.st_uid, attributes.uid, true);
  view.setUint32(at + layout.st_gid, attributes.gid, true);
  setU64(view, at + layout.st_rdev, attributes.rdev);
  setU64(view, at + layout.st_size, attributes.size);
  view.setUint32(at + layout.st_blksize, 4096, true);
  setU64(view, at + layout.st_blocks, attributes.blocks);
  setTimespec(view, at + layout.st_atim, attributes.atime);
  setTimespec(view, at + layout.st_mtim, attributes.mtime);
  setTimespec(view, at + layout.st_ctim, attributes.ctime);
}

/** Fills a zeroed or earlier filled `struct statvfs`. */
export function writeStatvfs(view: DataView, statistics: FilesystemStatistics): void {
  setU64(view, STATVFS.f_bsize, 4096);
  setU64(view, STATVFS.f_frsize, 4096);
  setU64(view, STATVFS.f_blocks, statistics.blocks);
  setU64(view, STATVFS.f_bfree, statistics.free);
  setU64(view, STATVFS.f_bavail, statistics.available);
  setU64(view, STATVFS.f_files, statistics.files);
  setU64(view, STATVFS.f_ffree, statistics.filesFree);
  setU64(view, STATVFS.f_favail, statistics.filesFree);
  setU64(view, STATVFS.f_namemax, 255);
}
