/** Telling of a passphrase that whoever has the container could guess. */
import { logToTerminal } from "./log.ts";

/**
 * From how many guesses (log10) a passphrase passes. With a key derivation of a second on one core, who can afford a
 * hundred thousand cores goes through 10^10 guesses in about a day.
 */
const ENOUGH = 10;

/**
 * Estimates, as crackers would guess, how many guesses a passphrase takes (log10). The estimator and its word lists are
 * loaded only now: they take half a second.
 *
 * @param related what somebody would try first, as the container's name
 */
export async function guessesLog10(passphrase: string, related: readonly string[] = []): Promise<number> {
  const [{ ZxcvbnFactory }, { adjacencyGraphs, dictionary }] = await Promise.all([
    import("@zxcvbn-ts/core"),
    import("@zxcvbn-ts/language-common"),
  ]);
  return new ZxcvbnFactory({ dictionary, graphs: adjacencyGraphs }).check(passphrase, [...related])
    .guessesLog10;
}

/** One line on standard error where a passphrase is weak; it is taken all the same. */
export async function warnIfWeak(passphrase: string, name: string): Promise<void> {
  const guesses = await guessesLog10(passphrase, name.split(/[/:]+/));
  if (guesses >= ENOUGH) return;
  const count = Math.max(1, Math.round(guesses));
  logToTerminal(
    `warning: The passphrase is weak: about 10^${count} guesses find it, 10^${ENOUGH} should not; take more words`,
  );
}
