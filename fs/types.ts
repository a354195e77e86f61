/** The numbers of the filesystem, each with a flavour, so that the compiler tells them apart. */

type Flavour<T> = number & { readonly _flavour?: T };

/** An inode id: 0 is the root, others count up and are used again after release. i32. */
export type Ino = Flavour<"ino">;
/** A block's place in the container, counted in sealed blocks. u56. */
export type Position = Flavour<"position">;
/** Number of a commit; the birth of a block is the number of the commit that wrote it. u53. */
export type CommitNumber = Flavour<"commit">;
/** A byte offset in a file. Up to 2^53 - 1. */
export type FileOffset = Flavour<"offset">;

export const ROOT: Ino = 0;

/** The number by which an inode is told of, everywhere as in a mount (`st_ino`): one more, as 0 is none there. */
export function inodeNumber(ino: Ino): number {
  return ino + 1;
}

/** Longest name of a directory entry, in bytes. */
export const NAME_MAX = 255;
/** Largest size of a file, in bytes: what a JavaScript number counts exactly. */
export const FILE_SIZE_MAX = Number.MAX_SAFE_INTEGER;

/** File type bits of `mode` (POSIX `<sys/stat.h>`). */
export const S_IFMT = 0o170000;
export const S_IFSOCK = 0o140000;
export const S_IFLNK = 0o120000;
export const S_IFREG = 0o100000;
export const S_IFBLK = 0o060000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
export const S_IFIFO = 0o010000;
export const S_ISUID = 0o4000;
export const S_ISGID = 0o2000;
export const S_ISVTX = 0o1000;

/** A point of time: whole seconds since 1970 (may be negative) and 0 to 999 999 999 nanoseconds. */
export interface Time {
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** The largest time that is kept, in seconds before and after 1970: seventy million years. */
export const SECONDS_MAX = 2 ** 51 - 1;

/** The nearest time that can be kept. The kernel does the same for filesystems that tell it their range. */
export function nearestTime(time: Time): Time {
  const seconds = Math.max(-SECONDS_MAX, Math.min(SECONDS_MAX, time.seconds));
  return seconds === time.seconds ? time : { seconds, nanoseconds: 0 };
}
