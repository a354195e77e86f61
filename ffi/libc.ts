/** Functions of libc that are called straight, here and there. */

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
  fallocate: {
    parameters: [
      "i32", // int fd
      "i32", // int mode
      "i64", // off_t offset
      "i64", // off_t len
    ],
    result: "i32",
  },
  prctl: {
    parameters: [
      "i32", // int op
      "u64", // unsigned long arg2
      "u64", // unsigned long arg3
      "u64", // unsigned long arg4
      "u64", // unsigned long arg5
    ],
    result: "i32",
  },
  // int *__errno_location(void): right only straight after a synchronous call
  __errno_location: { parameters: [], result: "pointer" },
} as const satisfies Deno.ForeignLibraryInterface;

let opened: Deno.DynamicLibrary<typeof LIBC> | undefined;

/**
 * The functions, of a library that is opened once and stays open as long as the process lives, which has it anyway.
 *
 * @returns undefined where the system has another libc, or native code is not permitted
 */
export function libc(): Deno.DynamicLibrary<typeof LIBC>["symbols"] | undefined {
  if (Deno.build.os !== "linux") return undefined;
  try {
    opened ??= Deno.dlopen("libc.so.6", LIBC);
    return opened.symbols;
  } catch {
    return undefined;
  }
}
