/** Tokens and fingerprints as people see them: 32 bytes, 43 characters of base64url (RFC 4648 section 5). */
import { CoverError } from "../crypto/errors.ts";

/** Writes bytes as base64url without padding. */
export function toBase64Url(bytes: Uint8Array): string {
  return bytes.toBase64({ alphabet: "base64url", omitPadding: true });
}

/** Reads exactly 32 bytes from 43 characters of base64url; undefined if `text` is anything else. */
export function fromBase64Url32(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (!/^[A-Za-z0-9_-]{43}$/.test(text)) return undefined;
  const bytes = Uint8Array.fromBase64(text, { alphabet: "base64url" });
  return toBase64Url(bytes) === text ? bytes : undefined; // the bits behind the last byte must be zero
}

/** SHA-256. */
export async function sha256(bytes: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
}

/** Compares without telling by its time where two byte strings of one length differ. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a[i]! ^ b[i]!;
  return difference === 0;
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
  if (/^[0-9a-fA-F]{64}$/.test(digits)) return toBase64Url(Uint8Array.fromHex(digits));
  if (fromBase64Url32(bare) === undefined) {
    throw new CoverError("usage", "Cannot read the fingerprint: not the SHA-256 of a certificate", {
      hint: "Give it as `coverfs serve` prints it",
    });
  }
  return bare;
}
