/** When and how changes become durable: commits in order, one at a time, several callers sharing one. */
import { breathe } from "./clock.ts";
import type { Container } from "./container.ts";
import type { ChangeLog } from "./layout/changes.ts";
import { CHUNK_FIRST } from "./layout/journal.ts";
import type { Ino } from "./types.ts";
import type { WriteBack } from "./write_back.ts";

/** From how many bytes of changes on a commit begins, and changing operations wait. A record holds 1 MiB. */
const RECORD_BEGIN = 192 << 10, RECORD_WAIT = 448 << 10;
/** From how many blocks of journal on a checkpoint is due, unless the checkpoint itself is larger. */
const JOURNAL_BLOCKS = 2048;
/** After how many rounds of flushing a commit no longer lets changes in between. */
const ROUNDS = 3;

type Batch = PromiseWithResolvers<void>;

/** Collects requests for durability and serves them. */
export class Committer {
  readonly #container: Container;
  readonly #log: ChangeLog;
  readonly #dirty: WriteBack;
  readonly #interval: number;
  /** Files whose data the next commit must hold: replaced another by rename, or truncated to zero and closed. */
  readonly #must = new Set<Ino>();
  /** Inode ids that the open commit made free. */
  #dead: Ino[] = [];
  #next: Batch | undefined;
  #running: Promise<void> | undefined;
  /** Data is being written though nobody waits for it. */
  #behind: Promise<void> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #checkpoint: Promise<void> | undefined;
  #gate: { closed: Promise<void>; open: () => void } | undefined;
  /** Resolves when all who waited so far have been let in and have made their change. */
  #admitting: Promise<void> = Promise.resolve();
  #failure: unknown;
  /** A commit has failed: what it should have held is lost. */
  #lost = false;
  #ended = false;
  /** Files with new data in the commit that is being made. */
  #underway: readonly Ino[] = [];
  /** Called when a commit is durable. */
  onDurable: (() => void) | undefined;

  /** @param options `interval`: seconds that a change waits at most for its commit; default, what suits the store */
  constructor(
    container: Container,
    parts: { readonly log: ChangeLog; readonly dirty: WriteBack },
    options: { readonly interval?: number | undefined } = {},
  ) {
    this.#container = container;
    this.#log = parts.log;
    this.#dirty = parts.dirty;
    this.#interval = options.interval ?? container.store.traits.commitSeconds;
  }

  /** Why nothing can be committed any more. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Whether new data of the file will never be durable, as nothing can be committed any more. */
  lost(ino: Ino): boolean {
    if (this.#failure === undefined) return false;
    return this.#dirty.file(ino) !== undefined || this.#log.files.has(ino) || this.#underway.includes(ino);
  }

  /** Files with data that is not durable yet. */
  get unwritten(): Set<Ino> {
    const files = new Set([...this.#log.files, ...this.#underway]);
    for (const { ino } of this.#dirty.files()) files.add(ino);
    return files;
  }

  /** Data could not be written: nothing is committed any more, and the next fsync or close says so. */
  fail(error: unknown): void {
    this.#failure ??= error;
  }

  /** Call after each change: sees that it is committed before long. */
  touched(): void {
    if (this.#log.size > RECORD_BEGIN) this.#background();
    if (this.#timer !== undefined || this.#ended) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#background();
    }, this.#interval * 1000);
  }

  /**
   * Back-pressure: changes wait while the next record is full, a commit needs quiet, or the journal's room is short. Who
   * has waited is let in one after another: what one of them adds to the record counts for the next.
   *
   * @param grown what else the change has to wait for
   */
  admit(grown?: Promise<void>): void | Promise<void> {
    const obstacle = this.#obstacle();
    if (!obstacle && !grown) return;
    const admitted = Promise.all([obstacle, grown, this.#admitting]).then(async () => {
      for (let next = this.#obstacle(); next; next = this.#obstacle()) await next;
    });
    this.#admitting = admitted.then(breathe, () => {});
    return admitted;
  }

  #obstacle(): void | Promise<void> {
    if (this.#gate) return this.#gate.closed;
    // A checkpoint that makes room in a full container is not overtaken by what it makes room for.
    if (this.#checkpoint && this.#container.session.space.short) return this.#checkpoint;
    return this.recordable();
  }

  /** Tells whether the next record has as much as it should. */
  get full(): boolean {
    return this.#log.size > RECORD_WAIT;
  }

  /** Waits while the next record is full. */
  recordable(): void | Promise<void> {
    if (this.full) return this.#recorded();
  }

  /** The file's data must be in the next commit. */
  must(ino: Ino): void {
    if (this.#dirty.file(ino)) this.#must.add(ino);
  }

  /** The inode id may be used again once the commit that removed it is durable. */
  dead(ino: Ino): void {
    this.#dead.push(ino);
    this.#must.delete(ino);
  }

  /** Writes all data and commits; while that is still under way, commits what it has written so far. */
  #background(): void {
    // A failure is kept, and reported by the next fsync or close.
    if (this.#behind) return void this.#recorded().catch(() => {});
    this.#behind = this.commit({ all: true }).catch(() => {}).finally(() => {
      this.#behind = undefined;
      // What was written meanwhile is not in it.
      if (this.#dirty.pages > 0 && this.#failure === undefined) this.touched();
    });
  }

  /**
   * Resolves when all metadata operations so far, and the data of the given file (or of all), are durable.
   * With neither, only metadata. Nobody else's commit waits for that data.
   */
  async commit(what: { ino?: Ino; all?: boolean }): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    const files = what.all ? Array.from(this.#dirty.files(), ({ ino }) => ino) : [];
    if (what.ino !== undefined) files.push(what.ino);
    for (const ino of files) {
      await this.#dirty.flush(ino).catch((error) => {
        this.#lost = true;
        throw error;
      });
      // What is written takes room in the record: where that gets short, there are several.
      if (this.full) await this.#recorded();
    }
    await this.#recorded();
  }

  /** Resolves when all that there is to record is durable. */
  #recorded(): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#next === undefined) {
      if (this.#log.empty && this.#must.size === 0 && !this.#running) return Promise.resolve();
      this.#next = Promise.withResolvers();
      this.#next.promise.catch(() => {});
    }
    const { promise } = this.#next;
    this.#running ??= this.#run();
    return promise;
  }

  async #run(): Promise<void> {
    while (this.#next) {
      const batch = this.#next;
      this.#next = undefined;
      try {
        await this.#record();
        batch.resolve();
      } catch (error) {
        this.#failure ??= error;
        this.#lost = true;
        batch.reject(error);
        const late = this.#next as Batch | undefined;
        this.#next = undefined;
        late?.reject(error);
      }
    }
    this.#running = undefined;
    this.#considerCheckpoint();
  }

  /** One commit of all changes so far, with the data that it must hold. */
  async #record(): Promise<void> {
    try {
      for (let round = 1; this.#must.size > 0; round++) {
        if (round > ROUNDS) this.#close();
        const wanted = [...this.#must];
        this.#must.clear();
        for (const ino of wanted) await this.#dirty.flush(ino);
      }
      if (this.#log.empty) return;
      const unflushed = this.#dirty.unflushed();
      this.#underway = [...this.#log.files];
      const payload = this.#log.freeze(this.#container.tables, (ino) => this.#dirty.recordedSize(ino));
      const commit = this.#container.session.freeze(), dead = this.#dead;
      this.#dead = [];
      await this.#container.session.append(commit, payload, unflushed);
      this.#underway = [];
      for (const ino of dead) this.#container.tables.inodes.release(ino);
      this.onDurable?.();
    } finally {
      this.#gate?.open();
      this.#gate = undefined;
    }
  }

  #close(): void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#gate ??= { closed: promise, open: resolve };
  }

  #considerCheckpoint(): void {
    if (this.#checkpoint || this.#ended || this.#failure !== undefined) return;
    const { journalBlocks, checkpointBlocks, session: { space } } = this.#container;
    // The journal grows in the reserve where nothing else is left: there it is kept as short as can be.
    if (journalBlocks > (space.short ? CHUNK_FIRST : Math.max(JOURNAL_BLOCKS, checkpointBlocks))) {
      this.checkpoint().catch((error) => this.#failure ??= error);
    }
  }

  /** Writes a checkpoint; one at a time. @param options `fresh`: not the one that is being written already */
  async checkpoint(options: { readonly fresh?: boolean } = {}): Promise<void> {
    if (options.fresh) await this.#checkpoint;
    this.#checkpoint ??= this.#container.session.checkpoint({
      sizeOf: (ino) => this.#dirty.recordedSize(ino),
      commit: () => this.commit({ all: true }),
      pause: breathe,
    }).finally(() => this.#checkpoint = undefined);
    await this.#checkpoint;
  }

  /** Stops the timer, waits for what is under way, commits all that is left. */
  async end(): Promise<void> {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#checkpoint?.catch(() => {});
    await this.#behind;
    await this.#running;
    // What has ended without a change that waited is nobody's loss.
    if (this.#failure !== undefined && !this.#lost && this.#log.empty && this.#dirty.pages === 0) return;
    try {
      await this.commit({ all: true });
    } finally {
      await this.#dirty.settled();
    }
  }
}
