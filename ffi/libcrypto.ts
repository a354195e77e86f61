/** Sealing by OpenSSL's libcrypto: the same bytes as WebCrypto, several times faster, answered at once. */
import {
  ASSOCIATED_BYTES,
  AssociatedData,
  type BlockCipher,
  type BlockEngine,
  type CipherSpec,
  IV_BYTES,
  TAG_BYTES,
  TAG_OFFSET,
} from "../crypto/engine.ts";
import { IntegrityError } from "../crypto/errors.ts";
import { BLOCK, Kind, type RunIdentity, SEALED } from "../crypto/sealer.ts";
import { SUITE_NAMES } from "../crypto/suites.ts";
import { webCryptoEngine } from "../crypto/webcrypto_engine.ts";
import {
  EVP_CTRL_AEAD_GET_TAG,
  EVP_CTRL_AEAD_SET_IVLEN,
  EVP_CTRL_AEAD_SET_TAG,
  type Libcrypto,
  LIBCRYPTO_NAMES,
  LIBCRYPTO_SYMBOLS,
  OPENSSL_INIT_NO_ATEXIT,
} from "./libcrypto_symbols.ts";

/** Blocks that are worked on at once: both sides of them stay in a core's cache. */
const SCRATCH_BLOCKS = 32;
/** IVs drawn by one call: the most that getRandomValues gives. */
const IV_POOL_BYTES = 65536;
const MAC_BYTES = 32;
/** `size_t` arguments, made once. */
const ASSOCIATED_LENGTH = BigInt(ASSOCIATED_BYTES), IV_BLOCK_LENGTH = BigInt(IV_BYTES + BLOCK);

/**
 * Opens libcrypto and tests it against WebCrypto.
 *
 * @returns undefined where there is no such library, it may not be loaded, or it does not give the same bytes
 */
export async function openLibcrypto(): Promise<LibcryptoEngine | undefined> {
  for (const file of LIBCRYPTO_NAMES[Deno.build.os] ?? []) {
    let engine: LibcryptoEngine;
    try {
      engine = new LibcryptoEngine(file);
    } catch {
      continue; // not there, not permitted, or without a symbol
    }
    if (await agreesWithWebCrypto(engine)) return engine;
    engine[Symbol.dispose]();
  }
  return undefined;
}

/** Tells whether what either engine seals the other opens, and that a changed block is refused. */
export async function agreesWithWebCrypto(engine: BlockEngine): Promise<boolean> {
  const random = (length: number) => crypto.getRandomValues(new Uint8Array(length));
  try {
    for (const suite of SUITE_NAMES) {
      const spec = { suite, containerId: random(16), encryptionKey: random(32), macKey: random(32) };
      const run = {
        session: random(16),
        generation: 1,
        position: 2 ** 32 - 1,
        birth: 2 ** 40 + 1,
        kind: Kind.data,
      };
      const plain = random(2 * BLOCK);
      using native = await engine.cipher(spec);
      using web = await webCryptoEngine.cipher(spec);
      for (const [from, to] of [[native, web], [web, native], [native, native]] as const) {
        const sealed = new Uint8Array(2 * SEALED), opened = new Uint8Array(2 * BLOCK);
        await from.seal(run, plain, sealed);
        await to.unseal(run, sealed, opened);
        if (!plain.every((byte, i) => byte === opened[i])) return false;
      }
      const changed = new Uint8Array(2 * SEALED);
      await native.seal(run, plain, changed);
      changed[SEALED + TAG_OFFSET]! ^= 1;
      if (!await refuses(native, run, changed)) return false;
    }
    return true;
  } catch {
    return false;
  }
}

async function refuses(cipher: BlockCipher, run: RunIdentity, sealed: Uint8Array): Promise<boolean> {
  try {
    await cipher.unseal(run, sealed, new Uint8Array(sealed.length / SEALED * BLOCK));
    return false;
  } catch (error) {
    return error instanceof IntegrityError;
  }
}

/** The engine of an open library. Disposing closes it and all of its ciphers. */
export class LibcryptoEngine implements BlockEngine, Disposable {
  readonly name = "libcrypto";
  /** File name of the library. */
  readonly file: string;
  readonly #library: Libcrypto;
  readonly #scratch = new Scratch();
  readonly #ciphers = new Set<LibcryptoCipher>();
  #closed = false;

  /** Opens the library, untested. @throws {Error} if it is not there, not permitted, or lacks a function */
  constructor(file: string) {
    this.file = file;
    this.#library = Deno.dlopen(file, LIBCRYPTO_SYMBOLS);
    this.#library.symbols.OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, null); // before any other call
  }

  /** Makes the reusable contexts of one generation of keys. */
  cipher(spec: CipherSpec): BlockCipher {
    if (this.#closed) throw new Error("Cannot use libcrypto: it was closed");
    const Cipher = spec.suite === "aes-256-gcm" ? GcmCipher : CbcHmacCipher;
    const closed = (cipher: LibcryptoCipher) => this.#ciphers.delete(cipher);
    const cipher = new Cipher(this.#library.symbols, this.#scratch, spec, closed);
    this.#ciphers.add(cipher);
    return cipher;
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const cipher of this.#ciphers) cipher[Symbol.dispose]();
    this.#library.close();
  }
}

/**
 * Buffers whose parts are views made once. Native calls get these views: nothing is allocated per block, no address
 * is computed, and what is verified is what is decrypted, whoever may change the caller's buffer meanwhile.
 */
class Scratch {
  readonly plain = new Uint8Array(SCRATCH_BLOCKS * BLOCK);
  readonly sealed = new Uint8Array(SCRATCH_BLOCKS * SEALED);
  readonly plainBlock = views(this.plain, BLOCK, 0, BLOCK);
  readonly iv = views(this.sealed, SEALED, 0, IV_BYTES);
  readonly ciphertext = views(this.sealed, SEALED, IV_BYTES, BLOCK);
  readonly ivAndCiphertext = views(this.sealed, SEALED, 0, IV_BYTES + BLOCK);
  readonly tag = views(this.sealed, SEALED, TAG_OFFSET, TAG_BYTES);
  readonly mac = new Uint8Array(MAC_BYTES);
  /** `int`: how many bytes a call has written. */
  readonly written = new Uint8Array(4);
  readonly #writtenCount = new Int32Array(this.written.buffer);
  readonly #ivPool = new Uint8Array(IV_POOL_BYTES);
  #ivUsed = IV_POOL_BYTES;

  /** Puts a fresh random IV before block `index`. */
  drawIv(index: number): void {
    if (this.#ivUsed === IV_POOL_BYTES) {
      crypto.getRandomValues(this.#ivPool);
      this.#ivUsed = 0;
    }
    const to = index * SEALED, from = this.#ivUsed;
    for (let i = 0; i < IV_BYTES; i++) this.sealed[to + i] = this.#ivPool[from + i]!;
    this.#ivUsed += IV_BYTES;
  }

  /** Holds the last call to a whole block. */
  wholeBlock(): boolean {
    return this.#writtenCount[0] === BLOCK;
  }
}

function views(whole: Uint8Array<ArrayBuffer>, stride: number, offset: number, length: number) {
  return Array.from(
    { length: SCRATCH_BLOCKS },
    (_, i) => whole.subarray(i * stride + offset, i * stride + offset + length),
  );
}

/** libcrypto refused a call that cannot fail with sound arguments. */
function failed(call: string): never {
  throw new Error(`libcrypto failed: ${call}`);
}

/** What both suites share: chunks, positions, clearing. Sub-classes seal and open block `i` of the scratch. */
abstract class LibcryptoCipher implements BlockCipher {
  protected readonly symbols: Libcrypto["symbols"];
  protected readonly scratch: Scratch;
  protected readonly associated: AssociatedData;
  readonly #closed: (cipher: LibcryptoCipher) => void;
  #disposed = false;

  constructor(
    symbols: Libcrypto["symbols"],
    scratch: Scratch,
    spec: CipherSpec,
    closed: (cipher: LibcryptoCipher) => void,
  ) {
    this.symbols = symbols;
    this.scratch = scratch;
    this.associated = new AssociatedData(spec);
    this.#closed = closed;
  }

  protected abstract sealBlock(index: number): void;
  /** @returns false if the block does not verify */
  protected abstract unsealBlock(index: number): boolean;
  protected abstract free(): void;

  seal(run: RunIdentity, plain: Uint8Array, sealed: Uint8Array): void {
    this.#begin(run);
    const { scratch, associated } = this, blocks = plain.length / BLOCK;
    try {
      for (let first = 0; first < blocks; first += SCRATCH_BLOCKS) {
        const count = Math.min(SCRATCH_BLOCKS, blocks - first);
        scratch.plain.set(plain.subarray(first * BLOCK, (first + count) * BLOCK));
        for (let i = 0; i < count; i++) {
          associated.position = run.position + first + i;
          scratch.drawIv(i);
          this.sealBlock(i);
        }
        sealed.set(scratch.sealed.subarray(0, count * SEALED), first * SEALED);
      }
    } finally {
      scratch.plain.fill(0, 0, Math.min(blocks, SCRATCH_BLOCKS) * BLOCK);
    }
  }

  unseal(run: RunIdentity, sealed: Uint8Array, plain: Uint8Array): void {
    this.#begin(run);
    const { scratch, associated } = this, blocks = plain.length / BLOCK, bad: number[] = [];
    let complete = false;
    try {
      for (let first = 0; first < blocks; first += SCRATCH_BLOCKS) {
        const count = Math.min(SCRATCH_BLOCKS, blocks - first);
        scratch.sealed.set(sealed.subarray(first * SEALED, (first + count) * SEALED));
        for (let i = 0; i < count; i++) {
          associated.position = run.position + first + i;
          if (!this.unsealBlock(i)) bad.push(first + i);
        }
        plain.set(scratch.plain.subarray(0, count * BLOCK), first * BLOCK);
      }
      complete = bad.length === 0;
    } finally {
      scratch.plain.fill(0, 0, Math.min(blocks, SCRATCH_BLOCKS) * BLOCK);
      if (!complete) plain.fill(0);
    }
    if (!complete) throw new IntegrityError("Sealed block does not verify", bad);
  }

  #begin(run: RunIdentity): void {
    if (this.#disposed) throw new Error("Cannot use cipher: it was disposed");
    this.associated.begin(run);
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.free();
    this.#closed(this);
  }
}

class CbcHmacCipher extends LibcryptoCipher {
  readonly #encrypt: Deno.PointerValue;
  readonly #decrypt: Deno.PointerValue;
  readonly #hmac: Deno.PointerValue;

  constructor(...made: ConstructorParameters<typeof LibcryptoCipher>) {
    super(...made);
    const { symbols } = this, { encryptionKey, macKey } = made[2];
    this.#encrypt = symbols.EVP_CIPHER_CTX_new();
    this.#decrypt = symbols.EVP_CIPHER_CTX_new();
    this.#hmac = symbols.HMAC_CTX_new();
    const done =
      symbols.EVP_EncryptInit_ex(this.#encrypt, symbols.EVP_aes_256_cbc(), null, encryptionKey, null) &&
      symbols.EVP_DecryptInit_ex(this.#decrypt, symbols.EVP_aes_256_cbc(), null, encryptionKey, null) &&
      symbols.EVP_CIPHER_CTX_set_padding(this.#encrypt, 0) &&
      symbols.EVP_CIPHER_CTX_set_padding(this.#decrypt, 0) &&
      symbols.HMAC_Init_ex(this.#hmac, macKey, macKey.length, symbols.EVP_sha256(), null);
    if (done !== 1) {
      this.free();
      failed("context of AES-256-CBC and HMAC-SHA-256");
    }
  }

  protected override sealBlock(i: number): void {
    const { symbols, scratch } = this;
    const { written } = scratch, plain = scratch.plainBlock[i]!, ciphertext = scratch.ciphertext[i]!;
    if (symbols.EVP_EncryptInit_ex(this.#encrypt, null, null, null, scratch.iv[i]!) !== 1) {
      failed("EVP_EncryptInit_ex");
    }
    const done = symbols.EVP_EncryptUpdate(this.#encrypt, ciphertext, written, plain, BLOCK);
    if (done !== 1 || !scratch.wholeBlock()) failed("EVP_EncryptUpdate");
    this.#makeMac(i);
    const tag = scratch.tag[i]!;
    for (let k = 0; k < TAG_BYTES; k++) tag[k] = scratch.mac[k]!;
  }

  protected override unsealBlock(i: number): boolean {
    const { symbols, scratch } = this;
    this.#makeMac(i);
    const tag = scratch.tag[i]!;
    let difference = 0;
    for (let k = 0; k < TAG_BYTES; k++) difference |= tag[k]! ^ scratch.mac[k]!;
    if (difference !== 0) return false;
    const { written } = scratch, plain = scratch.plainBlock[i]!, ciphertext = scratch.ciphertext[i]!;
    if (symbols.EVP_DecryptInit_ex(this.#decrypt, null, null, null, scratch.iv[i]!) !== 1) {
      failed("EVP_DecryptInit_ex");
    }
    const done = symbols.EVP_DecryptUpdate(this.#decrypt, plain, written, ciphertext, BLOCK);
    if (done !== 1 || !scratch.wholeBlock()) failed("EVP_DecryptUpdate");
    return true;
  }

  /** Without a key, HMAC_Init_ex begins anew with the one it has: measured the fastest way to HMAC many messages. */
  #makeMac(i: number): void {
    const { symbols, scratch } = this, hmac = this.#hmac;
    const done = symbols.HMAC_Init_ex(hmac, null, 0, null, null) &&
      symbols.HMAC_Update(hmac, this.associated.bytes, ASSOCIATED_LENGTH) &&
      symbols.HMAC_Update(hmac, scratch.ivAndCiphertext[i]!, IV_BLOCK_LENGTH) &&
      symbols.HMAC_Final(hmac, scratch.mac, null);
    if (done !== 1) failed("HMAC-SHA-256");
  }

  protected override free(): void {
    this.symbols.EVP_CIPHER_CTX_free(this.#encrypt);
    this.symbols.EVP_CIPHER_CTX_free(this.#decrypt);
    this.symbols.HMAC_CTX_free(this.#hmac);
  }
}

class GcmCipher extends LibcryptoCipher {
  readonly #encrypt: Deno.PointerValue;
  readonly #decrypt: Deno.PointerValue;

  constructor(...made: ConstructorParameters<typeof LibcryptoCipher>) {
    super(...made);
    const { symbols } = this, { encryptionKey } = made[2];
    this.#encrypt = symbols.EVP_CIPHER_CTX_new();
    this.#decrypt = symbols.EVP_CIPHER_CTX_new();
    const done = symbols.EVP_EncryptInit_ex(this.#encrypt, symbols.EVP_aes_256_gcm(), null, null, null) &&
      symbols.EVP_CIPHER_CTX_ctrl(this.#encrypt, EVP_CTRL_AEAD_SET_IVLEN, IV_BYTES, null) &&
      symbols.EVP_EncryptInit_ex(this.#encrypt, null, null, encryptionKey, null) &&
      symbols.EVP_DecryptInit_ex(this.#decrypt, symbols.EVP_aes_256_gcm(), null, null, null) &&
      symbols.EVP_CIPHER_CTX_ctrl(this.#decrypt, EVP_CTRL_AEAD_SET_IVLEN, IV_BYTES, null) &&
      symbols.EVP_DecryptInit_ex(this.#decrypt, null, null, encryptionKey, null);
    if (done !== 1) {
      this.free();
      failed("context of AES-256-GCM");
    }
  }

  protected override sealBlock(i: number): void {
    const { symbols, scratch } = this, context = this.#encrypt, { written } = scratch;
    const ad = this.associated.bytes, plain = scratch.plainBlock[i]!, ciphertext = scratch.ciphertext[i]!;
    const done = symbols.EVP_EncryptInit_ex(context, null, null, null, scratch.iv[i]!) &&
      symbols.EVP_EncryptUpdate(context, null, written, ad, ASSOCIATED_BYTES) &&
      symbols.EVP_EncryptUpdate(context, ciphertext, written, plain, BLOCK);
    if (done !== 1 || !scratch.wholeBlock()) failed("EVP_EncryptUpdate");
    const ended = symbols.EVP_EncryptFinal_ex(context, scratch.mac, written) &&
      symbols.EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, scratch.tag[i]!);
    if (ended !== 1) failed("EVP_EncryptFinal_ex");
  }

  protected override unsealBlock(i: number): boolean {
    const { symbols, scratch } = this, context = this.#decrypt, { written } = scratch;
    const ad = this.associated.bytes, plain = scratch.plainBlock[i]!, ciphertext = scratch.ciphertext[i]!;
    const done = symbols.EVP_DecryptInit_ex(context, null, null, null, scratch.iv[i]!) &&
      symbols.EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, scratch.tag[i]!) &&
      symbols.EVP_DecryptUpdate(context, null, written, ad, ASSOCIATED_BYTES) &&
      symbols.EVP_DecryptUpdate(context, plain, written, ciphertext, BLOCK);
    if (done !== 1 || !scratch.wholeBlock()) failed("EVP_DecryptUpdate");
    return symbols.EVP_DecryptFinal_ex(context, scratch.mac, written) === 1;
  }

  protected override free(): void {
    this.symbols.EVP_CIPHER_CTX_free(this.#encrypt);
    this.symbols.EVP_CIPHER_CTX_free(this.#decrypt);
  }
}
