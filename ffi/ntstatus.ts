/** What Windows is answered (ntstatus.h, [MS-ERREF] 2.3). */
import { IntegrityError } from "../crypto/errors.ts";
import { type ErrnoName, FsError } from "../fs/errors.ts";

export const STATUS = {
  SUCCESS: 0,
  BUFFER_OVERFLOW: 0x8000_0005,
  NOT_IMPLEMENTED: 0xc000_0002,
  INVALID_PARAMETER: 0xc000_000d,
  END_OF_FILE: 0xc000_0011,
  ACCESS_DENIED: 0xc000_0022,
  OBJECT_NAME_INVALID: 0xc000_0033,
  OBJECT_NAME_NOT_FOUND: 0xc000_0034,
  OBJECT_NAME_COLLISION: 0xc000_0035,
  OBJECT_PATH_NOT_FOUND: 0xc000_003a,
  SHARING_VIOLATION: 0xc000_0043,
  DELETE_PENDING: 0xc000_0056,
  DISK_FULL: 0xc000_007f,
  MEDIA_WRITE_PROTECTED: 0xc000_00a2,
  FILE_IS_A_DIRECTORY: 0xc000_00ba,
  NOT_SUPPORTED: 0xc000_00bb,
  NOT_SAME_DEVICE: 0xc000_00d4,
  DIRECTORY_NOT_EMPTY: 0xc000_0101,
  NOT_A_DIRECTORY: 0xc000_0103,
  NAME_TOO_LONG: 0xc000_0106,
  TOO_MANY_LINKS: 0xc000_0265,
  CANNOT_DELETE: 0xc000_0121,
  FILE_CLOSED: 0xc000_0128,
  IO_DEVICE_ERROR: 0xc000_0185,
  FILE_TOO_LARGE: 0xc000_0904,
  INSUFFICIENT_RESOURCES: 0xc000_009a,
  STOPPED_ON_SYMLINK: 0x8000_002d,
  RETRY: 0xc000_022d,
} as const;

/** Name of a status. */
export type StatusName = keyof typeof STATUS;

/** What each errno is to Windows. */
export const STATUS_OF_ERRNO: Readonly<Record<ErrnoName, StatusName>> = {
  EPERM: "ACCESS_DENIED",
  ENOENT: "OBJECT_NAME_NOT_FOUND",
  EINTR: "RETRY",
  EIO: "IO_DEVICE_ERROR",
  ENXIO: "IO_DEVICE_ERROR",
  E2BIG: "INVALID_PARAMETER",
  EBADF: "FILE_CLOSED",
  EAGAIN: "RETRY",
  ENOMEM: "INSUFFICIENT_RESOURCES",
  EACCES: "ACCESS_DENIED",
  EBUSY: "SHARING_VIOLATION",
  EEXIST: "OBJECT_NAME_COLLISION",
  EXDEV: "NOT_SAME_DEVICE",
  ENODEV: "IO_DEVICE_ERROR",
  ENOTDIR: "OBJECT_PATH_NOT_FOUND",
  EISDIR: "FILE_IS_A_DIRECTORY",
  EINVAL: "INVALID_PARAMETER",
  EFBIG: "FILE_TOO_LARGE",
  ENOSPC: "DISK_FULL",
  EROFS: "MEDIA_WRITE_PROTECTED",
  EMLINK: "TOO_MANY_LINKS",
  ERANGE: "INVALID_PARAMETER",
  ENAMETOOLONG: "NAME_TOO_LONG",
  ENOSYS: "NOT_IMPLEMENTED",
  ENOTEMPTY: "DIRECTORY_NOT_EMPTY",
  ELOOP: "OBJECT_PATH_NOT_FOUND",
  ENODATA: "OBJECT_NAME_NOT_FOUND",
  EOVERFLOW: "FILE_TOO_LARGE",
  ENOTSUP: "NOT_SUPPORTED",
  ESTALE: "FILE_CLOSED",
  EDQUOT: "DISK_FULL",
};

/** A refusal that has no errno. */
export class StatusRefusal extends Error {
  readonly status: StatusName;
  constructor(status: StatusName) {
    super(status);
    this.name = "StatusRefusal";
    this.status = status;
  }
}

/** The status for what an operation threw; undefined if it is nothing that an operation should throw. */
export function statusOf(error: unknown): StatusName | undefined {
  if (error instanceof StatusRefusal) return error.status;
  if (error instanceof FsError) return STATUS_OF_ERRNO[error.code];
  if (error instanceof IntegrityError) return "IO_DEVICE_ERROR";
  return undefined;
}
