/** Having all of a mounted filesystem made durable. */
import { close, fsync, open } from "node:fs";
import { promisify } from "node:util";
import { CoverError } from "../crypto/errors.ts";

const LIBC = {
  syncfs: { parameters: ["i32"], result: "i32", nonblocking: true }, // int syncfs(int fd)
} as const satisfies Deno.ForeignLibraryInterface;

/**
 * Has everything that was written to a mount of this program committed, and waits for it. syncfs(2) has the kernel hand
 * over what it holds; it asks nothing of a FUSE filesystem itself, so what follows is an fsync of the root directory,
 * by which such a mount commits all.
 *
 * @param mountpoint the root of the mount
 * @throws {Error} with an errno name as `code`: what was written is not durable. {@linkcode CoverError} where there are
 * no such mounts
 */
export async function syncFilesystem(mountpoint: string): Promise<void> {
  if (Deno.build.os !== "linux") {
    throw new CoverError("failure", `Cannot sync "${mountpoint}": not possible on ${Deno.build.os}`);
  }
  const fd = await promisify(open)(mountpoint, "r"), library = Deno.dlopen("libc.so.6", LIBC);
  try {
    const failed = await library.symbols.syncfs(fd) !== 0;
    await promisify(fsync)(fd).catch((error) => { // knows why, in most cases
      // EDQUOT comes without a name (Deno 2.9.6).
      throw /os error 122\b/.test(String(error)) ? Object.assign(error, { code: "EDQUOT" }) : error;
    });
    // errno is lost in a call on another thread: EIO stands for it.
    if (failed) throw Object.assign(new Error("syncfs failed"), { code: "EIO" });
  } finally {
    library.close();
    await promisify(close)(fd);
  }
}
