/** Keeping what is in memory out of core dumps. */
import { libc } from "./libc.ts";

/** linux/prctl.h */
const PR_SET_DUMPABLE = 4;

/**
 * Lets this process leave no core dump, also where the system pipes them to a program, and lets no other process of
 * this user look into its memory (prctl(2), PR_SET_DUMPABLE). Programs that it starts are not concerned.
 *
 * @returns whether the system could be told
 */
export function forbidDumps(): boolean {
  return libc()?.prctl(PR_SET_DUMPABLE, 0n, 0n, 0n, 0n) === 0;
}
