import { closeSync, fsyncSync, linkSync, lstatSync, openSync, renameSync, unlinkSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { hex } from "../../crypto/bytes.ts";
import { CoverError } from "../../crypto/errors.ts";
import type { EncryptionHeader, Unlocked } from "../../crypto/mod.ts";
import { openFallocate } from "../../ffi/fallocate.ts";
import { cloneContainer } from "../../fs/clone.ts";
import { type FileStore, openFileStore } from "../../fs/store/file.ts";
import { openRemoteStore, type RemoteStore } from "../../fs/store/remote.ts";
import { proverOf, remoteOptions, withVolume } from "../container.ts";
import { messageOf } from "../exit.ts";
import { interruptible } from "../interrupt.ts";
import { type Locator, locatorName, parseLocator } from "../locator.ts";
import { type Access, readingCommand } from "../options.ts";
import { escapeControls, print, printError } from "../output.ts";
import { Progress } from "../progress.ts";
import { SEALED } from "../../crypto/sealer.ts";

/** A new container that is not one yet. */
interface Target {
  readonly store: FileStore | RemoteStore;
  /** Makes it appear under its name; the store is closed by then. */
  readonly finish: () => void;
}

/** `coverfs clone`: copies the newest commit of a container, sealed as it is, to where there is nothing yet. */
export const cloneCommand = () =>
  readingCommand(
    "clone",
    "coverfs clone coverfs://host/name backup\ncoverfs clone container coverfs://host/copy",
  )
    .description("copy a container as of its newest commit, while it may be in use")
    .argument("<CONTAINER>", "what to copy")
    .argument("<TARGET>", "where to, like CONTAINER; nothing may be there")
    .option("-q, --quiet", "no progress")
    .action(async (argument, targetText, options) => {
      const locator = parseLocator(targetText), name = locatorName(locator);
      refuseExisting(locator, name);
      await interruptible((signal) =>
        withVolume(options, { mode: "read", argument }, async (_volume, source) => {
          const { store, keys, encryption: { header }, unlocked, memory } = source;
          const remote = parseLocator(argument).kind === "remote";
          const access = remote ? { ...options, fingerprint: undefined } : options;
          const target = await makeTarget(locator, { header, unlocked, access });
          using progress = new Progress(options);
          const onProgress = (done: number, all: number) => {
            signal.throwIfAborted();
            progress.bytes("copied", done * SEALED, all * SEALED);
          };
          try {
            const { commit, durable } = await cloneContainer(store, keys, target.store, {
              encryptionBlock: header.bytes,
              onProgress,
            });
            target.finish();
            await target.store.close();
            await memory.remember(name, keys.containerId, durable);
            progress.clear();
            print(`Cloned commit ${commit} to ${escapeControls(name)}`);
          } catch (error) {
            await removeRest(target, name);
            throw error;
          }
        })
      );
    });

/** Before anybody is asked for anything. */
function refuseExisting(locator: Locator, name: string): void {
  if (locator.kind === "ram") {
    throw new CoverError("usage", `Cannot clone to "ram:": it would be gone at once`);
  }
  if (locator.kind !== "file") return;
  try {
    lstatSync(locator.path);
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return;
    throw error;
  }
  throw new CoverError("failure", `Cannot clone to "${name}": there is something already`, {
    hint: "Take another name; clone overwrites nothing",
  });
}

/** A file gets its name only when it is whole; a server shows a container without keys until then. */
async function makeTarget(
  locator: Locator,
  how: { header: EncryptionHeader; unlocked: Unlocked; access: Access },
): Promise<Target> {
  if (locator.kind === "file") {
    const unique = hex(crypto.getRandomValues(new Uint8Array(6)));
    const part = join(dirname(locator.path), `.${basename(locator.path)}.${unique}`);
    const store = await openFileStore(part, "create", { fallocate: openFallocate() });
    return {
      store,
      finish: () => giveName(part, locator.path),
    };
  }
  if (locator.kind !== "remote") throw new CoverError("usage", "Cannot clone to RAM");
  const { header, unlocked, access } = how, prover = await proverOf(unlocked.masterKeys, header);
  if (prover === undefined) throw new Error(`Master key ${header.generation} is missing`);
  const session = crypto.getRandomValues(new Uint8Array(16)), { containerId } = header;
  const options = await remoteOptions(locator.remote, access);
  const store = await openRemoteStore({ ...options, mode: "create", prover, containerId, session });
  return { store, finish: () => {} };
}

/** Lets a file have its name at once, durably, in the place of nothing. */
function giveName(part: string, path: string): void {
  try {
    linkSync(part, path); // unlike a rename, it replaces nothing
    unlinkSync(part);
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "EEXIST") {
      throw new CoverError("failure", `Cannot clone to "${path}": there is something already`, {
        cause: error,
      });
    }
    // Some filesystems (FAT) have no hard links.
    refuseExisting({ kind: "file", path }, path);
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

async function removeRest({ store }: Target, name: string): Promise<void> {
  try {
    await store.remove();
    await store.close();
  } catch (error) {
    printError(`coverfs: warning: Cannot remove what was begun at "${name}": ${messageOf(error)}`);
  }
}
