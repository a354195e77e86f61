/**
 * Attributes and times of files as Windows has them. What a container has no place for is kept in an extended attribute
 * of the file (docs/windows.md, "Attributes").
 */
import { utf8 } from "../crypto/bytes.ts";
import type { Attributes, Filesystem } from "../fs/filesystem.ts";
import { type Ino, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, type Time } from "../fs/types.ts";
import { ATTRIBUTE, BY_HANDLE, fileTimeOf, FIND_DATA, timeOfFileTime } from "./dokan_structs.ts";
import { nativeView } from "./native_memory.ts";

/** What is kept: attributes (u32), then the time of creation as FILETIME (u64, 0: that of the container); little-endian. */
const KEPT_NAME = utf8("user.coverfs.windows"), KEPT_BYTES = 12;
/** The attributes that are kept. */
const KEPT = ATTRIBUTE.hidden | ATTRIBUTE.system | ATTRIBUTE.notContentIndexed;

interface Kept {
  readonly attributes: number;
  readonly created: bigint;
}

const NONE: Kept = { attributes: 0, created: 0n };

function keptOf(filesystem: Filesystem, ino: Ino): Kept {
  const value = filesystem.getXattr(ino, KEPT_NAME);
  if (value?.length !== KEPT_BYTES) return NONE;
  const view = new DataView(value.buffer, value.byteOffset, value.length);
  return { attributes: view.getUint32(0, true) & KEPT, created: view.getBigUint64(4, true) };
}

/** Keeps what Windows sets and a container has no place for; the other of the two stays. */
export function keep(filesystem: Filesystem, ino: Ino, changes: Partial<Kept>): void {
  const before = keptOf(filesystem, ino),
    after = { ...before, ...changes },
    attributes = after.attributes & KEPT;
  if (attributes === before.attributes && after.created === before.created) return;
  if (attributes === 0 && after.created === 0n) return filesystem.removeXattr(ino, KEPT_NAME);
  const view = new DataView(new ArrayBuffer(KEPT_BYTES));
  view.setUint32(0, attributes, true);
  view.setBigUint64(4, after.created, true);
  filesystem.setXattr(ino, KEPT_NAME, new Uint8Array(view.buffer));
}

/** Whether the owner may write: the one permission bit that Windows has. */
export const isWritable = (mode: number) => (mode & OWNER_WRITE) !== 0;
export const OWNER_WRITE = 0o200;

/**
 * FILE_ATTRIBUTE_* of a file. What has data is always to be archived: nothing here notes what was, and so a backup that
 * goes by that leaves nothing out. A link appears as what it is to Windows: a file without content.
 */
export function attributesOf(filesystem: Filesystem, { ino, mode }: Attributes): number {
  const kept = keptOf(filesystem, ino).attributes;
  if ((mode & S_IFMT) === S_IFDIR) return ATTRIBUTE.directory | kept;
  const fixed = (mode & S_IFMT) !== S_IFLNK && !isWritable(mode);
  return ATTRIBUTE.archive | kept | (fixed ? ATTRIBUTE.readOnly : 0);
}

/** Bytes that Windows sees in a file. */
export const sizeOf = ({ mode, size }: Attributes) => (mode & S_IFMT) === S_IFREG ? size : 0;

/** Writes attributes, times and size, which WIN32_FIND_DATAW and BY_HANDLE_FILE_INFORMATION have alike. */
export function writeBasics(
  view: DataView,
  at: typeof FIND_DATA | typeof BY_HANDLE,
  of: { readonly filesystem: Filesystem; readonly attributes: Attributes },
): void {
  const { filesystem, attributes } = of, size = sizeOf(attributes);
  const created = keptOf(filesystem, attributes.ino).created;
  const time = (offset: number, value: bigint) => {
    view.setUint32(offset, Number(value & 0xffff_ffffn), true); // not aligned to 8 bytes
    view.setUint32(offset + 4, Number(value >> 32n), true);
  };
  view.setUint32(at.attributes, attributesOf(filesystem, attributes), true);
  time(at.creationTime, created === 0n ? fileTimeOf(attributes.btime) : created);
  time(at.lastAccessTime, fileTimeOf(attributes.atime));
  time(at.lastWriteTime, fileTimeOf(attributes.mtime));
  view.setUint32(at.sizeHigh, Math.floor(size / 2 ** 32), true);
  view.setUint32(at.sizeLow, size % 2 ** 32, true);
}

/** A FILETIME that is to be set; undefined: it stays (0; -1 and -2 are about what the file's own changes do to it). */
export function givenFileTime(address: bigint): bigint | undefined {
  if (address === 0n) return undefined;
  const view = nativeView(address, 8);
  const value = view.getBigInt64(0, true);
  return value <= 0n ? undefined : value;
}

/** The same as a time. */
export function givenTime(address: bigint): Time | undefined {
  const value = givenFileTime(address);
  return value === undefined ? undefined : timeOfFileTime(value);
}
