/**
 * Files of the kernel (/proc), read by libc: the runtime refuses them to a program that has given up any permission
 * (denoland/deno, `check_special_file`, as of 2.9).
 */
import { openLibc } from "./libc.ts";

const LIBC = {
  open: {
    parameters: [
      "buffer", // const char *path
      "i32", // int flags
    ],
    result: "i32",
  },
  read: {
    parameters: [
      "i32", // int fd
      "buffer", // void *buf
      "usize", // size_t count
    ],
    result: "isize",
  },
  close: { parameters: ["i32"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

const O_RDONLY = 0, O_CLOEXEC = 0o2000000;
const READ = 64 << 10;

/** Reads a text that the kernel makes; undefined where it cannot be read. */
export function readKernelFile(path: string): string | undefined {
  const library = openLibc(LIBC);
  if (library === undefined) return undefined;
  try {
    const { open, read, close } = library.symbols;
    const fd = open(new TextEncoder().encode(path + "\0"), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return undefined;
    const decoder = new TextDecoder(), part = new Uint8Array(READ);
    let text = "", count: number;
    while ((count = Number(read(fd, part, BigInt(READ)))) > 0) {
      text += decoder.decode(part.subarray(0, count), { stream: true });
    }
    close(fd);
    return count < 0 ? undefined : text;
  } finally {
    library.close();
  }
}
