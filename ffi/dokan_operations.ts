/**
 * The operations of Dokan over a filesystem (dokan.h, DOKAN_OPERATIONS). They run on the thread that owns it, and write
 * into the memory of whoever asks, who waits meanwhile.
 */
import type { Filesystem } from "../fs/filesystem.ts";
import { RENAME_NOREPLACE } from "../fs/filesystem.ts";
import { type Ino, ROOT, S_IFDIR, S_IFMT, S_IFREG } from "../fs/types.ts";
import {
  attributesOf,
  givenFileTime,
  givenTime,
  isWritable,
  keep,
  OWNER_WRITE,
  writeBasics,
} from "./dokan_attributes.ts";
import { entryOf, type Handle, Handles, sharedAccess, writes } from "./dokan_handles.ts";
import { DokanNames, type NamePlace, shownName, storedName } from "./dokan_names.ts";
import { ATTRIBUTE, BY_HANDLE, FILE_INFO, FIND_DATA } from "./dokan_structs.ts";
import type { DokanOperation } from "./dokan_symbols.ts";
import { nativeBytes, nativeView, nativeWideString } from "./native_memory.ts";
import { type StatusName, statusOf, StatusRefusal } from "./ntstatus.ts";

/** CreateDisposition (ntifs.h). */
const SUPERSEDE = 0, CREATE = 2, OPEN_IF = 3, OVERWRITE = 4, OVERWRITE_IF = 5;
/** CreateOptions. */
const DIRECTORY_FILE = 0x1,
  NON_DIRECTORY_FILE = 0x40,
  DELETE_ON_CLOSE = 0x1000,
  OPEN_REPARSE_POINT = 0x20_0000;
/** FILE_CASE_PRESERVED_NAMES | FILE_UNICODE_ON_DISK, and FILE_READ_ONLY_VOLUME. */
const VOLUME_FLAGS = 0x2 | 0x4, VOLUME_READ_ONLY = 0x8_0000;
const BLOCK = 4096, NAME_MAX = 255;
/** DELETE among the rights that are asked for (winnt.h). */
const DELETE = 0x1_0000;

/** What the operations need besides the filesystem. */
export interface DokanOperationsOptions {
  readonly label: string;
  /** Tells the library of an entry; whether it has room for more. */
  readonly fill: (fill: bigint, data: Uint8Array<ArrayBuffer>, info: bigint) => boolean;
  /** Whether a name fits a pattern (DokanIsNameInExpression). */
  readonly matches: (pattern: string, name: string) => boolean;
  readonly onMounted: () => void;
  /** The security descriptor of a file or directory, in parts; undefined: the library's own, which lets in all. */
  readonly security?: ((parts: number, options: { directory: boolean }) => Uint8Array) | undefined;
}

type Arguments = readonly bigint[];

/** One mount's operations. */
export class DokanOperations {
  readonly #filesystem: Filesystem;
  readonly #options: DokanOperationsOptions;
  readonly #names: DokanNames;
  readonly #handles = new Handles();

  constructor(filesystem: Filesystem, options: DokanOperationsOptions) {
    this.#filesystem = filesystem;
    this.#options = options;
    this.#names = new DokanNames(filesystem);
  }

  /** How many files and directories are open. */
  get open(): number {
    return this.#handles.size;
  }

  /** The filesystem shows another state than before. */
  replaced(): void {
    this.#names.clear();
  }

  /** Gives back what the library has not closed: the mount has ended. */
  end(): void {
    for (const { ino } of this.#handles.clear()) this.#filesystem.drop(ino);
  }

  /** Does one operation. @throws {FsError} {@linkcode StatusRefusal} what is answered instead of success */
  async run(operation: DokanOperation, args: Arguments): Promise<StatusName | void> {
    return await this[operation](args);
  }

  async ZwCreateFile(args: Arguments): Promise<StatusName | undefined> {
    const admitted = this.#filesystem.admit();
    if (admitted !== undefined) await admitted;
    try {
      return await this.#create(args);
    } catch (error) {
      // Where a file must not be deleted, the library opens the directory in its stead, as one may delete what is in it
      // (dokan/create.c): what is then written to or renamed would be the directory.
      const refused = statusOf(error) === "ACCESS_DENIED" && (Number(args[2]) & DELETE) !== 0;
      throw refused ? new StatusRefusal("CANNOT_DELETE") : error;
    }
  }

  async #create(args: Arguments): Promise<StatusName | undefined> {
    const [name, , access, attributes, share, disposition, flags] = args.map(Number);
    const info = args[7]!,
      has = (bit: number) => (flags! & bit) !== 0,
      path = nativeWideString(BigInt(name!));
    const place = this.#names.place(path, { follow: !has(OPEN_REPARSE_POINT) });
    const found = place === undefined ? ROOT : place.ino;
    const entry = place && entryOf(place.directory, place.name);
    if (found !== undefined && entry !== undefined) {
      // To the driver they are one file, with one size and one set of mapped pages.
      const twins = this.#handles.twins(found, entry);
      if (twins.some(({ directory, name }) => this.#filesystem.lookup(directory, name) !== undefined)) {
        throw new StatusRefusal("SHARING_VIOLATION");
      }
    }
    const wanted = sharedAccess(access! >>> 0) | (has(DELETE_ON_CLOSE) ? 4 : 0);
    const ino = found === undefined
      ? this.#make(place!, {
        directory: has(DIRECTORY_FILE),
        disposition: disposition!,
        attributes: attributes!,
      })
      : await this.#openExisting(found, {
        wanted,
        share: share!,
        disposition: disposition!,
        flags: flags!,
        access: access! >>> 0,
        attributes: attributes!,
      });
    const dots = place !== undefined && /^\.\.?$/.test(shownName(place.name));
    this.#filesystem.hold(ino);
    const context = this.#handles.add({
      ino,
      entry: dots ? undefined : entry,
      access: wanted,
      share: share!,
      pending: false, // also where it goes when it is closed: until then others may open it
      cleaned: false,
    });
    const view = nativeView(info, FILE_INFO.bytes);
    view.setBigUint64(FILE_INFO.context, context, true);
    view.setUint8(FILE_INFO.isDirectory, this.#names.isDirectory(ino) ? 1 : 0);
    // So the library learns that the file was there before (dokan.h, ZwCreateFile).
    const either = [SUPERSEDE, OPEN_IF, OVERWRITE_IF].includes(disposition!);
    return found !== undefined && either ? "OBJECT_NAME_COLLISION" : undefined;
  }

  async #openExisting(ino: Ino, how: {
    wanted: number;
    share: number;
    disposition: number;
    flags: number;
    access: number;
    attributes: number;
  }): Promise<Ino> {
    const { disposition, flags } = how, before = this.#filesystem.attributes(ino), { mode } = before;
    const directory = (mode & S_IFMT) === S_IFDIR;
    if (disposition === CREATE) throw new StatusRefusal("OBJECT_NAME_COLLISION");
    if (directory && (flags & NON_DIRECTORY_FILE) !== 0) throw new StatusRefusal("FILE_IS_A_DIRECTORY");
    if (!directory && (flags & DIRECTORY_FILE) !== 0) throw new StatusRefusal("NOT_A_DIRECTORY");
    const empties = [SUPERSEDE, OVERWRITE, OVERWRITE_IF].includes(disposition);
    if (directory && empties) throw new StatusRefusal("OBJECT_NAME_COLLISION");
    const changes = empties || (flags & DELETE_ON_CLOSE) !== 0 || (!directory && writes(how.access));
    if (changes) this.#refuseReadOnly();
    if (!directory && !isWritable(mode)) {
      if (empties || writes(how.access)) throw new StatusRefusal("ACCESS_DENIED");
      if ((flags & DELETE_ON_CLOSE) !== 0) throw new StatusRefusal("CANNOT_DELETE");
    }
    if (empties) {
      // Who overwrites a hidden file or one of the system has to say that it stays such a one (CreateFileW).
      const special = attributesOf(this.#filesystem, before) & (ATTRIBUTE.hidden | ATTRIBUTE.system);
      if ((special & ~how.attributes) !== 0) throw new StatusRefusal("ACCESS_DENIED");
    }
    this.#handles.check(ino, how.wanted | (empties ? 2 : 0), how.share);
    if (empties) {
      await this.#setSize(ino, 0);
      this.#setAttributes(ino, how.attributes);
    }
    return ino;
  }

  #make(place: NamePlace, how: { directory: boolean; disposition: number; attributes: number }): Ino {
    const { disposition } = how;
    if (disposition !== CREATE && ![SUPERSEDE, OPEN_IF, OVERWRITE_IF].includes(disposition)) {
      throw new StatusRefusal("OBJECT_NAME_NOT_FOUND");
    }
    this.#refuseReadOnly();
    const { uid, gid } = this.#filesystem.attributes(place.directory);
    const readOnly = (how.attributes & ATTRIBUTE.readOnly) !== 0;
    const mode = how.directory ? S_IFDIR | 0o755 : S_IFREG | (readOnly ? 0o444 : 0o644);
    const ino = this.#filesystem.create(place.directory, place.name, { mode, uid, gid });
    keep(this.#filesystem, ino, { attributes: how.attributes });
    return ino;
  }

  #setAttributes(ino: Ino, attributes: number): void {
    const { mode } = this.#filesystem.attributes(ino), readOnly = (attributes & ATTRIBUTE.readOnly) !== 0;
    keep(this.#filesystem, ino, { attributes });
    // On a directory read-only means nothing to Windows, and would keep others from making files there.
    if ((mode & S_IFMT) === S_IFDIR || readOnly === !isWritable(mode)) return;
    this.#filesystem.setAttributes(ino, { mode: readOnly ? mode & ~0o222 : mode | OWNER_WRITE });
  }

  /** Here a name goes, if the driver says so: with the last of those who have it open. */
  async Cleanup([, info]: Arguments): Promise<void> {
    const handle = this.#handles.get(contextOf(info!));
    if (handle === undefined || handle.cleaned) return;
    handle.cleaned = true;
    if (!pendingOf(info!) || handle.entry === undefined) return;
    await this.#filesystem.admit();
    const { directory, name } = handle.entry;
    if (this.#filesystem.lookup(directory, name) !== handle.ino) return; // moved or removed by another
    if (this.#names.isDirectory(handle.ino)) this.#filesystem.rmdir(directory, name);
    else this.#filesystem.unlink(directory, name);
  }

  CloseFile([, info]: Arguments): void {
    const view = nativeView(info!, FILE_INFO.bytes);
    const handle = this.#handles.remove(view.getBigUint64(FILE_INFO.context, true));
    view.setBigUint64(FILE_INFO.context, 0n, true);
    if (handle === undefined) return;
    try {
      this.#filesystem.closed(handle.ino);
    } finally {
      this.#filesystem.drop(handle.ino);
    }
  }

  async ReadFile([, buffer, length, got, offset, info]: Arguments): Promise<StatusName | void> {
    const { ino } = this.#file(info!);
    if (offset! < 0n) return "INVALID_PARAMETER";
    const count = Number(length!), into = nativeBytes(buffer!, count);
    const bytes = await this.#filesystem.read(ino, Number(offset!), count);
    into.set(bytes);
    nativeView(got!, 4).setUint32(0, bytes.length, true);
    if (bytes.length === 0 && count > 0) return "END_OF_FILE";
  }

  async WriteFile([, buffer, length, put, offset, info]: Arguments): Promise<StatusName | void> {
    const { ino } = this.#file(info!), view = nativeView(info!, FILE_INFO.bytes);
    this.#refuseReadOnly();
    await this.#filesystem.admit();
    const { size } = this.#filesystem.attributes(ino),
      append = view.getUint8(FILE_INFO.writeToEndOfFile) !== 0;
    if (!append && offset! < 0n) return "INVALID_PARAMETER";
    const at = append ? size : Number(offset!);
    // What the cache writes may be a page, of which the file has only a part: it does not grow by that.
    const paging = view.getUint8(FILE_INFO.pagingIo) !== 0;
    const count = paging ? Math.max(0, Math.min(Number(length!), size - at)) : Number(length!);
    if (count > 0) await this.#filesystem.write(ino, at, nativeBytes(buffer!, count));
    nativeView(put!, 4).setUint32(0, paging ? Number(length!) : count, true);
  }

  async FlushFileBuffers([, info]: Arguments): Promise<void> {
    await this.#filesystem.fsync(this.#handle(info!).ino);
  }

  GetFileInformation([, buffer, info]: Arguments): void {
    const attributes = this.#filesystem.attributes(this.#handle(info!).ino);
    const view = nativeView(buffer!, BY_HANDLE.bytes), { mode, nlink, ino } = attributes;
    new Uint8Array(view.buffer).fill(0);
    writeBasics(view, BY_HANDLE, { filesystem: this.#filesystem, attributes });
    view.setUint32(BY_HANDLE.links, (mode & S_IFMT) === S_IFDIR ? 1 : nlink, true);
    view.setUint32(BY_HANDLE.indexHigh, Math.floor(ino / 2 ** 32), true);
    view.setUint32(BY_HANDLE.indexLow, ino % 2 ** 32, true);
  }

  FindFiles([path, fill, info]: Arguments): void {
    this.#find(info!, fill!, nativeWideString(path!), () => true);
  }

  FindFilesWithPattern([path, pattern, fill, info]: Arguments): void {
    const expression = nativeWideString(pattern!);
    this.#find(
      info!,
      fill!,
      nativeWideString(path!),
      (name) => expression === "*" || this.#options.matches(expression, name),
    );
  }

  #find(info: bigint, fill: bigint, path: string, matches: (name: string) => boolean): void {
    const { ino } = this.#handle(info), data = new Uint8Array(FIND_DATA.bytes);
    if (!this.#names.isDirectory(ino)) throw new StatusRefusal("NOT_A_DIRECTORY");
    const tell = (name: string, of: Ino) => {
      if (!matches(name)) return true;
      const view = new DataView(data.buffer);
      data.fill(0);
      writeBasics(view, FIND_DATA, {
        filesystem: this.#filesystem,
        attributes: this.#filesystem.attributes(of),
      });
      for (let i = 0; i < name.length; i++) {
        view.setUint16(FIND_DATA.name + i * 2, name.charCodeAt(i), true);
      }
      return this.#options.fill(fill, data, info);
    };
    // The root has no entry of its own, nor of what is above it.
    const above: [string, Ino][] = /^\\*$/.test(path)
      ? []
      : [[".", ino], ["..", this.#filesystem.parent(ino)]];
    for (const [name, of] of above) if (!tell(name, of)) return;
    for (const { name, ino: of } of [...this.#filesystem.list(ino)]) if (!tell(shownName(name), of)) return;
  }

  async SetFileAttributes([, attributes, info]: Arguments): Promise<void> {
    const { ino } = this.#handle(info!), wanted = Number(attributes!);
    if (wanted === 0) return; // they stay
    this.#refuseReadOnly();
    await this.#filesystem.admit();
    this.#setAttributes(ino, wanted);
  }

  async SetFileTime([, creation, access, write, info]: Arguments): Promise<void> {
    const { ino } = this.#handle(info!);
    const created = givenFileTime(creation!), atime = givenTime(access!), mtime = givenTime(write!);
    if (created === undefined && atime === undefined && mtime === undefined) return;
    this.#refuseReadOnly();
    await this.#filesystem.admit();
    if (created !== undefined) keep(this.#filesystem, ino, { created });
    if (atime === undefined && mtime === undefined) return;
    this.#filesystem.setAttributes(ino, { ...(atime && { atime }), ...(mtime && { mtime }) });
  }

  DeleteFile([, info]: Arguments): StatusName | void {
    const handle = this.#handle(info!);
    if (this.#names.isDirectory(handle.ino)) return "FILE_IS_A_DIRECTORY";
    return this.#markDelete(handle, info!);
  }

  DeleteDirectory([, info]: Arguments): StatusName | void {
    const handle = this.#handle(info!);
    if (!this.#names.isDirectory(handle.ino)) return "NOT_A_DIRECTORY";
    if (handle.entry === undefined) return "CANNOT_DELETE";
    if (pendingOf(info!) && this.#filesystem.newest(handle.ino) !== 0) {
      if (!this.#filesystem.list(handle.ino).next().done) return "DIRECTORY_NOT_EMPTY";
    }
    return this.#markDelete(handle, info!);
  }

  /** Only whether it may go; it does so in Cleanup. It can also be taken back. */
  #markDelete(handle: Handle, info: bigint): StatusName | void {
    const pending = pendingOf(info), { mode } = this.#filesystem.attributes(handle.ino);
    if (pending) {
      this.#refuseReadOnly();
      if ((mode & S_IFMT) === S_IFREG && !isWritable(mode)) return "CANNOT_DELETE";
    }
    handle.pending = pending;
  }

  async MoveFile([, newName, replace, info]: Arguments): Promise<StatusName | void> {
    const handle = this.#handle(info!), path = nativeWideString(newName!);
    this.#refuseReadOnly();
    if (handle.entry === undefined) return "ACCESS_DENIED";
    await this.#filesystem.admit();
    const to = this.#names.place(path, { follow: false });
    if (to === undefined) return "OBJECT_NAME_COLLISION";
    const { directory, name } = handle.entry, same = to.ino === handle.ino && to.directory === directory;
    // Of the same file only the case changes: then the name is the one that is asked for, not the one that was found.
    const wanted = same ? { ...to, name: storedLast(path) } : to;
    if (to.ino !== undefined && !same) {
      if (replace === 0n) return "OBJECT_NAME_COLLISION";
      const { mode } = this.#filesystem.attributes(to.ino);
      if ((mode & S_IFMT) === S_IFDIR || !isWritable(mode)) return "ACCESS_DENIED";
      if (this.#handles.of(to.ino).some((one) => (one.share & 4) === 0)) return "ACCESS_DENIED";
    }
    // What is replaced keeps its own spelling on Windows; here the new one is what was asked for.
    this.#filesystem.rename(
      directory,
      name,
      wanted.directory,
      wanted.name,
      to.ino === undefined ? RENAME_NOREPLACE : 0,
    );
    for (const one of this.#handles.of(handle.ino)) {
      if (one.entry?.directory !== directory || !equalBytes(one.entry.name, name)) continue;
      one.entry = entryOf(wanted.directory, wanted.name);
    }
    this.#names.clear(); // a name may have gone without a new one coming
  }

  async SetEndOfFile([, size, info]: Arguments): Promise<StatusName | void> {
    const { ino } = this.#file(info!);
    this.#refuseReadOnly();
    if (size! < 0n) return "INVALID_PARAMETER";
    await this.#setSize(ino, Number(size!));
  }

  /** Room is not kept; only what is less than the file has cuts it. */
  async SetAllocationSize([, size, info]: Arguments): Promise<StatusName | void> {
    const { ino } = this.#file(info!);
    this.#refuseReadOnly();
    if (size! < 0n) return "INVALID_PARAMETER";
    if (Number(size!) < this.#filesystem.attributes(ino).size) await this.#setSize(ino, Number(size!));
  }

  GetDiskFreeSpace([available, total, free]: Arguments): void {
    const statistics = this.#filesystem.statistics();
    const set = (at: bigint, blocks: number) => {
      if (at !== 0n) {
        nativeView(at, 8).setBigUint64(0, BigInt(Math.max(0, Math.floor(blocks))) * BigInt(BLOCK), true);
      }
    };
    set(available!, statistics.available);
    set(total!, statistics.blocks);
    set(free!, statistics.free);
  }

  GetVolumeInformation([label, labelSize, serial, longest, flags, kind, kindSize]: Arguments): void {
    const number = (at: bigint, value: number) => {
      if (at !== 0n) nativeView(at, 4).setUint32(0, value, true);
    };
    const text = (at: bigint, room: bigint, value: string) => {
      if (at === 0n || room === 0n) return;
      const view = nativeView(at, Number(room) * 2), length = Math.min(value.length, Number(room) - 1);
      for (let i = 0; i < length; i++) view.setUint16(i * 2, value.charCodeAt(i), true);
      view.setUint16(length * 2, 0, true);
    };
    text(label!, labelSize!, this.#options.label);
    number(serial!, serialOf(this.#options.label));
    number(longest!, NAME_MAX);
    number(flags!, VOLUME_FLAGS | (this.#filesystem.readOnly ? VOLUME_READ_ONLY : 0));
    text(kind!, kindSize!, "CoverFS");
  }

  /** Who may do what with a file: whoever has mounted, all of it; whatever was set, as nothing of it is kept. */
  GetFileSecurity([, parts, into, room, needed, info]: Arguments): StatusName | void {
    const { security } = this.#options;
    if (security === undefined) return "NOT_IMPLEMENTED"; // then the library answers
    const directory = this.#names.isDirectory(this.#handle(info!).ino);
    const descriptor = security(nativeView(parts!, 4).getUint32(0, true), { directory });
    nativeView(needed!, 4).setUint32(0, descriptor.length, true);
    if (descriptor.length > Number(room!)) return "BUFFER_OVERFLOW";
    nativeBytes(into!, descriptor.length).set(descriptor);
  }

  /** Taken, and not kept: programs that replace a file give the new one what the old one had. */
  SetFileSecurity([, , , , info]: Arguments): StatusName | void {
    if (this.#options.security === undefined) return "NOT_IMPLEMENTED"; // a restriction would be none
    this.#handle(info!);
    this.#refuseReadOnly();
  }

  Mounted(): void {
    this.#options.onMounted();
  }

  Unmounted(): void {}

  #refuseReadOnly(): void {
    if (this.#filesystem.readOnly) throw new StatusRefusal("MEDIA_WRITE_PROTECTED");
  }

  async #setSize(ino: Ino, size: number): Promise<void> {
    await this.#filesystem.admit();
    this.#filesystem.setAttributes(ino, { size });
  }

  #handle(info: bigint): Handle {
    const handle = this.#handles.get(contextOf(info));
    if (handle === undefined) throw new StatusRefusal("FILE_CLOSED");
    return handle;
  }

  /** A handle of what has data. */
  #file(info: bigint): Handle {
    const handle = this.#handle(info);
    if (this.#names.isDirectory(handle.ino)) throw new StatusRefusal("FILE_IS_A_DIRECTORY");
    return handle;
  }
}

const contextOf = (info: bigint) => nativeView(info, FILE_INFO.bytes).getBigUint64(FILE_INFO.context, true);
const pendingOf = (info: bigint) => nativeView(info, FILE_INFO.bytes).getUint8(FILE_INFO.deletePending) !== 0;

/** The last component of a path of Windows, as a container has it. */
function storedLast(path: string): Uint8Array {
  return storedName(path.slice(path.lastIndexOf("\\") + 1));
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** A number for a volume by its label (FNV-1a). */
function serialOf(label: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < label.length; i++) hash = Math.imul(hash ^ label.charCodeAt(i), 0x0100_0193);
  return hash >>> 0;
}
