/** Frames on a byte stream: reading with a length limit before anything is allocated, writing with two priorities. */
import { ProtocolError } from "./protocol.ts";
import type { SpareBodies } from "./spare_bodies.ts";

/** Bytes of a frame's head (docs/protocol.md, section 2). */
export const FRAME_HEAD = 12;
/** Frames up to this size are copied together; longer ones are written from where they lie. */
const COALESCE = 64 * 1024;
/** Bytes that are written at a time: a slow peer that takes one piece after another is not stuck. */
const PIECE = 256 * 1024;

/** The part of a connection that frames need. */
export interface ByteStream {
  read(into: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
}

/** A frame that has arrived. Its body belongs to the receiver. */
export interface Frame {
  readonly operation: number;
  readonly direction: number;
  readonly status: number;
  readonly id: number;
  readonly body: Uint8Array<ArrayBuffer>;
}

/** What a frame's head says besides the length of the body. */
export type FrameHead = Omit<Frame, "body">;

/** Writes a frame's head at the start of `into`. */
export function putFrameHead(into: Uint8Array, head: FrameHead, bodyLength: number): void {
  const view = new DataView(into.buffer, into.byteOffset, FRAME_HEAD);
  view.setUint32(0, bodyLength, true);
  view.setUint8(4, head.operation);
  view.setUint8(5, head.direction);
  view.setUint16(6, head.status, true);
  view.setUint32(8, head.id, true);
}

/** Builds a frame: its head and `fields` in one buffer; `payloadLength` bytes are to follow in another. */
export function buildFrame(head: FrameHead, fields: Uint8Array, payloadLength = 0): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(FRAME_HEAD + fields.length);
  putFrameHead(frame, head, fields.length + payloadLength);
  frame.set(fields, FRAME_HEAD);
  return frame;
}

/** Reads frames from a stream. One caller at a time. */
export class FrameReader {
  readonly #stream: ByteStream;
  readonly #bodies: SpareBodies | undefined;
  readonly #buffer = new Uint8Array(COALESCE);
  #start = 0;
  #end = 0;
  /** When bytes came last, be they part of a frame only, as `performance.now()`. */
  heardAt = performance.now();
  /** Bytes that came so far. */
  bytesRead = 0;
  /** Longest body that is accepted, in bytes. */
  maxBody: number;

  /** @param bodies where bodies are taken from; absent: each is new */
  constructor(stream: ByteStream, maxBody: number, bodies?: SpareBodies) {
    this.#stream = stream;
    this.#bodies = bodies;
    this.maxBody = maxBody;
  }

  /**
   * Reads the next frame; undefined when the stream ended between two frames.
   *
   * @param admit called with the body's length before room for it is allocated; may wait
   * @throws {ProtocolError} if the frame is too long or the stream ends inside it
   */
  async next(admit?: (bodyLength: number) => void | Promise<void>): Promise<Frame | undefined> {
    while (this.#end - this.#start < FRAME_HEAD) {
      if (this.#start > 0) {
        this.#buffer.copyWithin(0, this.#start, this.#end);
        this.#end -= this.#start;
        this.#start = 0;
      }
      const count = await this.#read(this.#buffer.subarray(this.#end));
      if (count === null) {
        if (this.#end === this.#start) return undefined;
        throw new ProtocolError("Connection ended within a frame");
      }
      this.#end += count;
    }
    const view = new DataView(this.#buffer.buffer, this.#start, FRAME_HEAD);
    const length = view.getUint32(0, true);
    const operation = view.getUint8(4);
    const direction = view.getUint8(5);
    const status = view.getUint16(6, true);
    const id = view.getUint32(8, true);
    this.#start += FRAME_HEAD;
    if (length > this.maxBody) {
      throw new ProtocolError(`Frame of ${length} bytes is too long: at most ${this.maxBody}`);
    }
    const admitted = admit?.(length);
    if (admitted !== undefined) await admitted;
    const body = this.#bodies?.take(length) ?? new Uint8Array(length);
    let have = Math.min(length, this.#end - this.#start);
    body.set(this.#buffer.subarray(this.#start, this.#start + have));
    this.#start += have;
    while (have < length) {
      const count = await this.#read(body.subarray(have));
      if (count === null) throw new ProtocolError("Connection ended within a frame");
      have += count;
    }
    return { operation, direction, status, id, body };
  }

  async #read(into: Uint8Array): Promise<number | null> {
    const count = await this.#stream.read(into);
    this.heardAt = performance.now();
    this.bytesRead += count ?? 0;
    return count;
  }
}

interface Outgoing {
  readonly parts: readonly Uint8Array[];
  readonly size: number;
  readonly written: (() => void) | undefined;
}

/**
 * Writes frames to a stream, one after another. Urgent frames (reads, small replies) go before the others; among
 * themselves both kinds keep their order. Buffers belong to the writer until their frame is written.
 */
export class FrameWriter {
  readonly #stream: ByteStream;
  readonly #failed: (error: unknown) => void;
  #urgent: Outgoing[] = [];
  #bulk: Outgoing[] = [];
  #busy = false;
  #stopped = false;
  #idle: (() => void)[] = [];
  /** Frames handed over so far, and bytes that went out. */
  framesSent = 0;
  bytesWritten = 0;
  /** When the piece that is being written was begun, as `performance.now()`; undefined when nothing is. */
  busySince: number | undefined;

  /** @param failed called once when the stream does not take bytes any more */
  constructor(stream: ByteStream, failed: (error: unknown) => void) {
    this.#stream = stream;
    this.#failed = failed;
  }

  /**
   * Queues one frame.
   *
   * @param parts the frame, head first, in one or more buffers
   * @param options `urgent`: before the bulk ones; `written`: called when it has been written or given up
   */
  send(parts: readonly Uint8Array[], options: { urgent?: boolean; written?: () => void } = {}): void {
    if (this.#stopped) return options.written?.();
    this.framesSent++;
    let size = 0;
    for (const part of parts) size += part.length;
    (options.urgent ? this.#urgent : this.#bulk).push({ parts, size, written: options.written });
    if (!this.#busy) void this.#run();
  }

  /** Resolves when everything queued so far has been written or given up. */
  idle(): Promise<void> {
    return this.#busy ? new Promise((resolve) => this.#idle.push(resolve)) : Promise.resolve();
  }

  /** Gives up what is queued. */
  stop(): void {
    this.#stopped = true;
    for (const frame of [...this.#urgent.splice(0), ...this.#bulk.splice(0)]) frame.written?.();
  }

  async #run(): Promise<void> {
    this.#busy = true;
    try {
      for (;;) {
        const batch = this.#takeBatch();
        if (batch.length === 0) break;
        try {
          if (batch.length === 1 && batch[0]!.parts.length === 1) await this.#writeAll(batch[0]!.parts[0]!);
          else if (batch[0]!.size > COALESCE) {
            for (const part of batch[0]!.parts) await this.#writeAll(part);
          } else await this.#writeAll(joined(batch));
        } finally {
          this.busySince = undefined;
          for (const frame of batch) frame.written?.();
        }
      }
    } catch (error) {
      if (!this.#stopped) {
        this.stop();
        this.#failed(error);
      }
    } finally {
      this.#busy = false;
      for (const resolve of this.#idle.splice(0)) resolve();
    }
  }

  /** One long frame, or as many short ones as fit together. */
  #takeBatch(): Outgoing[] {
    const batch: Outgoing[] = [];
    let size = 0;
    for (const queue of [this.#urgent, this.#bulk]) {
      let taken = 0;
      while (taken < queue.length && (batch.length === 0 || size + queue[taken]!.size <= COALESCE)) {
        size += queue[taken]!.size;
        batch.push(queue[taken++]!);
      }
      queue.splice(0, taken);
      if (queue.length > 0) break;
    }
    return batch;
  }

  async #writeAll(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      this.busySince = performance.now();
      const count = await this.#stream.write(bytes.subarray(at, at + PIECE));
      this.bytesWritten += count;
      at += count;
    }
  }
}

function joined(batch: readonly Outgoing[]): Uint8Array {
  const bytes = new Uint8Array(batch.reduce((sum, frame) => sum + frame.size, 0));
  let at = 0;
  for (const frame of batch) {
    for (const part of frame.parts) {
      bytes.set(part, at);
      at += part.length;
    }
  }
  return bytes;
}
