/** Reading ahead of who reads a file from front to back, where the store takes its time. */
import { BLOCK } from "../crypto/sealer.ts";
import type { Container } from "./container.ts";
import type { FileOffset, Ino } from "./types.ts";

/** How far to read ahead in bytes: at first, and at most (90 ms of a link of 1 Gbit/s, and something). */
const WINDOW_FIRST = 1 << 20, WINDOW_MOST = 16 << 20;
/** Requests of one reader may overtake each other by so many bytes. */
const SLACK = 2 << 20;
/** Files whose readers are followed. */
const STREAMS = 64;

/** Where the reader of a file is. */
interface Stream {
  /** End of what was asked for. */
  next: FileOffset;
  /** End of what was fetched ahead. */
  ahead: FileOffset;
  window: number;
}

/**
 * Follows readers and has the store fetch what they will ask for next. The window doubles as long as the reader goes
 * on, so that at most as much is fetched in vain as was read.
 */
export class ReadAhead {
  readonly #container: Container;
  /** Least recently used first. */
  readonly #streams = new Map<Ino, Stream>();

  constructor(container: Container) {
    this.#container = container;
  }

  /** Call before reading [offset, end) of a file of `size` bytes. */
  reading(ino: Ino, { offset, end, size }: { offset: FileOffset; end: FileOffset; size: FileOffset }): void {
    if (this.#container.store.prefetch === undefined) return;
    const stream = this.#follow(ino, offset, end);
    if (stream === undefined || stream.ahead - stream.next >= stream.window / 2) return;
    const from = Math.max(stream.ahead, stream.next), to = Math.min(size, stream.next + stream.window);
    stream.window = Math.min(WINDOW_MOST, 2 * stream.window);
    if (to <= from) return;
    stream.ahead = to;
    this.#container.tables.extents.lookup(ino, from, to - from, (_offset, length, position) => {
      this.#container.store.prefetch?.(position, Math.ceil(length / BLOCK));
    });
  }

  /** @returns where the reader is, unless this looks like the first read or like one by chance */
  #follow(ino: Ino, offset: FileOffset, end: FileOffset): Stream | undefined {
    const stream = this.#streams.get(ino);
    this.#streams.delete(ino);
    if (stream !== undefined && Math.abs(offset - stream.next) <= SLACK) {
      stream.next = Math.max(stream.next, end);
      this.#streams.set(ino, stream);
      return stream;
    }
    const fresh = { next: end, ahead: end, window: WINDOW_FIRST };
    this.#streams.set(ino, fresh);
    if (this.#streams.size > STREAMS) this.#streams.delete(this.#streams.keys().next().value!);
    return offset === 0 ? fresh : undefined;
  }
}
