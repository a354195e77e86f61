/**
 * A master key wrapped under two other keys: AES-256-CBC, then HMAC-SHA-256 over the context, IV and ciphertext. Not by
 * WebCrypto, which keeps a copy of each key that is imported, for as long as the runtime likes.
 */
import { cbc } from "@noble/ciphers/aes.js";
import { concat, equalConstantTime } from "./bytes.ts";
import { SecretBytes } from "./secret_bytes.ts";
import { hmac } from "./subkeys.ts";

/** Bytes of a master key. */
export const MASTER_KEY_BYTES = 32;
/** Bytes of a wrapped master key: 16 IV, 48 ciphertext (32 and padding), 32 MAC. */
export const WRAPPED_BYTES = 96;
const IV_BYTES = 16, MAC_OFFSET = 64;

/** The two keys that wrap; disposed by whoever made them. */
export class WrappingKeys implements Disposable {
  readonly #encryption: SecretBytes;
  readonly #mac: SecretBytes;

  constructor(encryption: Uint8Array<ArrayBuffer>, mac: Uint8Array<ArrayBuffer>) {
    this.#encryption = new SecretBytes(encryption);
    this.#mac = new SecretBytes(mac);
  }

  /** Wraps a master key; `context` is what the MAC binds besides, of fixed length. */
  wrap(masterKey: Uint8Array, context: Uint8Array): Uint8Array<ArrayBuffer> {
    const iv = crypto.getRandomValues(new Uint8Array(IV_BYTES));
    const wrapped = concat(iv, cbc(this.#encryption.bytes, iv).encrypt(masterKey));
    return concat(wrapped, hmac(this.#mac.bytes, concat(context, wrapped)));
  }

  /** @returns the master key, or undefined if the MAC does not fit; nothing is decrypted then */
  unwrap(wrapped: Uint8Array, context: Uint8Array): SecretBytes | undefined {
    const mac = hmac(this.#mac.bytes, concat(context, wrapped.subarray(0, MAC_OFFSET)));
    if (!equalConstantTime(mac, wrapped.subarray(MAC_OFFSET, WRAPPED_BYTES))) return undefined;
    const iv = wrapped.slice(0, IV_BYTES), ciphertext = wrapped.slice(IV_BYTES, MAC_OFFSET);
    // What is answered may be a view of more.
    const opened = cbc(this.#encryption.bytes, iv).decrypt(ciphertext), key = opened.slice();
    new Uint8Array(opened.buffer).fill(0);
    return new SecretBytes(key);
  }

  [Symbol.dispose](): void {
    this.#encryption[Symbol.dispose]();
    this.#mac[Symbol.dispose]();
  }
}
