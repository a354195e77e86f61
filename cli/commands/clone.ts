import { CoverError } from "../../crypto/errors.ts";
import { proveEncryptionBlock } from "../../crypto/mod.ts";
import { SEALED } from "../../crypto/sealer.ts";
import { cloneContainer } from "../../fs/clone.ts";
import { createRemote, readEncryption, type UnlockedContainer, withVolume } from "../container.ts";
import { interruptible } from "../interrupt.ts";
import { locatorName, parseLocator } from "../locator.ts";
import { makeContainer, refuseExisting } from "../new_container.ts";
import { readingCommand } from "../options.ts";
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
        withVolume(options, { mode: "read", argument, keepsMasterKey: true }, async (_volume, source) => {
          const { store, keys, encryption: { header }, unlocked, memory } = source;
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
            fill: (target) =>
              cloneContainer(store, keys, target, {
                encryptionBlock: header.bytes,
                readEncryptionBlock: () => readChanged(source),
                onProgress,
              }),
          });
          await memory.remember(name, keys.containerId, durable);
          progress.clear();
          print(`Cloned commit ${commit} to ${escapeControls(name)}`);
        })
      );
    });

/** Reads the encryption block of a container whose key slots were changed since it was unlocked. */
async function readChanged({ store, unlocked: { masterKeys } }: UnlockedContainer) {
  const { header } = await readEncryption(store), masterKey = masterKeys.get(header.generation);
  if (masterKey !== undefined) return await proveEncryptionBlock(header, masterKey);
  throw new CoverError("failure", "Cannot clone container: it has a new master key", {
    hint: "Clone it again, with a secret that it takes now",
  });
}
