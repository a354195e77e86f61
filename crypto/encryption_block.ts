/** The encryption block: reading its bytes and choosing between its copies (docs/format.md, "Encryption block"). */
import { equalConstantTime, isZero, unshared, utf8 } from "./bytes.ts";
import { CoverError } from "./errors.ts";
import { checkKdfs, KDF_LIMITS, type KdfLimits } from "./kdf.ts";
import { decodeSlot, type KeySlot, SLOT_BYTES } from "./key_slot.ts";
import { FORMAT_VERSION, type SuiteName, suiteOfNumber } from "./suites.ts";

/** Bytes of an encryption block. */
export const ENCRYPTION_BLOCK_BYTES = 4096;
/** Key slots of an encryption block. */
export const SLOT_COUNT = 8;

/** `COVERFS2`. It keeps its place in all versions, as do the format version, the sequence and the hash. */
export const MAGIC: Uint8Array<ArrayBuffer> = utf8("COVERFS2");

/** Offsets of the fields. */
export const Field = {
  magic: 0,
  version: 8,
  headerBytes: 10,
  compatible: 12,
  readOnlyCompatible: 16,
  incompatible: 20,
  containerId: 24,
  sequence: 40,
  suite: 48,
  slotCount: 49,
  generation: 52,
  created: 56,
  previousGeneration: 64,
  previousKey: 72,
  slots: 512,
  hash: 4032,
  mac: 4064,
} as const;

/** Bytes in use before the slots. */
export const HEADER_BYTES_USED = 168;

/** An encryption block as read: everything that needs no key. Nothing in it is authentic before it was unlocked. */
export interface EncryptionHeader {
  /** The block itself, 4096 bytes. */
  readonly bytes: Uint8Array;
  readonly containerId: Uint8Array;
  /** Counts the changes of the encryption block. */
  readonly sequence: number;
  readonly suite: SuiteName;
  /** Generation of the master key that the slots hold, from 1. */
  readonly generation: number;
  /** Generation of the key that is wrapped under the current one, while a container is being re-keyed. */
  readonly previousGeneration: number | undefined;
  /** When the container was made, in seconds since 1970. */
  readonly created: number;
  /** There are flags that forbid writing to a version that does not know them. */
  readonly readOnly: boolean;
  /** The eight slots; undefined where one is empty. */
  readonly slots: readonly (KeySlot | undefined)[];
  /** The bounds that it was held to, and that its changes are held to. */
  readonly limits: KdfLimits;
  /** The other copy, where it differs in the MAC alone: which of the two is damaged, only the key can tell. */
  readonly twin?: EncryptionHeader;
}

/** A copy as found. If it is intact but not for this version, its sequence counts all the same. */
type Found =
  | { readonly header: EncryptionHeader }
  | { readonly error: CoverError; readonly intactSequence?: number };

/**
 * Reads one copy of the encryption block.
 *
 * @throws {CoverError} "damaged" if it is not a container or its hash does not fit; "unsupported" for a newer version,
 * an unknown suite, flag or key derivation, and for a key derivation out of bounds
 */
export async function parseEncryptionBlock(
  bytes: Uint8Array,
  limits: KdfLimits = KDF_LIMITS,
): Promise<EncryptionHeader> {
  const found = await examine(bytes, limits);
  if ("error" in found) throw found.error;
  return found.header;
}

/** What reading both copies gives. */
export interface NewestEncryptionBlock {
  readonly header: EncryptionHeader;
  /** Which copy it is: 0 is A, 1 is B. */
  readonly copy: 0 | 1;
  /** How the other copy is; "damaged" also where it is of another container or claims the same sequence. */
  readonly other: "same" | "older" | "damaged";
}

/**
 * Chooses the valid copy with the highest sequence.
 *
 * @throws {CoverError} as {@linkcode parseEncryptionBlock} if neither is valid, and "unsupported" if the newest copy
 * is intact but not for this version
 */
export async function newestEncryptionBlock(
  copyA: Uint8Array,
  copyB: Uint8Array,
  limits: KdfLimits = KDF_LIMITS,
): Promise<NewestEncryptionBlock> {
  const a = await examine(copyA, limits), b = await examine(copyB, limits);
  if ("error" in a && "error" in b) {
    throw [a, b].find((one) => one.error.kind === "unsupported")?.error ?? notBlank(copyA, a, b);
  }
  const ahead = sequenceOf(b) - sequenceOf(a), copy = ahead > 0 || (ahead === 0 && "error" in a) ? 1 : 0;
  const [newest, other] = copy === 0 ? [a, b] : [b, a];
  if ("error" in newest) throw newest.error;
  const judged = judgeOther(newest.header, other);
  const twins = judged === "damaged" && "header" in other && equalConstantTime(
    newest.header.bytes.subarray(0, Field.mac),
    other.header.bytes.subarray(0, Field.mac),
  );
  return { header: twins ? { ...newest.header, twin: other.header } : newest.header, copy, other: judged };
}

/** What was chosen among the copies, once unlocking has told which one the key proves ({@linkcode EncryptionHeader.twin}). */
export function provenEncryptionBlock(
  chosen: NewestEncryptionBlock,
  proven: EncryptionHeader,
): NewestEncryptionBlock {
  return proven === chosen.header.twin
    ? { ...chosen, header: proven, copy: chosen.copy === 0 ? 1 : 0 }
    : chosen;
}

function sequenceOf(found: Found): number {
  return "header" in found ? found.header.sequence : found.intactSequence ?? -1;
}

/** Of two unreadable copies, the one that is not all zeros has more to tell. */
function notBlank(copyA: Uint8Array, a: { error: CoverError }, b: { error: CoverError }): CoverError {
  return isZero(copyA) ? b.error : a.error;
}

function judgeOther(newest: EncryptionHeader, found: Found): NewestEncryptionBlock["other"] {
  if ("error" in found) return "damaged";
  const other = found.header;
  if (!equalConstantTime(other.containerId, newest.containerId)) return "damaged";
  if (other.sequence < newest.sequence) return "older";
  return equalConstantTime(other.bytes, newest.bytes) ? "same" : "damaged";
}

async function examine(bytes: Uint8Array, limits: KdfLimits): Promise<Found> {
  let intactSequence: number | undefined;
  try {
    checkMagic(bytes);
    const own = bytes.slice(), view = new DataView(own.buffer), version = view.getUint16(Field.version, true);
    if (!equalConstantTime(await hashOf(own), own.subarray(Field.hash, Field.mac))) {
      // A later version may hash in another way, so for it this tells nothing.
      if (version > FORMAT_VERSION) refuseVersion(version);
      damaged("its hash does not fit");
    }
    intactSequence = readU64(view, Field.sequence);
    if (version !== FORMAT_VERSION) refuseVersion(version);
    return { header: decode(own, view, limits) };
  } catch (error) {
    if (!(error instanceof CoverError)) throw error;
    return error.kind === "unsupported" && intactSequence !== undefined
      ? { error, intactSequence }
      : { error };
  }
}

function checkMagic(bytes: Uint8Array): void {
  const say = (state: string, options: { hint?: string } = {}) => {
    throw new CoverError("damaged", `Cannot open container: ${state}`, options);
  };
  if (bytes.length !== ENCRYPTION_BLOCK_BYTES) {
    say(`its encryption block has ${bytes.length} bytes, expected ${ENCRYPTION_BLOCK_BYTES}`);
  }
  if (isZero(bytes)) {
    say("there are only zeros where its encryption block should be", {
      hint:
        "Put back a backup by coverfs header restore; what is left of an init or clone that was killed goes with " +
        "the next one of that name",
    });
  }
  if (!equalConstantTime(bytes.subarray(0, MAGIC.length), MAGIC)) say("this is not a CoverFS container");
}

function decode(bytes: Uint8Array<ArrayBuffer>, view: DataView, limits: KdfLimits): EncryptionHeader {
  const incompatible = view.getUint32(Field.incompatible, true);
  if (incompatible !== 0) {
    throw new CoverError(
      "unsupported",
      `Cannot open container: it has unknown feature flags 0x${incompatible.toString(16)}`,
      {
        hint: "A newer version of coverfs may know them",
      },
    );
  }
  const suite = suiteOfNumber(view.getUint8(Field.suite));
  const used = view.getUint16(Field.headerBytes, true), generation = view.getUint32(Field.generation, true);
  const previous = view.getUint32(Field.previousGeneration, true);
  if (view.getUint8(Field.slotCount) !== SLOT_COUNT) damaged("its number of key slots is not 8");
  if (used < HEADER_BYTES_USED || used > Field.slots || generation === 0 || previous >= generation) {
    damaged("a field is out of range");
  }
  const slots = Array.from({ length: SLOT_COUNT }, (_, i) => decodeSlot(slotBytes(bytes, i)));
  checkKdfs(slots.flatMap((slot) => slot === undefined ? [] : [slot.kdf]), limits);
  return {
    bytes,
    containerId: bytes.slice(Field.containerId, Field.sequence),
    sequence: readU64(view, Field.sequence),
    suite,
    generation,
    previousGeneration: previous === 0 ? undefined : previous,
    created: readU64(view, Field.created),
    readOnly: view.getUint32(Field.readOnlyCompatible, true) !== 0,
    slots,
    limits,
  };
}

/** The place of slot `index` in a block. */
export function slotBytes(block: Uint8Array<ArrayBuffer>, index: number): Uint8Array<ArrayBuffer> {
  const start = Field.slots + index * SLOT_BYTES;
  return block.subarray(start, start + SLOT_BYTES);
}

/** SHA-256 over all that lies before the hash: tells a torn copy before anything is unlocked. */
export async function hashOf(block: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
  const hashed = unshared(block.subarray(0, Field.hash));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", hashed));
}

function readU64(view: DataView, offset: number): number {
  const value = Number(view.getBigUint64(offset, true));
  return Number.isSafeInteger(value) ? value : damaged("a field is out of range");
}

function refuseVersion(version: number): never {
  throw new CoverError(
    "unsupported",
    `Cannot open container: format version is ${version}, expected ${FORMAT_VERSION}`,
    {
      hint: "A newer version of coverfs may open it",
    },
  );
}

function damaged(state: string): never {
  throw new CoverError("damaged", `Cannot open container: its encryption block is damaged: ${state}`);
}
