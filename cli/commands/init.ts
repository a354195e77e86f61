import { Option } from "@commander-js/extra-typings";
import { createEncryptionBlock, DEFAULT_SUITE, SUITE_NAMES } from "../../crypto/mod.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { createContainer } from "../../fs/creating.ts";
import type { ContainerKeys } from "../../fs/loading.ts";
import { containerKeys, createRemote } from "../container.ts";
import { interruptible } from "../interrupt.ts";
import { chooseLocator, locatorName } from "../locator.ts";
import { makeContainer, refuseExisting } from "../new_container.ts";
import {
  chooseKdf,
  type NewSlotRequest,
  readNewSlot,
  recoverySlot,
  slotMakingCommand,
} from "../new_slots.ts";
import { print } from "../output.ts";
import { type PassphraseSource, withEnvironment } from "../passphrase.ts";
import { RollbackMemory } from "../state.ts";
import { Terminal } from "../terminal.ts";

const WHAT = "make a container at";

/** `coverfs init`: makes a container; nothing else ever does. */
export const initCommand = () =>
  slotMakingCommand("init", "coverfs init container\ncoverfs init --recovery-key coverfs://host/name")
    .description("make a new, empty container")
    .argument("[CONTAINER]", "where; else -c or COVERFS_CONTAINER")
    .addOption(new Option("--suite <SUITE>", "cipher suite").choices(SUITE_NAMES).default(DEFAULT_SUITE))
    .option("--recovery-key", "print 24 words that open the container too")
    .option("--no-recovery-key", "do not ask whether to print them")
    .action(async (argument, options) => {
      const locator = chooseLocator(argument ?? options.container), name = locatorName(locator);
      refuseExisting(locator, WHAT); // before anybody is asked for anything
      const source = withEnvironment(options);
      const requests: NewSlotRequest[] = [await readNewSlot({ ...source, recoveryKey: undefined }, name)];
      if (options.recoveryKey ?? await offerRecoveryKey(source)) requests.push(recoverySlot());
      const slots = requests.map(({ slot }) => slot), kdf = await chooseKdf(options);
      const made = await createEncryptionBlock({ suite: options.suite, slots, ...kdf });
      for (const request of requests) request[Symbol.dispose]();
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
      for (const { tell } of requests) tell();
    });

/** Whoever has typed the passphrase can be asked whether there is to be a second way in. */
async function offerRecoveryKey({ passfile = [], extpass, keyFile }: PassphraseSource): Promise<boolean> {
  if (passfile.length > 0 || extpass !== undefined || keyFile !== undefined) return false;
  using terminal = Terminal.open();
  return await terminal?.confirm(
    "Without the passphrase nobody can open it. Make a recovery key, 24 words to write down?",
  ) ?? false;
}

/** Makes an empty store a container: only with its encryption block, which comes last, it is one. */
async function fill(store: BlockStore, keys: ContainerKeys, encryptionBlock: Uint8Array): Promise<void> {
  const umask = Deno.build.os === "windows" ? 0o022 : Deno.umask();
  const root = { uid: Deno.uid() ?? 0, gid: Deno.gid() ?? 0, mode: 0o777 & ~umask };
  await createContainer(store, keys, root);
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
