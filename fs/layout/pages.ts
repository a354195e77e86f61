/**
 * The tables as pages of a checkpoint: column by column, numbers mostly as differences, so that they deflate well.
 * Byte tables: docs/format.md, "Pages".
 *
 * Pages are fuzzy: each shows its slice of the tables as it was when the page was made, and the journal brings all
 * of them to the same commit. So an entry may be there twice or name an inode that is not there, extents may
 * overlap, and what is decoded later wins.
 */
import { BLOCK } from "../../crypto/sealer.ts";
import { FILE_SIZE_MAX, type Ino, NAME_MAX, SECONDS_MAX } from "../types.ts";
import { ByteReader, ByteWriter, DecodeError } from "./bytes.ts";
import { fromLatin1, INO_MAX, latin1, TARGET_MAX, XATTR_MAX } from "./changes.ts";
import { blocksFor } from "./extent_tree.ts";
import type { Tables } from "./tables.ts";

export { DecodeError } from "./bytes.ts";

/** The kinds of pages, in the order in which a checkpoint has them. `attributes`: symlink targets and xattrs. */
export const PAGE_KINDS = ["inodes", "attributes", "dentries", "extents"] as const;
/** One of {@linkcode PAGE_KINDS}. */
export type PageKind = typeof PAGE_KINDS[number];
/** Bytes of the largest page. */
export const PAGE_MAX = 65536;

/** One page: the slice [first, end) of a table, by inode ids or, for dentries, slots. */
export interface Page {
  readonly kind: PageKind;
  readonly first: number;
  readonly end: number;
  /** Owned by the caller. */
  readonly bytes: Uint8Array;
}

/** Where to begin, and which sizes to record. */
export interface EncodeOptions {
  /** The first inode id or slot. */
  readonly from?: number;
  /** The size to record for an inode, in place of `inodes.size`. */
  readonly sizeOf?: (ino: Ino) => number;
}

/** The most that a page's counts take before the columns. */
const HEADER = 16;
/** Positions and births are kept within this, so that differences are exact numbers, as those of seconds are. */
const NUMBER_MAX = 2 ** 52 - 1;
/** The last block of the largest file. */
const FILE_BLOCK_MAX = Math.floor(FILE_SIZE_MAX / BLOCK);
const U32 = 0xffff_ffff;
const ignore = () => {};

/**
 * Encodes the tables' slice of one kind, a page at each step. The tables may change between steps.
 */
export function encodePages(
  tables: Tables,
  kind: PageKind,
  options: EncodeOptions = {},
): Generator<Page, undefined> {
  const { from = 0 } = options;
  switch (kind) {
    case "inodes":
      return inodePages(tables, from, options.sizeOf ?? ((ino) => tables.inodes.size[ino]!));
    case "attributes":
      return attributePages(tables, from);
    case "dentries":
      return dentryPages(tables, from);
    case "extents":
      return extentPages(tables, from);
  }
}

/**
 * Puts a page's content into the tables. Pages of inodes come without gaps, in order; parts of a large attribute too.
 *
 * @throws {DecodeError} if anything is out of its range; the tables then hold a part of the page
 */
export function decodePage(kind: PageKind, bytes: Uint8Array, tables: Tables): void {
  if (bytes.length > PAGE_MAX) throw new DecodeError("Page is too large");
  const input = new ByteReader(bytes);
  switch (kind) {
    case "inodes":
      readInodes(input, tables);
      break;
    case "attributes":
      while (!input.done) readAttribute(input, tables, input.rest === bytes.length);
      break;
    case "dentries":
      readDentries(input, tables);
      break;
    case "extents":
      readExtents(input, tables);
      break;
  }
  if (!input.done) throw new DecodeError("Page is longer than its content");
}

/** The columns of a page while it is being filled. */
class PageColumns {
  readonly columns: readonly ByteWriter[];
  rows = 0;

  constructor(count: number) {
    this.columns = Array.from({ length: count }, () => new ByteWriter(4096));
  }

  /** Tells whether a row of at most `bytes` bytes still fits. */
  fits(bytes: number): boolean {
    let sum = HEADER + bytes;
    for (const column of this.columns) sum += column.length;
    return sum <= PAGE_MAX;
  }

  /** The page: a number, the count of rows, the columns. Begins anew. */
  take(first: number): Uint8Array {
    const out = new ByteWriter(PAGE_MAX);
    out.varint(first);
    out.varint(this.rows);
    for (const column of this.columns) {
      out.raw(column.view());
      column.clear();
    }
    this.rows = 0;
    return out.take();
  }
}

/** Bytes of the longest row: 6 numbers of 32 bits, mode, size, 4 times. */
const INODE_ROW = 6 * 5 + 3 + 8 + 4 * (8 + 5);

function* inodePages(tables: Tables, from: Ino, sizeOf: (ino: Ino) => number): Generator<Page, undefined> {
  const page = new PageColumns(15), t = tables.inodes, c = page.columns;
  let uid = 0, gid = 0, seconds = 0, first = from;
  for (let ino = from; ino < t.end;) {
    if (t.has(ino)) {
      c[0]!.varint(t.mode[ino]! + 1);
      c[2]!.signed(t.uid[ino]! - uid);
      c[3]!.signed(t.gid[ino]! - gid);
      c[4]!.varint(t.nlink[ino]!);
      c[5]!.varint(t.rdev[ino]!);
      c[6]!.varint(sizeOf(ino));
      const modified = bounded(t.mtimeS[ino]!), nanoseconds = t.mtimeN[ino]!;
      c[7]!.signed(modified - seconds);
      c[8]!.u32(nanoseconds);
      c[9]!.signed(bounded(t.ctimeS[ino]!) - modified);
      c[10]!.signed(t.ctimeN[ino]! - nanoseconds);
      c[11]!.signed(bounded(t.atimeS[ino]!) - modified);
      c[12]!.signed(t.atimeN[ino]! - nanoseconds);
      c[13]!.signed(bounded(t.btimeS[ino]!) - modified);
      c[14]!.signed(t.btimeN[ino]! - nanoseconds);
      uid = t.uid[ino]!;
      gid = t.gid[ino]!;
      seconds = modified;
    } else c[0]!.varint(0);
    c[1]!.varint(t.generation[ino]!);
    page.rows++;
    ino++;
    if (ino < t.end && page.fits(INODE_ROW)) continue;
    yield { kind: "inodes", first, end: ino, bytes: page.take(first) };
    first = ino;
    uid = gid = seconds = 0;
  }
}

function readInodes(input: ByteReader, tables: Tables): void {
  const t = tables.inodes, first = input.varint(t.end), rows = input.varint(input.rest);
  if (first + rows > INO_MAX + 1) throw new DecodeError("Inode id out of range");
  const live: Ino[] = [], modes: number[] = [];
  for (let ino = first; ino < first + rows; ino++) {
    const mode = input.varint(0x10000) - 1;
    t.insert(ino);
    if (mode < 0) t.remove(ino);
    else {
      live.push(ino);
      modes.push(mode);
    }
  }
  for (let ino = first; ino < first + rows; ino++) t.generation[ino] = input.varint(U32);
  live.forEach((ino, i) => t.mode[ino] = modes[i]!);
  let uid = 0, gid = 0, seconds = 0;
  for (const ino of live) t.uid[ino] = uid = within(uid + input.signed(), U32);
  for (const ino of live) t.gid[ino] = gid = within(gid + input.signed(), U32);
  for (const ino of live) t.nlink[ino] = input.varint(U32);
  for (const ino of live) t.rdev[ino] = input.varint(U32);
  for (const ino of live) t.size[ino] = input.varint(FILE_SIZE_MAX);
  for (const ino of live) t.mtimeS[ino] = seconds = time(seconds + input.signed());
  for (const ino of live) t.mtimeN[ino] = within(input.u32(), 999_999_999);
  for (const ino of live) t.ctimeS[ino] = time(t.mtimeS[ino]! + input.signed());
  for (const ino of live) t.ctimeN[ino] = within(t.mtimeN[ino]! + input.signed(), 999_999_999);
  for (const ino of live) t.atimeS[ino] = time(t.mtimeS[ino]! + input.signed());
  for (const ino of live) t.atimeN[ino] = within(t.mtimeN[ino]! + input.signed(), 999_999_999);
  for (const ino of live) t.btimeS[ino] = time(t.mtimeS[ino]! + input.signed());
  for (const ino of live) t.btimeN[ino] = within(t.mtimeN[ino]! + input.signed(), 999_999_999);
}

/** Seconds as they are recorded. */
function bounded(seconds: number): number {
  return Math.max(-SECONDS_MAX, Math.min(SECONDS_MAX, seconds));
}

function time(seconds: number): number {
  return within(seconds + SECONDS_MAX, 2 * SECONDS_MAX) - SECONDS_MAX;
}

function within(value: number, most: number): number {
  if (!(value >= 0 && value <= most)) throw new DecodeError("Number out of range");
  return value;
}

/** Bytes before an attribute's value: inode id, name, offset, length. */
const ATTRIBUTE_HEADER = 5 + 2 + NAME_MAX + 3 + 3;

/**
 * A record for each target (name 0, others are one longer than their length) and xattr. One that is too large for a
 * page continues at the start of the next.
 */
function* attributePages(tables: Tables, from: Ino): Generator<Page, undefined> {
  const out = new ByteWriter(PAGE_MAX);
  let first = Infinity, end = 0;
  const take = (): Page => {
    const page = { kind: "attributes", first, end, bytes: out.take() } as const;
    out.clear();
    first = Infinity;
    end = 0;
    return page;
  };
  for (const [ino, name, value] of attributes(tables)) {
    if (ino < from) continue;
    if (out.length > 0 && out.length + ATTRIBUTE_HEADER + value.length > PAGE_MAX) yield take();
    let offset = 0;
    do {
      if (offset > 0) yield take();
      const part = value.subarray(offset, offset + PAGE_MAX - out.length - ATTRIBUTE_HEADER);
      out.varint(ino);
      out.varint(name === undefined ? 0 : name.length + 1);
      if (name !== undefined) out.raw(name);
      out.varint(offset);
      out.bytes(part);
      first = Math.min(first, ino);
      end = Math.max(end, ino + 1);
      offset += part.length;
    } while (offset < value.length);
  }
  if (out.length > 0) yield take();
}

/** Inode id, name (none for a target), value. */
function* attributes(tables: Tables): Generator<readonly [Ino, Uint8Array | undefined, Uint8Array]> {
  for (const [ino, target] of tables.inodes.targets) yield [ino, undefined, target];
  for (const [ino, all] of tables.inodes.xattrs) {
    for (const [name, value] of all) yield [ino, fromLatin1(name), value];
  }
}

function readAttribute(input: ByteReader, tables: Tables, atStart: boolean): void {
  const { targets, xattrs } = tables.inodes;
  const ino = input.varint(INO_MAX), named = input.varint(NAME_MAX + 1);
  const name = latin1(input.raw(Math.max(named - 1, 0)));
  const offset = input.varint(XATTR_MAX), part = input.bytes(XATTR_MAX - offset);
  if (named === 0) {
    if (offset !== 0 || part.length > TARGET_MAX) throw new DecodeError("Target is too long");
    targets.set(ino, part);
    return;
  }
  let all = xattrs.get(ino), value = part;
  if (offset > 0) {
    const before = all?.get(name);
    if (!atStart || before?.length !== offset) throw new DecodeError("Attribute continues nothing");
    value = new Uint8Array(offset + part.length);
    value.set(before);
    value.set(part, offset);
  }
  if (all === undefined) xattrs.set(ino, all = new Map());
  all.set(name, value);
}

/** Bytes of the longest row: 2 ids, flags, length, name. */
const DENTRY_ROW = 2 * 5 + 1 + 1 + NAME_MAX;

function* dentryPages(tables: Tables, from: number): Generator<Page, undefined> {
  const page = new PageColumns(5), t = tables.dentries, c = page.columns;
  let parent = 0, ino = 0, first = from;
  for (let slot = from; slot < t.end;) {
    if (t.live(slot)) {
      const name = t.nameView(slot);
      c[0]!.signed(t.parentAt(slot) - parent);
      c[1]!.signed(t.inoAt(slot) - ino);
      c[2]!.u8(t.directoryAt(slot) ? 1 : 0);
      c[3]!.u8(name.length);
      c[4]!.raw(name);
      parent = t.parentAt(slot);
      ino = t.inoAt(slot);
      page.rows++;
    }
    slot++;
    if (page.rows === 0 || (slot < t.end && page.fits(DENTRY_ROW))) continue;
    yield { kind: "dentries", first, end: slot, bytes: page.take(first) };
    first = slot;
    parent = ino = 0;
  }
}

function readDentries(input: ByteReader, tables: Tables): void {
  const t = tables.dentries;
  input.varint();
  const rows = input.varint(input.rest);
  const parents = new Int32Array(rows), inos = new Int32Array(rows);
  for (let i = 0, at = 0; i < rows; i++) parents[i] = at = within(at + input.signed(), INO_MAX);
  for (let i = 0, at = 0; i < rows; i++) inos[i] = at = within(at + input.signed(), INO_MAX);
  const flags = input.raw(rows), lengths = input.raw(rows);
  for (let i = 0; i < rows; i++) {
    const name = input.raw(lengths[i]!);
    if (flags[i]! > 1) throw new DecodeError("Unknown flag of an entry");
    if (name.length === 0 || name.includes(0) || name.includes(0x2f)) throw new DecodeError("Bad name");
    const was = t.find(parents[i]!, name);
    if (was >= 0) t.remove(was);
    t.insert(parents[i]!, name, inos[i]!, { directory: flags[i] === 1 });
  }
}

/** Bytes of the longest row: inode id, offset, length, position, birth. */
const EXTENT_ROW = 5 + 8 + 5 + 8 + 8;

function* extentPages(tables: Tables, from: Ino): Generator<Page, undefined> {
  const page = new PageColumns(5), t = tables.extents, c = page.columns;
  let row = EXTENT_START, first = from, ino = t.nextFile(from), offset = 0;
  while (ino < t.end) {
    let full = false;
    t.lookup(ino, offset, Infinity, (start, length, position, birth) => {
      const before = row.ino === ino ? row.offset : 0, blocks = blocksFor(length);
      c[0]!.varint(ino - row.ino);
      c[1]!.varint(start / BLOCK - before);
      c[2]!.varint(length);
      c[3]!.signed(position - row.position);
      c[4]!.signed(birth - row.birth);
      offset = start + blocks * BLOCK;
      row = { ino, offset: offset / BLOCK, position: position + blocks, birth };
      page.rows++;
      full = !page.fits(EXTENT_ROW);
      return !full;
    });
    const next = full ? ino : t.nextFile(ino + 1);
    if (full || next >= t.end) {
      if (page.rows > 0) yield { kind: "extents", first, end: ino + 1, bytes: page.take(first) };
      first = next;
      row = EXTENT_START;
    }
    if (!full) offset = 0;
    ino = next;
  }
}

/** What the first row of a page follows; after each extent, the next one's offset (in blocks) and position. */
const EXTENT_START = { ino: 0, offset: 0, position: 0, birth: 0 };

function readExtents(input: ByteReader, tables: Tables): void {
  input.varint();
  const rows = input.varint(input.rest), column = () => new Float64Array(rows);
  const inos = column(), offsets = column(), lengths = column(), positions = column(), births = column();
  for (let i = 0; i < rows; i++) inos[i] = input.varint(INO_MAX);
  for (let i = 0; i < rows; i++) offsets[i] = input.varint();
  for (let i = 0; i < rows; i++) lengths[i] = input.varint(U32);
  for (let i = 0; i < rows; i++) positions[i] = input.signed();
  for (let i = 0; i < rows; i++) births[i] = input.signed();
  let row = EXTENT_START;
  for (let i = 0; i < rows; i++) {
    const ino = within(row.ino + inos[i]!, INO_MAX), length = lengths[i]!, blocks = blocksFor(length);
    const offset = within(offsets[i]! + (ino === row.ino ? row.offset : 0), FILE_BLOCK_MAX);
    const position = within(row.position + positions[i]!, NUMBER_MAX - blocks);
    const birth = within(row.birth + births[i]!, NUMBER_MAX);
    if (length === 0 || offset + blocks > FILE_BLOCK_MAX + 1) throw new DecodeError("Extent out of range");
    tables.extents.set(ino, offset * BLOCK, length, position, birth, ignore);
    row = { ino, offset: offset + blocks, position: position + blocks, birth };
  }
}
