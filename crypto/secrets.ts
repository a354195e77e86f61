/** What a person unlocks a container with, made into bytes (docs/format.md, "Key slots"). */
import { entropyToMnemonic, mnemonicToEntropy } from "@scure/bip39";
import { wordlist } from "@scure/bip39/wordlists/english.js";
import { unshared, utf8 } from "./bytes.ts";
import { CoverError } from "./errors.ts";
import { SecretBytes } from "./secret_bytes.ts";

/** Something that a key slot takes. Buffers stay the caller's. */
export type Secret =
  | { readonly kind: "passphrase"; readonly text: string }
  | { readonly kind: "key-file"; readonly content: Uint8Array }
  /** 24 words, parted by white space, in letters of any case. */
  | { readonly kind: "recovery-key"; readonly words: string };

/** Bytes that a key file has at least and at most. */
export const KEY_FILE_BYTES = { least: 32, most: 8 << 20 } as const;
/** Words of a recovery key. */
export const RECOVERY_WORDS = 24;
const RECOVERY_BYTES = 32;

/** The bytes that go into a slot's key derivation; the caller disposes them. @throws {CoverError} "usage" */
export async function secretInput(secret: Secret): Promise<SecretBytes> {
  switch (secret.kind) {
    case "passphrase":
      return preparePassphrase(secret.text);
    case "key-file":
      return await keyFileInput(secret.content);
    case "recovery-key":
      return parseRecoveryWords(secret.words);
  }
}

/**
 * A passphrase as bytes: Unicode NFC, UTF-8. Two keyboards that write the same text differently give the same.
 *
 * @throws {CoverError} "usage" if it is empty or not well-formed Unicode
 */
export function preparePassphrase(text: string): SecretBytes {
  if (text === "") throw new CoverError("usage", "Cannot use passphrase: it is empty");
  if (!text.isWellFormed()) throw new CoverError("usage", "Cannot use passphrase: it is not Unicode text");
  return new SecretBytes(utf8(text.normalize("NFC")));
}

async function keyFileInput(content: Uint8Array): Promise<SecretBytes> {
  const { least, most } = KEY_FILE_BYTES;
  if (content.length < least || content.length > most) {
    throw new CoverError("usage", `Cannot use key file: it has ${content.length} bytes`, {
      hint: `A key file has ${least} bytes to ${most >> 20} MiB`,
    });
  }
  return new SecretBytes(new Uint8Array(await crypto.subtle.digest("SHA-512", unshared(content))));
}

/** Draws a recovery key: 24 words (BIP 39, English) that stand for 32 random bytes and a checksum. */
export function newRecoveryWords(): string {
  using entropy = SecretBytes.random(RECOVERY_BYTES);
  return entropyToMnemonic(entropy.bytes, wordlist);
}

/**
 * Reads a recovery key.
 *
 * @throws {CoverError} "wrong-passphrase" if the words cannot be one; names the place of a wrong word, never the word
 */
export function parseRecoveryWords(text: string): SecretBytes {
  const words = text.normalize("NFKD").trim().toLowerCase().split(/\s+/);
  const unknown = words.findIndex((word) => !wordlist.includes(word));
  if (words.length !== RECOVERY_WORDS) misfit(`${words.length} words, expected ${RECOVERY_WORDS}`);
  if (unknown >= 0) misfit(`word ${unknown + 1} is not one of the list`);
  let entropy: Uint8Array;
  try {
    entropy = mnemonicToEntropy(words.join(" "), wordlist);
  } catch {
    return misfit("the words do not fit together");
  }
  const own = new Uint8Array(entropy);
  entropy.fill(0);
  return new SecretBytes(own);
}

function misfit(state: string): never {
  throw new CoverError("wrong-passphrase", `Cannot read recovery key: ${state}`, {
    hint: "Look for a word that is mistyped, missing or in another place",
  });
}
