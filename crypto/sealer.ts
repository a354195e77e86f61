/** Sealing of blocks: the shapes that everything above the ciphers uses. Byte layout: docs/format.md, "Sealing". */

/** Bytes of plaintext in a block. */
export const BLOCK = 4096;
/** Bytes of a sealed block: 16 IV, 4096 ciphertext, 16 tag. */
export const SEALED = 4128;

/** What a sealed block is; bound by its tag, so one kind never passes for another. */
export const Kind = { superblock: 0, index: 1, table: 2, journal: 3, data: 4 } as const;
/** One of the numbers of {@linkcode Kind}. */
export type Kind = typeof Kind[keyof typeof Kind];

/** Who a run of consecutive blocks is: all that the tag binds besides container id and suite. */
export interface RunIdentity {
  /** The writer session's random id, 16 bytes (zeros for the superblock). */
  readonly session: Uint8Array;
  /** Which generation of the master key seals it. */
  readonly generation: number;
  /** Position of the first block; the following ones count up. */
  readonly position: number;
  /** Number of the commit that the blocks belong to. */
  readonly birth: number;
  readonly kind: Kind;
}

/**
 * Seals and opens runs of consecutive blocks of one container. An answer may come at once (libcrypto) or by a
 * promise (WebCrypto): callers `await` only what is a promise. Calls may overlap.
 */
export interface Sealer extends Disposable {
  readonly suite: string;
  readonly engine: "webcrypto" | "libcrypto";
  /** Long runs whose two buffers lie in shared memory are worked on by other threads. */
  readonly parallel: boolean;
  /**
   * Seals `plain` (n × 4096 bytes) into `sealed` (n × 4128 bytes), each block under a fresh random IV.
   * Neither buffer may change or be reused before the answer is there.
   */
  seal(run: RunIdentity, plain: Uint8Array, sealed: Uint8Array): void | Promise<void>;
  /**
   * Verifies and opens `sealed` (n × 4128 bytes) into `plain` (n × 4096 bytes). Nothing is decrypted before its
   * MAC was checked.
   *
   * @throws {IntegrityError} if any block does not verify, with the indices of those that do not; `plain` then
   * holds nothing that may be used.
   */
  unseal(run: RunIdentity, sealed: Uint8Array, plain: Uint8Array): void | Promise<void>;
}
