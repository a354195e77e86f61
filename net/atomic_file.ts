/** Small files that are never half written: made beside, synced, renamed over. */
import { chmod, lstat, open, readFile, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";

/**
 * Replaces the file at `path` as a whole, readable for its owner only (0600). Durable when it resolves.
 * A link at `path` is replaced, not followed.
 */
export async function writeFileAtomic(path: string, content: string | Uint8Array): Promise<void> {
  const temporary = `${path}.${crypto.randomUUID()}.tmp`;
  try {
    const file = await open(temporary, "wx", 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await replaceFile(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** How often, and after how many ms more each time, what Windows refuses while others read is tried again. */
const ATTEMPTS = 8, PAUSE = 10;

/** Gives a file the name of another one, which is gone then, also where that may only be read or is being read. */
export async function replaceFile(from: string, to: string): Promise<void> {
  if (Deno.build.os !== "windows") return await rename(from, to);
  for (let attempt = 1;; attempt++) {
    try {
      return await rename(from, to);
    } catch (error) {
      if (attempt === ATTEMPTS || !["EPERM", "EACCES", "EBUSY"].includes(errorCode(error) ?? "")) throw error;
      const there = await lstat(to);
      if (there.isDirectory()) throw error;
      if ((there.mode & 0o200) === 0) await chmod(to, 0o600);
      await new Promise((resolve) => setTimeout(resolve, PAUSE * attempt));
    }
  }
}

/**
 * Reads, changes and replaces a file while no other process of this program does: what two of them change at once is
 * not lost. Where the system cannot lock, it is done all the same.
 */
export async function whileLocked<T>(path: string, work: () => Promise<T>): Promise<T> {
  let lock: Deno.FsFile | undefined;
  try {
    // The file itself is replaced each time. Windows locks no folders.
    lock = Deno.build.os === "windows"
      ? await Deno.open(`${path}.lock`, { create: true, write: true })
      : await Deno.open(dirname(path), { read: true });
    await lock.lock(true);
  } catch {
    // NFS; who may not write
  }
  try {
    return await work();
  } finally {
    lock?.close();
  }
}

/** Makes the entries of a directory durable, where the system can do that. */
export async function syncDirectory(path: string): Promise<void> {
  if (Deno.build.os === "windows") return; // directories cannot be opened for this there
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Reads a text file; undefined if there is none. */
export async function readTextIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** The errno name of a system error, where it has one. */
export function errorCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === "string" ? code : undefined;
}
