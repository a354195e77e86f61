/** SHA-256, at once where that is faster. */
import { sha256 as hashHere } from "@noble/hashes/sha2.js";
import { unshared } from "./bytes.ts";

/** Up to so many bytes hashing on this thread takes less than the 20 to 30 µs of handing them to WebCrypto. */
const SHORT = 4096;

/** The SHA-256 of `bytes` (32 bytes); a short message's at once. `bytes` must stay as they are until then. */
export function sha256(bytes: Uint8Array): Uint8Array | Promise<Uint8Array> {
  if (bytes.length <= SHORT) return hashHere(bytes);
  return crypto.subtle.digest("SHA-256", unshared(bytes)).then((hash) => new Uint8Array(hash));
}
