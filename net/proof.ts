/** The proof that a writer knows the container's key (docs/protocol.md, section 6). */
import type { Access } from "./protocol.ts";
import { FieldWriter } from "./wire.ts";

/** Signs for a container: its Ed25519 writer key, derived from the master key. */
export interface Prover {
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  /** @returns the signature (RFC 8032), 64 bytes */
  sign(message: Uint8Array): Promise<Uint8Array>;
}

/** Everything that a proof binds. */
export interface ProofSubject {
  readonly version: number;
  /** SHA-256 of the server's certificate, 32 bytes. */
  readonly certificateHash: Uint8Array;
  readonly clientNonce: Uint8Array;
  readonly serverNonce: Uint8Array;
  /** 16 bytes. */
  readonly containerId: Uint8Array;
  /** The writer session's id, 16 bytes. */
  readonly session: Uint8Array;
  readonly access: Access;
  readonly name: string;
}

const LABEL = "coverfs writer proof v1\0";

/** The bytes that are signed: all fields of fixed length but the name, which is last and says its length. */
export function proofMessage(subject: ProofSubject): Uint8Array<ArrayBuffer> {
  return new FieldWriter(LABEL.length + 2 + 3 * 32 + 2 * 16 + 1 + 1 + subject.name.length)
    .raw(new TextEncoder().encode(LABEL))
    .u16(subject.version)
    .raw(subject.certificateHash)
    .raw(subject.clientNonce)
    .raw(subject.serverNonce)
    .raw(subject.containerId)
    .raw(subject.session)
    .u8(subject.access)
    .name(subject.name)
    .bytes;
}
