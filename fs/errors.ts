import { CoverError } from "../crypto/errors.ts";

/** The errno values that the filesystem answers (Linux numbers, `asm-generic/errno*.h`). */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EMLINK: 31,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  ENODATA: 61,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESTALE: 116,
  EDQUOT: 122,
} as const;
/** Name of an errno value. */
export type ErrnoName = keyof typeof Errno;

/** A filesystem operation's refusal, as an errno. */
export class FsError extends Error {
  readonly code: ErrnoName;
  constructor(code: ErrnoName, message: string = code, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "FsError";
    this.code = code;
  }
  /** The Linux errno value, positive. */
  get errno(): number {
    return Errno[this.code];
  }
}

/** Another writer took the container over: what is not committed is lost here, and nothing more is written. */
export class Fenced extends CoverError {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("busy", message, options);
    this.name = "Fenced";
  }
}

/** A write, truncate or flush of the store failed; the store refuses all later ones until it is opened anew. */
export class Broken extends CoverError {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("failure", message, options);
    this.name = "Broken";
  }
}
