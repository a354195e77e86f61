/** Keys derived from the master key (docs/format.md, "Key derivation"). */
import { hmac as hmacOf } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { concat, unshared, utf8 } from "./bytes.ts";
import { type KeyBytes, keyBytes, SecretBytes } from "./secret_bytes.ts";
import type { SuiteName } from "./suites.ts";

/** Which sub-key, and what for: those that seal blocks are made for one suite. */
export type SubkeySpec =
  & {
    readonly containerId: Uint8Array;
    /** Generation of the master key, u32. */
    readonly generation: number;
  }
  & (
    | { readonly purpose: "block encryption" | "block mac"; readonly suite: SuiteName }
    | { readonly purpose: "header mac" | "previous encryption" | "previous mac" | "writer proof" }
  );

/** Bytes of every sub-key. */
export const SUBKEY_BYTES = 32;

/**
 * HKDF-SHA-256 (RFC 5869) to 32 bytes, owned by the caller: as many as one HMAC gives. Not by WebCrypto, which keeps a
 * copy of each secret that is imported, for as long as the runtime likes.
 */
export function hkdf(secret: Uint8Array, salt: Uint8Array, info: Uint8Array): Uint8Array<ArrayBuffer> {
  using extracted = new SecretBytes(hmac(salt, secret));
  return hmac(extracted.bytes, concat(info, Uint8Array.of(1)));
}

/** Derives a sub-key of 32 bytes; the caller owns it and zeroes it. */
export function deriveSubkey(masterKey: KeyBytes, spec: SubkeySpec): Uint8Array<ArrayBuffer> {
  const generation = new Uint8Array(4);
  new DataView(generation.buffer).setUint32(0, spec.generation, true);
  const ofBlocks = spec.purpose === "block encryption" || spec.purpose === "block mac";
  const text = utf8(`coverfs 2\0${ofBlocks ? spec.suite : ""}\0${spec.purpose}\0`);
  return hkdf(keyBytes(masterKey), spec.containerId, concat(text, generation));
}

/** Imports 32 bytes as a key for HMAC-SHA-256. */
export function importMacKey(key: Uint8Array): Promise<CryptoKey> {
  return crypto.subtle.importKey("raw", unshared(key), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
}

/** HMAC-SHA-256 (RFC 2104) of a short message; leaves no copy of the key. */
export function hmac(key: Uint8Array, message: Uint8Array): Uint8Array<ArrayBuffer> {
  return hmacOf(sha256, key, message);
}
