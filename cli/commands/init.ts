import { Option } from "@commander-js/extra-typings";
import {
  calibrateRounds,
  createEncryptionBlock,
  DEFAULT_SUITE,
  newRecoveryWords,
  type NewSlot,
  SUITE_NAMES,
} from "../../crypto/mod.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { Container } from "../../fs/container.ts";
import type { ContainerKeys } from "../../fs/loading.ts";
import { containerKeys, createRemote } from "../container.ts";
import { interruptible } from "../interrupt.ts";
import { chooseLocator, locatorName } from "../locator.ts";
import { makeContainer, refuseExisting } from "../new_container.ts";
import { wholeNumber, writingCommand } from "../options.ts";
import { print } from "../output.ts";
import { readNewPassphrase, withEnvironment } from "../passphrase.ts";
import { RollbackMemory } from "../state.ts";

const WHAT = "make a container at";

/** `coverfs init`: makes a container; nothing else ever does. */
export const initCommand = () =>
  writingCommand("init", "coverfs init container\ncoverfs init --recovery-key coverfs://host/name")
    .description("make a new, empty container")
    .argument("[CONTAINER]", "where; else -c or COVERFS_CONTAINER")
    .addOption(new Option("--suite <SUITE>", "cipher suite").choices(SUITE_NAMES).default(DEFAULT_SUITE))
    .option("--kdf-rounds <ROUNDS>", "rounds of PBKDF2; measured to take a second unless given", wholeNumber)
    .option("--recovery-key", "print 24 words that open the container too")
    .action(async (argument, options) => {
      const locator = chooseLocator(argument ?? options.container), name = locatorName(locator);
      refuseExisting(locator, WHAT); // before anybody is asked for anything
      const passphrase = await readNewPassphrase(withEnvironment(options), name);
      const words = options.recoveryKey ? newRecoveryWords() : undefined;
      const slots: NewSlot[] = [{ kind: "passphrase", text: passphrase }];
      if (words !== undefined) slots.push({ kind: "recovery-key", words });
      const rounds = options.kdfRounds ?? await calibrateRounds();
      const made = await createEncryptionBlock({ suite: options.suite, slots, rounds });
      using masterKey = made.masterKey;
      const masterKeys = new Map([[made.header.generation, masterKey]]);
      const keys = await containerKeys(made.header, masterKeys);
      using _sealer = keys.sealer;
      await interruptible((signal) =>
        makeContainer(locator, {
          what: WHAT,
          remote: (remote) => createRemote(remote, options, { header: made.header, masterKeys }),
          fill: (store) => Promise.race([fill(store, keys, made.bytes), aborted(signal)]),
        })
      );
      await RollbackMemory.ofUser().remember(name, keys.containerId, undefined);
      print(`Made a container at ${name}`);
      if (words !== undefined) {
        print(
          "\nRecovery key: it opens the container without the passphrase. Write it down, keep it offline.\n",
        );
        const all = words.split(" ");
        for (let i = 0; i < all.length; i += 6) print(`  ${all.slice(i, i + 6).join(" ")}`);
      }
    });

/** Makes an empty store a container: only with its encryption block, which comes last, it is one. */
async function fill(store: BlockStore, keys: ContainerKeys, encryptionBlock: Uint8Array): Promise<void> {
  const umask = Deno.build.os === "windows" ? 0o022 : Deno.umask();
  const root = { uid: Deno.uid() ?? 0, gid: Deno.gid() ?? 0, mode: 0o777 & ~umask };
  await Container.create(store, keys, root);
  for (const copy of [0, 1] as const) {
    await store.writeHeader("key", copy, encryptionBlock);
    await store.flush();
  }
}

/** Rejects with the reason when the signal fires: what waits for a server need not be waited for. */
function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) =>
    signal.addEventListener("abort", () => reject(signal.reason), { once: true })
  );
}
