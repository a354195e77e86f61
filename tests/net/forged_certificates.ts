/** Certificates that somebody else makes, of whatever name, version, time and issuer. */
import "reflect-metadata";
import * as x509 from "@peculiar/x509";
import { Buffer } from "node:buffer";
import { createPrivateKey, sign } from "node:crypto";
import { certificateHash, type CertificatePair, toPem } from "../../net/certificate.ts";
import type { TlsIdentity } from "../../net/tls_listener.ts";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const YEARS = { notBefore: new Date("2020-01-01"), notAfter: new Date("2090-01-01") };

export type SubjectNames = { type: "dns" | "ip"; value: string }[];

export function newKeys(): Promise<CryptoKeyPair> {
  return crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
}

/** The keys of a pair as PEM. */
export async function keysOf({ key }: CertificatePair): Promise<CryptoKeyPair> {
  const der = Uint8Array.fromBase64(key.replace(/-----.*-----/g, "").replace(/\s/g, ""));
  const privateKey = await crypto.subtle.importKey("pkcs8", der, ALGORITHM, true, ["sign"]);
  const { d: _, key_ops: __, ...publicPart } = await crypto.subtle.exportKey("jwk", privateKey);
  const publicKey = await crypto.subtle.importKey("jwk", publicPart, ALGORITHM, true, ["verify"]);
  return { privateKey, publicKey };
}

async function pair(certificate: string, { privateKey }: CryptoKeyPair): Promise<CertificatePair> {
  const key = new Uint8Array(await crypto.subtle.exportKey("pkcs8", privateKey));
  return { certificate, key: toPem(key, "PRIVATE KEY") };
}

/** What a listener shows. */
export async function identityOf(shown: CertificatePair): Promise<TlsIdentity> {
  return { pair: shown, hash: await certificateHash(shown.certificate) };
}

/** A certificate like the server's own, with these names; of a new key and for this time unless told otherwise. */
export async function selfSigned(
  names: SubjectNames,
  options: { readonly keys?: CryptoKeyPair; readonly notBefore?: Date; readonly notAfter?: Date } = {},
): Promise<CertificatePair> {
  const { keys = await newKeys(), ...times } = options;
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    ...{ serialNumber: "01", name: `CN=${names[0]!.value}`, signingAlgorithm: ALGORITHM, keys },
    ...{ ...YEARS, ...times },
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.SubjectAlternativeNameExtension(names),
    ],
  }, crypto);
  return await pair(certificate.toString("pem"), keys);
}

/** A throw-away authority, as PEM, and a certificate for these names that it signed. */
export async function authorityAndLeaf(
  names: SubjectNames,
): Promise<CertificatePair & { readonly authority: string }> {
  const caKeys = await newKeys(), keys = await newKeys();
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    ...{ serialNumber: "01", name: "CN=Test authority", signingAlgorithm: ALGORITHM, keys: caKeys, ...YEARS },
    extensions: [new x509.BasicConstraintsExtension(true, undefined, true)],
  }, crypto);
  const leaf = await x509.X509CertificateGenerator.create({
    ...{ serialNumber: "02", subject: `CN=${names[0]!.value}`, issuer: authority.subject, ...YEARS },
    ...{ publicKey: keys.publicKey, signingKey: caKeys.privateKey, signingAlgorithm: ALGORITHM },
    extensions: [new x509.SubjectAlternativeNameExtension(names)],
  }, crypto);
  return { authority: authority.toString("pem"), ...await pair(leaf.toString("pem"), keys) };
}

/** One element of DER (X.690 section 8.1). */
function der(tag: number, ...parts: Uint8Array[]): Uint8Array {
  const content = Buffer.concat(parts), { length } = content;
  const head = length < 128
    ? [tag, length]
    : length < 256
    ? [tag, 0x81, length]
    : [tag, 0x82, length >> 8, length & 255];
  return Buffer.concat([Uint8Array.from(head), content]);
}

/** A certificate of version 1 (RFC 5280 section 4.1: no version field, no extensions), signed by its own key. */
export async function version1(name: string): Promise<CertificatePair> {
  const keys = await newKeys(), text = (value: string) => new TextEncoder().encode(value);
  const ecdsaWithSha256 = der(0x30, der(0x06, Uint8Array.from([0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2])));
  const commonName = der(0x30, der(0x06, Uint8Array.of(0x55, 4, 3)), der(0x0c, text(name)));
  const distinguished = der(0x30, der(0x31, commonName));
  const validity = der(0x30, der(0x17, text("200101000000Z")), der(0x17, text("491231235959Z")));
  const publicKey = new Uint8Array(await crypto.subtle.exportKey("spki", keys.publicKey));
  const serial = der(0x02, Uint8Array.of(1));
  const signed = der(0x30, serial, ecdsaWithSha256, distinguished, validity, distinguished, publicKey);
  const made = await pair("", keys), signature = sign("sha256", signed, createPrivateKey(made.key));
  const whole = der(0x30, signed, ecdsaWithSha256, der(0x03, Uint8Array.of(0), signature));
  return { ...made, certificate: toPem(whole, "CERTIFICATE") };
}
