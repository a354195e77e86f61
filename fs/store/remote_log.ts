/** What a remote store has written and no flush has covered: kept to be sent again, and to be read meanwhile. */
import { SEALED } from "../../crypto/sealer.ts";
import { Op } from "../../net/mod.ts";

/** One ordered operation. */
export interface LogEntry {
  readonly operation: Op;
  /** The body of its request, or the beginning of it. */
  readonly fields: Uint8Array;
  /** The rest of the body: a copy, which stays as it is until a flush covers it. */
  readonly payload?: Uint8Array;
  /** First block of a write. */
  readonly position: number;
  /** Blocks of a write. */
  readonly count: number;
  /** Whom to tell when the server has executed it; taken away when told. */
  settle?: { readonly resolve: () => void; readonly reject: (error: unknown) => void } | undefined;
  /** The server has answered on the present connection. */
  answered: boolean;
}

/** Bytes that an entry counts for in the credit window. */
export function entryBytes(entry: LogEntry): number {
  return entry.fields.length + (entry.payload?.length ?? 0);
}

/** The ordered operations since the last flush that was acknowledged, in order. */
export class UnflushedLog {
  readonly #entries: LogEntry[] = [];
  /** The newest write of each block. */
  readonly #blocks = new Map<number, LogEntry>();
  /** The newest write of each header copy, by region * 2 + copy. */
  readonly #headers = new Map<number, LogEntry>();
  #next = 0;
  /** Bytes of entries that were not answered on the present connection. */
  unanswered = 0;
  /** Bytes of all entries, and of those behind the last flush. */
  bytes = 0;
  unflushed = 0;

  get length(): number {
    return this.#entries.length;
  }

  append(entry: LogEntry): void {
    this.#entries.push(entry);
    this.unanswered += entryBytes(entry);
    this.bytes += entryBytes(entry);
    this.unflushed = entry.operation === Op.flush ? 0 : this.unflushed + entryBytes(entry);
    if (entry.operation === Op.write) {
      for (let i = 0; i < entry.count; i++) this.#blocks.set(entry.position + i, entry);
    } else if (entry.operation === Op.writeHeader) {
      this.#headers.set(entry.position, entry);
    } else if (entry.operation === Op.truncate) {
      for (const position of this.#blocks.keys()) {
        if (position >= entry.position) this.#blocks.delete(position);
      }
    }
  }

  /** The next entry to send; undefined when all were sent. */
  peek(): LogEntry | undefined {
    return this.#entries[this.#next];
  }

  /** Says that what {@linkcode UnflushedLog.peek} told was sent. */
  sent(): void {
    this.#next++;
  }

  answered(entry: LogEntry): void {
    entry.answered = true;
    this.unanswered -= entryBytes(entry);
  }

  /** A new connection: everything is to be sent again. */
  rewind(): void {
    this.#next = 0;
    this.unanswered = 0;
    for (const entry of this.#entries) {
      entry.answered = false;
      this.unanswered += entryBytes(entry);
    }
  }

  /** A flush was acknowledged: it and all before it are durable. @returns them */
  cover(flush: LogEntry): LogEntry[] {
    const covered = this.#entries.splice(0, this.#entries.indexOf(flush) + 1);
    for (const entry of covered) this.#forget(entry);
    this.#next -= covered.length;
    return covered;
  }

  /** Takes out an entry that the server refused without effect. */
  remove(entry: LogEntry): void {
    const index = this.#entries.indexOf(entry);
    if (index < 0) return;
    this.#entries.splice(index, 1);
    if (index < this.#next) this.#next--;
    if (!entry.answered) this.unanswered -= entryBytes(entry);
    this.bytes -= entryBytes(entry);
  }

  /** Gives everything up; @returns those who still wait */
  clear(): LogEntry[] {
    const all = this.#entries.splice(0);
    this.#blocks.clear();
    this.#headers.clear();
    this.#next = 0;
    this.unanswered = this.bytes = this.unflushed = 0;
    return all;
  }

  /** Whether something could be lost, or somebody waits: discards, and room that is there, are neither. */
  get matters(): boolean {
    return this.#entries.some(({ payload, settle }) => payload !== undefined || settle !== undefined);
  }

  #forget(entry: LogEntry): void {
    this.bytes -= entryBytes(entry);
    if (entry.operation === Op.write) {
      for (let i = 0; i < entry.count; i++) {
        if (this.#blocks.get(entry.position + i) === entry) this.#blocks.delete(entry.position + i);
      }
    } else if (entry.operation === Op.writeHeader && this.#headers.get(entry.position) === entry) {
      this.#headers.delete(entry.position);
    }
  }

  /**
   * What of `count` blocks from `position` is here; undefined if nothing is. Its bytes are copied, as those here are used
   * again after the flush.
   */
  overlay(position: number, count: number): Overlay | undefined {
    if (this.#blocks.size === 0) return undefined;
    let overlay: Overlay | undefined;
    for (let i = 0; i < count; i++) {
      const entry = this.#blocks.get(position + i);
      if (entry === undefined) continue;
      overlay ??= new Overlay(count);
      overlay.put(i, entry.payload!.subarray((position + i - entry.position) * SEALED));
    }
    return overlay;
  }

  /** A copy of the header that was written last; undefined if none waits. */
  header(index: number): Uint8Array | undefined {
    return this.#headers.get(index)?.payload?.slice();
  }
}

/** Blocks of a read that are answered from memory. */
export class Overlay {
  readonly bytes: Uint8Array;
  readonly #here: Uint8Array;

  constructor(count: number) {
    this.bytes = new Uint8Array(count * SEALED);
    this.#here = new Uint8Array(count);
  }

  put(index: number, from: Uint8Array): void {
    this.bytes.set(from.subarray(0, SEALED), index * SEALED);
    this.#here[index] = 1;
  }

  /** First missing block and the one behind the last; undefined if none is missing. */
  missing(): { first: number; end: number } | undefined {
    const first = this.#here.indexOf(0);
    return first < 0 ? undefined : { first, end: this.#here.lastIndexOf(0) + 1 };
  }

  /** Fills in what is missing from `bytes`, which begin at block `first`. */
  fill(first: number, bytes: Uint8Array): void {
    for (let i = 0; i * SEALED < bytes.length; i++) {
      if (this.#here[first + i] === 0) this.put(first + i, bytes.subarray(i * SEALED));
    }
  }
}
