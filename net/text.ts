/** Tokens and fingerprints as people see them: 32 bytes, 43 characters of base64url (RFC 4648 section 5). */
import { base64url, fromBase64url, fromHex, unshared } from "../crypto/bytes.ts";
import { CoverError } from "../crypto/errors.ts";

/** Reads exactly 32 bytes from 43 characters of base64url; undefined if `text` is anything else. */
export function fromBase64Url32(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (text.length !== 43) return undefined;
  try {
    return fromBase64url(text);
  } catch {
    return undefined;
  }
}

/** SHA-256. */
export async function sha256(bytes: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", unshared(bytes)));
}

/**
 * Reads a fingerprint as a person may give it: 43 characters of base64url, with or without `SHA256:` before it,
 * or 64 hexadecimal digits, with or without colons.
 *
 * @returns the 43 characters
 * @throws {CoverError} "usage" if it is none of these
 */
export function parseFingerprint(text: string): string {
  const bare = text.replace(/^sha256:/i, "");
  const digits = bare.replaceAll(":", "");
  if (/^[0-9a-fA-F]{64}$/.test(digits)) return base64url(fromHex(digits));
  if (fromBase64Url32(bare) === undefined) {
    throw new CoverError("usage", "Cannot read the fingerprint: not the SHA-256 of a certificate", {
      hint: "Give it as `coverfs serve` prints it",
    });
  }
  return bare;
}
