/** Sealing by WebCrypto: runs everywhere, and is the reference for every other engine. */
import { equalConstantTime, unshared } from "./bytes.ts";
import {
  ASSOCIATED_BYTES,
  AssociatedData,
  type BlockCipher,
  type BlockEngine,
  type CipherSpec,
  IV_BYTES,
  TAG_BYTES,
  TAG_OFFSET,
} from "./engine.ts";
import { IntegrityError } from "./errors.ts";
import { BLOCK, type RunIdentity, SEALED } from "./sealer.ts";
import { importMacKey } from "./subkeys.ts";

/** How many calls per run are under way together: enough to hide the dispatch, bounded in memory. */
const IN_FLIGHT = 64;
/** How many blocks one CBC call takes at most. */
const CBC_BLOCKS = 256;
/** A block with its IV, and what its MAC is made over. */
const IV_BLOCK = IV_BYTES + BLOCK, MAC_INPUT = ASSOCIATED_BYTES + IV_BLOCK;

/** The engine that needs nothing but the runtime; answers by promises. */
export const webCryptoEngine: BlockEngine = {
  name: "webcrypto",
  async cipher(spec: CipherSpec): Promise<BlockCipher> {
    const cbc = spec.suite === "aes-256-cbc-hmac-sha256";
    const name = cbc ? "AES-CBC" : "AES-GCM";
    const key = await crypto.subtle.importKey("raw", spec.encryptionKey, name, false, ["encrypt", "decrypt"]);
    return cbc ? new CbcHmacCipher(spec, key, await importMacKey(spec.macKey)) : new GcmCipher(spec, key);
  },
};

/** Calls `work` for 0 to count - 1, at most {@linkcode IN_FLIGHT} under way. `use` gets the answers in order. */
async function inBatches<T>(
  count: number,
  work: (index: number) => Promise<T>,
  use: (index: number, answer: T) => void,
): Promise<void> {
  for (let first = 0; first < count; first += IN_FLIGHT) {
    const length = Math.min(IN_FLIGHT, count - first);
    const answers = await Promise.all(Array.from({ length }, (_, i) => work(first + i)));
    answers.forEach((answer, i) => use(first + i, answer));
  }
}

class CbcHmacCipher implements BlockCipher {
  readonly #spec: Pick<CipherSpec, "suite" | "containerId">;
  readonly #key: CryptoKey;
  readonly #macKey: CryptoKey;

  constructor({ suite, containerId }: CipherSpec, key: CryptoKey, macKey: CryptoKey) {
    this.#spec = { suite, containerId };
    this.#key = key;
    this.#macKey = macKey;
  }

  async seal(run: RunIdentity, plain: Uint8Array, sealed: Uint8Array): Promise<void> {
    const blocks = plain.length / BLOCK;
    for (let first = 0; first < blocks; first += CBC_BLOCKS) {
      const last = Math.min(first + CBC_BLOCKS, blocks);
      await this.#encrypt(plain.subarray(first * BLOCK, last * BLOCK), sealed.subarray(first * SEALED));
    }
    await this.#tags(run, sealed, (i, tag) => sealed.set(tag, i * SEALED + TAG_OFFSET));
  }

  async unseal(run: RunIdentity, sealed: Uint8Array, plain: Uint8Array): Promise<void> {
    const bad: number[] = [];
    await this.#tags(run, sealed, (i, tag) => {
      const end = (i + 1) * SEALED;
      if (!equalConstantTime(tag, sealed.subarray(end - TAG_BYTES, end))) bad.push(i);
    });
    if (bad.length > 0) {
      plain.fill(0);
      throw new IntegrityError("Sealed block does not verify", bad);
    }
    const blocks = plain.length / BLOCK;
    for (let first = 0; first < blocks; first += CBC_BLOCKS) {
      const last = Math.min(first + CBC_BLOCKS, blocks);
      await this.#decrypt(sealed.subarray(first * SEALED, last * SEALED), plain.subarray(first * BLOCK));
    }
  }

  /**
   * One call for all blocks: R1|P1|R2|P2... with fresh random R encrypts to IV1|C1|IV2|C2..., since the
   * ciphertext of R is what the next block is chained to, and is as random as R.
   */
  async #encrypt(plain: Uint8Array, sealed: Uint8Array): Promise<void> {
    const blocks = plain.length / BLOCK;
    const random = crypto.getRandomValues(new Uint8Array(blocks * IV_BYTES));
    const message = new Uint8Array(blocks * IV_BLOCK);
    for (let i = 0; i < blocks; i++) {
      message.set(random.subarray(i * IV_BYTES, (i + 1) * IV_BYTES), i * IV_BLOCK);
      message.set(plain.subarray(i * BLOCK, (i + 1) * BLOCK), i * IV_BLOCK + IV_BYTES);
    }
    const how = { name: "AES-CBC", iv: new Uint8Array(IV_BYTES) };
    const output = new Uint8Array(await crypto.subtle.encrypt(how, this.#key, message));
    message.fill(0);
    for (let i = 0; i < blocks; i++) {
      sealed.set(output.subarray(i * IV_BLOCK, (i + 1) * IV_BLOCK), i * SEALED);
    }
  }

  /**
   * One call for all blocks: what the IVs between them decrypt to is dropped. WebCrypto wants padding at the end,
   * which is the encryption of an empty message chained to the last ciphertext block.
   */
  async #decrypt(sealed: Uint8Array, plain: Uint8Array): Promise<void> {
    const blocks = sealed.length / SEALED;
    const message = new Uint8Array(blocks * IV_BLOCK + IV_BYTES);
    for (let i = 0; i < blocks; i++) {
      message.set(sealed.subarray(i * SEALED, i * SEALED + TAG_OFFSET), i * IV_BLOCK);
    }
    const end = message.length - IV_BYTES;
    const chained = { name: "AES-CBC", iv: message.slice(end - IV_BYTES, end) };
    const padding = await crypto.subtle.encrypt(chained, this.#key, new Uint8Array(0));
    message.set(new Uint8Array(padding), end);
    const how = { name: "AES-CBC", iv: message.slice(0, IV_BYTES) };
    const output = await crypto.subtle.decrypt(how, this.#key, message.subarray(IV_BYTES));
    const opened = new Uint8Array(output);
    for (let i = 0; i < blocks; i++) {
      plain.set(opened.subarray(i * IV_BLOCK, i * IV_BLOCK + BLOCK), i * BLOCK);
    }
    opened.fill(0);
  }

  #tags(run: RunIdentity, sealed: Uint8Array, use: (index: number, tag: Uint8Array) => void): Promise<void> {
    const blocks = sealed.length / SEALED, associated = new AssociatedData(this.#spec);
    const inputs = new Uint8Array(Math.min(IN_FLIGHT, blocks) * MAC_INPUT);
    associated.begin(run);
    return inBatches(blocks, (i) => {
      const start = i % IN_FLIGHT * MAC_INPUT, input = inputs.subarray(start, start + MAC_INPUT);
      associated.position = run.position + i;
      input.set(associated.bytes);
      input.set(sealed.subarray(i * SEALED, i * SEALED + TAG_OFFSET), ASSOCIATED_BYTES);
      return crypto.subtle.sign("HMAC", this.#macKey, input);
    }, (i, mac) => use(i, new Uint8Array(mac, 0, TAG_BYTES)));
  }

  [Symbol.dispose](): void {} // the keys lie in the runtime
}

class GcmCipher implements BlockCipher {
  readonly #spec: Pick<CipherSpec, "suite" | "containerId">;
  readonly #key: CryptoKey;

  constructor({ suite, containerId }: CipherSpec, key: CryptoKey) {
    this.#spec = { suite, containerId };
    this.#key = key;
  }

  async seal(run: RunIdentity, plain: Uint8Array, sealed: Uint8Array): Promise<void> {
    const parameters = this.#parameters(run);
    await inBatches(plain.length / BLOCK, (i) => {
      const iv = crypto.getRandomValues(new Uint8Array(IV_BYTES));
      sealed.set(iv, i * SEALED);
      const block = unshared(plain.subarray(i * BLOCK, (i + 1) * BLOCK));
      return crypto.subtle.encrypt(parameters(i, iv), this.#key, block);
    }, (i, output) => sealed.set(new Uint8Array(output), i * SEALED + IV_BYTES));
  }

  async unseal(run: RunIdentity, sealed: Uint8Array, plain: Uint8Array): Promise<void> {
    const parameters = this.#parameters(run), bad: number[] = [];
    await inBatches(plain.length / BLOCK, (i) => {
      const block = unshared(sealed.subarray(i * SEALED, (i + 1) * SEALED));
      const how = parameters(i, block.slice(0, IV_BYTES));
      return crypto.subtle.decrypt(how, this.#key, block.subarray(IV_BYTES)).catch(() => undefined);
    }, (i, output) => {
      if (output === undefined) bad.push(i);
      else plain.set(new Uint8Array(output), i * BLOCK);
    });
    if (bad.length === 0) return;
    plain.fill(0);
    throw new IntegrityError("Sealed block does not verify", bad);
  }

  #parameters(run: RunIdentity): (index: number, iv: Uint8Array<ArrayBuffer>) => AesGcmParams {
    const associated = new AssociatedData(this.#spec);
    associated.begin(run);
    return (index, iv) => {
      associated.position = run.position + index;
      return { name: "AES-GCM", iv, additionalData: associated.bytes.slice(), tagLength: TAG_BYTES * 8 };
    };
  }

  [Symbol.dispose](): void {} // the key lies in the runtime
}
