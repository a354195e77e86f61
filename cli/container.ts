/** The one place that opens containers: locator, store, encryption block, passphrase, keys, filesystem. */
import { readFile, stat } from "node:fs/promises";
import { equalConstantTime, hex } from "../crypto/bytes.ts";
import {
  type BlockEngine,
  createSealer,
  type EncryptionHeader,
  type NewestEncryptionBlock,
  newestEncryptionBlock,
  parseRecoveryWords,
  provenEncryptionBlock,
  RECOVERY_WORDS,
  type Secret,
  SecretBytes,
  type Unlocked,
  unlockEncryptionBlock,
  webCryptoEngine,
  writerKeyPair,
} from "../crypto/mod.ts";
import { CoverError, type ErrorKind } from "../crypto/errors.ts";
import { fallocate } from "../ffi/fallocate.ts";
import { readKernelFile } from "../ffi/kernel_files.ts";
import { openLibcrypto } from "../ffi/libcrypto.ts";
import { ParallelLibcrypto } from "../ffi/parallel_libcrypto.ts";
import { CachedStore } from "../fs/block/cache.ts";
import type { BlockStore } from "../fs/block/store.ts";
import { Container } from "../fs/container.ts";
import type { ContainerKeys, DurablePoint, History, HistoryCheck } from "../fs/loading.ts";
import { openFileStore } from "../fs/store/file.ts";
import { openRemoteStore, RemoteStore, type RemoteStoreOptions } from "../fs/store/remote.ts";
import { Volume, type VolumeOptions } from "../fs/volume.ts";
import { type AcquaintanceOptions, KnownServers, parseFingerprint, type RemoteLocator } from "../net/mod.ts";
import { chooseLocator, type Locator, locatorName } from "./locator.ts";
import type { Access } from "./options.ts";
import { kindOf, messageOf } from "./exit.ts";
import { logToTerminal } from "./log.ts";
import { type GivenSecret, readSecret } from "./passphrase.ts";
import { readTokenFile } from "./secret_files.ts";
import { knownServersPath, RollbackMemory } from "./state.ts";
import { Terminal } from "./terminal.ts";

/** What a command does to a container. */
export type AccessMode = "read" | "write";

/** A container whose encryption block was unlocked; nothing of the filesystem has been read yet. */
export interface UnlockedContainer {
  readonly store: BlockStore;
  readonly encryption: NewestEncryptionBlock;
  readonly unlocked: Unlocked;
  readonly keys: ContainerKeys;
  /** The writer session's id, which the store knows. */
  readonly session: Uint8Array;
  /** The locator without its secrets. */
  readonly name: string;
  readonly memory: RollbackMemory;
}

let engine: Promise<BlockEngine> | undefined;

/** The fastest engine of this machine: libcrypto where it is found and passes its self-test, else WebCrypto. */
export function bestEngine(): Promise<BlockEngine> {
  engine ??= openLibcrypto().then((found) => found ? new ParallelLibcrypto(found) : webCryptoEngine);
  return engine;
}

/** Makes the keys side of a container from its master keys; the caller disposes the sealer. */
export async function containerKeys(
  header: EncryptionHeader,
  masterKeys: ReadonlyMap<number, SecretBytes>,
): Promise<ContainerKeys> {
  const { suite, containerId, generation, sequence } = header;
  const sealer = await createSealer({ suite, containerId, keys: masterKeys, engine: await bestEngine() });
  const olderGenerations = [...masterKeys.keys()].filter((one) => one < generation);
  return { containerId, sealer, generation, olderGenerations, keySequence: sequence };
}

/** How often an opening begins anew at most, where the encryption block is changed meanwhile. */
const OPENINGS = 3;
/** What an opening may end with because the encryption block is not the newest any more. */
const STALE: readonly ErrorKind[] = ["rollback", "damaged", "failure", "wrong-passphrase", "refused"];

/** How to unlock a container. */
export interface UnlockOptions {
  readonly mode: AccessMode;
  /** The container as named by an argument; else `-c` and `COVERFS_CONTAINER` count. */
  readonly argument?: string | undefined;
  /** Takes the secret that unlocked, which is otherwise forgotten at once. */
  readonly onSecret?: ((secret: Secret) => void) | undefined;
}

/**
 * Opens a container's store and unlocks its encryption block; of one that is to be written, the history is checked too,
 * before anybody is asked for anything else.
 *
 * @throws {CoverError} as the stores, `newestEncryptionBlock` and `unlockEncryptionBlock` do; "rollback" if another
 * container lies where one is remembered
 */
export async function withUnlocked<T>(
  access: Access,
  options: UnlockOptions,
  work: (container: UnlockedContainer) => Promise<T>,
): Promise<T> {
  const open = async (container: UnlockedContainer) => {
    if (options.mode === "write") await refuseOlder(container, access);
  };
  return await withOpened(access, { ...options, open }, work);
}

/**
 * As {@linkcode withUnlocked}, but `open` is what needs an encryption block that fits what else is there. Others may
 * change that block while a secret is asked for, derived from, or shown to the server: where the opening fails and a
 * newer block has come since, all begins anew with that one, and with the same secret. So `open` may be called again
 * after it has failed.
 */
export async function withOpened<O, T>(
  access: Access,
  options: UnlockOptions & { readonly open: (container: UnlockedContainer) => Promise<O> },
  work: (container: UnlockedContainer, opened: O) => Promise<T>,
): Promise<T> {
  const { mode, onSecret } = options;
  const locator = chooseLocator(options.argument ?? access.container), name = locatorName(locator);
  const memory = RollbackMemory.ofUser(access.log), session = crypto.getRandomValues(new Uint8Array(16));
  await using store = await openExisting(locator, access, mode);
  using given = new DisposableStack();
  let claimed = false, asked: GivenSecret | undefined;
  for (let attempt = 1;; attempt++) {
    const chosen = await readEncryption(store), { header } = chosen;
    const known = memory.containerAt(name);
    if (known !== undefined && known !== hex(header.containerId) && !access.acceptReplaced) {
      throw new CoverError("rollback", `Cannot open "${name}": another container lies in its place`, {
        hint: "If that is meant, use --accept-replaced once",
      });
    }
    if (mode === "write" && header.readOnly) {
      throw new CoverError(
        "unsupported",
        "Cannot write: the container has features that this version does not know",
        {
          hint: "Use a newer version of coverfs; reading is possible",
        },
      );
    }
    const text = asked ??= await readSecret(access, name);
    if (attempt === 1 && typeof text !== "string") given.defer(() => text.fill(0));
    using held = new DisposableStack();
    let container: UnlockedContainer, opened: O, secret!: Secret;
    try {
      const unlocked = held.use(await unlockWith(header, text, (one) => secret = one));
      const encryption = provenEncryptionBlock(chosen, unlocked.header);
      const keys = await containerKeys(header, unlocked.masterKeys);
      held.use(keys.sealer);
      container = { store, encryption, unlocked, keys, session, name, memory };
      if (mode === "write" && !claimed) {
        await claimWriter(store, { header, unlocked, session, takeover: access.takeover });
        claimed = true;
      }
      opened = await options.open(container);
    } catch (error) {
      if (attempt < OPENINGS && STALE.includes(kindOf(error)) && await hasNewer(store, header)) continue;
      throw await explainDamage(error, store);
    }
    if (onSecret) onSecret(secret), given.move(); // whoever takes it, zeroes it
    else given.dispose();
    try {
      return await work(container, opened);
    } catch (error) {
      throw await explainDamage(error, store);
    }
  }
}

/** Tells whether an encryption block has come that is newer than this one. */
async function hasNewer(store: BlockStore, { containerId, sequence }: EncryptionHeader): Promise<boolean> {
  try {
    const { header } = await readEncryption(store);
    return header.sequence > sequence && equalConstantTime(header.containerId, containerId);
  } catch {
    return false; // what the opening failed with is the one to tell
  }
}

/**
 * Takes the lease of a container on a server, with the proof of its key or of the one before, as long as that is kept;
 * others are locked when they are opened.
 */
export async function claimWriter(
  store: BlockStore,
  as: {
    readonly header: EncryptionHeader;
    readonly unlocked: Unlocked;
    readonly session: Uint8Array;
    readonly takeover: true | undefined;
  },
): Promise<void> {
  if (!(store instanceof RemoteStore)) return;
  const { header, unlocked: { masterKeys }, session, takeover } = as, { previousGeneration } = header;
  const prover = await proverOf(masterKeys, header);
  const previous = previousGeneration === undefined
    ? undefined
    : await proverOf(masterKeys, { ...header, generation: previousGeneration });
  await store.upgrade({ prover, previous, containerId: header.containerId, session, takeover });
}

/**
 * Opens a container's filesystem, has the history checked against what is remembered, and ends in order: what was
 * written is durable when this resolves.
 *
 * @throws {CoverError} as {@linkcode withUnlocked}; "rollback" if the history lacks the remembered commit
 */
export async function withVolume<T>(
  access: Access,
  options: {
    readonly mode: AccessMode;
    readonly argument?: string | undefined;
    readonly volume?: VolumeOptions | undefined;
    /** The work needs the master key itself, and not only what was derived from it: else that is zeroed before. */
    readonly keepsMasterKey?: true;
  },
  work: (volume: Volume, container: UnlockedContainer) => Promise<T>,
): Promise<T> {
  const open = (unlocked: UnlockedContainer) => openChecked(unlocked, options.mode, access);
  return await withOpened(access, { ...options, open }, async (unlocked, container) => {
    if (!options.keepsMasterKey) unlocked.unlocked[Symbol.dispose]();
    const { memory, name, keys } = unlocked;
    try {
      return await useVolume(new Volume(container, options.volume), (volume) => work(volume, unlocked));
    } finally {
      await memory.remember(name, keys.containerId, container.durable, { lower: access.acceptRollback });
    }
  });
}

/** Runs `work` and ends the volume, also after a failure: what was done so far is kept. */
export async function useVolume<T>(volume: Volume, work: (volume: Volume) => Promise<T>): Promise<T> {
  let result: T;
  try {
    result = await work(volume);
    await volume.sync();
  } catch (error) {
    await volume.end().catch(() => {}); // the first failure is the one to tell
    throw error;
  }
  await volume.end();
  return result;
}

/** Opens a container and refuses one whose history lacks the remembered commit: before anything is written. */
async function openChecked(
  unlocked: UnlockedContainer,
  mode: AccessMode,
  access: Access,
): Promise<Container> {
  const { store, keys, session } = unlocked;
  const blocks = store instanceof RemoteStore ? new CachedStore(store, { bytes: access.cacheSize }) : store;
  const container = mode === "read"
    ? await refuseOlder({ ...unlocked, store: blocks }, access)
    : await Container.open(blocks, keys, { mode, session, check: historyCheck(unlocked, access) });
  container.onJournalDamage = (damage) =>
    (access.log ?? logToTerminal)(`warning: ${damage}; coverfs fsck tells what they changed`);
  container.tellDamage();
  return container;
}

/**
 * Opens a container to read.
 *
 * @throws {CoverError} "rollback" if its history lacks the remembered commit, "damaged" if the journal is, and for that
 */
export async function refuseOlder(
  { store, keys, memory }: Pick<UnlockedContainer, "store" | "keys" | "memory">,
  access: Pick<Access, "acceptRollback">,
): Promise<Container> {
  return await Container.open(store, keys, { mode: "read", check: historyCheck({ keys, memory }, access) });
}

/**
 * What refuses a container that was loaded and whose history lacks the remembered commit. Who writes asks it about what
 * he writes on: of two readings, a server may answer the second with an older state.
 */
export function historyCheck(
  { keys, memory }: Pick<UnlockedContainer, "keys" | "memory">,
  access: Pick<Access, "acceptRollback">,
): HistoryCheck {
  const point = memory.point(keys.containerId);
  return (loaded) => {
    const { journalDamage } = loaded.notes;
    if (point === undefined || access.acceptRollback || loaded.contains(point)) return;
    if (journalDamage !== undefined) {
      throw new CoverError("damaged", `Cannot open container: ${journalDamage}`, {
        hint: "Run coverfs fsck, and coverfs fsck --repair; --accept-rollback reads what is left",
      });
    }
    throw rolledBack(loaded, point, "open");
  };
}

/** A state whose history lacks the commit that is remembered: an older one, or one of another history since. */
export function rolledBack(
  { last }: Pick<History, "last">,
  { commit }: DurablePoint,
  what: "open" | "check",
): CoverError {
  const older = last < commit;
  const why = older
    ? `it is older than commit ${commit}, seen before`
    : `it has another history than the one seen before, up to commit ${commit}`;
  return new CoverError("rollback", `Cannot ${what} container: ${why}`, {
    hint: `If an old state was put back on purpose${
      older ? "" : " and written to"
    }, use --accept-rollback once`,
  });
}

/** Reads both copies of the encryption block and takes the newest valid one. @throws {CoverError} "damaged" */
export async function readEncryption(store: BlockStore): Promise<NewestEncryptionBlock> {
  return await newestEncryptionBlock(
    ...await Promise.all([store.readHeader("key", 0), store.readHeader("key", 1)]),
  );
}

/** Writes a copy of the encryption block (0 is A, 1 is B), durably. @throws {CoverError} if it does not read back */
export async function writeEncryptionCopy(store: BlockStore, copy: 0 | 1, bytes: Uint8Array): Promise<void> {
  await store.writeHeader("key", copy, bytes);
  await store.flush();
  if (!equalConstantTime(await store.readHeader("key", copy), bytes)) {
    throw new CoverError("failure", `Encryption block ${"AB"[copy]} does not read back as it was written`, {
      hint: "The other copy is as it was; look after the storage",
    });
  }
}

/**
 * Unlocks with a passphrase, with the words of a recovery key where a slot takes one, or with the content of a key file,
 * which is zeroed.
 */
export async function unlock(header: EncryptionHeader, given: GivenSecret): Promise<Unlocked> {
  try {
    return await unlockWith(header, given, () => {});
  } finally {
    if (typeof given !== "string") given.fill(0);
  }
}

/** As {@linkcode unlock}, but hands on the secret that it was. The content of a key file is as it was given. */
export async function unlockWith(
  header: EncryptionHeader,
  given: GivenSecret,
  onSecret: (secret: Secret) => void,
): Promise<Unlocked> {
  const by = async (secret: Secret) => {
    const unlocked = await unlockEncryptionBlock(header, secret);
    onSecret(secret);
    return unlocked;
  };
  if (typeof given !== "string") return await by({ kind: "key-file", content: given });
  const secrets: Secret[] = [{ kind: "passphrase", text: given }], text = given;
  if (header.slots.some((slot) => slot?.kind === "recovery-key") && isRecoveryKey(text)) {
    secrets.unshift({ kind: "recovery-key", words: text });
  }
  for (const [i, secret] of secrets.entries()) {
    try {
      return await by(secret);
    } catch (error) {
      const wrong = error instanceof CoverError && error.kind === "wrong-passphrase";
      if (!wrong || i < secrets.length - 1) throw error;
      throw new CoverError("wrong-passphrase", "Cannot open container: wrong passphrase", { cause: error });
    }
  }
  throw new CoverError("wrong-passphrase", "Cannot open container: no passphrase");
}

function isRecoveryKey(text: string): boolean {
  if (text.trim().split(/\s+/).length !== RECOVERY_WORDS) return false;
  try {
    parseRecoveryWords(text)[Symbol.dispose]();
    return true;
  } catch {
    return false;
  }
}

/** The key that proves a writer to a server. */
export async function proverOf(masterKeys: ReadonlyMap<number, SecretBytes>, header: EncryptionHeader) {
  const { containerId, generation } = header, key = masterKeys.get(generation);
  if (key === undefined) throw new Error(`Master key ${generation} is missing`);
  return await writerKeyPair(key, containerId, { generation });
}

/** Makes an empty container on a server, for the writers who have its key. */
export async function createRemote(
  remote: RemoteLocator,
  access: Access,
  as: { readonly header: EncryptionHeader; readonly masterKeys: ReadonlyMap<number, SecretBytes> },
): Promise<RemoteStore> {
  const { containerId } = as.header, prover = await proverOf(as.masterKeys, as.header);
  const session = crypto.getRandomValues(new Uint8Array(16)), options = await remoteOptions(remote, access);
  return await openRemoteStore({ ...options, mode: "create", prover, containerId, session });
}

/** Opens the store of a container that is there. @throws {CoverError} as the stores do */
export async function openExisting(locator: Locator, access: Access, mode: AccessMode): Promise<BlockStore> {
  switch (locator.kind) {
    case "file":
      await mustBeFile(locator.path);
      return await openFileStore(locator.path, mode, { fallocate, readKernelFile });
    case "remote":
      // The id and the proof of the key are known only once the encryption block is read: see `upgrade`.
      return await openRemoteStore({ ...await remoteOptions(locator.remote, access), mode: "read" });
    case "ram":
      throw new CoverError(
        "no-container",
        `There is no container in "ram:": nothing stays there between commands`,
      );
  }
}

/** Of what is damaged because the end of the container is missing, that is told. */
async function explainDamage(error: unknown, store: BlockStore): Promise<unknown> {
  if (!(error instanceof CoverError) || error.kind !== "damaged" || await store.size() > 0) return error;
  return new CoverError("damaged", "Cannot open container: it is cut off before its first block", {
    hint: "Take another copy of it; what is missing cannot be restored",
    cause: error,
  });
}

/** A clear answer where a path leads to nothing, or to no file. */
async function mustBeFile(path: string): Promise<void> {
  try {
    const { mode } = await stat(path);
    if ((mode & 0o170000) !== 0o040000) return;
  } catch (error) {
    if (!["ENOENT", "ENOTDIR"].includes((error as { code?: string }).code ?? "")) return;
    throw new CoverError("no-container", `There is no container at "${path}"`, {
      hint: "Make one by coverfs init, or see that the path is right",
      cause: error,
    });
  }
  throw new CoverError("damaged", `Cannot open container "${path}": it is a directory, not a container`);
}

/** How to come to know a server: trust, token, and what a person is asked. */
export async function serverOptions(remote: RemoteLocator, access: Access): Promise<AcquaintanceOptions> {
  const path = knownServersPath(), { host } = remote;
  const file = access.tokenFile ?? (Deno.env.get("COVERFS_TOKEN_FILE") || undefined);
  if (remote.token !== undefined && access.tokenFile !== undefined) {
    throw new CoverError("usage", "--token-file and a link with a token do not go together");
  }
  return {
    token: remote.token ?? (file === undefined ? undefined : await readTokenFile(file)),
    fingerprint: access.fingerprint === undefined ? remote.fingerprint : parseFingerprint(access.fingerprint),
    replaceKnown: access.fingerprint !== undefined,
    ca: access.ca === undefined
      ? undefined
      : access.ca === "system"
      ? true
      : [await readAuthorities(access.ca)],
    known: path === undefined ? undefined : new KnownServers(path),
    onUnknownServer: askAboutServer(host),
    onUnremembered: (error) =>
      (access.log ?? logToTerminal)(
        `warning: Cannot remember the server ${host}: ${messageOf(error)}`,
      ),
  };
}

async function readAuthorities(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    const reason = (cause as { code?: string }).code ?? "unreadable";
    throw new CoverError("usage", `Cannot read the authorities "${path}": ${reason}`, { cause });
  }
}

/** How to open a container on a server; a person is told when the connection is cut. */
export async function remoteOptions(
  remote: RemoteLocator,
  access: Access,
): Promise<Omit<RemoteStoreOptions, "mode">> {
  const { host, port, name } = remote;
  return {
    ...await serverOptions(remote, access),
    host,
    port,
    container: name,
    waitSeconds: access.timeout,
    outageSeconds: access.outage,
    pingSeconds: access.keepAlive,
    onLeaseWanted: access.onLeaseWanted,
    onConnection: (state, reason) =>
      (access.log ?? logToTerminal)(`connection to ${host} ${state}${reason ? `: ${reason.message}` : ""}`),
  };
}

function askAboutServer(host: string) {
  return async (fingerprint: string) => {
    using terminal = Terminal.open();
    if (terminal === undefined) return false;
    return await terminal.confirm(
      `The server ${host} is not known. Its fingerprint is\n  ${fingerprint}\nConnect and remember it?`,
    );
  };
}
