/** Which process serves which mountpoint, and how it ended: so that `umount` can wait for it and tell. */
import { mkdirSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { basename, dirname, join, resolve, sep } from "node:path";
import { CoverError } from "../crypto/errors.ts";
import { hex } from "../crypto/bytes.ts";
import { writeFileAtomic } from "../net/atomic_file.ts";
import { stateFolder } from "./state.ts";

/** A mount that runs, or has ended with an exit code. */
export interface MountRecord {
  readonly pid: number;
  readonly exit?: number;
}

/** The mountpoint's full path; of a mount that is dead, as far as it can be told. */
export function mountpointPath(mountpoint: string): string {
  try {
    return realpathSync(mountpoint);
  } catch {
    return resolve(mountpoint);
  }
}

/** The full path of what is there or is to be, as far as links can be followed. */
function fullPath(path: string): string {
  const whole = resolve(path), above = dirname(whole);
  try {
    return realpathSync(whole);
  } catch {
    return above === whole ? whole : join(fullPath(above), basename(whole));
  }
}

/**
 * Refuses to mount over what the mount itself needs: asked for it, the mount would wait for itself, for good.
 *
 * @param needed what is needed, by what it is to a person
 * @throws {CoverError} "cannot-mount" if one of the paths is the mountpoint or lies below it
 */
export function refuseBelow(
  mountpoint: string,
  needed: readonly (readonly [what: string, path: string | undefined])[],
): void {
  const top = fullPath(mountpoint), below = top.endsWith(sep) ? top : top + sep;
  for (const [what, path] of needed) {
    if (path === undefined) continue;
    const full = fullPath(path);
    if (full !== top && !full.startsWith(below)) continue;
    throw new CoverError(
      "cannot-mount",
      `Cannot mount at "${mountpoint}": ${what} lies below it: "${full}"`,
      {
        hint: `Choose another mountpoint, or another place for ${what}`,
      },
    );
  }
}

async function recordPath(mountpoint: string): Promise<string | undefined> {
  const folder = stateFolder();
  if (folder === undefined) return undefined;
  const path = new TextEncoder().encode(mountpoint);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", path));
  return join(folder, "mounts", `${hex(digest.subarray(0, 16))}.json`);
}

/** Notes a mount; where nothing can be noted, `umount` only cannot wait. */
export async function noteMount(mountpoint: string, record: MountRecord): Promise<void> {
  const path = await recordPath(mountpoint);
  if (path === undefined) return;
  try {
    mkdirSync(join(path, ".."), { recursive: true, mode: 0o700 });
    await writeFileAtomic(path, JSON.stringify(record) + "\n");
  } catch {
    // told nobody: the mount itself works
  }
}

/** What is noted about a mountpoint. */
export async function readMount(mountpoint: string): Promise<MountRecord | undefined> {
  const path = await recordPath(mountpoint);
  if (path === undefined) return undefined;
  try {
    const record = JSON.parse(readFileSync(path, "utf8"));
    const { pid, exit } = record;
    if (!Number.isSafeInteger(pid)) return undefined;
    return Number.isSafeInteger(exit) ? { pid, exit } : { pid };
  } catch {
    return undefined;
  }
}

/** Forgets a mount that has ended. */
export async function forgetMount(mountpoint: string): Promise<void> {
  const path = await recordPath(mountpoint);
  if (path !== undefined) rmSync(path, { force: true });
}
