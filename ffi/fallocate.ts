/** Room in a file without writing to it, where the system can do that. */
import { openLibc } from "./libc.ts";

const LIBC = {
  fallocate: {
    parameters: [
      "i32", // int fd
      "i32", // int mode
      "i64", // off_t offset
      "i64", // off_t len
    ],
    result: "i32",
  },
  // int *__errno_location(void): right only straight after a synchronous call
  __errno_location: { parameters: [], result: "pointer" },
} as const satisfies Deno.ForeignLibraryInterface;

const EINTR = 4;
/** Errors of fallocate(2) that mean that there is no room; any other means that it cannot be done like this. */
const ROOM_ERRORS: Readonly<Record<number, string>> = { 27: "EFBIG", 28: "ENOSPC", 122: "EDQUOT" };

/**
 * Opens fallocate(2), for `FileStoreOptions.fallocate`.
 *
 * @returns undefined where there is none; what it returns throws an error with an errno name as `code`
 */
export function openFallocate(): ((fd: number, offset: number, length: number) => void) | undefined {
  const library = openLibc(LIBC);
  if (library === undefined) return undefined;
  const { fallocate, __errno_location } = library.symbols;
  return (fd, offset, length) => {
    let errno: number;
    do {
      if (fallocate(fd, 0, BigInt(offset), BigInt(length)) === 0) return;
      errno = new Deno.UnsafePointerView(__errno_location()!).getInt32();
    } while (errno === EINTR);
    throw Object.assign(new Error(`fallocate failed with errno ${errno}`), {
      code: ROOM_ERRORS[errno] ?? "ENOTSUP",
    });
  };
}
