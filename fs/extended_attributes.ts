/** Extended attributes of inodes (xattr(7)): names and values are any bytes, together up to a bound. */
import { FsError } from "./errors.ts";
import { XATTR_CREATE, XATTR_REPLACE } from "./filesystem.ts";
import { fromLatin1, latin1, XATTR_MAX } from "./layout/changes.ts";
import { type Ino, NAME_MAX } from "./types.ts";
import type { VolumeState } from "./volume_state.ts";

/** As `Filesystem.getXattr`. @throws {FsError} ESTALE */
export function getXattr(state: VolumeState, ino: Ino, name: Uint8Array): Uint8Array | undefined {
  state.live(ino);
  return state.tables.inodes.xattrs.get(ino)?.get(latin1(name));
}

/**
 * As `Filesystem.setXattr`.
 *
 * @throws {FsError} EROFS, ESTALE, ERANGE, E2BIG, ENOSPC; EEXIST, ENODATA as the flags say
 */
export function setXattr(
  state: VolumeState,
  ino: Ino,
  { name, value, flags }: { readonly name: Uint8Array; readonly value: Uint8Array; readonly flags: number },
): void {
  state.writable();
  state.live(ino);
  if (name.length === 0 || name.length > NAME_MAX) throw new FsError("ERANGE");
  if (value.length > XATTR_MAX) throw new FsError("E2BIG");
  const { xattrs } = state.tables.inodes, all = xattrs.get(ino) ?? new Map<string, Uint8Array>();
  const key = latin1(name), known = all.has(key);
  if (known && flags & XATTR_CREATE) throw new FsError("EEXIST");
  if (!known && flags & XATTR_REPLACE) throw new FsError("ENODATA");
  state.growing();
  const total = [...all].reduce(
    (sum, [one, bytes]) => sum + (one === key ? 0 : one.length + bytes.length),
    0,
  );
  if (total + key.length + value.length > XATTR_MAX) throw new FsError("ENOSPC");
  const copy = value.slice();
  xattrs.set(ino, all.set(key, copy));
  state.log.xattr(ino, name, copy);
  state.changed(ino);
  state.committer.touched();
}

/** As `Filesystem.listXattr`. @throws {FsError} ESTALE */
export function listXattr(state: VolumeState, ino: Ino): Uint8Array[] {
  state.live(ino);
  return [...state.tables.inodes.xattrs.get(ino)?.keys() ?? []].map(fromLatin1);
}

/** As `Filesystem.removeXattr`. @throws {FsError} EROFS, ESTALE, ENODATA */
export function removeXattr(state: VolumeState, ino: Ino, name: Uint8Array): void {
  state.writable();
  state.live(ino);
  const { xattrs } = state.tables.inodes, all = xattrs.get(ino);
  if (!all?.delete(latin1(name))) throw new FsError("ENODATA");
  if (all.size === 0) xattrs.delete(ino);
  state.log.removeXattr(ino, name);
  state.changed(ino);
  state.committer.touched();
}
