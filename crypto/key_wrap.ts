/** A master key wrapped under two other keys: AES-256-CBC, then HMAC-SHA-256 over the context, IV and ciphertext. */
import { concat, equalConstantTime, unshared } from "./bytes.ts";
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
  async wrap(masterKey: Uint8Array, context: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
    const iv = crypto.getRandomValues(new Uint8Array(IV_BYTES)), key = await this.#importKey("encrypt");
    const sealed = await crypto.subtle.encrypt({ name: "AES-CBC", iv }, key, unshared(masterKey));
    const wrapped = concat(iv, new Uint8Array(sealed));
    return concat(wrapped, await hmac(this.#mac.bytes, concat(context, wrapped)));
  }

  /** @returns the master key, or undefined if the MAC does not fit; nothing is decrypted then */
  async unwrap(wrapped: Uint8Array, context: Uint8Array): Promise<SecretBytes | undefined> {
    const mac = await hmac(this.#mac.bytes, concat(context, wrapped.subarray(0, MAC_OFFSET)));
    if (!equalConstantTime(mac, wrapped.subarray(MAC_OFFSET, WRAPPED_BYTES))) return undefined;
    const iv = wrapped.slice(0, IV_BYTES), ciphertext = wrapped.slice(IV_BYTES, MAC_OFFSET);
    const key = await this.#importKey("decrypt");
    const opened = new Uint8Array(await crypto.subtle.decrypt({ name: "AES-CBC", iv }, key, ciphertext));
    return new SecretBytes(opened);
  }

  #importKey(usage: "encrypt" | "decrypt"): Promise<CryptoKey> {
    return crypto.subtle.importKey("raw", this.#encryption.bytes, "AES-CBC", false, [usage]);
  }

  [Symbol.dispose](): void {
    this.#encryption[Symbol.dispose]();
    this.#mac[Symbol.dispose]();
  }
}
