import { Option } from "@commander-js/extra-typings";
import { lstat } from "node:fs/promises";
import { CoverError } from "../../crypto/errors.ts";
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
import { type FileStore, openFileStore } from "../../fs/store/file.ts";
import { openRemoteStore, type RemoteStore } from "../../fs/store/remote.ts";
import { containerKeys, proverOf, remoteOptions } from "../container.ts";
import { messageOf } from "../exit.ts";
import { interruptible } from "../interrupt.ts";
import { chooseLocator, type Locator, locatorName } from "../locator.ts";
import { wholeNumber, writingCommand } from "../options.ts";
import { print, printError } from "../output.ts";
import { readNewPassphrase, withEnvironment } from "../passphrase.ts";
import { RollbackMemory } from "../state.ts";

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
      await refuseExisting(locator, name);
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
      await using store = await createStore(locator, async (remote) => {
        const prover = await proverOf(masterKeys, made.header);
        if (prover === undefined) throw new Error("The new master key is missing");
        const session = crypto.getRandomValues(new Uint8Array(16)), { containerId } = keys;
        const how = await remoteOptions(remote, options);
        return await openRemoteStore({ ...how, mode: "create", prover, containerId, session });
      });
      await interruptible(async (signal) => {
        try {
          await Promise.race([fill(store, keys, made.bytes), aborted(signal)]);
        } catch (error) {
          await removeRest(store, name);
          throw error;
        }
      });
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

/** What cannot be made whole is taken away again, so that its name is free. */
async function removeRest(store: Removable, name: string): Promise<void> {
  try {
    await store.remove();
  } catch (error) {
    printError(`coverfs: warning: Cannot remove what was begun at "${name}": ${messageOf(error)}`);
  }
}

/** A store that can take away what it has made. */
type Removable = FileStore | RemoteStore;

/** Asks nobody for a passphrase where nothing can be made. */
async function refuseExisting(locator: Locator, name: string): Promise<void> {
  if (locator.kind === "ram") {
    throw new CoverError("usage", `Cannot make a container at "ram:": it would be gone at once`);
  }
  if (locator.kind !== "file") return;
  try {
    await lstat(locator.path);
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return;
    throw error;
  }
  throw new CoverError("failure", `Cannot make a container at "${name}": there is something already`, {
    hint: "Take another name; init overwrites nothing",
  });
}

async function createStore(
  locator: Locator,
  remote: (locator: Extract<Locator, { kind: "remote" }>["remote"]) => Promise<RemoteStore>,
): Promise<Removable> {
  if (locator.kind === "remote") return await remote(locator.remote);
  if (locator.kind === "file") return await openFileStore(locator.path, "create");
  throw new CoverError("usage", "Cannot make a container in RAM");
}
