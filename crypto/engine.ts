/** What a cipher engine is: the part of sealing that may be done by WebCrypto or by a native library. */
import { BLOCK, type RunIdentity, SEALED } from "./sealer.ts";
import { FORMAT_VERSION, type SuiteName, suiteNumber } from "./suites.ts";

/** Bytes of a sealed block's IV, and of its tag. */
export const IV_BYTES = 16, TAG_BYTES = 16;
/** Where the tag of a sealed block begins. */
export const TAG_OFFSET = SEALED - TAG_BYTES;
/** Bytes of what a tag binds besides the block. */
export const ASSOCIATED_BYTES = 64;

/** One generation of keys of one container. The engine copies what it needs; the caller zeroes the keys. */
export interface CipherSpec {
  readonly suite: SuiteName;
  /** 16 bytes. */
  readonly containerId: Uint8Array;
  /** 32 bytes. */
  readonly encryptionKey: Uint8Array<ArrayBuffer>;
  /** 32 bytes; not used by suites that authenticate by themselves. */
  readonly macKey: Uint8Array<ArrayBuffer>;
}

/** Seals and opens runs under one generation of keys; as `Sealer`, with `run` and lengths already checked. */
export interface BlockCipher extends Disposable {
  seal(run: RunIdentity, plain: Uint8Array, sealed: Uint8Array): void | Promise<void>;
  unseal(run: RunIdentity, sealed: Uint8Array, plain: Uint8Array): void | Promise<void>;
}

/** Makes ciphers. All engines give the same bytes. */
export interface BlockEngine {
  readonly name: "webcrypto" | "libcrypto";
  /** As `Sealer.parallel`; default false. */
  readonly parallel?: boolean;
  /** Much work is to come, for the ciphers that there are: threads may start. */
  expectWork?(): void;
  cipher(spec: CipherSpec): BlockCipher | Promise<BlockCipher>;
}

/** The 64 bytes that a block's tag binds besides the block itself (docs/format.md, "Sealing"). */
export class AssociatedData {
  readonly bytes: Uint8Array<ArrayBuffer> = new Uint8Array(ASSOCIATED_BYTES);
  readonly #view = new DataView(this.bytes.buffer);

  constructor(spec: Pick<CipherSpec, "containerId" | "suite">) {
    this.bytes.set(spec.containerId, 0);
    this.bytes[49] = FORMAT_VERSION;
    this.bytes[50] = suiteNumber(spec.suite);
  }

  /** Takes all of a run's identity; the position is that of its first block. */
  begin(run: RunIdentity): void {
    this.bytes.set(run.session, 16);
    this.position = run.position;
    this.#u64(40, run.birth);
    this.bytes[48] = run.kind;
  }

  /** Position of the block that is sealed or opened next. */
  set position(position: number) {
    this.#u64(32, position);
  }

  /** Without BigInt: nothing is allocated per block. */
  #u64(offset: number, value: number): void {
    this.#view.setUint32(offset, value >>> 0, true);
    this.#view.setUint32(offset + 4, Math.floor(value / 2 ** 32), true);
  }
}

/** Counts the blocks of a run and holds the callers to the lengths and ranges. @throws {RangeError} */
export function checkRun(run: RunIdentity, plain: Uint8Array, sealed: Uint8Array): number {
  const blocks = plain.length / BLOCK;
  if (!Number.isInteger(blocks) || sealed.length !== blocks * SEALED) {
    throw new RangeError(`Cannot seal or open run: ${plain.length} plain and ${sealed.length} sealed bytes`);
  }
  if (run.session.length !== 16) throw new RangeError("Cannot seal or open run: session id is not 16 bytes");
  for (const value of [run.position, run.birth, run.position + blocks]) {
    if (!Number.isSafeInteger(value) || value < 0) {
      throw new RangeError(`Cannot seal or open run: ${value} is not a position or birth`);
    }
  }
  if (!Number.isInteger(run.kind) || run.kind < 0 || run.kind > 255) {
    throw new RangeError(`Cannot seal or open run: ${run.kind} is not a kind of block`);
  }
  return blocks;
}
