import type { Fenced } from "../errors.ts";
import type { Position } from "../types.ts";
import type { BlockStore, HeaderRegion, StoreSpace, StoreTraits } from "./store.ts";

/** A store that hands everything on to another: what decorators extend. Closing it closes the other. */
export class StoreDecorator implements BlockStore {
  protected readonly base: BlockStore;

  constructor(base: BlockStore) {
    this.base = base;
  }

  get traits(): StoreTraits {
    return this.base.traits;
  }

  read(position: Position, count: number, into?: Uint8Array): Uint8Array | Promise<Uint8Array> {
    return this.base.read(position, count, into);
  }

  write(position: Position, bytes: Uint8Array): Promise<void> | void {
    return this.base.write(position, bytes);
  }

  prefetch(position: Position, count: number): void {
    this.base.prefetch?.(position, count);
  }

  doubt(position: Position, count: number): void {
    this.base.doubt?.(position, count);
  }

  discard(position: Position, count: number): void {
    this.base.discard(position, count);
  }

  flush(): Promise<void> {
    return this.base.flush();
  }

  reserve(blocks: number): Promise<void> {
    return this.base.reserve(blocks);
  }

  size(): Promise<number> {
    return this.base.size();
  }

  space(): Promise<StoreSpace> {
    return this.base.space();
  }

  truncate(blocks: number): Promise<void> {
    return this.base.truncate(blocks);
  }

  readHeader(region: HeaderRegion, copy: 0 | 1): Promise<Uint8Array> {
    return this.base.readHeader(region, copy);
  }

  writeHeader(region: HeaderRegion, copy: 0 | 1, bytes: Uint8Array): Promise<void> | void {
    return this.base.writeHeader(region, copy, bytes);
  }

  get fenced(): Promise<Fenced> | undefined {
    return this.base.fenced;
  }

  refresh(): Promise<boolean> {
    return this.base.refresh();
  }

  close(): Promise<void> {
    return this.base.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
