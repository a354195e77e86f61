import { BUF } from "./libfuse_structs.ts";
import type { Libfuse } from "./libfuse_symbols.ts";

/** Largest read or write of one request, in bytes. */
export const REQUEST_BYTES = 1 << 20;
/** Room for the headers and names before the data of a request (`FUSE_BUFFER_HEADER_SIZE`, with a large page). */
const HEADER_BYTES = 1 << 16;

interface ReceiveBuffer {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView;
  readonly address: bigint;
}

function receiveBuffer(): ReceiveBuffer {
  const bytes = new Uint8Array(REQUEST_BYTES + HEADER_BYTES);
  return {
    bytes,
    view: new DataView(bytes.buffer),
    address: Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes)),
  };
}

/**
 * Where requests are received: memory of JavaScript that libfuse reads into, so that what callbacks get by address
 * is a view without a copy. A buffer whose data is still needed after the callback is lent, and another one taken.
 */
export class Receiver {
  /** `struct fuse_buf`, for `fuse_session_receive_buf` and `fuse_session_process_buf`. */
  readonly buf: Uint8Array<ArrayBuffer>;
  readonly #bufView: DataView;
  readonly #memOffset: number;
  readonly #spare: ReceiveBuffer[] = [];
  #current: ReceiveBuffer;

  constructor(abi: Libfuse["abi"]) {
    this.buf = new Uint8Array(BUF[abi].size);
    this.#bufView = new DataView(this.buf.buffer);
    this.#memOffset = BUF[abi].mem;
    this.#current = receiveBuffer();
    this.#use(this.#current);
  }

  #use(buffer: ReceiveBuffer): void {
    this.#current = buffer;
    this.#bufView.setBigUint64(this.#memOffset, buffer.address, true);
  }

  /** Keeps the current buffer as it is until the function returned is called; requests go on in another one. */
  lend(): () => void {
    const lent = this.#current;
    this.#use(this.#spare.pop() ?? receiveBuffer());
    return () => {
      if (this.#spare.length < 4) this.#spare.push(lent);
    };
  }

  /** The message that is being worked on, with what an older one has left behind it. */
  get message(): Uint8Array<ArrayBuffer> {
    return this.#current.bytes;
  }

  /** A 32-bit number in that message. */
  u32(offset: number): number {
    return this.#current.view.getUint32(offset, true);
  }

  /** A view on `length` bytes at `address`, valid during the callback or until given back after {@linkcode lend}. */
  view(address: bigint, length: number): Uint8Array<ArrayBuffer> {
    const { bytes, address: start } = this.#current;
    const offset = Number(address - start);
    if (offset >= 0 && offset + length <= bytes.length) return bytes.subarray(offset, offset + length);
    // Not in the buffer, for whatever reason of the library's: then a copy, as its lifetime is unknown.
    const foreign = Deno.UnsafePointerView.getArrayBuffer(Deno.UnsafePointer.create(address)!, length);
    return new Uint8Array(foreign).slice();
  }

  /** A copy of the string at `address`, without its NUL. */
  string(address: bigint): Uint8Array<ArrayBuffer> {
    const { bytes, address: start } = this.#current;
    const offset = Number(address - start);
    if (offset >= 0 && offset < bytes.length) {
      const end = bytes.indexOf(0, offset);
      if (end >= 0) return bytes.slice(offset, end);
    }
    const view = new Deno.UnsafePointerView(Deno.UnsafePointer.create(address)!);
    let length = 0;
    while (view.getUint8(length) !== 0) length++;
    return this.view(address, length).slice();
  }
}
