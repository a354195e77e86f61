/** Makes a container's sealer from its master keys. */
import { type BlockCipher, type BlockEngine, checkRun } from "./engine.ts";
import { CoverError, IntegrityError } from "./errors.ts";
import type { RunIdentity, Sealer } from "./sealer.ts";
import { type KeyBytes, SecretBytes } from "./secret_bytes.ts";
import { deriveSubkey } from "./subkeys.ts";
import { parseSuite, type SuiteName } from "./suites.ts";
import { webCryptoEngine } from "./webcrypto_engine.ts";

/** What a sealer is made from. */
export interface SealerOptions {
  /** Name of the cipher suite. */
  readonly suite: string;
  /** 16 bytes. */
  readonly containerId: Uint8Array;
  /** Master keys (32 bytes) by generation. They stay the caller's and are not needed after the promise resolves. */
  readonly keys: ReadonlyMap<number, KeyBytes>;
  /** Who does the work; WebCrypto by default. */
  readonly engine?: BlockEngine;
}

/**
 * Derives the block keys of every generation and makes the sealer.
 *
 * @throws {CoverError} "unsupported" if the suite is unknown
 */
export async function createSealer(options: SealerOptions): Promise<Sealer> {
  const { keys, engine = webCryptoEngine } = options;
  const containerId = options.containerId.slice(), suite = parseSuite(options.suite);
  if (containerId.length !== 16) throw new RangeError("Cannot make sealer: container id is not 16 bytes");
  const ciphers = new Map<number, BlockCipher>();
  for (const [generation, key] of keys) {
    const which = { containerId, generation, suite };
    using encryptionKey = new SecretBytes(await deriveSubkey(key, { ...which, purpose: "block encryption" }));
    using macKey = new SecretBytes(await deriveSubkey(key, { ...which, purpose: "block mac" }));
    const spec = { suite, containerId, encryptionKey: encryptionKey.bytes, macKey: macKey.bytes };
    ciphers.set(generation, await engine.cipher(spec));
  }
  return new KeyedSealer(suite, engine, ciphers);
}

class KeyedSealer implements Sealer {
  readonly suite: SuiteName;
  readonly engine: "webcrypto" | "libcrypto";
  readonly parallel: boolean;
  readonly #ciphers: Map<number, BlockCipher>;
  #disposed = false;

  constructor(suite: SuiteName, engine: BlockEngine, ciphers: Map<number, BlockCipher>) {
    this.suite = suite;
    this.engine = engine.name;
    this.parallel = engine.parallel ?? false;
    this.#ciphers = ciphers;
  }

  seal(run: RunIdentity, plain: Uint8Array, sealed: Uint8Array): void | Promise<void> {
    const blocks = checkRun(run, plain, sealed), cipher = this.#cipher(run.generation);
    if (cipher === undefined) {
      throw new CoverError("failure", `Cannot seal blocks: no key of generation ${run.generation}`);
    }
    if (blocks > 0) return cipher.seal(run, plain, sealed);
  }

  unseal(run: RunIdentity, sealed: Uint8Array, plain: Uint8Array): void | Promise<void> {
    const blocks = checkRun(run, plain, sealed), cipher = this.#cipher(run.generation);
    if (cipher === undefined) {
      plain.fill(0);
      throw new IntegrityError("Sealed block does not verify", Array.from({ length: blocks }, (_, i) => i));
    }
    if (blocks > 0) return cipher.unseal(run, sealed, plain);
  }

  #cipher(generation: number): BlockCipher | undefined {
    if (this.#disposed) throw new Error("Cannot use sealer: it was disposed");
    return this.#ciphers.get(generation);
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    for (const cipher of this.#ciphers.values()) cipher[Symbol.dispose]();
    this.#ciphers.clear();
  }
}
