/** A filesystem that shows other owners and fewer permissions than are stored, as mounts with `uid=`, `gid=`, `umask=`. */
import { FsError } from "./errors.ts";
import type {
  AttributeChanges,
  Attributes,
  Filesystem,
  FilesystemStatistics,
  ListedEntry,
  NodeSpec,
} from "./filesystem.ts";
import type { CommitNumber, FileOffset, Ino } from "./types.ts";

/** What is shown in place of what is stored. What is left out is shown as it is stored. */
export interface OwnerOverrideOptions {
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  /** Permission bits (of 0o777) that no file is shown with. */
  readonly umask?: number | undefined;
}

/**
 * Decorates a filesystem: every file belongs to `uid` and `gid`, and lacks the bits of `umask`. Nothing stored changes
 * by it: a new file is stored with the owner and the mode that it would have without. An owner that is overridden
 * cannot be given away, as on a filesystem without owners: chown to what is shown does nothing, to another EPERM. chmod
 * changes the bits that are not masked; those that are stay as they are stored.
 */
export class OwnerOverride implements Filesystem {
  readonly #inner: Filesystem;
  readonly #options: OwnerOverrideOptions;
  readonly #masked: number;

  constructor(inner: Filesystem, options: OwnerOverrideOptions) {
    this.#inner = inner;
    this.#options = options;
    this.#masked = (options.umask ?? 0) & 0o777;
  }

  get readOnly(): boolean {
    return this.#inner.readOnly;
  }

  #shown(attributes: Attributes): Attributes {
    const { uid = attributes.uid, gid = attributes.gid } = this.#options;
    return { ...attributes, uid, gid, mode: attributes.mode & ~this.#masked };
  }

  attributes(ino: Ino): Attributes {
    return this.#shown(this.#inner.attributes(ino));
  }

  setAttributes(ino: Ino, changes: AttributeChanges): Attributes {
    const { uid, gid, mode, ...others } = changes, own = this.#options;
    const givenAway = (asked: number | undefined, shown: number | undefined) =>
      asked !== undefined && shown !== undefined && asked !== shown;
    if (givenAway(uid, own.uid) || givenAway(gid, own.gid)) throw new FsError("EPERM");
    const stored = mode === undefined ? 0 : this.#inner.attributes(ino).mode & this.#masked;
    return this.#shown(this.#inner.setAttributes(ino, {
      ...others,
      ...(uid !== undefined && own.uid === undefined && { uid }),
      ...(gid !== undefined && own.gid === undefined && { gid }),
      ...(mode !== undefined && { mode: mode & ~this.#masked | stored }),
    }));
  }

  admit(): void | Promise<void> {
    return this.#inner.admit();
  }

  lookup(directory: Ino, name: Uint8Array): Ino | undefined {
    return this.#inner.lookup(directory, name);
  }

  create(directory: Ino, name: Uint8Array, spec: NodeSpec): Ino {
    return this.#inner.create(directory, name, spec);
  }

  createUnnamed(spec: NodeSpec): Ino {
    return this.#inner.createUnnamed(spec);
  }

  link(ino: Ino, directory: Ino, name: Uint8Array): void {
    this.#inner.link(ino, directory, name);
  }

  unlink(directory: Ino, name: Uint8Array): void {
    this.#inner.unlink(directory, name);
  }

  rmdir(directory: Ino, name: Uint8Array): void {
    this.#inner.rmdir(directory, name);
  }

  rename(from: Ino, name: Uint8Array, to: Ino, newName: Uint8Array, flags?: number): void {
    this.#inner.rename(from, name, to, newName, flags);
  }

  readlink(ino: Ino): Uint8Array {
    return this.#inner.readlink(ino);
  }

  list(directory: Ino, cookie?: number): IterableIterator<ListedEntry> {
    return this.#inner.list(directory, cookie);
  }

  newest(directory: Ino): number {
    return this.#inner.newest(directory);
  }

  parent(directory: Ino): Ino {
    return this.#inner.parent(directory);
  }

  hold(ino: Ino): void {
    this.#inner.hold(ino);
  }

  drop(ino: Ino, count?: number): void {
    this.#inner.drop(ino, count);
  }

  read(
    ino: Ino,
    offset: FileOffset,
    length: number,
    into?: Uint8Array,
  ): Uint8Array | Promise<Uint8Array> {
    return this.#inner.read(ino, offset, length, into);
  }

  write(ino: Ino, offset: FileOffset, data: Uint8Array): void | Promise<void> {
    return this.#inner.write(ino, offset, data);
  }

  allocate(ino: Ino, offset: FileOffset, length: number, mode: number): void | Promise<void> {
    return this.#inner.allocate(ino, offset, length, mode);
  }

  seek(ino: Ino, offset: FileOffset, what: "data" | "hole"): FileOffset {
    return this.#inner.seek(ino, offset, what);
  }

  copy(from: Ino, offset: FileOffset, to: Ino, toOffset: FileOffset, length: number): Promise<number> {
    return this.#inner.copy(from, offset, to, toOffset, length);
  }

  closed(ino: Ino): void {
    this.#inner.closed(ino);
  }

  fsync(ino: Ino, options?: { dataOnly?: boolean }): Promise<void> {
    return this.#inner.fsync(ino, options);
  }

  sync(): Promise<CommitNumber> {
    return this.#inner.sync();
  }

  getXattr(ino: Ino, name: Uint8Array): Uint8Array | undefined {
    return this.#inner.getXattr(ino, name);
  }

  setXattr(ino: Ino, name: Uint8Array, value: Uint8Array, flags?: number): void {
    this.#inner.setXattr(ino, name, value, flags);
  }

  listXattr(ino: Ino): Uint8Array[] {
    return this.#inner.listXattr(ino);
  }

  removeXattr(ino: Ino, name: Uint8Array): void {
    this.#inner.removeXattr(ino, name);
  }

  statistics(): FilesystemStatistics {
    return this.#inner.statistics();
  }
}
