/** The bytes of many short names, and a hash of them that nobody outside can predict. */

/** Names lie in cells of this many bytes. */
const CELL = 4;
/** Cells of a chunk (256 KiB); a reference is chunk × CHUNK_CELLS + cell and fits 32 bits. */
const CHUNK_CELLS = 65536;
const CHUNKS_MAX = 65536;
/** Cells of the longest name (255 bytes). */
const CELLS_MAX = 64;

/** Keeps names of 1 to 255 bytes by reference; freed room is used again for names of about the same length. */
export class NameArena {
  readonly #bytes: Uint8Array[] = [];
  readonly #words: Uint32Array[] = [];
  /** By number of cells: reference + 1 of the first free place; its first word holds that of the next. */
  readonly #free = new Float64Array(CELLS_MAX + 1);
  /** Cells used of the last chunk. */
  #used = CHUNK_CELLS;

  /** Keeps a copy. @returns its reference */
  put(name: Uint8Array): number {
    const reference = this.#take((name.length + CELL - 1) >>> 2);
    const bytes = this.#bytes[reference >>> 16]!, at = (reference & 0xffff) * CELL;
    for (let i = 0; i < name.length; i++) bytes[at + i] = name[i]!;
    return reference;
  }

  /** Gives the room of a name back. */
  free(reference: number, length: number): void {
    const cells = (length + CELL - 1) >>> 2;
    this.#words[reference >>> 16]![reference & 0xffff] = this.#free[cells]!;
    this.#free[cells] = reference + 1;
  }

  /** Tells whether the name at `reference`, which is as long as `name`, is the same. */
  equals(reference: number, name: Uint8Array): boolean {
    const bytes = this.#bytes[reference >>> 16]!, at = (reference & 0xffff) * CELL;
    for (let i = 0; i < name.length; i++) if (bytes[at + i] !== name[i]) return false;
    return true;
  }

  /** A view that is valid until the next change. */
  view(reference: number, length: number): Uint8Array {
    const at = (reference & 0xffff) * CELL;
    return this.#bytes[reference >>> 16]!.subarray(at, at + length);
  }

  #take(cells: number): number {
    const free = this.#free[cells]!;
    if (free > 0) {
      const reference = free - 1;
      this.#free[cells] = this.#words[reference >>> 16]![reference & 0xffff]!;
      return reference;
    }
    if (this.#used + cells > CHUNK_CELLS) this.#begin();
    const reference = (this.#bytes.length - 1) * CHUNK_CELLS + this.#used;
    this.#used += cells;
    return reference;
  }

  #begin(): void {
    if (this.#bytes.length === CHUNKS_MAX) {
      throw new RangeError("Cannot keep name: 16 GiB of names are the limit");
    }
    const buffer = new ArrayBuffer(CHUNK_CELLS * CELL);
    this.#bytes.push(new Uint8Array(buffer));
    this.#words.push(new Uint32Array(buffer));
    this.#used = 0;
  }
}

/**
 * HalfSipHash-1-3 with a random key (`hsiphash`, Linux lib/siphash.c): names chosen to collide would otherwise turn
 * every lookup into a search.
 */
export class NameHash {
  readonly #key0: number;
  readonly #key1: number;

  constructor(key: Uint32Array = crypto.getRandomValues(new Uint32Array(2))) {
    this.#key0 = key[0]! | 0;
    this.#key1 = key[1]! | 0;
  }

  /** The hash of a number and the name after it, 32 bits unsigned. */
  of(number: number, name: Uint8Array): number {
    const k0 = this.#key0, k1 = this.#key1, { length } = name, whole = length >>> 2;
    let v0 = k0, v1 = k1, v2 = 0x6c796765 ^ k0, v3 = 0x74656462 ^ k1, word = number | 0;
    // The number, the whole words, the rest with the length, and three rounds to finish.
    for (let step = 0; step < whole + 5; step++) {
      v3 ^= word;
      v0 = (v0 + v1) | 0, v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0, v0 = (v0 << 16) | (v0 >>> 16);
      v2 = (v2 + v3) | 0, v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
      v0 = (v0 + v3) | 0, v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
      v2 = (v2 + v1) | 0, v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2, v2 = (v2 << 16) | (v2 >>> 16);
      v0 ^= word;
      const at = step * 4;
      if (step < whole) {
        word = name[at]! | (name[at + 1]! << 8) | (name[at + 2]! << 16) | (name[at + 3]! << 24);
      } else if (step === whole) {
        word = (length + 4) << 24;
        for (let i = at; i < length; i++) word |= name[i]! << ((i - at) * 8);
      } else {
        word = 0;
        if (step === whole + 1) v2 ^= 0xff;
      }
    }
    return (v1 ^ v3) >>> 0;
  }
}
