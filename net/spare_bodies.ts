/** Memory for what streams bring, used over and over. */

/** Bodies of this size, in bytes, are worth using again, and so many bytes of them are kept. */
const REUSED = { from: 64 << 10, to: 512 << 10, kept: 8 << 20 } as const;

/**
 * Bodies of frames that nobody needs any more, for the next ones of the same length: what streams bring is alike, and
 * memory that comes and goes by the megabyte keeps the collector of garbage busy.
 */
export class SpareBodies {
  readonly #free = new Map<number, Uint8Array<ArrayBuffer>[]>();
  #bytes = 0;

  /** A body of that length, whatever is in it. */
  take(length: number): Uint8Array<ArrayBuffer> {
    const free = this.#free.get(length), body = free?.pop();
    if (body === undefined) return new Uint8Array(length);
    this.#bytes -= length;
    if (free!.length === 0) this.#free.delete(length);
    return body;
  }

  /** Takes one that nobody uses any more. */
  give(body: Uint8Array<ArrayBuffer>): void {
    const { length } = body;
    if (length < REUSED.from || length > REUSED.to) return;
    if (this.#bytes + length > REUSED.kept) {
      this.#free.clear(); // of other lengths than are needed now
      this.#bytes = 0;
    }
    const free = this.#free.get(length);
    if (free === undefined) this.#free.set(length, [body]);
    else free.push(body);
    this.#bytes += length;
  }
}
