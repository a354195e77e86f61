/** A thread that seals and opens runs in shared memory with contexts of its own; `parallel_libcrypto.ts` starts it. */
import type { BlockCipher, CipherSpec } from "../crypto/engine.ts";
import { IntegrityError } from "../crypto/errors.ts";
import type { RunIdentity } from "../crypto/sealer.ts";
import { SecretBytes } from "../crypto/secret_bytes.ts";
import { LibcryptoEngine } from "./libcrypto.ts";

/** What the thread is told, in this order: the library, ciphers by number, runs. Buffers lie in shared memory. */
export type ToSealingWorker =
  | { readonly kind: "open"; readonly file: string }
  /** `keys`: 32 bytes for encryption, 32 for the MAC. */
  | { readonly kind: "cipher"; readonly cipher: number; readonly spec: SharedCipherSpec }
  | { readonly kind: "close"; readonly cipher: number }
  | {
    readonly kind: "seal" | "unseal";
    readonly job: number;
    readonly cipher: number;
    readonly run: RunIdentity;
    readonly plain: Uint8Array;
    readonly sealed: Uint8Array;
  };

/** What a thread answers. `bad`: the blocks of a run that do not verify; `error`: why it could not be done. */
export type FromSealingWorker =
  | { readonly kind: "ready" }
  /** It cannot work at all. */
  | { readonly kind: "failed"; readonly error: string }
  | {
    readonly kind: "done";
    readonly job: number;
    readonly bad?: readonly number[];
    readonly error?: string;
  };

/** A {@linkcode CipherSpec} whose keys lie in shared memory, encryption key first: no copy is left in a message. */
export interface SharedCipherSpec extends Pick<CipherSpec, "suite" | "containerId"> {
  readonly keys: Uint8Array;
}

const thread = globalThis as unknown as {
  onmessage: ((event: MessageEvent<ToSealingWorker>) => void) | null;
  postMessage(message: FromSealingWorker): void;
};
const ciphers = new Map<number, BlockCipher>();
let engine: LibcryptoEngine | undefined;

function makeCipher(engine: LibcryptoEngine, { suite, containerId, keys }: SharedCipherSpec): BlockCipher {
  using encryptionKey = new SecretBytes(keys.slice(0, 32)), macKey = new SecretBytes(keys.slice(32));
  return engine.cipher({ suite, containerId, encryptionKey: encryptionKey.bytes, macKey: macKey.bytes });
}

thread.onmessage = ({ data }) => {
  switch (data.kind) {
    case "open":
      return open(data.file);
    case "cipher":
      if (engine) ciphers.set(data.cipher, makeCipher(engine, data.spec));
      return;
    case "close":
      ciphers.get(data.cipher)?.[Symbol.dispose]();
      ciphers.delete(data.cipher);
      return;
    default:
      return work(data);
  }
};

function open(file: string): void {
  try {
    engine = new LibcryptoEngine(file);
    thread.postMessage({ kind: "ready" });
  } catch (error) {
    thread.postMessage({ kind: "failed", error: error instanceof Error ? error.message : "failed" });
  }
}

function work({ kind, job, cipher, run, plain, sealed }: Extract<ToSealingWorker, { job: number }>): void {
  try {
    if (kind === "seal") ciphers.get(cipher)!.seal(run, plain, sealed);
    else ciphers.get(cipher)!.unseal(run, sealed, plain);
    thread.postMessage({ kind: "done", job });
  } catch (error) {
    if (error instanceof IntegrityError) thread.postMessage({ kind: "done", job, bad: error.blocks });
    else thread.postMessage({ kind: "done", job, error: error instanceof Error ? error.message : "failed" });
  }
}
