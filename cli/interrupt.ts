/** Ctrl-C: the first one asks to stop in order, the second one ends the program at once. */
import { CoverError } from "../crypto/errors.ts";
import { EXIT } from "./exit.ts";

/** What asks a program to end. On Windows: Ctrl-C, Ctrl-Break, and that its console is closed (SIGHUP). */
export const ENDING_SIGNALS: readonly Deno.Signal[] = Deno.build.os === "windows"
  ? ["SIGINT", "SIGBREAK", "SIGHUP"]
  : ["SIGINT", "SIGTERM", "SIGHUP"];

/**
 * Runs something that can be interrupted.
 *
 * @param work gets a signal that aborts with a {@linkcode CoverError} "interrupted"
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const onSignal = () => {
    if (controller.signal.aborted) Deno.exit(EXIT.interrupted);
    controller.abort(new CoverError("interrupted", "Interrupted"));
  };
  for (const name of ENDING_SIGNALS) Deno.addSignalListener(name, onSignal);
  try {
    return await work(controller.signal);
  } finally {
    for (const name of ENDING_SIGNALS) Deno.removeSignalListener(name, onSignal);
  }
}
