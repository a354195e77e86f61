/**
 * Making a container where nothing is: for `init` and `clone`. A file gets its name only when it is whole; a server
 * takes a container without an encryption block for one that is still being made.
 */
import {
  closeSync,
  fsyncSync,
  linkSync,
  lstatSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  unlinkSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { hex } from "../crypto/bytes.ts";
import { CoverError } from "../crypto/errors.ts";
import { fallocate } from "../ffi/fallocate.ts";
import { HEADER_AT } from "../fs/block/byte_layout.ts";
import { HEADER_BYTES } from "../fs/block/store.ts";
import { type FileStore, openFileStore } from "../fs/store/file.ts";
import { lockContainer } from "../fs/store/file_lock.ts";
import type { RemoteStore } from "../fs/store/remote.ts";
import type { RemoteLocator } from "../net/mod.ts";
import { messageOf } from "./exit.ts";
import { type Locator, locatorName } from "./locator.ts";
import { escapeControls, printError } from "./output.ts";

/** How a container is made. */
export interface MakingOptions<T> {
  /** What is done, as it follows "Cannot": "make a container at". */
  readonly what: string;
  /** Makes an empty one on a server. */
  readonly remote: (remote: RemoteLocator) => Promise<RemoteStore>;
  /** Makes the empty store a container: its encryption block comes last, and everything is flushed. */
  readonly fill: (store: FileStore | RemoteStore) => Promise<T>;
}

/** Where something may be made. @throws {CoverError} if there is something already, or it is RAM */
export function refuseExisting(locator: Locator, what: string): void {
  if (locator.kind === "ram") {
    throw new CoverError("usage", `Cannot ${what} "ram:": it would be gone at once`);
  }
  if (locator.kind !== "file") return;
  try {
    lstatSync(locator.path);
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return;
    throw error;
  }
  throw existing(locator.path, what);
}

function existing(path: string, what: string, cause?: unknown): CoverError {
  return new CoverError("failure", `Cannot ${what} "${path}": there is something already`, {
    hint: "Take another name; nothing is ever overwritten",
    cause,
  });
}

/**
 * Makes a container. Of what fails nothing is left; what is killed leaves a rest that the next one of that name takes
 * away.
 *
 * @throws {CoverError} as {@linkcode refuseExisting}, the stores and `fill`
 */
export async function makeContainer<T>(locator: Locator, options: MakingOptions<T>): Promise<T> {
  const { what, fill } = options;
  refuseExisting(locator, what);
  const part = locator.kind === "file" ? partOf(locator.path) : undefined;
  const store = locator.kind === "remote"
    ? await options.remote(locator.remote)
    : await createFile((locator as { path: string }).path, part!);
  try {
    const result = await fill(store);
    if (locator.kind === "file") giveName(part!, locator.path, what);
    await store.close();
    return result;
  } catch (error) {
    await removeRest(store, locatorName(locator));
    throw error;
  }
}

/** The name of a file until it is whole. */
function partOf(path: string): string {
  const unique = hex(crypto.getRandomValues(new Uint8Array(6)));
  return join(dirname(path), `.${basename(path)}.${unique}.coverfs-part`);
}

async function createFile(path: string, part: string): Promise<FileStore> {
  removeParts(path);
  try {
    return await openFileStore(part, "create", { fallocate });
  } catch (error) {
    if (!(error instanceof CoverError)) throw error;
    const { kind, message, hint } = error; // nobody knows the other name
    throw new CoverError(kind, message.replaceAll(part, path), { ...(hint && { hint }), cause: error });
  }
}

/** Takes away what earlier attempts have left that were killed: what nobody is making, and is no container yet. */
function removeParts(path: string): void {
  const folder = dirname(path), start = `.${basename(path)}.`;
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return; // then nothing can be made there either
  }
  for (const name of names) {
    if (!name.startsWith(start) || !/^[0-9a-f]{12}\.coverfs-part$/.test(name.slice(start.length))) continue;
    const part = join(folder, name);
    try {
      using _lock = lockContainer(part);
      if (!hasEncryptionBlock(part)) unlinkSync(part);
      else {
        printError(escapeControls(
          `coverfs: warning: "${part}" is a whole container that was not given its name: rename or delete it`,
        ));
      }
    } catch {
      // it is being made, or is gone
    }
  }
}

function hasEncryptionBlock(path: string): boolean {
  const descriptor = openSync(path, "r"), bytes = new Uint8Array(HEADER_BYTES.key);
  try {
    return HEADER_AT.key.some((at) =>
      readSync(descriptor, bytes, 0, bytes.length, at) > 0 && bytes.some((byte) => byte !== 0)
    );
  } finally {
    closeSync(descriptor);
  }
}

/** Lets a file have its name at once, durably, in the place of nothing. */
function giveName(part: string, path: string, what: string): void {
  try {
    linkSync(part, path); // unlike a rename, it replaces nothing
    unlinkSync(part);
  } catch (error) {
    if ((error as { code?: string }).code === "EEXIST") throw existing(path, what, error);
    // Some filesystems (FAT) have no hard links.
    refuseExisting({ kind: "file", path }, what);
    renameSync(part, path);
  }
  if (Deno.build.os === "windows") return;
  const folder = openSync(dirname(path), "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

/** What cannot be made whole is taken away again. */
async function removeRest(store: FileStore | RemoteStore, name: string): Promise<void> {
  try {
    await store.remove();
  } catch (error) {
    printError(`coverfs: warning: Cannot remove what was begun at "${name}": ${messageOf(error)}`);
  }
  await store.close().catch(() => {}); // the first failure is the one to tell
}
