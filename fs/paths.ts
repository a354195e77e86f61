/** Paths of inodes, for messages: found from the entries upwards. */
import type { Tables } from "./layout/tables.ts";
import { type Ino, ROOT } from "./types.ts";

/** Directories in a path at most: more are a circle, or not worth telling. */
const DEPTH_MOST = 4096;

/** Finds paths in tables that do not change meanwhile; where the first ones do not name an inode, in the next ones. */
export class Paths {
  readonly #tables: readonly Tables[];
  /** For each of the tables, slot + 1 of the first entry that names an inode; made when it is first asked for. */
  readonly #slots: (Int32Array | undefined)[] = [];

  constructor(...tables: readonly Tables[]) {
    this.#tables = tables;
  }

  /** A path of an inode, in bytes; empty if no entry names it. Where its directory is not reached, it begins there. */
  of(ino: Ino): Uint8Array {
    if (ino === ROOT) return Uint8Array.of(0x2f);
    for (const [i, tables] of this.#tables.entries()) {
      const slot = this.#slotOf(i, ino);
      if (slot >= 0) return this.entry(tables.dentries.parentAt(slot), tables.dentries.nameAt(slot));
    }
    return new Uint8Array(0);
  }

  /** The path of an entry of a directory. */
  entry(parent: Ino, name: Uint8Array): Uint8Array {
    const parts = [name];
    for (let at = parent, steps = 0; at !== ROOT && steps < DEPTH_MOST; steps++) {
      const dentries = this.#tables.find((one) => one.dentries.directoryEntryOf(at) >= 0)?.dentries;
      if (dentries === undefined) break;
      const slot = dentries.directoryEntryOf(at);
      parts.push(dentries.nameAt(slot));
      at = dentries.parentAt(slot);
    }
    const path = new Uint8Array(parts.reduce((sum, part) => sum + 1 + part.length, 0));
    let to = 0;
    for (const part of parts.reverse()) {
      path[to] = 0x2f;
      path.set(part, to + 1);
      to += 1 + part.length;
    }
    return path;
  }

  #slotOf(which: number, ino: Ino): number {
    const { dentries, inodes } = this.#tables[which]!, own = dentries.directoryEntryOf(ino);
    if (own >= 0) return own;
    let slots = this.#slots[which];
    if (slots === undefined) {
      slots = this.#slots[which] = new Int32Array(inodes.end);
      for (let slot = 0; slot < dentries.end; slot++) {
        const named = dentries.live(slot) ? dentries.inoAt(slot) : -1;
        if (named >= 0 && named < slots.length && slots[named] === 0) slots[named] = slot + 1;
      }
    }
    return (slots[ino] ?? 0) - 1;
  }
}
