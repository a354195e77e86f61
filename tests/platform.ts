/** What systems have, and others have not. */
import { lstatSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const WINDOWS = Deno.build.os === "windows";

/** How the permission bits of a file appear here: Windows knows only whether it may be written. */
export function shownMode(mode: number): number {
  if (!WINDOWS) return mode;
  return mode & 0o200 ? 0o666 : 0o444;
}

/** Whether symbolic links can be made: on Windows that is a privilege, and Wine 8.0 only says that it has. */
export const HAS_SYMLINKS = (() => {
  const path = join(tmpdir(), `coverfs-link-${crypto.randomUUID()}`);
  try {
    symlinkSync("nowhere", path);
    return lstatSync(path).isSymbolicLink();
  } catch {
    return false;
  } finally {
    rmSync(path, { force: true });
  }
})();
