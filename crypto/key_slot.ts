/** Key slots: the master key wrapped under what a person gives (docs/format.md, "Key slots"). */
import { concat, fromUtf8, isZero, utf8 } from "./bytes.ts";
import { CoverError } from "./errors.ts";
import { type KdfParameters, stretch } from "./kdf.ts";
import { WRAPPED_BYTES, WrappingKeys } from "./key_wrap.ts";
import { SecretBytes } from "./secret_bytes.ts";
import { type Secret, secretInput } from "./secrets.ts";
import { hkdf } from "./subkeys.ts";

/** Bytes of a key slot. */
export const SLOT_BYTES = 256;
/** Most bytes of a slot's label, as UTF-8. */
export const LABEL_BYTES = 32;

/** What a key slot takes. */
export type SlotKind = Secret["kind"];

/** A key slot in use. */
export interface KeySlot {
  readonly kind: SlotKind;
  readonly kdf: KdfParameters;
  /** What its owner calls it; may be empty. Holds no control characters. */
  readonly label: string;
  /** When it was made, in seconds since 1970. */
  readonly created: number;
  /** The slot as it lies in the encryption block, 256 bytes. */
  readonly bytes: Uint8Array;
}

const KINDS: Readonly<Record<SlotKind, number>> = { "passphrase": 1, "key-file": 2, "recovery-key": 3 };
const PBKDF2 = 1, ARGON2ID = 2;

/** Offsets of the fields. */
const At = {
  kind: 0,
  kdf: 1,
  labelBytes: 2,
  rounds: 4,
  memory: 8,
  lanes: 12,
  salt: 16,
  label: 48,
  created: 80,
};
const WRAPPED = 88, SALT_BYTES = 32;

/** Control characters, which could do harm on a terminal. */
// deno-lint-ignore no-control-regex
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/;

/**
 * Reads a slot. Judges its form only; the KDF's bounds are for the encryption block to check.
 *
 * @returns undefined if the slot is empty
 * @throws {CoverError} "unsupported" for an unknown kind or KDF, "damaged" for a malformed slot
 */
export function decodeSlot(bytes: Uint8Array): KeySlot | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, SLOT_BYTES), number = view.getUint8(At.kind);
  if (number === 0) {
    if (!isZero(bytes)) malformed("an empty slot is not empty");
    return undefined;
  }
  const kind = (Object.keys(KINDS) as SlotKind[]).find((one) => KINDS[one] === number);
  if (kind === undefined) unknown(`kind ${number}`);
  const labelBytes = view.getUint8(At.labelBytes), created = Number(view.getBigUint64(At.created, true));
  if (labelBytes > LABEL_BYTES || !Number.isSafeInteger(created)) malformed("a field is out of range");
  const label = readLabel(bytes.subarray(At.label, At.label + labelBytes));
  return { kind, kdf: decodeKdf(view), label, created, bytes: bytes.slice() };
}

function readLabel(bytes: Uint8Array): string {
  let label: string;
  try {
    label = fromUtf8(bytes);
  } catch {
    return malformed("a label is not UTF-8");
  }
  return CONTROL.test(label) ? malformed("a label has control characters") : label;
}

function decodeKdf(view: DataView): KdfParameters {
  const rounds = view.getUint32(At.rounds, true), memoryKiB = view.getUint32(At.memory, true);
  const lanes = view.getUint32(At.lanes, true), number = view.getUint8(At.kdf);
  if (number === ARGON2ID) return { name: "argon2id", passes: rounds, memoryKiB, lanes };
  return number === PBKDF2 ? { name: "pbkdf2-hmac-sha-512", rounds } : unknown(`key derivation ${number}`);
}

function unknown(what: string): never {
  throw new CoverError("unsupported", `Cannot open container: a key slot has an unknown ${what}`, {
    hint: "A newer version of coverfs may know it",
  });
}

function malformed(state: string): never {
  throw new CoverError("damaged", `Cannot open container: its encryption block is damaged: ${state}`);
}

/**
 * Wraps a master key under a secret.
 *
 * @returns the slot, 256 bytes
 * @throws {CoverError} "usage" if the label or the secret cannot be used
 */
export async function sealSlot(
  masterKey: Uint8Array,
  secret: Secret,
  options: { containerId: Uint8Array; kdf: KdfParameters; label: string },
): Promise<Uint8Array<ArrayBuffer>> {
  const { containerId, kdf } = options, label = utf8(options.label);
  if (label.length > LABEL_BYTES || CONTROL.test(options.label) || !options.label.isWellFormed()) {
    throw new CoverError("usage", `Cannot use label: at most ${LABEL_BYTES} bytes and no control characters`);
  }
  const bytes = new Uint8Array(SLOT_BYTES),
    view = new DataView(bytes.buffer),
    argon = kdf.name === "argon2id";
  view.setUint8(At.kind, KINDS[secret.kind]);
  view.setUint8(At.kdf, argon ? ARGON2ID : PBKDF2);
  view.setUint8(At.labelBytes, label.length);
  view.setUint32(At.rounds, argon ? kdf.passes : kdf.rounds, true);
  view.setUint32(At.memory, argon ? kdf.memoryKiB : 0, true);
  view.setUint32(At.lanes, argon ? kdf.lanes : 0, true);
  crypto.getRandomValues(bytes.subarray(At.salt, At.salt + SALT_BYTES));
  bytes.set(label, At.label);
  view.setBigUint64(At.created, BigInt(Math.floor(Date.now() / 1000)), true);
  using input = await secretInput(secret);
  using keys = await slotKeys(bytes, input, { containerId, kdf });
  bytes.set(await keys.wrap(masterKey, boundContext(bytes, containerId)), WRAPPED);
  return bytes;
}

/** Tries a secret on a slot. @returns the master key, or undefined if the secret does not fit */
export async function openSlot(
  slot: KeySlot,
  input: SecretBytes,
  containerId: Uint8Array,
): Promise<SecretBytes | undefined> {
  using keys = await slotKeys(slot.bytes, input, { containerId, kdf: slot.kdf });
  const wrapped = slot.bytes.subarray(WRAPPED, WRAPPED + WRAPPED_BYTES);
  return await keys.unwrap(wrapped, boundContext(slot.bytes, containerId));
}

async function slotKeys(
  bytes: Uint8Array,
  input: SecretBytes,
  { containerId, kdf }: { containerId: Uint8Array; kdf: KdfParameters },
): Promise<WrappingKeys> {
  const salt = bytes.subarray(At.salt, At.salt + SALT_BYTES);
  using stretched = new SecretBytes(await stretch(input.bytes, salt, kdf));
  return new WrappingKeys(
    await hkdf(stretched.bytes, containerId, utf8("coverfs 2 slot encryption")),
    await hkdf(stretched.bytes, containerId, utf8("coverfs 2 slot mac")),
  );
}

/** What a slot's MAC binds besides IV and ciphertext: container id, kind, KDF with its parameters, salt. */
function boundContext(bytes: Uint8Array, containerId: Uint8Array): Uint8Array {
  const parameters = bytes.subarray(At.rounds, At.salt), salt = bytes.subarray(At.salt, At.label);
  return concat(containerId, bytes.subarray(At.kind, At.labelBytes), parameters, salt);
}
