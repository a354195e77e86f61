/** Encryption blocks for tests: few rounds, named limits. */
import {
  type CoverError,
  createEncryptionBlock,
  type ErrorKind,
  KDF_LIMITS,
  type KdfLimits,
} from "../../crypto/mod.ts";
import { type NewSlot, parseEncryptionBlock, type Secret, unlockEncryptionBlock } from "../../crypto/mod.ts";

/** Bounds that no container outside of tests is opened with. */
export const TEST_LIMITS: KdfLimits = {
  ...KDF_LIMITS,
  pbkdf2Floor: 10,
  argon2id: { ...KDF_LIMITS.argon2id, memoryFloorKiB: 64 },
};

export const passphrase: Secret = { kind: "passphrase", text: "correct horse" };
export const keyFile: Secret = { kind: "key-file", content: new Uint8Array(40).fill(3) };

/** An encryption block of few rounds. */
export function makeBlock(slots: readonly NewSlot[] = [passphrase]) {
  return createEncryptionBlock({ suite: "aes-256-gcm", slots, rounds: 20, limits: TEST_LIMITS });
}

/** Makes hash and (not) MAC fit again, as anyone can who has no key. */
export async function rehash(block: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  block.set(new Uint8Array(await crypto.subtle.digest("SHA-256", block.subarray(0, 4032))), 4032);
  return block;
}

/** Reads and unlocks a block with the test's bounds. */
export async function open(block: Uint8Array, secret: Secret = passphrase, limits = TEST_LIMITS) {
  return await unlockEncryptionBlock(await parseEncryptionBlock(block, limits), secret);
}

/** For `assert.rejects` and `assert.throws`: an error of this kind, whose message fits. */
export function kind(expected: ErrorKind, message = /./): (error: unknown) => boolean {
  return (error) => (error as CoverError).kind === expected && message.test((error as CoverError).message);
}
