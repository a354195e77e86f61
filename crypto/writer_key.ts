/** The key that proves a writer to the server (docs/format.md, "Key derivation"; docs/protocol.md). */
import { concat, fromBase64url, fromHex, unshared } from "./bytes.ts";
import { type KeyBytes, SecretBytes } from "./secret_bytes.ts";
import { deriveSubkey } from "./subkeys.ts";

/** What stands before the 32 bytes of an Ed25519 seed in PKCS #8 (RFC 8410 section 7). */
const PKCS8_PREFIX = "302e020100300506032b657004220420";

/** An Ed25519 key pair (RFC 8032) whose private half stays in the runtime. */
export interface WriterKey {
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  /** Signs a message; the signature has 64 bytes. */
  sign(message: Uint8Array): Promise<Uint8Array>;
}

/** Derives a container's writer key from the master key of a generation. */
export async function writerKeyPair(
  masterKey: KeyBytes,
  containerId: Uint8Array,
  options: { readonly generation: number },
): Promise<WriterKey> {
  const { generation } = options;
  using seed = new SecretBytes(
    await deriveSubkey(masterKey, { containerId, generation, purpose: "writer proof" }),
  );
  using pkcs8 = new SecretBytes(concat(fromHex(PKCS8_PREFIX), seed.bytes));
  const { subtle } = crypto;
  // WebCrypto tells the public key only by exporting the private one, as a JWK.
  const exportable = await subtle.importKey("pkcs8", pkcs8.bytes, "Ed25519", true, ["sign"]);
  const publicKey = fromBase64url((await subtle.exportKey("jwk", exportable)).x ?? "");
  const key = await subtle.importKey("pkcs8", pkcs8.bytes, "Ed25519", false, ["sign"]);
  return {
    publicKey,
    sign: async (message) => new Uint8Array(await subtle.sign("Ed25519", key, unshared(message))),
  };
}

/** Tells whether `signature` (64 bytes) over `message` was made by the holder of `publicKey` (32 bytes). */
export async function verifyProof(
  publicKey: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
): Promise<boolean> {
  try {
    const key = await crypto.subtle.importKey("raw", unshared(publicKey), "Ed25519", false, ["verify"]);
    return await crypto.subtle.verify("Ed25519", key, unshared(signature), unshared(message));
  } catch {
    return false; // not a key
  }
}
