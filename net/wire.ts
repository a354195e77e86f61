/** Fields of frame bodies: little-endian, bounds checked, u64 within what a number counts exactly. */
import { ProtocolError } from "./protocol.ts";

/** Writes fields one after another into a buffer of known length. */
export class FieldWriter {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  #at = 0;
  /** @param length of the whole, in bytes */
  constructor(length: number) {
    this.bytes = new Uint8Array(length);
    this.#view = new DataView(this.bytes.buffer);
  }
  u8(value: number): this {
    this.#view.setUint8(this.#at, value);
    this.#at += 1;
    return this;
  }
  u16(value: number): this {
    this.#view.setUint16(this.#at, value, true);
    this.#at += 2;
    return this;
  }
  u32(value: number): this {
    this.#view.setUint32(this.#at, value, true);
    this.#at += 4;
    return this;
  }
  u64(value: number): this {
    if (!Number.isSafeInteger(value) || value < 0) {
      throw new RangeError(`Not an unsigned 53-bit number: ${value}`);
    }
    this.#view.setUint32(this.#at, value % 0x1_0000_0000, true);
    this.#view.setUint32(this.#at + 4, Math.floor(value / 0x1_0000_0000), true);
    this.#at += 8;
    return this;
  }
  raw(value: Uint8Array): this {
    this.bytes.set(value, this.#at);
    this.#at += value.length;
    return this;
  }
  /** A name: u8 length and ASCII bytes. */
  name(value: string): this {
    return this.u8(value.length).raw(new TextEncoder().encode(value));
  }
}

/** Reads fields one after another; every overrun is a {@linkcode ProtocolError}. */
export class FieldReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }
  #take(length: number): number {
    const at = this.#at;
    if (at + length > this.#bytes.length) {
      throw new ProtocolError(`Frame body is too short: ${this.#bytes.length} bytes`);
    }
    this.#at = at + length;
    return at;
  }
  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }
  u16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }
  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }
  u64(): number {
    const at = this.#take(8);
    const high = this.#view.getUint32(at + 4, true);
    if (high > 0x1f_ffff) throw new ProtocolError("Number in a frame is above 2^53 - 1");
    return high * 0x1_0000_0000 + this.#view.getUint32(at, true);
  }
  /** A view of the next bytes. */
  raw(length: number): Uint8Array {
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }
  /** A view of all that is left. */
  rest(): Uint8Array {
    return this.raw(this.#bytes.length - this.#at);
  }
  /** A name as it is on the wire; whether it is a *container* name is for the caller to check. */
  name(): string {
    return String.fromCharCode(...this.raw(this.u8()));
  }
  /** Nothing may be left. */
  end(): void {
    if (this.#at !== this.#bytes.length) {
      throw new ProtocolError(`Frame body is too long: ${this.#bytes.length} bytes`);
    }
  }
}
