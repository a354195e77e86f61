import { CoverError } from "../../crypto/errors.ts";
import { headerKey, proveWith, type SecretBytes } from "../../crypto/mod.ts";
import { SEALED } from "../../crypto/sealer.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { cloneContainer, type Cloned } from "../../fs/clone.ts";
import type { Volume } from "../../fs/volume.ts";
import {
  createRemote,
  historyCheck,
  readEncryption,
  type UnlockedContainer,
  withVolume,
} from "../container.ts";
import { interruptible } from "../interrupt.ts";
import { locatorName, parseLocator } from "../locator.ts";
import { makeContainer, refuseExisting } from "../new_container.ts";
import { type Access, readingCommand } from "../options.ts";
import { escapeControls, print } from "../output.ts";
import { Progress } from "../progress.ts";

const WHAT = "clone to";

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
      refuseExisting(locator, WHAT); // before anybody is asked for anything
      await interruptible((signal) =>
        withVolume(options, { mode: "read", argument, keepsMasterKey: true }, async (volume, source) => {
          const { keys, encryption: { header }, unlocked, memory } = source;
          const remote = parseLocator(argument).kind === "remote";
          const access = remote ? { ...options, fingerprint: undefined } : options;
          using progress = new Progress(options);
          const onProgress = (done: number, all: number) => {
            signal.throwIfAborted();
            progress.bytes("copied", done * SEALED, all * SEALED);
          };
          const { commit, durable } = await makeContainer(locator, {
            what: WHAT,
            remote: (target) => createRemote(target, access, { header, masterKeys: unlocked.masterKeys }),
            fill: (target) => copyOpened({ volume, source, access: options }, target, onProgress),
          });
          await memory.remember(name, keys.containerId, durable);
          progress.clear();
          print(`Cloned commit ${commit} to ${escapeControls(name)}`);
        })
      );
    });

/**
 * Copies a container that was opened. It is read anew: what was opened is remembered before, so that nothing older is
 * copied. Its master keys are zeroed.
 *
 * @throws {CoverError} as `cloneContainer`; "rollback" if an older state is there by now
 */
export async function copyOpened(
  { volume, source, access }: {
    readonly volume: Volume;
    readonly source: UnlockedContainer;
    readonly access: Pick<Access, "acceptRollback">;
  },
  target: BlockStore,
  onProgress?: (done: number, all: number) => void,
): Promise<Cloned> {
  const { store, keys, name, memory, unlocked, encryption: { header } } = source;
  using key = await headerKey(header, unlocked.masterKeys.get(header.generation)!);
  unlocked[Symbol.dispose]();
  await memory.remember(name, keys.containerId, volume.container.durable, { lower: access.acceptRollback });
  return await cloneContainer(store, keys, target, {
    encryptionBlock: header.bytes,
    readEncryptionBlock: () => readChanged(source, key),
    check: historyCheck(source, access),
    ...onProgress && { onProgress },
  });
}

/** Reads the encryption block of a container whose key slots were changed since it was unlocked. */
async function readChanged({ store, encryption }: UnlockedContainer, key: SecretBytes) {
  const { header } = await readEncryption(store);
  if (header.generation === encryption.header.generation) return await proveWith(header, key);
  throw new CoverError("failure", "Cannot clone container: it has a new master key", {
    hint: "Clone it again, with a secret that it takes now",
  });
}
