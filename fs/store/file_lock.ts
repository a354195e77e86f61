/** One writer at a time for a container in a file, on one machine. */
import { readFileSync, statSync, unlinkSync } from "node:fs";
import { resolve } from "node:path";
import { CoverError } from "../../crypto/errors.ts";

/** A lock bars reading through every other handle there (LockFileEx), so it lies on a file beside, while it is held. */
const BESIDE = Deno.build.os === "windows";

/** Which file carries the lock of a container. */
function lockPath(path: string): string {
  return BESIDE ? `${resolve(path)}.lock` : path;
}

/** How often a lock file is opened that whoever had the lock takes away meanwhile. */
const ATTEMPTS = 10;

/** How to lock. */
export interface LockOptions {
  /** Reads a file of the kernel; undefined where it cannot be read. Default: as any other file. */
  readonly readKernelFile?: ((path: string) => string | undefined) | undefined;
}

/**
 * Takes the lock of a container for as long as the answer is not disposed, or the process lives.
 *
 * @throws {CoverError} "busy" if another writer has it, "failure" where the filesystem has no locks
 */
export function lockContainer(path: string, options: LockOptions = {}): Disposable {
  for (let attempt = 1;; attempt++) {
    const file = lockFile(path, options);
    if (!BESIDE) return { [Symbol.dispose]: () => file.close() };
    if (isStillThere(file, path)) return besideLock(file, lockPath(path));
    file.close();
    if (attempt === ATTEMPTS) {
      throw new CoverError("busy", `Cannot lock container "${path}": others do, again and again`);
    }
  }
}

/** Opens the file that carries the lock, and locks it. */
function lockFile(path: string, options: LockOptions): Deno.FsFile {
  const file = openLockFile(path);
  try {
    if (tryLock(file, path)) return file;
    const holder = lockHolder(file, options);
    const who = holder === undefined ? "another process" : `process ${holder}`;
    throw new CoverError("busy", `Cannot open container "${path}" to write: ${who} is writing it`, {
      hint: "Unmount or end it there, or read only (--read-only)",
    });
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Whether what was locked still has its name: whoever unlocks takes the file away. */
function isStillThere(file: Deno.FsFile, path: string): boolean {
  try {
    const { dev, ino } = statSync(lockPath(path)), locked = file.statSync();
    return dev === locked.dev && ino === locked.ino;
  } catch {
    return false;
  }
}

/** Takes the file away while it is still locked, so that nobody else's lock loses its name. */
function besideLock(file: Deno.FsFile, path: string): Disposable {
  let held = true;
  return {
    [Symbol.dispose]: () => {
      if (!held) return;
      held = false;
      try {
        unlinkSync(path);
      } catch {
        // it stays, and is no hindrance
      }
      file.close();
    },
  };
}

function openLockFile(path: string): Deno.FsFile {
  try {
    return Deno.openSync(lockPath(path), { read: true, write: true, create: BESIDE });
  } catch (cause) {
    throw new CoverError("failure", `Cannot lock container "${path}": "${lockPath(path)}" cannot be opened`, {
      hint: "Make the folder writable, or read only (--read-only)",
      cause,
    });
  }
}

function tryLock(file: Deno.FsFile, path: string): boolean {
  try {
    return file.tryLockSync(true);
  } catch (cause) {
    throw new CoverError("failure", `Cannot lock container "${path}": the filesystem has no locks`, {
      hint: "Copy it to a local disk, serve it with `coverfs serve`, or read only (--read-only)",
      cause,
    });
  }
}

/** The process that has the lock, where the system tells (Linux: /proc/locks, see proc_locks(5)). */
function lockHolder(file: Deno.FsFile, { readKernelFile }: LockOptions): number | undefined {
  try {
    const read = readKernelFile ?? ((path) => readFileSync(path, "utf8"));
    const { dev, ino } = file.statSync();
    const major = Math.floor(dev / 256) % 4096, minor = dev % 256 + Math.floor(dev / 2 ** 20) * 256;
    const hex = (number: number) => number.toString(16).padStart(2, "0");
    const id = ` ${hex(major)}:${hex(minor)}:${ino} `;
    const line = read("/proc/locks")?.split("\n")
      .find((one) => one.includes(" FLOCK ") && !one.includes(" -> ") && one.includes(id));
    const pid = Number(/ (\d+) [0-9a-f]+:[0-9a-f]+:/.exec(line ?? "")?.[1]);
    return pid > 0 ? pid : undefined;
  } catch {
    return undefined;
  }
}
