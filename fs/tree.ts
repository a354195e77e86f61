/** The tree of a volume: inodes with their attributes, the names in directories, and how long an inode lives. */
import { BLOCK } from "../crypto/sealer.ts";
import { now } from "./clock.ts";
import { FsError } from "./errors.ts";
import { FileData } from "./file_data.ts";
import {
  type AttributeChanges,
  type Attributes,
  type ListedEntry,
  type NodeSpec,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
} from "./filesystem.ts";
import { isDirectory, TARGET_MAX } from "./layout/changes.ts";
import type { Tables } from "./layout/tables.ts";
import { type Ino, NAME_MAX, nearestTime, ROOT, S_IFLNK, S_IFMT, S_ISGID } from "./types.ts";
import type { VolumeState } from "./volume_state.ts";

/** Hard links of a file at most, as on ext4. */
const LINK_MAX = 65000;

/**
 * What of a filesystem concerns the tables alone, and so is synchronous. `Filesystem` says what each operation promises;
 * `Volume` adds the rest.
 */
export class Tree {
  protected state: VolumeState;
  protected data: FileData;
  /** Who keeps an inode alive besides its names. */
  readonly #references = new Map<Ino, number>();

  /** Removes files that were open and unlinked when the last writer went away. */
  constructor(state: VolumeState) {
    this.state = state;
    this.data = new FileData(state);
    if (state.readOnly) return;
    const { inodes } = this.#tables;
    for (let ino = ROOT + 1; ino < inodes.end; ino++) {
      if (inodes.has(ino) && inodes.nlink[ino] === 0) this.#remove(ino);
    }
  }

  get #tables(): Tables {
    return this.state.tables;
  }

  /** A name that may be given to a new entry of a directory that still exists. */
  #newName(directory: Ino, name: Uint8Array): void {
    this.state.directory(directory);
    checkName(name);
    if (this.#tables.inodes.nlink[directory] === 0) throw new FsError("ENOENT");
  }

  #find(directory: Ino, name: Uint8Array): { slot: number; ino: Ino } {
    this.state.directory(directory);
    checkName(name);
    const slot = this.#tables.dentries.find(directory, name);
    if (slot < 0) throw new FsError("ENOENT");
    return { slot, ino: this.#tables.dentries.inoAt(slot) };
  }

  lookup(directory: Ino, name: Uint8Array): Ino | undefined {
    this.state.directory(directory);
    if (name.length > NAME_MAX) throw new FsError("ENAMETOOLONG");
    if (name.length === 1 && name[0] === 0x2e) return directory;
    if (name.length === 2 && name[0] === 0x2e && name[1] === 0x2e) return this.parent(directory);
    const slot = this.#tables.dentries.find(directory, name);
    return slot < 0 ? undefined : this.#tables.dentries.inoAt(slot);
  }

  parent(directory: Ino): Ino {
    const slot = this.#tables.dentries.directoryEntryOf(directory);
    return slot < 0 ? ROOT : this.#tables.dentries.parentAt(slot);
  }

  attributes(ino: Ino): Attributes {
    this.state.live(ino);
    const t = this.#tables.inodes;
    const mode = t.mode[ino]!, symlink = (mode & S_IFMT) === S_IFLNK;
    return {
      ino,
      generation: t.generation[ino]!,
      mode,
      nlink: t.nlink[ino]!,
      uid: t.uid[ino]!,
      gid: t.gid[ino]!,
      rdev: t.rdev[ino]!,
      size: symlink ? t.targets.get(ino)?.length ?? 0 : t.size[ino]!,
      blocks: (this.#tables.extents.blocksOf(ino) + this.state.dirty.freshBlocks(ino)) * (BLOCK / 512),
      atime: { seconds: t.atimeS[ino]!, nanoseconds: t.atimeN[ino]! },
      mtime: { seconds: t.mtimeS[ino]!, nanoseconds: t.mtimeN[ino]! },
      ctime: { seconds: t.ctimeS[ino]!, nanoseconds: t.ctimeN[ino]! },
      btime: { seconds: t.btimeS[ino]!, nanoseconds: t.btimeN[ino]! },
    };
  }

  setAttributes(ino: Ino, changes: AttributeChanges): Attributes {
    this.state.live(ino);
    this.state.writable();
    const t = this.#tables.inodes;
    const [atime, mtime, ctime] = [changes.atime, changes.mtime, changes.ctime].map((one) =>
      one && nearestTime(one)
    );
    if (changes.size !== undefined) this.data.resize(ino, changes.size);
    if (changes.mode !== undefined) t.mode[ino] = (t.mode[ino]! & S_IFMT) | (changes.mode & 0o7777);
    if (changes.uid !== undefined) t.uid[ino] = changes.uid;
    if (changes.gid !== undefined) t.gid[ino] = changes.gid;
    this.state.changed(ino, changes.size !== undefined);
    if (atime) t.atimeS[ino] = atime.seconds, t.atimeN[ino] = atime.nanoseconds;
    if (mtime) t.mtimeS[ino] = mtime.seconds, t.mtimeN[ino] = mtime.nanoseconds;
    if (ctime) t.ctimeS[ino] = ctime.seconds, t.ctimeN[ino] = ctime.nanoseconds;
    this.state.committer.touched();
    return this.attributes(ino);
  }

  create(directory: Ino, name: Uint8Array, spec: NodeSpec): Ino {
    this.state.writable();
    this.#newName(directory, name);
    const { inodes, dentries } = this.#tables;
    if (dentries.find(directory, name) >= 0) throw new FsError("EEXIST");
    this.state.growing();
    const folder = isDirectory(spec.mode), parentMode = inodes.mode[directory]!;
    const inherits = (parentMode & S_ISGID) !== 0;
    const ino = this.#make(
      inherits
        ? { ...spec, gid: inodes.gid[directory]!, mode: folder ? spec.mode | S_ISGID : spec.mode }
        : spec,
      folder ? 2 : 1,
    );
    dentries.insert(directory, name, ino, { directory: folder });
    this.state.log.entry(directory, name, ino, folder);
    if (folder) inodes.nlink[directory]!++;
    this.state.changed(directory, true);
    this.state.committer.touched();
    return ino;
  }

  createUnnamed(spec: NodeSpec): Ino {
    this.state.writable();
    this.state.growing();
    const ino = this.#make(spec, 0);
    this.state.committer.touched();
    return ino;
  }

  #make(spec: NodeSpec, nlink: number): Ino {
    const { inodes } = this.#tables, symlink = (spec.mode & S_IFMT) === S_IFLNK;
    if (symlink && (!spec.target || spec.target.length === 0)) throw new FsError("ENOENT");
    if (symlink && spec.target!.length > TARGET_MAX) throw new FsError("ENAMETOOLONG");
    const ino = inodes.allocate(), [seconds, nanoseconds] = now();
    inodes.mode[ino] = spec.mode;
    inodes.uid[ino] = spec.uid;
    inodes.gid[ino] = spec.gid;
    inodes.rdev[ino] = spec.rdev ?? 0;
    inodes.nlink[ino] = nlink;
    inodes.size[ino] = 0;
    inodes.atimeS[ino] =
      inodes.mtimeS[ino] =
      inodes.ctimeS[ino] =
      inodes.btimeS[ino] =
        seconds;
    inodes.atimeN[ino] =
      inodes.mtimeN[ino] =
      inodes.ctimeN[ino] =
      inodes.btimeN[ino] =
        nanoseconds;
    if (symlink) {
      const target = spec.target!.slice();
      inodes.targets.set(ino, target);
      this.state.log.target(ino, target);
    }
    this.state.log.inode(ino);
    return ino;
  }

  link(ino: Ino, directory: Ino, name: Uint8Array): void {
    this.state.writable();
    this.state.live(ino);
    this.#newName(directory, name);
    const { inodes, dentries } = this.#tables;
    if (isDirectory(inodes.mode[ino]!)) throw new FsError("EPERM");
    if (dentries.find(directory, name) >= 0) throw new FsError("EEXIST");
    if (inodes.nlink[ino]! >= LINK_MAX) throw new FsError("EMLINK");
    this.state.growing();
    dentries.insert(directory, name, ino, { directory: false });
    this.state.log.entry(directory, name, ino, false);
    inodes.nlink[ino]!++;
    this.state.changed(ino);
    this.state.changed(directory, true);
    this.state.committer.touched();
  }

  unlink(directory: Ino, name: Uint8Array): void {
    this.state.writable();
    const { slot, ino } = this.#find(directory, name);
    if (isDirectory(this.#tables.inodes.mode[ino]!)) throw new FsError("EISDIR");
    this.#removeEntry(directory, name, slot);
    this.#unlinked(ino);
    this.state.committer.touched();
  }

  rmdir(directory: Ino, name: Uint8Array): void {
    this.state.writable();
    const { slot, ino } = this.#find(directory, name);
    this.#emptyDirectory(ino);
    this.#removeEntry(directory, name, slot);
    this.#directoryGone(ino, directory);
    this.state.committer.touched();
  }

  #emptyDirectory(ino: Ino): void {
    this.state.directory(ino);
    if (this.#tables.dentries.countOf(ino) > 0) throw new FsError("ENOTEMPTY");
  }

  #removeEntry(directory: Ino, name: Uint8Array, slot: number): void {
    this.#tables.dentries.remove(slot);
    this.state.log.removeEntry(directory, name);
    this.state.changed(directory, true);
  }

  #unlinked(ino: Ino): void {
    const { inodes } = this.#tables;
    inodes.nlink[ino]!--;
    this.state.changed(ino);
    if (inodes.nlink[ino] === 0 && !this.#references.has(ino)) this.#remove(ino);
  }

  #directoryGone(ino: Ino, parent: Ino): void {
    const { inodes, dentries } = this.#tables;
    inodes.nlink[parent]!--;
    inodes.nlink[ino] = 0;
    dentries.forgetDirectory(ino);
    this.state.changed(ino);
    if (!this.#references.has(ino)) this.#remove(ino);
  }

  /** The inode has no name and nobody uses it. */
  #remove(ino: Ino): void {
    const { inodes } = this.#tables;
    this.data.remove(ino);
    const generation = inodes.generation[ino]!;
    inodes.remove(ino);
    this.state.log.removeInode(ino, generation);
    this.state.committer.dead(ino);
  }

  rename(from: Ino, name: Uint8Array, to: Ino, newName: Uint8Array, flags = 0): void {
    this.state.writable();
    if (
      (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) !== 0 || flags === (RENAME_NOREPLACE | RENAME_EXCHANGE)
    ) {
      throw new FsError("EINVAL");
    }
    this.state.directory(from);
    this.state.directory(to);
    const { slot, ino } = this.#find(from, name), { inodes, dentries } = this.#tables;
    this.#newName(to, newName);
    const folder = isDirectory(inodes.mode[ino]!), otherSlot = dentries.find(to, newName);
    if (folder && from !== to) this.#notInside(ino, to);
    if (otherSlot < 0) {
      if (flags & RENAME_EXCHANGE) throw new FsError("ENOENT");
    } else if (flags & RENAME_NOREPLACE) throw new FsError("EEXIST");
    else if (flags & RENAME_EXCHANGE) return this.#exchange(from, name, slot, to, newName, otherSlot);
    else {
      const other = dentries.inoAt(otherSlot);
      if (other === ino) return; // two names of one file: POSIX says that nothing happens
      const otherFolder = isDirectory(inodes.mode[other]!);
      if (folder && !otherFolder) throw new FsError("ENOTDIR");
      if (!folder && otherFolder) throw new FsError("EISDIR");
      if (otherFolder) this.#emptyDirectory(other);
      this.#removeEntry(to, newName, otherSlot);
      if (otherFolder) this.#directoryGone(other, to);
      else {
        this.#unlinked(other);
        this.state.committer.must(ino);
      }
    }
    this.#removeEntry(from, name, slot);
    dentries.insert(to, newName, ino, { directory: folder });
    this.state.log.entry(to, newName, ino, folder);
    if (folder && from !== to) inodes.nlink[from]!--, inodes.nlink[to]!++;
    this.state.changed(ino);
    this.state.changed(to, true);
    this.state.committer.touched();
  }

  /** A directory does not move into itself or below itself. */
  #notInside(ino: Ino, directory: Ino): void {
    for (let at = directory; at !== ROOT; at = this.parent(at)) {
      if (at === ino) throw new FsError("EINVAL");
    }
  }

  #exchange(
    from: Ino,
    name: Uint8Array,
    slot: number,
    to: Ino,
    newName: Uint8Array,
    otherSlot: number,
  ): void {
    const { inodes, dentries } = this.#tables;
    const ino = dentries.inoAt(slot), other = dentries.inoAt(otherSlot);
    if (ino === other) return;
    const folder = isDirectory(inodes.mode[ino]!), otherFolder = isDirectory(inodes.mode[other]!);
    if (otherFolder && from !== to) this.#notInside(other, from);
    this.#removeEntry(from, name, slot);
    this.#removeEntry(to, newName, otherSlot);
    dentries.insert(from, name, other, { directory: otherFolder });
    dentries.insert(to, newName, ino, { directory: folder });
    this.state.log.entry(from, name, other, otherFolder);
    this.state.log.entry(to, newName, ino, folder);
    if (from !== to && folder !== otherFolder) {
      inodes.nlink[folder ? from : to]!--;
      inodes.nlink[folder ? to : from]!++;
    }
    for (const one of [ino, other]) this.state.changed(one);
    for (const one of [from, to]) this.state.changed(one, true);
    this.state.committer.touched();
  }

  readlink(ino: Ino): Uint8Array {
    this.state.live(ino);
    const target = this.#tables.inodes.targets.get(ino);
    if ((this.#tables.inodes.mode[ino]! & S_IFMT) !== S_IFLNK || !target) throw new FsError("EINVAL");
    this.state.accessed(ino);
    return target;
  }

  list(directory: Ino, cookie = 0): IterableIterator<ListedEntry> {
    this.state.directory(directory);
    this.state.accessed(directory);
    return this.#tables.dentries.list(directory, cookie);
  }

  newest(directory: Ino): number {
    this.state.directory(directory);
    return this.#tables.dentries.newestOf(directory);
  }

  hold(ino: Ino): void {
    this.state.live(ino);
    this.#references.set(ino, (this.#references.get(ino) ?? 0) + 1);
  }

  drop(ino: Ino, count = 1): void {
    const left = (this.#references.get(ino) ?? 0) - count;
    if (left > 0) {
      this.#references.set(ino, left);
      return;
    }
    this.#references.delete(ino);
    const { inodes } = this.#tables;
    if (!this.state.takesChanges || !inodes.has(ino) || inodes.nlink[ino] !== 0) return;
    this.#remove(ino);
    this.state.committer.touched();
  }

  /** Gives all references back. */
  protected dropAll(): void {
    for (const ino of [...this.#references.keys()]) this.drop(ino, Infinity);
  }
}

function checkName(name: Uint8Array): void {
  if (name.length > NAME_MAX) throw new FsError("ENAMETOOLONG");
  if (name.length === 0) throw new FsError("ENOENT");
  const dots = name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
  if (dots || name.includes(0) || name.includes(0x2f)) throw new FsError("EINVAL");
}
