/** A store that writes down what is done to it, in order: what crash tests are made from (`crash.ts`). */
import { SEALED } from "../../crypto/sealer.ts";
import type { Position } from "../types.ts";
import { blocksOf } from "./byte_layout.ts";
import { StoreDecorator } from "./decorator.ts";
import type { BlockStore, HeaderRegion } from "./store.ts";

/** Something that was done to a store. Bytes are copies, taken at the call. */
export type StoreEvent =
  | { readonly kind: "write"; readonly position: Position; readonly bytes: Uint8Array }
  | {
    readonly kind: "header";
    readonly region: HeaderRegion;
    readonly copy: 0 | 1;
    readonly bytes: Uint8Array;
  }
  | { readonly kind: "discard"; readonly position: Position; readonly count: number }
  | { readonly kind: "truncate"; readonly blocks: number }
  /** Room was made; recorded when that was answered. */
  | { readonly kind: "reserve"; readonly blocks: number }
  /** A flush was called: it covers all events before this one. `flush` counts from 1. */
  | { readonly kind: "flush-begin"; readonly flush: number }
  /** That flush has resolved. */
  | { readonly kind: "flush-acknowledged"; readonly flush: number };

/** What was recorded, and what the container was before: its bytes as they lie in a file. */
export interface Recording {
  readonly initial: Uint8Array;
  readonly events: readonly StoreEvent[];
}

/** Options of a recording store. */
export interface RecordingOptions {
  /** The bytes that the store below holds already, as in a file; default: none. */
  readonly initial?: Uint8Array;
  /**
   * Fills discarded blocks with garbage once the next flush has resolved, so that whoever still needs them notices.
   */
  readonly scribble?: boolean;
}

/** Records every change in the order of the calls, and hands it on. */
export class RecordingStore extends StoreDecorator implements Recording {
  readonly initial: Uint8Array;
  readonly #events: StoreEvent[] = [];
  readonly #scribble: boolean;
  readonly #discarded = new Map<Position, number>();
  #flushes = 0;

  constructor(base: BlockStore, options: RecordingOptions = {}) {
    super(base);
    this.initial = options.initial ?? new Uint8Array(0);
    this.#scribble = options.scribble ?? false;
  }

  /** What was recorded so far; its length is the number of a moment: a crash there has seen so many events. */
  get events(): readonly StoreEvent[] {
    return this.#events;
  }

  override write(position: Position, bytes: Uint8Array): Promise<void> | void {
    const count = blocksOf(bytes);
    this.#events.push({ kind: "write", position, bytes: bytes.slice() });
    if (this.#discarded.size > 0) {
      for (let i = 0; i < count; i++) this.#discarded.delete(position + i);
    }
    return super.write(position, bytes);
  }

  override writeHeader(region: HeaderRegion, copy: 0 | 1, bytes: Uint8Array): Promise<void> | void {
    this.#events.push({ kind: "header", region, copy, bytes: bytes.slice() });
    return super.writeHeader(region, copy, bytes);
  }

  override discard(position: Position, count: number): void {
    const event = this.#events.push({ kind: "discard", position, count });
    if (this.#scribble) { for (let i = 0; i < count; i++) this.#discarded.set(position + i, event); }
    super.discard(position, count);
  }

  override truncate(blocks: number): Promise<void> {
    this.#events.push({ kind: "truncate", blocks });
    for (const position of this.#discarded.keys()) {
      if (position >= blocks) this.#discarded.delete(position);
    }
    return super.truncate(blocks);
  }

  override async reserve(blocks: number): Promise<void> {
    await super.reserve(blocks);
    this.#events.push({ kind: "reserve", blocks });
  }

  override async flush(): Promise<void> {
    const flush = ++this.#flushes, begin = this.#events.push({ kind: "flush-begin", flush });
    await super.flush();
    this.#events.push({ kind: "flush-acknowledged", flush });
    for (const [position, event] of this.#discarded) {
      if (event > begin) continue;
      this.#discarded.delete(position);
      await super.write(position, new Uint8Array(SEALED).fill(0xdb));
    }
  }
}
