/** Where the parts of a container lie in a file (docs/format.md, "Container"). Only stores ask for bytes. */
import { SEALED } from "../../crypto/sealer.ts";
import type { Position } from "../types.ts";
import type { HeaderRegion } from "./store.ts";

/** First byte of block 0. */
export const BLOCKS_AT = 131072;
/** First bytes of copy 0 and copy 1 of each header region; `HEADER_BYTES` tells their lengths. */
export const HEADER_AT: Readonly<Record<HeaderRegion, readonly [number, number]>> = {
  key: [0, 65536],
  super: [4096, 69632],
};

/** First byte of a block. */
export function blockOffset(position: Position): number {
  return BLOCKS_AT + position * SEALED;
}

/** How many whole blocks a container of this length holds. */
export function blocksIn(bytes: number): number {
  return Math.max(0, Math.floor((bytes - BLOCKS_AT) / SEALED));
}

/** How many blocks these sealed bytes are. @throws {RangeError} if that is no whole number, or none at all */
export function blocksOf(bytes: Uint8Array): number {
  const count = bytes.length / SEALED;
  if (!Number.isInteger(count) || count < 1) {
    throw new RangeError(`Not a whole number of sealed blocks: ${bytes.length} bytes`);
  }
  return count;
}
