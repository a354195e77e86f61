/** Making, unlocking and changing encryption blocks (docs/format.md, "Encryption block" and "Key slots"). */
import { concat, equalConstantTime } from "./bytes.ts";
import {
  ENCRYPTION_BLOCK_BYTES,
  type EncryptionHeader,
  Field,
  hashOf,
  HEADER_BYTES_USED,
  MAGIC,
  parseEncryptionBlock,
  SLOT_COUNT,
  slotBytes,
} from "./encryption_block.ts";
import { CoverError } from "./errors.ts";
import { checkKdfs, KDF_LIMITS, type KdfLimits, type KdfParameters } from "./kdf.ts";
import { openSlot, sealSlot, SLOT_BYTES, type SlotKind } from "./key_slot.ts";
import { MASTER_KEY_BYTES, WRAPPED_BYTES, WrappingKeys } from "./key_wrap.ts";
import { type KeyBytes, keyBytes, SecretBytes } from "./secret_bytes.ts";
import { type Secret, secretInput } from "./secrets.ts";
import { deriveSubkey, hmac } from "./subkeys.ts";
import { FORMAT_VERSION, parseSuite, suiteNumber } from "./suites.ts";

/** A secret that is to get a key slot. */
export type NewSlot = Secret & {
  /** What its owner calls it, at most 32 bytes of UTF-8. */
  readonly label?: string;
  /** How this one is stretched, whatever is chosen for others. */
  readonly kdf?: KdfParameters;
};

/** How new slots stretch their secrets. Recovery keys are random and always take the fewest rounds. */
export interface KdfChoice {
  /** PBKDF2 rounds, from `calibrateRounds()`; the floor if left out. */
  readonly rounds?: number;
  /** Used instead of `rounds`, where given. */
  readonly kdf?: KdfParameters;
}

/** What a new encryption block is made from. */
export interface CreateOptions extends KdfChoice {
  /** Name of the cipher suite. */
  readonly suite: string;
  /** One to eight secrets, each of which unlocks the container. */
  readonly slots: readonly NewSlot[];
  /** 16 bytes; random if left out. */
  readonly containerId?: Uint8Array;
  /** Only for tests: other bounds of the key derivation. Reading refuses such a block unless told of them too. */
  readonly limits?: KdfLimits;
}

/** A changed encryption block: `bytes` are for both copies, the one that is not the newest valid first. */
export interface ChangedBlock {
  /** 4096 bytes. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly header: EncryptionHeader;
}

/** What unlocking gives; disposing it zeroes the keys. */
export interface Unlocked extends Disposable {
  /** Master keys by generation: the current one, and the previous while a container is being re-keyed. */
  readonly masterKeys: ReadonlyMap<number, SecretBytes>;
  readonly slotIndex: number;
  /** The encryption block that the key proves: the one that was unlocked, or its twin. */
  readonly header: EncryptionHeader;
}

const FIRST_GENERATION = 1;
const NAMES: Readonly<Record<SlotKind, string>> = {
  "passphrase": "passphrase",
  "key-file": "key file",
  "recovery-key": "recovery key",
};

/**
 * Makes a new encryption block with a random master key, which the caller disposes.
 *
 * @throws {CoverError} "unsupported" for an unknown suite or a key derivation out of bounds; "usage" for a secret,
 * label or number of slots that cannot be used
 */
export async function createEncryptionBlock(
  options: CreateOptions,
): Promise<ChangedBlock & { readonly masterKey: SecretBytes }> {
  const { limits = KDF_LIMITS, slots } = options;
  const bytes = new Uint8Array(ENCRYPTION_BLOCK_BYTES), view = new DataView(bytes.buffer);
  const containerId = options.containerId ?? crypto.getRandomValues(new Uint8Array(16));
  if (containerId.length !== 16) throw new RangeError("Cannot make container: its id is not 16 bytes");
  bytes.set(MAGIC, Field.magic);
  view.setUint16(Field.version, FORMAT_VERSION, true);
  view.setUint16(Field.headerBytes, HEADER_BYTES_USED, true);
  bytes.set(containerId, Field.containerId);
  view.setUint8(Field.suite, suiteNumber(parseSuite(options.suite)));
  view.setUint8(Field.slotCount, SLOT_COUNT);
  view.setUint32(Field.generation, FIRST_GENERATION, true);
  view.setBigUint64(Field.created, BigInt(Math.floor(Date.now() / 1000)), true);
  const masterKey = SecretBytes.random(MASTER_KEY_BYTES);
  try {
    await fillSlots(bytes, masterKey, { slots, choice: options, limits, containerId });
    return { ...await finish(bytes, masterKey, limits), masterKey };
  } catch (error) {
    masterKey[Symbol.dispose]();
    throw error;
  }
}

/**
 * Tries a secret on every slot of its kind, and verifies the encryption block with the key that it gives.
 *
 * @throws {CoverError} "wrong-passphrase" if no slot takes it; "damaged" if the block was changed by someone without
 * the key; "usage" if the secret cannot be one
 */
export async function unlockEncryptionBlock(header: EncryptionHeader, secret: Secret): Promise<Unlocked> {
  const opened = await trySlots(header, secret);
  if (opened === undefined) {
    const name = NAMES[secret.kind], known = header.slots.some((slot) => slot?.kind === secret.kind);
    throw new CoverError(
      "wrong-passphrase",
      known
        ? `Cannot unlock container: wrong ${name}`
        : `Cannot unlock container: no key slot takes a ${name}`,
    );
  }
  const { slotIndex, masterKey } = opened, masterKeys = new Map([[header.generation, masterKey]]);
  const dispose = () => masterKeys.forEach((key) => key[Symbol.dispose]());
  try {
    const proven = await proveEncryptionBlock(header, masterKey);
    if (header.previousGeneration !== undefined) {
      masterKeys.set(header.previousGeneration, await openPrevious(header, masterKey));
    }
    return { masterKeys, slotIndex, header: proven, [Symbol.dispose]: dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** The first slot that a secret opens, but for one of them, and the key in it, which the caller disposes. */
async function trySlots(
  { containerId, slots }: EncryptionHeader,
  secret: Secret,
  except?: number,
): Promise<{ slotIndex: number; masterKey: SecretBytes } | undefined> {
  using input = await secretInput(secret);
  for (const [slotIndex, slot] of slots.entries()) {
    if (slot?.kind !== secret.kind || slotIndex === except) continue;
    const masterKey = await openSlot(slot, input, containerId);
    if (masterKey !== undefined) return { slotIndex, masterKey };
  }
  return undefined;
}

/**
 * Adds a secret in the first empty slot.
 *
 * @throws {CoverError} "failure" if all are in use, or another slot has the secret; as `createEncryptionBlock`
 */
export async function addSlot(
  header: EncryptionHeader,
  masterKey: KeyBytes,
  options: KdfChoice & { readonly slot: NewSlot },
): Promise<ChangedBlock> {
  const index = header.slots.indexOf(undefined);
  if (index < 0) throw new CoverError("failure", `Cannot add key slot: all ${SLOT_COUNT} are in use`);
  return await setSlot(header, masterKey, { ...options, index });
}

/** Puts a secret in the place of another: changes a passphrase. @throws {CoverError} as {@linkcode addSlot} */
export async function replaceSlot(
  header: EncryptionHeader,
  masterKey: KeyBytes,
  options: KdfChoice & { readonly slot: NewSlot; readonly index: number },
): Promise<ChangedBlock> {
  usedSlot(header, options.index);
  return await setSlot(header, masterKey, options);
}

/** Empties a slot. @throws {CoverError} "failure" if it is the last one in use, "usage" if it is empty */
export async function removeSlot(
  header: EncryptionHeader,
  masterKey: KeyBytes,
  index: number,
): Promise<ChangedBlock> {
  usedSlot(header, index);
  if (header.slots.filter((slot) => slot !== undefined).length === 1) {
    throw new CoverError("failure", `Cannot remove key slot ${index}: it is the last one`, {
      hint: "Without it nobody could ever open the container; add another first",
    });
  }
  return await change(header, masterKey, (bytes) => void slotBytes(bytes, index).fill(0));
}

/**
 * Begins a re-keying: a new random master key of the next generation, in slots for these secrets only (the others
 * cannot be wrapped without knowing them), with the current key wrapped under it. The caller disposes the new key.
 *
 * @throws {CoverError} "failure" if the key before is still there
 */
export async function rotateMasterKey(
  header: EncryptionHeader,
  masterKey: KeyBytes,
  options: KdfChoice & { readonly slots: readonly NewSlot[] },
): Promise<ChangedBlock & { readonly masterKey: SecretBytes }> {
  const { containerId, limits, generation, previousGeneration } = header;
  if (previousGeneration !== undefined) {
    throw new CoverError("failure", "Cannot change master key: the change before has not ended");
  }
  const next = SecretBytes.random(MASTER_KEY_BYTES), spec = { containerId, generation: generation + 1 };
  try {
    const changed = await change(header, masterKey, async (bytes) => {
      const view = new DataView(bytes.buffer);
      view.setUint32(Field.generation, generation + 1, true);
      view.setUint32(Field.previousGeneration, generation, true);
      using keys = await previousKeys(next, spec);
      const wrapped = await keys.wrap(keyBytes(masterKey), previousContext(containerId, generation));
      bytes.set(wrapped, Field.previousKey);
      bytes.fill(0, Field.slots, Field.slots + SLOT_COUNT * SLOT_BYTES);
      await fillSlots(bytes, next, { slots: options.slots, choice: options, limits, containerId });
      return next;
    });
    return { ...changed, masterKey: next };
  } catch (error) {
    next[Symbol.dispose]();
    throw error;
  }
}

/** Ends a re-keying: forgets the previous master key, once nothing is sealed under it any more. */
export function forgetPreviousKey(header: EncryptionHeader, masterKey: KeyBytes): Promise<ChangedBlock> {
  return change(header, masterKey, (bytes) => {
    new DataView(bytes.buffer).setUint32(Field.previousGeneration, 0, true);
    bytes.fill(0, Field.previousKey, Field.previousKey + WRAPPED_BYTES);
  });
}

function usedSlot(header: EncryptionHeader, index: number): void {
  if (header.slots[index] === undefined) {
    throw new CoverError("usage", `Cannot change key slot ${index}: there is none`);
  }
}

async function setSlot(
  header: EncryptionHeader,
  masterKey: KeyBytes,
  options: KdfChoice & { readonly slot: NewSlot; readonly index: number },
): Promise<ChangedBlock> {
  const { containerId, limits } = header, { slot, index } = options;
  const kdf = kdfFor(slot, options, limits);
  const others = header.slots.flatMap((one, i) => one === undefined || i === index ? [] : [one.kdf]);
  checkKdfs([...others, kdf], limits);
  const twin = await trySlots(header, slot, index);
  if (twin !== undefined) {
    twin.masterKey[Symbol.dispose]();
    throw new CoverError(
      "failure",
      `Cannot use this ${NAMES[slot.kind]}: it opens key slot ${twin.slotIndex} already`,
      {
        hint: "With two slots, to remove one would not take it away",
      },
    );
  }
  return await change(header, masterKey, async (bytes) => {
    const how = { containerId, kdf, label: slot.label ?? "" };
    slotBytes(bytes, index).set(await sealSlot(keyBytes(masterKey), slot, how));
  });
}

async function fillSlots(
  bytes: Uint8Array<ArrayBuffer>,
  masterKey: SecretBytes,
  { slots, choice, limits, containerId }: {
    slots: readonly NewSlot[];
    choice: KdfChoice;
    limits: KdfLimits;
    containerId: Uint8Array;
  },
): Promise<void> {
  if (slots.length < 1 || slots.length > SLOT_COUNT) {
    throw new CoverError(
      "usage",
      `Cannot make key slots: ${slots.length} secrets, expected 1 to ${SLOT_COUNT}`,
    );
  }
  const kdfs = slots.map((slot) => kdfFor(slot, choice, limits));
  checkKdfs(kdfs, limits);
  for (const [i, slot] of slots.entries()) {
    const how = { containerId, kdf: kdfs[i]!, label: slot.label ?? "" };
    slotBytes(bytes, i).set(await sealSlot(masterKey.bytes, slot, how));
  }
}

function kdfFor(slot: NewSlot, choice: KdfChoice, limits: KdfLimits): KdfParameters {
  const floor = limits.pbkdf2Floor;
  if (slot.kind === "recovery-key") return { name: "pbkdf2-hmac-sha-512", rounds: floor };
  return slot.kdf ?? choice.kdf ?? { name: "pbkdf2-hmac-sha-512", rounds: choice.rounds ?? floor };
}

/** Changes a copy of the block, which keeps all bytes that this version does not know. */
async function change(
  header: EncryptionHeader,
  masterKey: KeyBytes,
  edit: (bytes: Uint8Array<ArrayBuffer>) => void | Promise<KeyBytes | void>,
): Promise<ChangedBlock> {
  if (header.readOnly) {
    throw new CoverError("unsupported", "Cannot change container: it has feature flags that forbid it", {
      hint: "A newer version of coverfs may know them",
    });
  }
  await proveEncryptionBlock(header, masterKey);
  const bytes = new Uint8Array(header.bytes);
  const newKey = await edit(bytes);
  return await finish(bytes, newKey ?? masterKey, header.limits);
}

/** Counts the sequence up and makes hash and MAC. */
async function finish(
  bytes: Uint8Array<ArrayBuffer>,
  masterKey: KeyBytes,
  limits: KdfLimits,
): Promise<ChangedBlock> {
  const view = new DataView(bytes.buffer), sequence = view.getBigUint64(Field.sequence, true);
  view.setBigUint64(Field.sequence, sequence + 1n, true);
  bytes.set(await hashOf(bytes), Field.hash);
  bytes.set(await macOf(bytes, masterKey), Field.mac);
  return { bytes, header: await parseEncryptionBlock(bytes, limits) };
}

async function macOf(bytes: Uint8Array, masterKey: KeyBytes): Promise<Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset),
    generation = view.getUint32(Field.generation, true);
  using key = await headerKey(
    { containerId: bytes.subarray(Field.containerId, Field.sequence), generation },
    masterKey,
  );
  return await macBy(key, bytes);
}

const macBy = (key: SecretBytes, bytes: Uint8Array) => hmac(key.bytes, bytes.subarray(0, Field.hash));

/** The key that proves the encryption blocks of a generation, for {@linkcode proveWith}; the caller disposes it. */
export async function headerKey(
  { containerId, generation }: Which,
  masterKey: KeyBytes,
): Promise<SecretBytes> {
  return new SecretBytes(await deriveSubkey(masterKey, { containerId, generation, purpose: "header mac" }));
}

/**
 * Verifies an encryption block with the master key.
 *
 * @returns the block, or its twin where that is the one whose MAC fits
 * @throws {CoverError} "damaged" if it was changed by someone without the key
 */
export async function proveEncryptionBlock(
  header: EncryptionHeader,
  masterKey: KeyBytes,
): Promise<EncryptionHeader> {
  using key = await headerKey(header, masterKey);
  return await proveWith(header, key);
}

/** As {@linkcode proveEncryptionBlock}, with a key that was derived before, of the same generation. */
export async function proveWith(header: EncryptionHeader, key: SecretBytes): Promise<EncryptionHeader> {
  const mac = await macBy(key, header.bytes);
  for (const one of [header, header.twin]) {
    if (one && equalConstantTime(mac, one.bytes.subarray(Field.mac, ENCRYPTION_BLOCK_BYTES))) return one;
  }
  throw new CoverError(
    "damaged",
    "Cannot open container: its encryption block was changed without the key",
  );
}

type Which = { readonly containerId: Uint8Array; readonly generation: number };

async function previousKeys(masterKey: KeyBytes, which: Which): Promise<WrappingKeys> {
  return new WrappingKeys(
    await deriveSubkey(masterKey, { ...which, purpose: "previous encryption" }),
    await deriveSubkey(masterKey, { ...which, purpose: "previous mac" }),
  );
}

function previousContext(containerId: Uint8Array, previousGeneration: number): Uint8Array {
  const generation = new Uint8Array(4);
  new DataView(generation.buffer).setUint32(0, previousGeneration, true);
  return concat(containerId, generation);
}

async function openPrevious(header: EncryptionHeader, masterKey: SecretBytes): Promise<SecretBytes> {
  const { bytes, containerId } = header;
  using keys = await previousKeys(masterKey, header);
  const wrapped = bytes.subarray(Field.previousKey, Field.previousKey + WRAPPED_BYTES);
  const key = await keys.unwrap(wrapped, previousContext(containerId, header.previousGeneration ?? 0));
  if (key === undefined) {
    throw new CoverError("damaged", "Cannot open container: its previous key does not verify");
  }
  return key;
}
