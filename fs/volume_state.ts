/** What all operations of a volume share: its parts, and what is asked before anything is done. */
import { RunBuffers } from "./block/buffers.ts";
import { now } from "./clock.ts";
import { Committer } from "./committer.ts";
import type { Container } from "./container.ts";
import { Fenced, FsError } from "./errors.ts";
import { ChangeLog, isDirectory } from "./layout/changes.ts";
import type { Tables } from "./layout/tables.ts";
import type { Space } from "./space.ts";
import { type Ino, S_IFDIR, S_IFMT, S_IFREG } from "./types.ts";
import { WriteBack } from "./write_back.ts";

const DAY = 86400;

/** The parts of a volume, and the guards of its operations. */
export class VolumeState {
  readonly container: Container;
  readonly readOnly: boolean;
  readonly buffers: RunBuffers;
  readonly log = new ChangeLog();
  readonly dirty: WriteBack;
  readonly committer: Committer;
  /** The session is about to end: work besides the requests ends. */
  ending = false;
  /** The session has ended: nothing is written any more. */
  ended = false;
  readonly #relatime: boolean;

  /**
   * @param options `dirtyBytes`: bytes of dirty data before writers wait; `relatime`: reading moves access times;
   * `commitInterval`: as of {@linkcode Committer}
   */
  constructor(
    container: Container,
    options: {
      readonly dirtyBytes: number;
      readonly relatime: boolean;
      readonly commitInterval?: number | undefined;
    },
  ) {
    this.container = container;
    this.#relatime = options.relatime;
    this.readOnly = container.readOnly;
    this.buffers = new RunBuffers({ shared: container.keys.sealer.parallel });
    this.dirty = new WriteBack(container, this.log, {
      dirtyBytes: options.dirtyBytes,
      buffers: this.buffers,
      recordable: () => this.committer.recordable(),
      onFailure: (error) => this.committer.fail(error),
    });
    this.committer = new Committer(
      container,
      { log: this.log, dirty: this.dirty },
      { interval: options.commitInterval },
    );
  }

  get tables(): Tables {
    return this.container.tables;
  }

  get space(): Space {
    return this.container.session.space;
  }

  /** Tells whether changes are still taken. */
  get takesChanges(): boolean {
    return !this.readOnly && !this.ended && this.committer.failure === undefined;
  }

  /** @throws {FsError} EROFS, also after another writer took over; EIO after a failed commit and after the end */
  writable(): void {
    if (this.readOnly) throw new FsError("EROFS");
    if (this.takesChanges) return;
    const { failure } = this.committer;
    throw new FsError(failure instanceof Fenced ? "EROFS" : "EIO", "The container can no longer be written", {
      cause: failure,
    });
  }

  /** @throws {FsError} ESTALE */
  live(ino: Ino): void {
    if (!this.tables.inodes.has(ino)) throw new FsError("ESTALE");
  }

  /** @throws {FsError} ESTALE, ENOTDIR */
  directory(ino: Ino): void {
    this.live(ino);
    if (!isDirectory(this.tables.inodes.mode[ino]!)) throw new FsError("ENOTDIR");
  }

  /** @throws {FsError} ESTALE, EISDIR, EINVAL for what is neither file nor directory */
  regular(ino: Ino): void {
    this.live(ino);
    const type = this.tables.inodes.mode[ino]! & S_IFMT;
    if (type === S_IFDIR) throw new FsError("EISDIR");
    if (type !== S_IFREG) throw new FsError("EINVAL");
  }

  /** Moves ctime, with `m` mtime too, and has the inode recorded. */
  changed(ino: Ino, m = false): void {
    const { inodes } = this.tables, [seconds, nanoseconds] = now();
    inodes.ctimeS[ino] = seconds, inodes.ctimeN[ino] = nanoseconds;
    if (m) inodes.mtimeS[ino] = seconds, inodes.mtimeN[ino] = nanoseconds;
    this.log.inode(ino);
  }

  /**
   * Moves the access time of what is read, where it is older than the last change or a day; not while a slow commit
   * leaves no room for that, as reading does not wait.
   */
  accessed(ino: Ino): void {
    if (!this.#relatime || !this.takesChanges || this.committer.full) return;
    const t = this.tables.inodes, at = t.atimeS[ino]!, seconds = Math.floor(Date.now() / 1000);
    const older = (s: number, n: number) => at < s || (at === s && t.atimeN[ino]! <= n);
    const due = older(t.mtimeS[ino]!, t.mtimeN[ino]!) || older(t.ctimeS[ino]!, t.ctimeN[ino]!) ||
      seconds - at >= DAY;
    if (!due) return;
    [t.atimeS[ino], t.atimeN[ino]] = now();
    this.log.inode(ino);
    this.committer.touched();
  }

  /** Told of blocks that a file no longer refers to. */
  readonly forget = (position: number, blocks: number): void => this.space.forget(position, blocks);

  /** What adds something needs more than the reserve, which is for commits and for deleting. @throws {FsError} ENOSPC */
  growing(): void {
    if (this.space.full) throw new FsError("ENOSPC");
  }

  /** Room for that many blocks; before ENOSPC a commit is forced that may free some. @throws {FsError} */
  async room(blocks: number): Promise<void> {
    try {
      await this.space.ensure(blocks);
    } catch (error) {
      if (!(error instanceof FsError) || !this.space.hasForgotten) throw error;
      await this.commit({});
      await this.space.ensure(blocks);
    }
  }

  /** Commits, as {@linkcode Committer.commit}. @throws {FsError} EIO where that fails for any other reason than room */
  async commit(what: { ino?: Ino; all?: boolean }): Promise<void> {
    try {
      await this.committer.commit(what);
    } catch (error) {
      if (error instanceof FsError) throw error;
      throw new FsError("EIO", "Cannot commit", { cause: error });
    }
  }
}
