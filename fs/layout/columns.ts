/** Helpers for tables that are made of typed-array columns: growth without a long pause, and sets of row numbers. */

/** A column: one number a row. */
export type Column = Uint8Array | Int32Array | Uint32Array | Float64Array;

/** Rows that a group begins with. */
const ROWS_LEAST = 1024;
/** Up to this many rows columns are copied when they grow; larger ones grow in place. */
const ROWS_COPIED = 16384;
/** How many rows more a large column gets at least. */
const ROWS_STEP = 65536;
/** How many rows a large column can have before it has to be copied: address space, not memory. */
const ROWS_RESERVED = 2 ** 26;

/** Grows the columns of one table together. Large ones grow in place: no pause, and no old copy to be collected. */
export class ColumnGroup<K extends string> {
  readonly #owner: Record<K, Column>;
  readonly #names: readonly K[];
  #rows = 0;

  /**
   * @param owner holds the columns as properties; they may be replaced by larger ones, so nobody is to keep them
   * @param names which properties
   */
  constructor(owner: Readonly<Record<K, Column>>, names: readonly K[]) {
    this.#owner = owner as Record<K, Column>;
    this.#names = names;
  }

  /** Makes room for this row; new rows are zero. */
  need(row: number): void {
    if (row >= this.#rows) this.#grow(row);
  }

  #grow(row: number): void {
    const more = this.#rows < ROWS_COPIED ? this.#rows : Math.max(ROWS_STEP, this.#rows >>> 2);
    const rows = Math.max(ROWS_LEAST, row + 1, this.#rows + more);
    for (const name of this.#names) {
      const column = this.#owner[name],
        buffer = column.buffer as ArrayBuffer,
        bytes = rows * column.BYTES_PER_ELEMENT;
      if (buffer.resizable && bytes <= buffer.maxByteLength) buffer.resize(bytes);
      else this.#owner[name] = enlarged(column, rows);
    }
    this.#rows = rows;
  }
}

/** A copy with more rows; a large one that can grow further in place, if there is address space for that. */
function enlarged<T extends Column>(column: T, rows: number): T {
  const make = column.constructor as new (room: number | ArrayBuffer) => T;
  let larger: T;
  try {
    larger = new make(rows > ROWS_COPIED ? growable(rows, column.BYTES_PER_ELEMENT) : rows);
  } catch {
    larger = new make(rows);
  }
  larger.set(column);
  return larger;
}

function growable(rows: number, width: number): ArrayBuffer {
  return new ArrayBuffer(rows * width, { maxByteLength: Math.max(ROWS_RESERVED, rows * 4) * width });
}

/**
 * A set of row numbers that tells its lowest one. A bit a number, and above it levels with a bit for each word below
 * that is not zero: every operation looks at one word a level.
 */
export class NumberSet {
  #levels: Uint32Array[] = [new Uint32Array(32), new Uint32Array(1)];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  has(number: number): boolean {
    return (((this.#levels[0]![number >>> 5] ?? 0) >>> (number & 31)) & 1) === 1;
  }

  add(number: number): void {
    if (this.has(number)) return;
    if (number >>> 5 >= this.#levels[0]!.length) this.#grow(number);
    this.#size++;
    for (const level of this.#levels) {
      const word = number >>> 5, before = level[word]!;
      level[word] = before | (1 << (number & 31));
      if (before !== 0) return;
      number = word;
    }
  }

  delete(number: number): void {
    if (!this.has(number)) return;
    this.#size--;
    for (const level of this.#levels) {
      const word = number >>> 5;
      level[word] = level[word]! & ~(1 << (number & 31));
      if (level[word] !== 0) return;
      number = word;
    }
  }

  /** @returns the lowest number, or -1 if there is none */
  lowest(): number {
    if (this.#size === 0) return -1;
    let at = 0;
    for (let i = this.#levels.length - 1; i >= 0; i--) {
      const word = this.#levels[i]![at]!;
      at = at * 32 + 31 - Math.clz32(word & -word);
    }
    return at;
  }

  #grow(number: number): void {
    const words = Math.max((number >>> 5) + 1, this.#levels[0]!.length * 2);
    const bits = new Uint32Array(words), levels = [bits];
    bits.set(this.#levels[0]!);
    for (let below = bits; below.length > 1;) {
      const level = new Uint32Array(Math.ceil(below.length / 32));
      for (let i = 0; i < below.length; i++) if (below[i] !== 0) level[i >>> 5]! |= 1 << (i & 31);
      levels.push(level);
      below = level;
    }
    this.#levels = levels;
  }
}
