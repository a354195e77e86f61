/** Files and folders that others may read or change though they should not. */
import { logToTerminal } from "./log.ts";

/**
 * Tells of a file or folder that others may use, as ssh looks at its keys: `bits` count for what is this user's,
 * `foreign` for what is somebody else's, who will know why. Nobody is locked out.
 */
export function warnIfExposed(
  found: { readonly mode: number; readonly uid: number; isFile(): boolean; isDirectory(): boolean },
  what: string,
  { bits, foreign, warn = (message) => logToTerminal(`warning: ${message}`) }: {
    readonly bits: number;
    readonly foreign: number;
    readonly warn?: ((message: string) => void) | undefined;
  },
): void {
  if (Deno.build.os === "windows" || !(found.isFile() || found.isDirectory())) return;
  if ((found.mode & (found.uid === Deno.uid() ? bits : foreign)) === 0) return;
  const mode = (found.mode & 0o777).toString(8).padStart(4, "0");
  const right = found.isDirectory() ? "0700" : "0600";
  warn(`${what} is open to others (mode ${mode}, ${right} is right)`);
}
