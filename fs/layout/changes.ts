/**
 * Changes of the tables as the journal carries them: always the resulting value, so that applying them again, or
 * onto tables that already hold later values, ends in the same state. Encoding: docs/format.md, "Changes".
 */
import type { CommitNumber, FileOffset, Ino, Position } from "../types.ts";
import { FILE_SIZE_MAX, NAME_MAX, S_IFDIR, S_IFMT } from "../types.ts";
import { ByteReader, ByteWriter, DecodeError } from "./bytes.ts";
import { JUMP_MAX } from "./inodes.ts";
import type { Tables } from "./tables.ts";

const INODE_REMOVE = 2, TARGET = 3, XATTR = 4, XATTR_REMOVE = 5, ENTRY = 6, ENTRY_REMOVE = 7;
const EXTENT = 8, EXTENT_CUT = 9, EXTENT_TRUNCATE = 10;

/** The largest inode id (i32). */
export const INO_MAX = 0x7fff_ffff;
/** Bytes of the longest symlink target. */
export const TARGET_MAX = 4095;
/** Bytes of the largest extended attribute. */
export const XATTR_MAX = 65536;

/** Collects changes. The inodes of a record stand first, each once, with the values of the moment of the freeze. */
export class ChangeLog {
  readonly #changes = new ByteWriter(4096);
  readonly #inodes = new Set<Ino>();
  readonly #data = new Set<Ino>();

  /** Files that got new data. */
  get files(): ReadonlySet<Ino> {
    return this.#data;
  }

  /** About how many bytes a record of all this would have. */
  get size(): number {
    return this.#changes.length + this.#inodes.size * 72;
  }

  get empty(): boolean {
    return this.#changes.length === 0 && this.#inodes.size === 0;
  }

  /** The attributes of this inode are to be recorded. */
  inode(ino: Ino): void {
    this.#inodes.add(ino);
  }

  /** The inode is gone with its extents, target and extended attributes. */
  removeInode(ino: Ino, generation: number): void {
    this.#inodes.delete(ino);
    this.#data.delete(ino);
    this.#op(INODE_REMOVE, ino);
    this.#changes.varint(generation);
  }

  target(ino: Ino, target: Uint8Array): void {
    this.#op(TARGET, ino);
    this.#changes.bytes(target);
  }

  xattr(ino: Ino, name: Uint8Array, value: Uint8Array): void {
    this.#op(XATTR, ino);
    this.#changes.bytes(name);
    this.#changes.bytes(value);
  }

  removeXattr(ino: Ino, name: Uint8Array): void {
    this.#op(XATTR_REMOVE, ino);
    this.#changes.bytes(name);
  }

  entry(directory: Ino, name: Uint8Array, ino: Ino, isDirectory: boolean): void {
    this.#op(ENTRY, directory);
    this.#changes.bytes(name);
    this.#changes.varint(ino);
    this.#changes.u8(isDirectory ? 1 : 0);
  }

  removeEntry(directory: Ino, name: Uint8Array): void {
    this.#op(ENTRY_REMOVE, directory);
    this.#changes.bytes(name);
  }

  extent(ino: Ino, offset: FileOffset, length: number, position: Position, birth: CommitNumber): void {
    this.#op(EXTENT, ino);
    this.#data.add(ino);
    this.#changes.varint(offset / 4096);
    this.#changes.varint(length);
    this.#changes.varint(position);
    this.#changes.varint(birth);
  }

  cut(ino: Ino, from: FileOffset, to: FileOffset): void {
    this.#op(EXTENT_CUT, ino);
    this.#changes.varint(from);
    this.#changes.varint(to);
  }

  truncate(ino: Ino, size: number): void {
    this.#op(EXTENT_TRUNCATE, ino);
    this.#changes.varint(size);
  }

  #op(code: number, ino: Ino): void {
    this.#changes.u8(code);
    this.#changes.varint(ino);
  }

  /**
   * Encodes everything and begins anew.
   *
   * @param sizeOf the size to record for an inode: what has been written, never a size without its data
   */
  freeze(tables: Tables, sizeOf: (ino: Ino) => number): Uint8Array {
    const out = new ByteWriter(this.size + 64);
    const t = tables.inodes;
    out.varint(this.#inodes.size);
    for (const ino of this.#inodes) {
      out.varint(ino);
      out.varint(t.generation[ino]!);
      out.varint(t.mode[ino]!);
      out.varint(t.uid[ino]!);
      out.varint(t.gid[ino]!);
      out.varint(t.nlink[ino]!);
      out.varint(t.rdev[ino]!);
      out.varint(sizeOf(ino));
      out.signed(t.atimeS[ino]!), out.u32(t.atimeN[ino]!);
      out.signed(t.mtimeS[ino]!), out.u32(t.mtimeN[ino]!);
      out.signed(t.ctimeS[ino]!), out.u32(t.ctimeN[ino]!);
      out.signed(t.btimeS[ino]!), out.u32(t.btimeN[ino]!);
    }
    out.raw(this.#changes.view());
    this.#inodes.clear();
    this.#data.clear();
    this.#changes.clear();
    return out.take();
  }
}

const ignore = () => {};

/** A change that was decoded. */
type Change = (tables: Tables) => void;

/**
 * Applies a record's changes to the tables, all or none. Its ids are at most {@linkcode JUMP_MAX} above all that are
 * there: a few bytes cannot make tables grow jump by jump.
 *
 * @throws {DecodeError} if they do not decode; the tables are as before
 */
export function applyChanges(payload: Uint8Array, tables: Tables): void {
  const changes = decodeChanges(payload, Math.min(INO_MAX, tables.inodes.end + JUMP_MAX));
  for (const change of changes) change(tables);
}

/** @param last the largest id that may change */
function decodeChanges(payload: Uint8Array, last: Ino): readonly Change[] {
  const input = new ByteReader(payload), changes: Change[] = [];
  for (let n = input.varint(payload.length); n > 0; n--) changes.push(inodeChange(input, last));
  while (!input.done) changes.push(otherChange(input, last));
  return changes;
}

function inodeChange(input: ByteReader, last: Ino): Change {
  const ino = input.varint(last), generation = input.varint(0xffff_ffff), mode = input.varint(0xffff);
  const uid = input.varint(0xffff_ffff), gid = input.varint(0xffff_ffff), nlink = input.varint(0xffff_ffff);
  const rdev = input.varint(0xffff_ffff), size = input.varint(FILE_SIZE_MAX);
  const atimeS = input.signed(), atimeN = nanoseconds(input);
  const mtimeS = input.signed(), mtimeN = nanoseconds(input);
  const ctimeS = input.signed(), ctimeN = nanoseconds(input);
  const btimeS = input.signed(), btimeN = nanoseconds(input);
  return (tables) => {
    const { inodes: t } = tables;
    t.insert(ino);
    const was = t.mode[ino]!;
    if (was !== 0 && ((was ^ mode) & S_IFMT) !== 0) forget(ino, tables);
    t.generation[ino] = generation;
    t.mode[ino] = mode;
    t.uid[ino] = uid;
    t.gid[ino] = gid;
    t.nlink[ino] = nlink;
    t.rdev[ino] = rdev;
    t.size[ino] = size;
    t.atimeS[ino] = atimeS, t.atimeN[ino] = atimeN;
    t.mtimeS[ino] = mtimeS, t.mtimeN[ino] = mtimeN;
    t.ctimeS[ino] = ctimeS, t.ctimeN[ino] = ctimeN;
    t.btimeS[ino] = btimeS, t.btimeN[ino] = btimeN;
  };
}

function otherChange(input: ByteReader, last: Ino): Change {
  const code = input.u8(), ino = input.varint(last);
  switch (code) {
    case INODE_REMOVE: {
      const generation = input.varint(0xffff_ffff);
      return ({ inodes, extents }) => {
        inodes.insert(ino);
        extents.clear(ino, ignore);
        inodes.remove(ino);
        inodes.generation[ino] = generation;
      };
    }
    case TARGET: {
      const target = input.bytes(TARGET_MAX);
      return ({ inodes }) => void inodes.targets.set(ino, target);
    }
    case XATTR: {
      const name = latin1(input.bytes(NAME_MAX)), value = input.bytes(XATTR_MAX);
      return ({ inodes: { xattrs } }) => {
        const all = xattrs.get(ino) ?? new Map<string, Uint8Array>();
        xattrs.set(ino, all.set(name, value));
      };
    }
    case XATTR_REMOVE: {
      const name = latin1(input.bytes(NAME_MAX));
      return ({ inodes: { xattrs } }) => {
        const all = xattrs.get(ino);
        if (all?.delete(name) && all.size === 0) xattrs.delete(ino);
      };
    }
    case ENTRY: {
      const name = entryName(input), child = input.varint(INO_MAX), directory = input.u8() === 1;
      return ({ dentries }) => {
        const slot = dentries.find(ino, name);
        if (slot >= 0) dentries.remove(slot);
        dentries.insert(ino, name, child, { directory });
      };
    }
    case ENTRY_REMOVE: {
      const name = entryName(input);
      return ({ dentries }) => {
        const slot = dentries.find(ino, name);
        if (slot >= 0) dentries.remove(slot);
      };
    }
    case EXTENT: {
      const offset = input.varint(Math.floor(FILE_SIZE_MAX / 4096)) * 4096;
      const length = input.varint(0xffff_ffff), position = input.varint(), birth = input.varint();
      if (length === 0) throw new DecodeError("Extent of no length");
      return ({ inodes, extents }) => {
        inodes.insert(ino);
        extents.set(ino, offset, length, position, birth, ignore);
      };
    }
    case EXTENT_CUT: {
      const from = input.varint(), to = input.varint();
      if (to < from) throw new DecodeError("Cut of negative length");
      return ({ inodes, extents }) => {
        inodes.insert(ino);
        extents.cut(ino, from, to, ignore);
      };
    }
    case EXTENT_TRUNCATE: {
      const size = input.varint();
      return ({ inodes, extents }) => {
        inodes.insert(ino);
        extents.truncate(ino, size, ignore);
      };
    }
  }
  throw new DecodeError("Unknown change");
}

/** An inode that turns into another type was removed in between: what belonged to it goes. */
function forget(ino: Ino, tables: Tables): void {
  tables.extents.clear(ino, ignore);
  tables.inodes.targets.delete(ino);
  tables.inodes.xattrs.delete(ino);
}

function nanoseconds(input: ByteReader): number {
  const value = input.u32();
  if (value > 999_999_999) throw new DecodeError("Nanoseconds out of range");
  return value;
}

function entryName(input: ByteReader): Uint8Array {
  const name = input.bytes(NAME_MAX);
  if (name.length === 0 || name.includes(0) || name.includes(0x2f)) throw new DecodeError("Bad name");
  return name;
}

/** Bytes as a string of the same code units: a key for maps. */
export function latin1(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

/** The bytes of a {@linkcode latin1} string. */
export function fromLatin1(text: string): Uint8Array {
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}

/** Tells whether mode bits say directory. */
export function isDirectory(mode: number): boolean {
  return (mode & S_IFMT) === S_IFDIR;
}
