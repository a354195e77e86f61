/**
 * Sealing and key slots a second time, written from docs/format.md with @noble/ciphers, @noble/hashes and node:crypto,
 * by others of them than crypto/ takes, and without a line of that: what both agree on is what the document says.
 */
import { cbc, gcm } from "@noble/ciphers/aes.js";
import { argon2id } from "@noble/hashes/argon2.js";
import { pbkdf2 } from "@noble/hashes/pbkdf2.js";
import { sha512 } from "@noble/hashes/sha2.js";
import { createDecipheriv, createHash, createHmac, hkdfSync } from "node:crypto";

/** Everything that decides how a block is sealed. */
export interface Identity {
  readonly suite: string;
  readonly containerId: Uint8Array;
  readonly masterKey: Uint8Array;
  readonly generation: number;
  readonly session: Uint8Array;
  readonly position: number;
  readonly birth: number;
  readonly kind: number;
}

const sha256 = (bytes: Uint8Array) => new Uint8Array(createHash("sha256").update(bytes).digest());
const hmac = (key: Uint8Array, message: Uint8Array) =>
  new Uint8Array(createHmac("sha256", key).update(message).digest());
const hkdf = (key: Uint8Array, salt: Uint8Array, info: Uint8Array, length: number) =>
  new Uint8Array(hkdfSync("sha256", key, salt, info, length));
const text = (value: string) => new TextEncoder().encode(value);

function join(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

function number(value: number | bigint, bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => Number(BigInt(value) >> BigInt(8 * i) & 255n));
}

/** A sub-key ("Key derivation"). */
export function subkey(
  from: Pick<Identity, "masterKey" | "containerId" | "generation">,
  suite: string,
  purpose: string,
) {
  const info = join(text(`coverfs 2\0${suite}\0${purpose}\0`), number(from.generation, 4));
  return hkdf(from.masterKey, from.containerId, info, 32);
}

function associatedData(block: Identity): Uint8Array {
  const suite = { "aes-256-cbc-hmac-sha256": 1, "aes-256-gcm": 2 }[block.suite]!;
  const used = join(
    block.containerId,
    block.session,
    number(block.position, 8),
    number(block.birth, 8),
    Uint8Array.of(block.kind, 2, suite),
  );
  return join(used, new Uint8Array(64 - used.length));
}

/** Seals one block under a given IV ("Sealing"). */
export function sealBlock(block: Identity, iv: Uint8Array, plain: Uint8Array): Uint8Array {
  const key = subkey(block, block.suite, "block encryption"), ad = associatedData(block);
  if (block.suite === "aes-256-gcm") return join(iv, gcm(key, iv, ad).encrypt(plain));
  const ciphertext = cbc(key, iv, { disablePadding: true }).encrypt(plain);
  const mac = hmac(subkey(block, block.suite, "block mac"), join(ad, iv, ciphertext));
  return join(iv, ciphertext, mac.subarray(0, 16));
}

/** Opens one block. @throws {Error} if it does not verify */
export function unsealBlock(block: Identity, sealed: Uint8Array): Uint8Array {
  const iv = sealed.slice(0, 16), key = subkey(block, block.suite, "block encryption");
  if (block.suite === "aes-256-gcm") return gcm(key, iv, associatedData(block)).decrypt(sealed.slice(16));
  const macKey = subkey(block, block.suite, "block mac");
  const mac = hmac(macKey, join(associatedData(block), sealed.subarray(0, 4112)));
  if (!mac.subarray(0, 16).every((byte, i) => byte === sealed[4112 + i])) throw new Error("does not verify");
  return cbc(key, iv, { disablePadding: true }).decrypt(sealed.slice(16, 4112));
}

function unwrap(keys: { encryption: Uint8Array; mac: Uint8Array }, context: Uint8Array, wrapped: Uint8Array) {
  const mac = hmac(keys.mac, join(context, wrapped.subarray(0, 64)));
  if (!mac.every((byte, i) => byte === wrapped[64 + i])) return undefined;
  const cipher = createDecipheriv("aes-256-cbc", keys.encryption, wrapped.slice(0, 16));
  return join(cipher.update(wrapped.slice(16, 64)), cipher.final());
}

/** Unlocks slot `index` of an encryption block and checks hash and MAC; @returns master key, and the previous one. */
export function unlock(block: Uint8Array, index: number, secret: Uint8Array) {
  const view = new DataView(block.buffer, block.byteOffset), containerId = block.slice(24, 40);
  const slot = block.slice(512 + 256 * index, 768 + 256 * index), at = new DataView(slot.buffer);
  const salt = slot.subarray(16, 48), rounds = at.getUint32(4, true);
  const stretched = slot[1] === 2
    ? argon2id(secret, salt, { t: rounds, m: at.getUint32(8, true), p: at.getUint32(12, true), dkLen: 64 })
    : pbkdf2(sha512, secret, salt, { c: rounds, dkLen: 64 });
  const slotKey = (name: string) => hkdf(stretched, containerId, text(`coverfs 2 slot ${name}`), 32);
  const context = join(containerId, slot.subarray(0, 2), slot.subarray(4, 48));
  const keys = { encryption: slotKey("encryption"), mac: slotKey("mac") };
  const masterKey = unwrap(keys, context, slot.subarray(88, 184));
  if (masterKey === undefined) throw new Error("the slot does not open");
  const generation = view.getUint32(52, true), from = { masterKey, containerId, generation };
  const same = (a: Uint8Array, b: Uint8Array) => a.every((byte, i) => byte === b[i]);
  const covered = block.subarray(0, 4032);
  if (!same(sha256(covered), block.subarray(4032, 4064))) throw new Error("the hash does not fit");
  const mac = hmac(subkey(from, "", "header mac"), covered);
  if (!same(mac, block.subarray(4064, 4096))) throw new Error("the MAC does not fit");
  const previous = view.getUint32(64, true);
  if (previous === 0) return { masterKey };
  const previousKeys = {
    encryption: subkey(from, "", "previous encryption"),
    mac: subkey(from, "", "previous mac"),
  };
  return {
    masterKey,
    previous: unwrap(previousKeys, join(containerId, number(previous, 4)), block.subarray(72, 168)),
  };
}

/** A key file's secret input ("Key slots"). */
export function keyFileSecret(content: Uint8Array): Uint8Array {
  return sha512(content);
}
