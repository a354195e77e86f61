/** The directory entries in memory: columns by slot, a hash of (directory, name), and each directory's list. */
import type { ListedEntry } from "../filesystem.ts";
import type { Ino } from "../types.ts";
import { ColumnGroup } from "./columns.ts";
import { NameArena, NameHash } from "./names.ts";

/** The hash is cut into this many parts (by its top 8 bits) that grow alone, so that no growth takes long. */
const SHARDS = 256;
const SHARD_LEAST = 8;
/** What is known about directories lies in pieces of 256 ids, made when needed: ids may be far apart. */
const PIECE_BITS = 8, PIECE_MASK = 255;
/** Numbers a directory: first and last slot + 1, count, slot + 1 of the entry that names the directory. */
const FIELDS = 4, HEAD = 0, TAIL = 1, COUNT = 2, OWN = 3;
/** How many places in listings are remembered. */
const PLACES = 64;
/** Flags of an entry: it names a directory; a remembered place may be at it. */
const DIRECTORY = 1, REMEMBERED = 2;
/** Parent of a slot without an entry. */
const NOBODY = -1;

/** One entry of {@linkcode DentryTable.list}. */
export interface ListedSlot extends ListedEntry {
  readonly slot: number;
}

/**
 * All directory entries. A slot is an entry's number for as long as the entry lives; names are 1 to 255 bytes. Nothing
 * here checks that names are single or that inodes exist.
 */
export class DentryTable {
  readonly #rows = {
    parent: new Int32Array(0),
    ino: new Int32Array(0),
    /** Neighbours in the directory, in the order of insertion; `next` also links free slots. */
    next: new Int32Array(0),
    prev: new Int32Array(0),
    hash: new Uint32Array(0),
    name: new Uint32Array(0),
    length: new Uint8Array(0),
    flags: new Uint8Array(0),
    cookie: new Float64Array(0),
  };
  readonly #growth = new ColumnGroup(this.#rows, [
    ...["parent", "ino", "next", "prev", "hash", "name", "length", "flags", "cookie"] as const,
  ]);
  readonly #names = new NameArena();
  readonly #hash = new NameHash();
  /** Open addressing with linear probing; slot + 1, 0 is empty. */
  readonly #shards: Int32Array[] = Array.from({ length: SHARDS }, () => new Int32Array(SHARD_LEAST));
  readonly #filled = new Uint32Array(SHARDS);
  readonly #directories: (Int32Array | undefined)[] = [];
  #count = 0;
  #end = 0;
  #freeSlot = -1;
  #lastCookie = 0;
  /** Remembered places: the last entry of a directory whose cookie is not above this one (-1: before the first). */
  readonly #placeDirectory = new Int32Array(PLACES).fill(NOBODY);
  readonly #placeCookie = new Float64Array(PLACES);
  readonly #placeSlot = new Int32Array(PLACES);
  #nextPlace = 0;

  get count(): number {
    return this.#count;
  }

  /** All slots that ever were are below. */
  get end(): number {
    return this.#end;
  }

  /** Tells whether there is an entry in this slot. */
  live(slot: number): boolean {
    return slot < this.#end && this.#rows.parent[slot] !== NOBODY;
  }

  /** @returns the entry's slot or -1 */
  find(parent: Ino, name: Uint8Array): number {
    const { parent: parents, hash: hashes, length, name: names } = this.#rows;
    const hash = this.#hash.of(parent, name), shard = this.#shards[hash >>> 24]!, mask = shard.length - 1;
    for (let i = hash & mask; shard[i] !== 0; i = (i + 1) & mask) {
      const slot = shard[i]! - 1;
      if (
        hashes[slot] === hash && parents[slot] === parent && length[slot] === name.length &&
        this.#names.equals(names[slot]!, name)
      ) return slot;
    }
    return -1;
  }

  /**
   * Adds an entry; the caller has looked that there is none of this name.
   *
   * @param options `directory`: `ino` is a directory, see {@linkcode directoryEntryOf}
   * @returns its slot
   */
  insert(parent: Ino, name: Uint8Array, ino: Ino, options: { directory?: boolean } = {}): number {
    if (name.length < 1 || name.length > 255) {
      throw new RangeError("Cannot insert entry: name of 1 to 255 bytes expected");
    }
    let slot = this.#freeSlot;
    if (slot >= 0) this.#freeSlot = this.#rows.next[slot]!;
    else {
      slot = this.#end;
      this.#growth.need(slot);
      this.#end = slot + 1;
    }
    const rows = this.#rows, hash = this.#hash.of(parent, name);
    rows.parent[slot] = parent;
    rows.ino[slot] = ino;
    rows.hash[slot] = hash;
    rows.name[slot] = this.#names.put(name);
    rows.length[slot] = name.length;
    rows.flags[slot] = options.directory ? DIRECTORY : 0;
    rows.cookie[slot] = ++this.#lastCookie;
    this.#hashIn(slot, hash);
    const directory = this.#directory(parent),
      at = (parent & PIECE_MASK) * FIELDS,
      tail = directory[at + TAIL]! - 1;
    rows.prev[slot] = tail;
    rows.next[slot] = -1;
    if (tail < 0) directory[at + HEAD] = slot + 1;
    else rows.next[tail] = slot;
    directory[at + TAIL] = slot + 1;
    directory[at + COUNT]!++;
    if (options.directory) this.#own(ino, slot);
    this.#count++;
    return slot;
  }

  remove(slot: number): void {
    if (!this.live(slot)) return;
    const rows = this.#rows, parent = rows.parent[slot]!, next = rows.next[slot]!, prev = rows.prev[slot]!;
    const flags = rows.flags[slot]!;
    if (flags & REMEMBERED) this.#moveBack(slot, prev);
    if (flags & DIRECTORY) this.#disown(rows.ino[slot]!, slot);
    const directory = this.#directory(parent), at = (parent & PIECE_MASK) * FIELDS;
    if (prev < 0) directory[at + HEAD] = next + 1;
    else rows.next[prev] = next;
    if (next < 0) directory[at + TAIL] = prev + 1;
    else rows.prev[next] = prev;
    directory[at + COUNT]!--;
    this.#hashOut(slot);
    this.#names.free(rows.name[slot]!, rows.length[slot]!);
    rows.parent[slot] = NOBODY;
    rows.cookie[slot] = 0;
    rows.next[slot] = this.#freeSlot;
    this.#freeSlot = slot;
    this.#count--;
  }

  inoAt(slot: number): Ino {
    return this.#rows.ino[slot]!;
  }

  parentAt(slot: number): Ino {
    return this.#rows.parent[slot]!;
  }

  /** A copy of the entry's name. */
  nameAt(slot: number): Uint8Array {
    return this.nameView(slot).slice();
  }

  /** The entry's name, to be read at once: valid until the next change. */
  nameView(slot: number): Uint8Array {
    return this.#names.view(this.#rows.name[slot]!, this.#rows.length[slot]!);
  }

  /** Tells whether the entry was said to name a directory. */
  directoryAt(slot: number): boolean {
    return (this.#rows.flags[slot]! & DIRECTORY) !== 0;
  }

  /** Lets the entry name another inode, a directory or not (left out: as before). Its place in listings stays. */
  setIno(slot: number, ino: Ino, options: { directory?: boolean } = {}): void {
    const { flags, ino: inos } = this.#rows, directory = options.directory ?? this.directoryAt(slot);
    if (this.directoryAt(slot)) this.#disown(inos[slot]!, slot);
    inos[slot] = ino;
    flags[slot] = (flags[slot]! & ~DIRECTORY) | (directory ? DIRECTORY : 0);
    if (directory) this.#own(ino, slot);
  }

  /** How many entries a directory has. */
  countOf(directory: Ino): number {
    return this.#field(directory, COUNT);
  }

  /** The slot of the entry that names this directory, the newest if there are several, or -1: tells `..`. */
  directoryEntryOf(ino: Ino): number {
    return this.#field(ino, OWN) - 1;
  }

  /** Call it when a directory is removed: forgets what was remembered about it. Entries are not touched. */
  forgetDirectory(ino: Ino): void {
    for (let i = 0; i < PLACES; i++) if (this.#placeDirectory[i] === ino) this.#placeDirectory[i] = NOBODY;
    if (this.#field(ino, OWN) !== 0) this.#directory(ino)[(ino & PIECE_MASK) * FIELDS + OWN] = 0;
  }

  /**
   * The entries of a directory behind `cookie`, in the order of their insertion. Entries may come and go between any
   * two steps: each that is there all the time is listed exactly once. A cookie is never used again in this process.
   */
  *list(directory: Ino, cookie = 0): Generator<ListedSlot, undefined> {
    let last = cookie, place = -1;
    for (;;) {
      if (place < 0 || this.#placeCookie[place] !== last || this.#placeDirectory[place] !== directory) {
        place = this.#seek(directory, last);
      }
      const rows = this.#rows, before = this.#placeSlot[place]!;
      const slot = before < 0 ? this.#field(directory, HEAD) - 1 : rows.next[before]!;
      if (slot < 0) return;
      last = rows.cookie[slot]!;
      this.#remember(place, directory, last, slot);
      yield { name: this.nameAt(slot), ino: rows.ino[slot]!, cookie: last, slot };
    }
  }

  /** The cookie of the newest entry of a directory: what comes later has a greater one. 0 if it is empty. */
  newestOf(directory: Ino): number {
    const tail = this.#field(directory, TAIL) - 1;
    return tail < 0 ? 0 : this.#rows.cookie[tail]!;
  }

  /** Finds the place behind `cookie`, from the nearest one that is known. @returns which of the remembered it is now */
  #seek(directory: Ino, cookie: number): number {
    const { cookie: cookies, next, prev } = this.#rows;
    const head = this.#field(directory, HEAD) - 1, tail = this.#field(directory, TAIL) - 1;
    let place = -1, at = -1, distance = head < 0 || cookie <= 0 ? 0 : Math.abs(cookies[head]! - cookie);
    if (tail >= 0 && Math.abs(cookies[tail]! - cookie) < distance) {
      at = tail;
      distance = Math.abs(cookies[tail]! - cookie);
    }
    for (let i = 0; distance > 0 && i < PLACES; i++) {
      const away = Math.abs(this.#placeCookie[i]! - cookie);
      if (this.#placeDirectory[i] !== directory || away >= distance) continue;
      place = i;
      at = this.#placeSlot[i]!;
      distance = away;
    }
    while (at >= 0 && cookies[at]! > cookie) at = prev[at]!;
    for (;;) {
      const after = at < 0 ? head : next[at]!;
      if (after < 0 || cookies[after]! > cookie) break;
      at = after;
    }
    if (place < 0) {
      place = this.#nextPlace;
      this.#nextPlace = (place + 1) % PLACES;
    }
    this.#remember(place, directory, cookie, at);
    return place;
  }

  #remember(place: number, directory: Ino, cookie: number, slot: number): void {
    this.#placeDirectory[place] = directory;
    this.#placeCookie[place] = cookie;
    this.#placeSlot[place] = slot;
    if (slot >= 0) this.#rows.flags[slot]! |= REMEMBERED;
  }

  /** Places at an entry that goes are from now on at the one before it. */
  #moveBack(slot: number, prev: number): void {
    for (let i = 0; i < PLACES; i++) if (this.#placeSlot[i] === slot) this.#placeSlot[i] = prev;
    if (prev >= 0) this.#rows.flags[prev]! |= REMEMBERED;
  }

  #field(ino: Ino, field: number): number {
    return this.#directories[ino >>> PIECE_BITS]?.[(ino & PIECE_MASK) * FIELDS + field] ?? 0;
  }

  #directory(ino: Ino): Int32Array {
    return this.#directories[ino >>> PIECE_BITS] ??= new Int32Array(FIELDS << PIECE_BITS);
  }

  #own(ino: Ino, slot: number): void {
    this.#directory(ino)[(ino & PIECE_MASK) * FIELDS + OWN] = slot + 1;
  }

  #disown(ino: Ino, slot: number): void {
    if (this.#field(ino, OWN) === slot + 1) this.#directory(ino)[(ino & PIECE_MASK) * FIELDS + OWN] = 0;
  }

  #hashIn(slot: number, hash: number): void {
    const which = hash >>> 24;
    let shard = this.#shards[which]!;
    if (++this.#filled[which]! * 4 > shard.length * 3) {
      const larger = new Int32Array(shard.length * 2), hashes = this.#rows.hash;
      for (let i = 0; i < shard.length; i++) {
        if (shard[i] !== 0) probeIn(larger, shard[i]!, hashes[shard[i]! - 1]!);
      }
      this.#shards[which] = shard = larger;
    }
    probeIn(shard, slot + 1, hash);
  }

  /** Takes a slot out and moves those behind it up, so that no search ends at the gap. */
  #hashOut(slot: number): void {
    const hashes = this.#rows.hash, hash = hashes[slot]!, shard = this.#shards[hash >>> 24]!;
    const mask = shard.length - 1;
    let gap = hash & mask;
    while (shard[gap] !== slot + 1) gap = (gap + 1) & mask;
    for (let i = (gap + 1) & mask; shard[i] !== 0; i = (i + 1) & mask) {
      const home = hashes[shard[i]! - 1]! & mask;
      if (((i - home) & mask) < ((i - gap) & mask)) continue;
      shard[gap] = shard[i]!;
      gap = i;
    }
    shard[gap] = 0;
    this.#filled[hash >>> 24]!--;
  }
}

function probeIn(shard: Int32Array, entry: number, hash: number): void {
  const mask = shard.length - 1;
  let i = hash & mask;
  while (shard[i] !== 0) i = (i + 1) & mask;
  shard[i] = entry;
}
