/** A container: tables in memory, journal and checkpoints in the store, and the rules that keep the two together. */
import { CoverError, IntegrityError } from "../crypto/errors.ts";
import { type RunIdentity, SEALED } from "../crypto/sealer.ts";
import { equalConstantTime, hex } from "../crypto/bytes.ts";
import type { BlockStore } from "./block/store.ts";
import { createContainer } from "./creating.ts";
import { Broken, Fenced } from "./errors.ts";
import { DecodeError } from "./layout/bytes.ts";
import { applyChanges } from "./layout/changes.ts";
import { loadCheckpoint, writeCheckpoint } from "./layout/checkpoint.ts";
import { FreeSpace } from "./layout/free_space.ts";
import {
  type BornRun,
  type Chunk,
  CHUNK_FIRST,
  CHUNK_LARGEST,
  type JournalReader,
  JournalWriter,
} from "./layout/journal.ts";
import {
  type CheckpointPointer,
  encodeSuperblock,
  type Run,
  type SessionEntry,
  type Superblock,
} from "./layout/superblock.ts";
import type { Tables } from "./layout/tables.ts";
import {
  type ContainerKeys,
  damageAt,
  dataIdentity,
  durableOf,
  type DurablePoint,
  type FoundSuperblock,
  type Loaded,
  type LoadNotes,
  loadState,
  readSuperblock,
  type Session,
  superIdentity,
} from "./loading.ts";
import { Space } from "./space.ts";
import type { CommitNumber, Ino, Position } from "./types.ts";

/** From how many sessions in the superblock on an opening writes a checkpoint, after which older ones are dropped. */
const SESSIONS_DUE = 32;

/** How far a checkpoint should lie from the one before: a mebibyte. */
const APART_BLOCKS = 256;

/**
 * How to open. `session` is 16 random bytes that the store was told of (a store that fences knows it). `repair`: what
 * is wrong with journal and tables does not bar writing. Commits behind a damaged one are then given up for good; no
 * block that the tables refer to counts as free, though several refer to it. `check` is given what was loaded, before
 * anything is written on top of that; what it throws ends the opening, but for a reader who was overtaken by a writer.
 */
export type OpenOptions =
  & { readonly check?: ((loaded: Container) => void) | undefined }
  & ({ readonly mode: "read" } | {
    readonly mode: "write";
    readonly session: Uint8Array;
    readonly repair?: boolean;
  });

/** At which of the refreshes that bring nothing a reader looks for damage: that reads the rest of a chunk of journal. */
const LOOKS_EVERY = 16;

/** How often a reader begins anew at most, where a writer goes on while the state is read. */
const READINGS = 3;

/** An opened container. */
export class Container implements AsyncDisposable {
  readonly store: BlockStore;
  readonly keys: ContainerKeys;
  readonly readOnly: boolean;
  #tables: Tables;
  #superblock: Superblock;
  #sessions: Session[];
  #last: CommitNumber;
  #durable: DurablePoint | undefined;
  #tail: JournalReader | undefined;
  #notes: LoadNotes;
  /** Whether the store may have changed since somebody looked for damage, and how often nothing new was found then. */
  #unlooked = false;
  #quiet = 0;
  /** Told of damage of the journal that a refresh finds, once. */
  onJournalDamage: ((damage: string) => void) | undefined;
  // Only of a writer:
  #space: Space | undefined;
  #journal: JournalWriter | undefined;
  #open: CommitNumber;
  #newestCopy: 0 | 1;
  #chunks: Chunk[];
  /** Runs of the current and of the previous checkpoint, indices included, and their first chunks. */
  #currentRuns: readonly Run[];
  #previousRuns: readonly Run[] = [];
  #currentHead: Chunk | undefined;
  /** Flushes of the store that were begun, and the last one of them that has resolved. */
  #flushesBegun = 0;
  #flushesDone = 0;
  #failure: Error | undefined;
  #gate: Promise<void> = Promise.resolve();

  private constructor(store: BlockStore, keys: ContainerKeys, loaded: Loaded, readOnly: boolean) {
    this.store = store;
    this.keys = keys;
    this.readOnly = readOnly;
    this.#tables = loaded.tables;
    this.#superblock = loaded.found.superblock;
    this.#newestCopy = loaded.found.copy;
    this.#sessions = loaded.sessions;
    this.#last = loaded.last;
    this.#open = loaded.last + 1;
    this.#tail = loaded.tail;
    this.#notes = loaded.notes;
    this.#chunks = loaded.chunks;
    this.#currentRuns = loaded.checkpointRuns;
    this.#currentHead = loaded.index.head;
    this.#durable = durableOf(loaded);
  }

  /**
   * Makes an empty filesystem in an empty store that was opened to create. The caller writes the encryption block
   * afterwards: until that is there, it is not a container.
   */
  static async create(
    store: BlockStore,
    keys: ContainerKeys,
    root: { uid: number; gid: number; mode: number },
  ): Promise<void> {
    await createContainer(store, keys, root);
  }

  /**
   * Opens a container. Opening to write closes what an earlier writer left open and begins a session; opening to
   * read changes nothing.
   *
   * @throws {CoverError} "damaged", "rollback"
   */
  static async open(store: BlockStore, keys: ContainerKeys, options: OpenOptions): Promise<Container> {
    const reads = options.mode === "read";
    for (let attempt = 1;; attempt++) {
      let loaded: Loaded | undefined;
      // A writer may have reused blocks while they were read: what is there now is another, consistent state.
      const again = async () => reads && attempt < READINGS && await hasMovedOn(store, keys, loaded?.found);
      try {
        loaded = await loadState(store, keys);
        const container = new Container(store, keys, loaded, reads);
        options.check?.(container);
        if (options.mode === "write") await container.#begin(loaded, options);
        else if (loaded.notes.journalDamage !== undefined && await again()) continue;
        return container;
      } catch (error) {
        const doubtful = error instanceof CoverError && ["damaged", "rollback"].includes(error.kind);
        if (!doubtful || !await again()) throw error;
      }
    }
  }

  get tables(): Tables {
    return this.#tables;
  }

  /** What was not as it should be when the container was loaded. */
  get notes(): LoadNotes {
    return this.#notes;
  }

  get superblock(): Superblock {
    return this.#superblock;
  }

  /** Number of the newest commit. */
  get last(): CommitNumber {
    return this.#last;
  }

  /** Number of the commit that is being collected: the birth of what is written now. */
  get openCommit(): CommitNumber {
    return this.#open;
  }

  /** The newest commit that is known to be durable. */
  get durable(): DurablePoint | undefined {
    return this.#durable;
  }

  /** Room; only of a container opened to write. */
  get space(): Space {
    if (this.#space === undefined) throw new CoverError("failure", "The container is open for reading only");
    return this.#space;
  }

  /** Blocks of journal since the current checkpoint, about. */
  get journalBlocks(): number {
    const start = this.#superblock.current.start;
    return this.#chunks.reduce((sum, chunk) => sum + (chunk.first > start ? chunk.count : 0), 0);
  }

  /**
   * Tells whether the container's history holds this commit of this session. Sessions behind a damaged record of the
   * journal are known, but nothing of them is there.
   */
  contains(point: DurablePoint): boolean {
    return point.commit <= this.#last &&
      this.#sessions.some((session) =>
        equalConstantTime(session.id, point.session) && point.commit <= session.last &&
        point.commit >= session.first - 1
      );
  }

  /** Who a run of data blocks is that was born with this commit. @throws {IntegrityError} if no session fits */
  dataIdentity(position: Position, birth: CommitNumber): RunIdentity {
    return dataIdentity(this.#sessions, position, birth);
  }

  /** Damage of the journal, and blocks that belong to two, bar writing unless that is to be repaired. */
  async #begin(
    loaded: Loaded,
    { session: id, repair = false }: Extract<OpenOptions, { mode: "write" }>,
  ): Promise<void> {
    const { superblock } = loaded.found;
    this.#tables.inodes.rebuildFreeList();
    if (loaded.notes.journalDamage !== undefined && !repair) {
      throw new CoverError("damaged", `Cannot open container for writing: ${loaded.notes.journalDamage}`, {
        hint: "Run coverfs fsck, and coverfs fsck --repair; reading is still possible",
      });
    }
    const other = loaded.pointer === superblock.current ? superblock.previous : undefined;
    this.#previousRuns = other ? await this.#runsOf(other) ?? [] : [];
    const free = new FreeSpace(), size = await this.store.size();
    const overlaps = free.build(repair ? within(this.#usedRuns(), size) : this.#usedRuns());
    if (overlaps.length > 0 && !repair) {
      throw new CoverError("damaged", `Cannot open container for writing: blocks are used twice`, {
        hint: "Run coverfs fsck, and coverfs fsck --repair; reading is still possible",
      });
    }
    this.#space = new Space(this.store, free, size);
    if (repair) {
      // Commits that are given up leave no trace: their numbers are given again, to another session.
      this.#sessions = this.#sessions.filter((one) => one.first <= this.#last);
      for (const one of this.#sessions) one.last = Math.min(one.last, this.#last);
    }
    const session = { id, generation: this.keys.generation, first: this.#last + 1, last: this.#last };
    const chunk = (await this.#space.takeMetadata(CHUNK_FIRST, 1))[0]!;
    this.#journal = new JournalWriter(this.store, this.keys.sealer, {
      session,
      chunk,
      hash: loaded.hash,
      allocate: (wanted, least) => this.space.takeChunk(wanted, least),
    });
    this.#sessions.push(session);
    this.#chunks.push({ ...chunk, first: session.first });
    this.#expect();
    const closed = superblock.sessions
      .map((entry) => ({ ...entry, last: Math.min(entry.last ?? this.#last, this.#last) }))
      .filter((entry) => entry.last >= entry.first);
    const entry: SessionEntry = {
      ...session,
      last: undefined,
      head: chunk.position,
      headBlocks: chunk.count,
      headCommit: session.first,
    };
    // What a writer that was killed has left in the system's memory is seen, but may not be durable: it is made so
    // before the superblock counts on it.
    if (!superblock.clean) await this.#flush();
    await this.#switch({
      ...superblock,
      clean: false,
      current: loaded.pointer,
      previous: this.#previousRuns.length > 0 ? other : undefined,
      sessions: [...closed, entry],
    });
    this.#tail = undefined;
    // Each session takes a chunk of journal, and only a checkpoint gives it back: a full container that is opened
    // again and again would end with no room to open it.
    if (closed.length >= SESSIONS_DUE || this.#space.short) {
      await this.checkpoint({
        sizeOf: (ino) => this.#tables.inodes.size[ino]!,
        commit: () => Promise.resolve(),
        pause: () => Promise.resolve(),
      });
    }
  }

  async #runsOf(pointer: CheckpointPointer): Promise<readonly Run[] | undefined> {
    try {
      return (await loadCheckpoint(this.store, this.keys.sealer, pointer, undefined)).runs;
    } catch (error) {
      if (error instanceof IntegrityError || error instanceof DecodeError) return undefined;
      throw error;
    }
  }

  *#usedRuns(): Generator<Run> {
    yield* this.#currentRuns;
    yield* this.#previousRuns;
    yield* this.#chunks;
    yield* this.#tables.usedRuns();
  }

  /** Runs one thing at a time that touches journal or superblock. */
  async exclusive<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#gate;
    let open!: () => void;
    this.#gate = new Promise((resolve) => open = resolve);
    await before;
    try {
      if (this.#failure) throw this.#failure;
      return await work();
    } catch (error) {
      if (error instanceof Fenced || error instanceof Broken) this.#failure ??= error;
      throw error;
    } finally {
      open();
    }
  }

  /** How many flushes of the store were begun so far: what is written now is covered by none of them. */
  get flushesBegun(): number {
    return this.#flushesBegun;
  }

  /** Tells whether what was written when so many flushes had been begun is durable. */
  isFlushed(begun: number): boolean {
    return this.#flushesDone > begun;
  }

  async #flush(): Promise<void> {
    const flush = ++this.#flushesBegun;
    await this.store.flush();
    this.#flushesDone = Math.max(this.#flushesDone, flush);
  }

  /** Ends the collecting of the open commit; its number. The caller passes it to {@linkcode append}. */
  freeze(): CommitNumber {
    const commit = this.#open++;
    this.space.freeze(commit);
    return commit;
  }

  /**
   * Writes the record of a frozen commit and makes it durable. Call in the order of the numbers, one at a time.
   *
   * @param unflushed blocks that the changes rest on and that no flush covers; undefined if they are too many to list:
   * then they are flushed first
   */
  async append(
    commit: CommitNumber,
    payload: Uint8Array,
    unflushed: readonly BornRun[] | undefined,
  ): Promise<void> {
    await this.exclusive(async () => {
      try {
        const { atomicFlush } = this.store.traits;
        if (unflushed === undefined && !atomicFlush) await this.#flush();
        const begun = await this.#journal!.append(commit, payload, atomicFlush ? [] : unflushed);
        if (begun) {
          this.#chunks.push({ ...begun, first: commit });
          this.#expect();
        }
        await this.#flush();
      } catch (error) {
        throw error instanceof CoverError ? error : new Broken("Cannot commit", { cause: error });
      }
      this.#last = commit;
      const session = this.#sessions[this.#sessions.length - 1]!;
      session.last = commit;
      this.#durable = { session: session.id, commit };
      this.space.durable(commit);
    });
  }

  /**
   * Writes a checkpoint, a page at a time; nothing where there was no commit since the newest one.
   *
   * @param commit freezes and appends all changes of the tables so far
   */
  async checkpoint(
    options: { sizeOf: (ino: Ino) => number; commit: () => Promise<void>; pause: () => Promise<void> },
  ): Promise<void> {
    if (this.#last === this.#superblock.current.start) return;
    const journal = this.#journal!, session = this.#sessions[this.#sessions.length - 1]!;
    const { start, head, chunks, hash } = await this.exclusive(async () => {
      const start = this.#last, chunks = [...this.#chunks];
      // Records that are frozen but not yet written are of later numbers: they go into the new chunk.
      const run = await journal.cut(start + 1);
      const head: Chunk = { ...run, first: start + 1 };
      this.#chunks.push(head);
      return { start, head, chunks, hash: await journal.hash };
    });
    const needed = chunks.filter((_, i) =>
      (chunks[i + 1]?.first ?? head.first) > this.#superblock.current.start + 1
    );
    const apart = surroundings(this.#currentRuns);
    const written = await writeCheckpoint(this.store, this.keys.sealer, this.#tables, {
      session,
      start,
      hash,
      sessions: this.#sessions.filter((one) => one.first <= Math.min(one.last, start)),
      chunks: needed,
      head,
      birth: () => this.#open,
      allocate: (blocks, runs) => this.space.takeMetadata(blocks, runs, { apart }),
      sizeOf: options.sizeOf,
      pause: options.pause,
    });
    await options.commit();
    await this.exclusive(async () => {
      const { current, sessions } = this.#superblock, oldRuns = this.#previousRuns;
      await this.#flush();
      await this.#switch({
        ...this.#superblock,
        current: written.pointer,
        previous: current,
        sessions: sessions.filter((entry) => entry.last === undefined || entry.last > current.start)
          .map((entry) => this.#withHead(entry, current)),
      });
      this.#previousRuns = this.#currentRuns;
      this.#currentRuns = written.runs;
      this.#currentHead = head;
      const dead = this.#chunks.filter((_, i) =>
        (this.#chunks[i + 1]?.first ?? Infinity) <= current.start + 1
      );
      this.#chunks = this.#chunks.filter((chunk) => !dead.includes(chunk));
      for (const run of [...oldRuns, ...dead]) this.space.release(run);
      this.#expect();
      await this.space.shrink({ ended: false });
    });
  }

  /** Blocks of the current checkpoint. */
  get checkpointBlocks(): number {
    return this.#currentRuns.reduce((sum, run) => sum + run.count, 0);
  }

  /** The next checkpoint is at most as large as the newest one and all that the journal has added since. */
  #expect(): void {
    const chunk = Math.min(CHUNK_LARGEST, 2 * this.#journal!.chunk.count);
    this.space.expect(chunk, this.checkpointBlocks + this.journalBlocks);
  }

  /** The session that wrote the checkpoint which becomes the previous one is needed from that one's chunk on. */
  #withHead(entry: SessionEntry, previous: CheckpointPointer): SessionEntry {
    const head = this.#currentHead;
    if (head === undefined || !equalConstantTime(entry.id, previous.session)) return entry;
    return { ...entry, head: head.position, headBlocks: head.count, headCommit: head.first };
  }

  /** Writes the superblock: first the slot that is not the newest valid one, then the other. */
  async #switch(next: Superblock): Promise<void> {
    const superblock = {
      ...next,
      sequence: this.#superblock.sequence + 1,
      keySequence: this.keys.keySequence,
    };
    const plain = encodeSuperblock(superblock);
    const older = this.#newestCopy === 0 ? 1 : 0;
    for (const copy of [older, this.#newestCopy]) {
      const sealed = new Uint8Array(SEALED);
      await this.keys.sealer.seal(superIdentity(this.keys.generation, copy as 0 | 1), plain, sealed);
      await this.store.writeHeader("super", copy as 0 | 1, sealed);
      if (copy === older && this.store.traits.atomicFlush) continue;
      await this.#flush();
    }
    this.#superblock = superblock;
  }

  /** Gives free blocks at the end back to the store, all but the reserve. */
  async shrink(): Promise<void> {
    await this.exclusive(() => this.space.shrink({ ended: true }));
  }

  /** Ends the session: nothing is open any more. Everything must have been committed before. */
  async end(): Promise<void> {
    await this.exclusive(async () => {
      const journal = this.#journal!, entries = [...this.#superblock.sessions];
      const mine = entries.pop()!, last = this.#last;
      const closed = { ...mine, last };
      const chunk = this.#chunks[this.#chunks.length - 1]!;
      // The unused end of the last chunk is given back; a head that is that chunk says so.
      const used = journal.used, rest = { position: chunk.position + used, count: chunk.count - used };
      const single = mine.head === chunk.position && last >= mine.first;
      await this.#switch({
        ...this.#superblock,
        clean: true,
        sessions: last < mine.first
          ? entries
          : [...entries, single ? { ...closed, headBlocks: used } : closed],
      });
      if (last < mine.first) this.space.release(chunk);
      else if (single && rest.count > 0) this.space.release(rest);
      await this.space.shrink({ ended: true });
      await this.#flush();
    });
  }

  /** Readers: goes on to the newest commit, one call after another. @returns true if anything changed */
  refresh(): Promise<boolean> {
    return this.exclusive(() => this.#refresh());
  }

  async #refresh(): Promise<boolean> {
    if (await this.store.refresh()) this.#unlooked = true;
    // A key slot may have been changed since: that an older encryption block is not played back binds who opens anew.
    const keys = { ...this.keys, keySequence: Number.MAX_SAFE_INTEGER };
    const found = await readSuperblock(this.store, keys);
    if (found.superblock.sequence < this.#superblock.sequence) {
      throw new CoverError("rollback", "The container went back to an older state");
    }
    if (found.superblock.sequence === this.#superblock.sequence && this.#tail) {
      let changed = false;
      for (let record = await this.#tail.next(); record; record = await this.#tail.next()) {
        applyChanges(record.payload, this.#tables);
        this.#last = record.commit;
        this.#sessions[this.#sessions.length - 1]!.last = record.commit;
        changed = true;
      }
      this.#durable = durableOf({ sessions: this.#sessions, last: this.#last, tail: this.#tail });
      if (changed) this.#notes.journalDamage = undefined;
      else await this.#lookForDamage(this.#tail, { keys, found });
      return changed;
    }
    if (found.superblock.sequence === this.#superblock.sequence) return false;
    const before = this.#durable;
    const fresh = await Container.open(this.store, keys, {
      mode: "read",
      check: (loaded) => {
        if (before === undefined || loaded.contains(before)) return;
        throw new CoverError("rollback", "The container's history no longer holds what was read from it");
      },
    });
    this.#tables = fresh.#tables;
    this.#superblock = fresh.#superblock;
    this.#sessions = fresh.#sessions;
    this.#chunks = fresh.#chunks;
    this.#currentRuns = fresh.#currentRuns;
    this.#last = fresh.#last;
    this.#tail = fresh.#tail;
    const { journalDamage } = this.#notes;
    this.#notes = fresh.#notes;
    this.#durable = fresh.#durable;
    this.tellDamage(journalDamage);
    return true;
  }

  /** Readers: tells of damage of the journal, other than what was told already. */
  tellDamage(before?: string): void {
    const { journalDamage } = this.#notes;
    if (journalDamage !== undefined && journalDamage !== before) this.onJournalDamage?.(journalDamage);
  }

  /** Where no record follows though the store may have changed: looks whether there is one behind it. */
  async #lookForDamage(
    tail: JournalReader,
    { keys, found }: { keys: ContainerKeys; found: FoundSuperblock },
  ): Promise<void> {
    if (!this.#unlooked || this.#notes.journalDamage !== undefined || this.#quiet++ % LOOKS_EVERY > 0) return;
    this.#unlooked = false;
    const damage = await damageAt(tail);
    if (damage === undefined || await hasMovedOn(this.store, keys, found)) return;
    this.#notes.journalDamage = damage;
    this.tellDamage();
  }

  /** Closes the store; commits nothing. May be called twice. */
  async close(): Promise<void> {
    await this.store.close();
    this.keys.sealer[Symbol.dispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  toString(): string {
    return `container ${hex(this.keys.containerId)}`;
  }
}

/** Tells whether a state is there by now that is newer than the one that was loaded, if one could be. */
async function hasMovedOn(store: BlockStore, keys: ContainerKeys, found?: FoundSuperblock): Promise<boolean> {
  if (!await store.refresh()) return false;
  if (found === undefined) return true;
  const { superblock } = await readSuperblock(store, keys);
  return superblock.sequence > found.superblock.sequence;
}

/**
 * A checkpoint with all that lies within a mebibyte around it, where the next one should not be, as what damages one of
 * them would damage both. One that is itself spread over more than that has no such place.
 */
function surroundings(runs: readonly Run[]): Run | undefined {
  const first = runs.reduce((least, run) => Math.min(least, run.position), Infinity);
  const end = runs.reduce((most, run) => Math.max(most, run.position + run.count), 0);
  if (end - first > APART_BLOCKS) return undefined;
  const position = Math.max(0, first - APART_BLOCKS);
  return { position, count: end + APART_BLOCKS - position };
}

/** The parts of runs that lie in a store of that many blocks. */
function* within(runs: Iterable<Run>, blocks: number): Generator<Run> {
  for (const { position, count } of runs) {
    if (position < blocks) yield { position, count: Math.min(count, blocks - position) };
  }
}
