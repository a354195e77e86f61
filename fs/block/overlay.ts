/** A store over another one that is only read: what is written stays in memory. For trying what a change would do. */
import { SEALED } from "../../crypto/sealer.ts";
import { FsError } from "../errors.ts";
import type { Position } from "../types.ts";
import { blocksOf } from "./byte_layout.ts";
import { StoreDecorator } from "./decorator.ts";
import type { HeaderRegion } from "./store.ts";

/** Keeps all changes to itself. Closing it leaves the store below as it is: open, and its owner's. */
export class OverlayStore extends StoreDecorator {
  readonly #blocks = new Map<Position, Uint8Array>();
  readonly #headers = new Map<string, Uint8Array>();
  /** Blocks, once that differs from the store below; and how many of that one's were never cut off. */
  #size: number | undefined;
  #uncut = Infinity;

  override async read(position: Position, count: number, into?: Uint8Array): Promise<Uint8Array> {
    const bytes = await super.read(position, count, into);
    for (let i = 0; i < count; i++) {
      const block = this.#blocks.get(position + i), at = i * SEALED;
      if (block) bytes.set(block, at);
      else if (position + i >= this.#uncut) bytes.fill(0, at, at + SEALED);
    }
    return bytes;
  }

  override async write(position: Position, bytes: Uint8Array): Promise<void> {
    const count = blocksOf(bytes), copy = bytes.slice();
    for (let i = 0; i < count; i++) {
      this.#blocks.set(position + i, copy.subarray(i * SEALED, (i + 1) * SEALED));
    }
    this.#size = Math.max(await this.size(), position + count);
  }

  override discard(): void {}

  override flush(): Promise<void> {
    return Promise.resolve();
  }

  override async reserve(blocks: number): Promise<void> {
    const size = await this.size(), { free } = await super.space();
    if (blocks - await super.size() > free) {
      throw new FsError("ENOSPC", `Cannot reserve ${blocks} blocks: no space left`);
    }
    this.#size = Math.max(size, blocks);
  }

  override async size(): Promise<number> {
    return this.#size ?? await super.size();
  }

  override async truncate(blocks: number): Promise<void> {
    this.#size = Math.min(await this.size(), blocks);
    this.#uncut = Math.min(this.#uncut, blocks);
    for (const position of this.#blocks.keys()) if (position >= blocks) this.#blocks.delete(position);
  }

  override readHeader(region: HeaderRegion, copy: 0 | 1): Promise<Uint8Array> {
    const bytes = this.#headers.get(region + copy);
    return bytes ? Promise.resolve(bytes.slice()) : super.readHeader(region, copy);
  }

  override writeHeader(region: HeaderRegion, copy: 0 | 1, bytes: Uint8Array): void {
    this.#headers.set(region + copy, bytes.slice());
  }

  override refresh(): Promise<boolean> {
    return Promise.resolve(false);
  }

  override close(): Promise<void> {
    return Promise.resolve();
  }
}
