/** Key material in memory: prints as `[secret]` and is zeroed when disposed. */
export class SecretBytes implements Disposable {
  #bytes: Uint8Array<ArrayBuffer> | undefined;

  /** @param bytes the secret; belongs to this object from now on */
  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.#bytes = bytes;
  }

  /** `length` random bytes. */
  static random(length: number): SecretBytes {
    return new SecretBytes(crypto.getRandomValues(new Uint8Array(length)));
  }

  /**
   * The secret itself, not a copy.
   *
   * @throws {Error} after it was disposed
   */
  get bytes(): Uint8Array<ArrayBuffer> {
    if (this.#bytes === undefined) throw new Error("Cannot use secret: it was disposed");
    return this.#bytes;
  }

  /** A second object with the same secret, to be disposed on its own. */
  clone(): SecretBytes {
    return new SecretBytes(this.bytes.slice());
  }

  /** Zeroes the secret. May be called twice. */
  [Symbol.dispose](): void {
    this.#bytes?.fill(0);
    this.#bytes = undefined;
  }

  toString(): string {
    return "[secret]";
  }
  toJSON(): string {
    return "[secret]";
  }
  [Symbol.for("Deno.customInspect")](): string {
    return "[secret]";
  }
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return "[secret]";
  }
}

/** A key as functions take it; it stays the caller's, and is neither changed nor kept. */
export type KeyBytes = Uint8Array | SecretBytes;

/** The bytes of a key, where they lie. */
export function keyBytes(key: KeyBytes): Uint8Array {
  return key instanceof SecretBytes ? key.bytes : key;
}
