/** Keys derived from the master key (docs/format.md, "Key derivation"). */
import { concat, unshared, utf8 } from "./bytes.ts";
import { type KeyBytes, keyBytes } from "./secret_bytes.ts";
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

/** HKDF-SHA-256 (RFC 5869) to 32 bytes, owned by the caller. */
export async function hkdf(
  secret: Uint8Array,
  salt: Uint8Array,
  info: Uint8Array,
): Promise<Uint8Array<ArrayBuffer>> {
  const key = await crypto.subtle.importKey("raw", unshared(secret), "HKDF", false, ["deriveBits"]);
  const how = { name: "HKDF", hash: "SHA-256", salt: unshared(salt), info: unshared(info) };
  return new Uint8Array(await crypto.subtle.deriveBits(how, key, SUBKEY_BYTES * 8));
}

/** Derives a sub-key of 32 bytes; the caller owns it and zeroes it. */
export function deriveSubkey(masterKey: KeyBytes, spec: SubkeySpec): Promise<Uint8Array<ArrayBuffer>> {
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

/** HMAC-SHA-256 under a key of 32 bytes. */
export async function hmac(key: Uint8Array, message: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await crypto.subtle.sign("HMAC", await importMacKey(key), unshared(message)));
}
