/** Room in a file without writing to it, where the system can do that. */
import { libc } from "./libc.ts";

const EINTR = 4;
/** Errors of fallocate(2) that mean that there is no room; any other means that it cannot be done like this. */
const ROOM_ERRORS: Readonly<Record<number, string>> = { 27: "EFBIG", 28: "ENOSPC", 122: "EDQUOT" };

/**
 * fallocate(2) with mode 0, for `FileStoreOptions.fallocate`.
 *
 * @throws {Error} with an errno name as `code`; ENOTSUP also where there is no such function
 */
export function fallocate(fd: number, offset: number, length: number): void {
  const functions = libc();
  let errno = 0;
  while (functions !== undefined) {
    if (functions.fallocate(fd, 0, BigInt(offset), BigInt(length)) === 0) return;
    errno = new Deno.UnsafePointerView(functions.__errno_location()!).getInt32();
    if (errno !== EINTR) break;
  }
  throw Object.assign(new Error(`fallocate failed with errno ${errno}`), {
    code: ROOM_ERRORS[errno] ?? "ENOTSUP",
  });
}
