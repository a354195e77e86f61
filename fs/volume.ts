/** The filesystem over a container: what a mount and the command line use. */
import { CoverError } from "../crypto/errors.ts";
import { compact, type Compacted } from "./compact.ts";
import type { Container } from "./container.ts";
import { Fenced, FsError } from "./errors.ts";
import { getXattr, listXattr, removeXattr, setXattr } from "./extended_attributes.ts";
import { FileData } from "./file_data.ts";
import type { Filesystem, FilesystemStatistics } from "./filesystem.ts";
import type { Tables } from "./layout/tables.ts";
import type { DurablePoint } from "./loading.ts";
import type { MoveOptions } from "./mover.ts";
import { rekey, type Rekeyed } from "./rekey.ts";
import { SpaceStatistics } from "./space_statistics.ts";
import { isSameFile, openSuccessor } from "./succession.ts";
import { Tree } from "./tree.ts";
import type { CommitNumber, FileOffset, Ino } from "./types.ts";
import { VolumeState } from "./volume_state.ts";

/** Bytes of dirty data before writers wait, unless said otherwise. */
const DIRTY_BYTES = 64 << 20;

/** Options of a volume. */
export interface VolumeOptions {
  /** Bytes of dirty data before writers wait. */
  readonly dirtyBytes?: number;
  /** Access times: moved when older than the last change or a day (`relatime`), or never. */
  readonly atime?: "relatime" | "noatime";
  /** Seconds that a change waits at most for its commit when nobody asks for one. Default, what suits the store. */
  readonly commitInterval?: number | undefined;
  /** Called when a commit is durable: what a client remembers against rollback. */
  readonly onDurable?: (point: DurablePoint) => void;
}

/** A filesystem in a container. */
export class Volume extends Tree implements Filesystem, AsyncDisposable {
  /** Of a writer that was replaced: the state as it was, and the files with data that is lost. */
  #replaced: { readonly state: VolumeState; readonly lost: ReadonlySet<Ino> } | undefined;
  #following: Promise<boolean> | undefined;
  readonly #statistics = new SpaceStatistics();
  /** Blocks are being moved: work that the end of the session ends. */
  #moving: Promise<unknown> | undefined;
  /**
   * Called when another writer has taken over, with what was shown until then and the files in it whose data is lost.
   * What is shown now is what was committed: inodes may be missing or be other files, and nothing can be changed.
   */
  onReplaced: ((before: Tables, lost: ReadonlySet<Ino>) => void) | undefined;

  constructor(container: Container, options: VolumeOptions = {}) {
    super(
      new VolumeState(container, {
        dirtyBytes: options.dirtyBytes ?? DIRTY_BYTES,
        relatime: options.atime !== "noatime",
        commitInterval: options.commitInterval,
      }),
    );
    this.state.committer.onDurable = () => {
      const point = container.durable;
      if (point) options.onDurable?.(point);
    };
    if (this.readOnly) return;
    void container.store.fenced?.then((reason) => {
      this.state.committer.fail(reason);
      return this.refresh();
    }).catch(() => {}); // it is tried again with each refresh
  }

  /** The container; after another writer has taken over, one that reads what that one commits. */
  get container(): Container {
    return this.state.container;
  }

  get readOnly(): boolean {
    return this.state.readOnly;
  }

  admit(): void | Promise<void> {
    if (this.readOnly || this.state.committer.failure !== undefined) return;
    // A change needs room for its record: grow now, so that the operation itself need not wait.
    const { available } = this.container.session.space;
    const grown = available < 1 ? this.state.room(1).catch(() => {}) : undefined;
    return this.state.committer.admit(grown)?.catch(() => {});
  }

  read(
    ino: Ino,
    offset: FileOffset,
    length: number,
    into?: Uint8Array,
  ): Uint8Array | Promise<Uint8Array> {
    return this.data.read(ino, offset, length, into);
  }

  write(ino: Ino, offset: FileOffset, data: Uint8Array): void | Promise<void> {
    return this.data.write(ino, offset, data);
  }

  allocate(ino: Ino, offset: FileOffset, length: number, mode: number): void | Promise<void> {
    return this.data.allocate(ino, offset, length, mode);
  }

  seek(ino: Ino, offset: FileOffset, what: "data" | "hole"): FileOffset {
    return this.data.seek(ino, offset, what);
  }

  async copy(from: Ino, offset: FileOffset, to: Ino, toOffset: FileOffset, length: number): Promise<number> {
    this.state.regular(from);
    this.state.regular(to);
    // What the copy itself adds to the end of the same file is not copied.
    const end = Math.min(length, this.state.tables.inodes.size[from]! - offset), step = 1 << 20;
    let done = 0;
    while (done < end) {
      await this.admit();
      const bytes = await this.read(from, offset + done, Math.min(step, end - done));
      if (bytes.length === 0) break;
      await this.write(to, toOffset + done, bytes);
      done += bytes.length;
    }
    return done;
  }

  closed(ino: Ino): void {
    if (!this.#replaced?.lost.has(ino)) return this.data.closed(ino);
    throw new FsError("EIO", "Data could not be written", { cause: this.#replaced.state.committer.failure });
  }

  async fsync(ino: Ino, _options?: { dataOnly?: boolean }): Promise<void> {
    await this.#writing?.commit({ ino });
  }

  /** What is asked for durability: undefined of a reader, after another writer has taken over what tells of the loss. */
  get #writing(): VolumeState | undefined {
    return this.#replaced?.state ?? (this.readOnly ? undefined : this.state);
  }

  async sync(): Promise<CommitNumber> {
    await this.#writing?.commit({ all: true });
    return this.container.last;
  }

  /** Writes a checkpoint now, so that the next opening has no journal to replay. */
  async checkpoint(): Promise<void> {
    this.state.writable();
    await this.state.committer.checkpoint();
  }

  /**
   * Makes the container as short as its content allows, in between the requests.
   *
   * @throws {CoverError} "busy" if that is under way already
   * @throws {FsError} EROFS; EIO if nothing can be committed any more, or the volume has ended meanwhile
   */
  async compact(options: MoveOptions = {}): Promise<Compacted> {
    return await this.#move(compact, options);
  }

  /**
   * Seals all anew that is sealed under older keys, in between the requests.
   *
   * @throws as {@linkcode compact}, and {FsError} ENOSPC
   */
  async rekey(options: MoveOptions = {}): Promise<Rekeyed> {
    return await this.#move(rekey, options);
  }

  #move<T>(work: (state: VolumeState, options: MoveOptions) => Promise<T>, options: MoveOptions): Promise<T> {
    this.state.writable();
    if (this.#moving) throw new CoverError("busy", "Cannot move blocks: that is under way already");
    const moving = work(this.state, options);
    this.#moving = moving.catch(() => {}).finally(() => this.#moving = undefined);
    return moving;
  }

  getXattr(ino: Ino, name: Uint8Array): Uint8Array | undefined {
    return getXattr(this.state, ino, name);
  }

  setXattr(ino: Ino, name: Uint8Array, value: Uint8Array, flags = 0): void {
    setXattr(this.state, ino, { name, value, flags });
  }

  listXattr(ino: Ino): Uint8Array[] {
    return listXattr(this.state, ino);
  }

  removeXattr(ino: Ino, name: Uint8Array): void {
    removeXattr(this.state, ino, name);
  }

  statistics(): FilesystemStatistics {
    return this.#statistics.of(this.container);
  }

  /** Asks the store how much room it has, for {@linkcode statistics}. */
  async refreshSpace(): Promise<void> {
    await this.#statistics.refresh(this.container);
  }

  /** Readers, and writers that were replaced: goes on to the newest commit. @returns true if anything changed */
  async refresh(): Promise<boolean> {
    if (this.readOnly) return await this.container.refresh();
    if (this.state.ended || !(this.state.committer.failure instanceof Fenced)) return false;
    return await (this.#following ??= this.#follow().finally(() => this.#following = undefined));
  }

  /** Becomes a reader of what the writer commits that has taken over. */
  async #follow(): Promise<boolean> {
    const state = this.state, container = await openSuccessor(state.container);
    if (state.ended) return false;
    const lost = state.committer.unwritten;
    const kept = [...lost].filter((ino) => isSameFile(ino, state.tables, container.tables));
    this.#replaced = { state, lost: new Set(kept) };
    this.state = new VolumeState(container, { dirtyBytes: 0, relatime: false });
    this.data = new FileData(this.state);
    this.onReplaced?.(state.tables, lost);
    await this.refreshSpace();
    return true;
  }

  /**
   * Commits everything and ends the session. The container stays open; nothing can be written any more.
   *
   * @throws {CoverError} "data-lost" if something could not be committed; what the store says, if everything was
   * committed but the end could not be recorded
   */
  async end(): Promise<void> {
    if (this.state.ended) return;
    const writing = this.#writing;
    if (writing) writing.ending = true;
    try {
      await this.#moving;
      this.dropAll();
      await writing?.committer.end();
    } catch (cause) {
      throw new CoverError("data-lost", "Cannot commit: data that was not flushed is lost", { cause });
    } finally {
      this.state.ended = true;
      if (writing) writing.ended = true;
    }
    await writing?.container.session.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.end();
    } finally {
      await this.container.close();
    }
  }
}
