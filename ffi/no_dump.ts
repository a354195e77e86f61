/** Keeping what is in memory out of core dumps. */
import { openLibc } from "./libc.ts";

const LIBC = {
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
} as const satisfies Deno.ForeignLibraryInterface;

/** linux/prctl.h */
const PR_SET_DUMPABLE = 4;

/**
 * Lets this process leave no core dump, also where the system pipes them to a program, and lets no other process of
 * this user look into its memory (prctl(2), PR_SET_DUMPABLE). Programs that it starts are not concerned.
 *
 * @returns whether the system could be told
 */
export function forbidDumps(): boolean {
  const library = openLibc(LIBC);
  if (library === undefined) return false;
  try {
    return library.symbols.prctl(PR_SET_DUMPABLE, 0n, 0n, 0n, 0n) === 0;
  } finally {
    library.close();
  }
}
