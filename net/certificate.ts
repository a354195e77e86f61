/** The server's own certificate, and fingerprints of certificates. */
import { CoverError } from "../crypto/errors.ts";
import { sha256 } from "./text.ts";

/** What the only name of a server's own certificate ends in (RFC 6761 section 6.4: nobody can be given it). */
export const OWN_NAME_SUFFIX = ".coverfs.invalid";

/** A certificate and its key, as PEM. The key is a secret. */
export interface CertificatePair {
  readonly certificate: string;
  readonly key: string;
}

/** Whether this is the name of a server's own certificate: 32 hexadecimal digits and the suffix. */
export function isOwnName(name: string): boolean {
  return /^[0-9a-f]{32}\.coverfs\.invalid$/.test(name);
}

/**
 * Makes a key (ECDSA P-256) and a self-signed certificate whose only name is `<id>.coverfs.invalid`. It is pinned,
 * not renewed, and so has no useful end (RFC 5280 section 4.1.2.5: 9999-12-31).
 */
export async function makeCertificate(): Promise<CertificatePair> {
  await import("reflect-metadata"); // @peculiar/x509 refuses to load without it
  const x509 = await import("@peculiar/x509");
  const signingAlgorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const keys = await crypto.subtle.generateKey(signingAlgorithm, true, ["sign", "verify"]);
  const random = crypto.getRandomValues(new Uint8Array(32));
  const name = random.subarray(0, 16).toHex() + OWN_NAME_SUFFIX;
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: "01" + random.subarray(16, 31).toHex(),
    name: `CN=${name}`,
    notBefore: new Date("2020-01-01T00:00:00Z"), // clocks that are behind must not lock anyone out
    notAfter: new Date("9999-12-31T23:59:59Z"),
    signingAlgorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension([{ type: "dns", value: name }]),
    ],
  }, crypto);
  const key = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  return { certificate: certificate.toString("pem") + "\n", key: toPem(new Uint8Array(key), "PRIVATE KEY") };
}

/** Writes DER as PEM (RFC 7468). */
export function toPem(der: Uint8Array, label: string): string {
  const lines = der.toBase64().match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}

/**
 * SHA-256 of the first certificate in a PEM text.
 *
 * @throws {CoverError} "usage" if there is none
 */
export async function certificateHash(pem: string): Promise<Uint8Array<ArrayBuffer>> {
  const body = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/.exec(pem)?.[1];
  if (body === undefined) {
    throw new CoverError("usage", "Cannot use the certificate: no PEM certificate in the file");
  }
  return await sha256(Uint8Array.fromBase64(body.replace(/\s/g, "")));
}
