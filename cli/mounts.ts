/** Which process serves which mountpoint, how it ended and what it said: so that `umount` can wait for it and tell. */
import { mkdirSync, readdirSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { basename, dirname, join, resolve, sep } from "node:path";
import { kill } from "node:process";
import { CoverError } from "../crypto/errors.ts";
import { hex } from "../crypto/bytes.ts";
import { readKernelFile } from "../ffi/kernel_files.ts";
import { foldName } from "../fs/folded_names.ts";
import { writeFileAtomic } from "../net/atomic_file.ts";
import { type Log, logToFile, logToTerminal } from "./log.ts";
import { stateFolder } from "./state.ts";

/** A mount that runs, or has ended with an exit code. */
export interface MountRecord {
  readonly pid: number;
  readonly mountpoint: string;
  /** The container, by the name of its locator, if it is mounted for writing. */
  readonly writes?: string | undefined;
  readonly exit?: number | undefined;
}

/** Bytes of what a mount said before the older half of it is let go. */
const KEPT_LOG_BYTES = 64 << 10;

const WINDOWS = Deno.build.os === "windows";

/** The mountpoint's full path; of a mount that is dead, as far as it can be told. */
export function mountpointPath(mountpoint: string): string {
  if (WINDOWS) return mountpointOnWindows(mountpoint);
  try {
    return realpathSync(mountpoint);
  } catch {
    return resolve(mountpoint);
  }
}

/**
 * A folder's path as it is written on the disk, as the driver finds a mount by exactly that. It is not followed: mounted,
 * it is a link to the mount, which has no path.
 */
function mountpointOnWindows(mountpoint: string): string {
  if (/^[a-z]:[\\/]?$/i.test(mountpoint)) return mountpoint.slice(0, 2).toUpperCase(); // nothing is there
  const whole = resolve(mountpoint), above = fullPath(dirname(whole)), folded = foldName(basename(whole));
  let names: string[] = [];
  try {
    names = readdirSync(above);
  } catch {
    // then it is as it is written here
  }
  return join(above, names.find((name) => foldName(name) === folded) ?? basename(whole));
}

/** The full path of what is there or is to be, as far as links can be followed. */
export function fullPath(path: string): string {
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

function recordFolder(): string | undefined {
  const folder = stateFolder();
  return folder && join(folder, "mounts");
}

/** Where something about a mountpoint is kept: what is noted, what it said, or the socket by which it is asked. */
export async function recordPath(
  mountpoint: string,
  kind: "json" | "log" | "sock" = "json",
): Promise<string | undefined> {
  const folder = recordFolder();
  if (folder === undefined) return undefined;
  const path = new TextEncoder().encode(mountpoint);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", path));
  return join(folder, `${hex(digest.subarray(0, 16))}.${kind}`);
}

/** Notes a mount; where nothing can be noted, `umount` only cannot wait. */
export async function noteMount(record: MountRecord): Promise<void> {
  const path = await recordPath(record.mountpoint);
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
  return path === undefined ? undefined : readRecord(path);
}

function readRecord(path: string): MountRecord | undefined {
  try {
    const { pid, mountpoint, writes, exit } = JSON.parse(readFileSync(path, "utf8"));
    if (!Number.isSafeInteger(pid) || typeof mountpoint !== "string") return undefined;
    return {
      pid,
      mountpoint,
      writes: typeof writes === "string" ? writes : undefined,
      exit: Number.isSafeInteger(exit) ? exit : undefined,
    };
  } catch {
    return undefined;
  }
}

/** All mounts of this user that are noted and whose processes have not ended. */
export function runningMounts(): MountRecord[] {
  const folder = recordFolder();
  if (folder === undefined) return [];
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return [];
  }
  const records = names.filter((name) => name.endsWith(".json")).map((name) =>
    readRecord(join(folder, name))
  );
  return records.filter((record) => record !== undefined).filter(isRunning);
}

/**
 * What the kernel keeps of a container that is mounted at this very path: `rw`, `nosuid` and the like, as mount(8) has
 * them (proc_pid_mountinfo(5): spaces and the like in paths are octal). Undefined: no container is mounted there.
 */
export function kernelOptionsAt(mountpoint: string): string[] | undefined {
  const table = readKernelFile("/proc/self/mountinfo") ?? "";
  const fields = table.split("\n").map((line) => line.split(" ")).findLast(([, , , , path]) =>
    path?.replace(/\\([0-7]{3})/g, (_, code) => String.fromCharCode(parseInt(code, 8))) === mountpoint
  );
  if (fields === undefined || fields[fields.indexOf("-") + 1] !== "fuse.coverfs") return undefined;
  return fields[5]!.split(",");
}

/** Tells whether a container is mounted at this very path. */
export function mountedAt(mountpoint: string): boolean {
  return kernelOptionsAt(mountpoint) !== undefined;
}

/**
 * Runs a tool of the system, which may have rights that an ordinary user has not.
 *
 * @returns what it said if it failed, without its name
 */
export async function systemTool(command: string, ...args: string[]): Promise<string | undefined> {
  // mount(8) takes PATH away from its helpers, and the runtime has one of its own then.
  const PATH = [Deno.env.get("PATH"), "/usr/sbin:/usr/bin:/sbin:/bin"].filter(Boolean).join(":");
  const { success, stderr } = await new Deno.Command(command, { args, env: { PATH } }).output();
  if (success) return undefined;
  return (new TextDecoder().decode(stderr).trim().split("\n")[0] ?? "").replace(/^.*?: /, "");
}

/** Tells whether a mount's process still serves it. */
export function isRunning(record: MountRecord): boolean {
  if (record.exit !== undefined) return false;
  if (!WINDOWS) return readKernelFile(`/proc/${record.pid}/stat`) !== undefined;
  try {
    return kill(record.pid, 0); // only asks
  } catch {
    return false;
  }
}

/** Begins to keep what a mount says, for `umount` to show. Where nothing can be kept, it goes to standard error. */
export async function keepLog(mountpoint: string): Promise<Log> {
  const path = await recordPath(mountpoint, "log");
  if (path === undefined) return logToTerminal;
  try {
    mkdirSync(join(path, ".."), { recursive: true, mode: 0o700 });
    for (const one of [path, `${path}.1`]) rmSync(one, { force: true });
    return logToFile(path, { bytes: KEPT_LOG_BYTES / 2 });
  } catch {
    return logToTerminal;
  }
}

/** What a mount said, a line with the time each, and forgets it. */
export async function takeLog(mountpoint: string): Promise<string[]> {
  const path = await recordPath(mountpoint, "log"), lines: string[] = [];
  if (path === undefined) return lines;
  for (const one of [`${path}.1`, path]) {
    try {
      lines.push(...readFileSync(one, "utf8").split("\n").filter((line) => line !== ""));
      rmSync(one, { force: true });
    } catch {
      // it said nothing
    }
  }
  return lines;
}

/** Forgets a mount that has ended. */
export async function forgetMount(mountpoint: string): Promise<void> {
  const path = await recordPath(mountpoint);
  if (path !== undefined) rmSync(path, { force: true });
}
