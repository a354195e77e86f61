/** Files that are made for their owner alone, where there is nothing yet. */
import { closeSync, fsyncSync, openSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { CoverError } from "../crypto/errors.ts";
import { syncDirectory } from "../net/atomic_file.ts";

const CODES: Readonly<Record<string, string>> = {
  EEXIST: "there is something already",
  ENOENT: "no such folder",
};

/** Writes a file that is not there yet, for its owner alone, durably. @throws {CoverError} "failure" */
export async function writeNewFile(path: string, bytes: Uint8Array): Promise<void> {
  let descriptor: number;
  try {
    descriptor = openSync(path, "wx", 0o600);
  } catch (cause) {
    const code = (cause as { code?: string }).code ?? "the system refuses";
    throw new CoverError("failure", `Cannot write "${path}": ${CODES[code] ?? code}`, { cause });
  }
  try {
    for (let at = 0; at < bytes.length;) at += writeSync(descriptor, bytes, at);
    fsyncSync(descriptor);
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  } finally {
    closeSync(descriptor);
  }
  await syncDirectory(dirname(path));
}
