/**
 * A writer's session: what it has of a container to itself. It begins with opening to write and makes commits durable
 * by its segment of the journal, by checkpoints, and by the superblock that names both.
 */
import { CoverError } from "../crypto/errors.ts";
import { SEALED } from "../crypto/sealer.ts";
import { equalConstantTime } from "../crypto/bytes.ts";
import type { Container } from "./container.ts";
import { Broken } from "./errors.ts";
import { Exclusive } from "./exclusive.ts";
import { writeCheckpoint } from "./layout/checkpoint.ts";
import { FreeSpace } from "./layout/free_space.ts";
import { type BornRun, type Chunk, CHUNK_FIRST, CHUNK_LARGEST, JournalWriter } from "./layout/journal.ts";
import {
  type CheckpointPointer,
  encodeSuperblock,
  type Run,
  type SessionEntry,
  type Superblock,
} from "./layout/superblock.ts";
import { type Loaded, previousRuns, type Session, superIdentity } from "./loading.ts";
import { Space } from "./space.ts";
import type { CommitNumber, Ino } from "./types.ts";

/** From how many sessions in the superblock on an opening writes a checkpoint, after which older ones are dropped. */
const SESSIONS_DUE = 32;

/** How far a checkpoint should lie from the one before: a mebibyte. */
const APART_BLOCKS = 256;

/** How a session begins; see `OpenOptions`. */
export interface SessionOptions {
  readonly session: Uint8Array;
  readonly repair?: boolean;
}

/** The session of a {@linkcode Container} that is open to write. */
export class WriterSession {
  /** Room in the container. */
  readonly space: Space;
  readonly #container: Container;
  /** The container's state, which its commits move on. */
  readonly #state: Loaded;
  readonly #journal: JournalWriter;
  readonly #session: Session;
  readonly #exclusive = new Exclusive();
  #open: CommitNumber;
  /** Runs of the previous checkpoint, its index included, and the first chunk behind the current one. */
  #previousRuns: readonly Run[];
  #currentHead: Chunk | undefined;
  /** Flushes of the store that were begun, and the last one of them that has resolved. */
  #flushesBegun = 0;
  #flushesDone = 0;

  private constructor(
    container: Container,
    state: Loaded,
    parts: { space: Space; journal: JournalWriter; session: Session; previousRuns: readonly Run[] },
  ) {
    this.#container = container;
    this.#state = state;
    this.space = parts.space;
    this.#journal = parts.journal;
    this.#session = parts.session;
    this.#previousRuns = parts.previousRuns;
    this.#currentHead = state.index.head;
    this.#open = state.last + 1;
  }

  /**
   * Begins a session on top of what was loaded, and closes what an earlier one left open.
   *
   * @throws {CoverError} "damaged": damage of the journal, and blocks that belong to two, bar writing unless that is to
   * be repaired
   */
  static async begin(
    container: Container,
    state: Loaded,
    { session: id, repair = false }: SessionOptions,
  ): Promise<WriterSession> {
    const { store, keys } = container, { tables, last, pointer, notes, found: { superblock } } = state;
    tables.inodes.rebuildFreeList();
    if (notes.journalDamage !== undefined && !repair) throw unwritable(notes.journalDamage);
    const before = await previousRuns(store, keys, state);
    const free = new FreeSpace(), size = await store.size(), used = usedRuns(state, before);
    const overlaps = free.build(repair ? within(used, size) : used);
    if (overlaps.length > 0 && !repair) throw unwritable("blocks are used twice");
    const space = new Space(store, free, size);
    if (repair) {
      // Commits that are given up leave no trace: their numbers are given again, to another session.
      state.sessions = state.sessions.filter((one) => one.first <= last);
      for (const one of state.sessions) one.last = Math.min(one.last, last);
    }
    const session: Session = { id, generation: keys.generation, first: last + 1, last };
    const chunk = (await space.takeMetadata(CHUNK_FIRST, 1))[0]!;
    const journal = new JournalWriter(store, keys.sealer, {
      session,
      chunk,
      hash: state.hash,
      allocate: (wanted, least) => space.takeChunk(wanted, least),
    });
    state.sessions.push(session);
    state.chunks.push({ ...chunk, first: session.first });
    const writer = new WriterSession(container, state, { space, journal, session, previousRuns: before });
    writer.#expect();
    const closed = superblock.sessions
      .map((entry) => ({ ...entry, last: Math.min(entry.last ?? last, last) }))
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
    if (!superblock.clean) await writer.#flush();
    await writer.#switch({
      ...superblock,
      clean: false,
      current: pointer,
      previous: before.length > 0 ? superblock.previous : undefined,
      sessions: [...closed, entry],
    });
    state.tail = undefined;
    // Each session takes a chunk of journal, and only a checkpoint gives it back: a full container that is opened
    // again and again would end with no room to open it.
    if (closed.length >= SESSIONS_DUE || space.short) {
      await writer.checkpoint({
        sizeOf: (ino) => tables.inodes.size[ino]!,
        commit: () => Promise.resolve(),
        pause: () => Promise.resolve(),
      });
    }
    return writer;
  }

  /** Number of the commit that is being collected: the birth of what is written now. */
  get openCommit(): CommitNumber {
    return this.#open;
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
    await this.#container.store.flush();
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
    await this.#exclusive.run(async () => {
      try {
        const { atomicFlush } = this.#container.store.traits;
        if (unflushed === undefined && !atomicFlush) await this.#flush();
        const begun = await this.#journal.append(commit, payload, atomicFlush ? [] : unflushed);
        if (begun) {
          this.#state.chunks.push({ ...begun, first: commit });
          this.#expect();
        }
        await this.#flush();
      } catch (error) {
        throw error instanceof CoverError ? error : new Broken("Cannot commit", { cause: error });
      }
      this.#state.last = this.#session.last = commit;
      this.#state.durable = { session: this.#session.id, commit };
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
    const state = this.#state, journal = this.#journal, { store, keys } = this.#container;
    if (state.last === state.found.superblock.current.start) return;
    const { start, head, chunks, hash } = await this.#exclusive.run(async () => {
      const start = state.last, chunks = [...state.chunks];
      // Records that are frozen but not yet written are of later numbers: they go into the new chunk.
      const run = await journal.cut(start + 1);
      const head: Chunk = { ...run, first: start + 1 };
      state.chunks.push(head);
      return { start, head, chunks, hash: await journal.hash };
    });
    const needed = behind(state.found.superblock.current, chunks, head.first);
    const apart = surroundings(state.checkpointRuns);
    const written = await writeCheckpoint(store, keys.sealer, state.tables, {
      session: this.#session,
      start,
      hash,
      sessions: state.sessions.filter((one) => one.first <= Math.min(one.last, start)),
      chunks: needed,
      head,
      birth: () => this.#open,
      allocate: (blocks, runs) => this.space.takeMetadata(blocks, runs, { apart }),
      sizeOf: options.sizeOf,
      pause: options.pause,
    });
    await options.commit();
    await this.#exclusive.run(async () => {
      const { current, sessions } = state.found.superblock, oldRuns = this.#previousRuns;
      await this.#flush();
      await this.#switch({
        ...state.found.superblock,
        current: written.pointer,
        previous: current,
        sessions: sessions.filter((entry) => entry.last === undefined || entry.last > current.start)
          .map((entry) => this.#withHead(entry, current)),
      });
      this.#previousRuns = state.checkpointRuns;
      state.checkpointRuns = written.runs;
      this.#currentHead = head;
      const kept = behind(current, state.chunks),
        dead = state.chunks.filter((chunk) => !kept.includes(chunk));
      state.chunks = kept;
      for (const run of [...oldRuns, ...dead]) this.space.release(run);
      this.#expect();
      await this.space.shrink({ ended: false });
    });
  }

  /** The next checkpoint is at most as large as the newest one and all that the journal has added since. */
  #expect(): void {
    const chunk = Math.min(CHUNK_LARGEST, 2 * this.#journal.chunk.count);
    this.space.expect(chunk, this.#container.checkpointBlocks + this.#container.journalBlocks);
  }

  /** The session that wrote the checkpoint which becomes the previous one is needed from that one's chunk on. */
  #withHead(entry: SessionEntry, previous: CheckpointPointer): SessionEntry {
    const head = this.#currentHead;
    if (head === undefined || !equalConstantTime(entry.id, previous.session)) return entry;
    return { ...entry, head: head.position, headBlocks: head.count, headCommit: head.first };
  }

  /** Writes the superblock: first the slot that is not the newest valid one, then the other. */
  async #switch(next: Superblock): Promise<void> {
    const { store, keys } = this.#container, { found } = this.#state;
    const superblock = {
      ...next,
      sequence: found.superblock.sequence + 1,
      keySequence: keys.keySequence,
    };
    const plain = encodeSuperblock(superblock);
    const older = found.copy === 0 ? 1 : 0;
    for (const copy of [older, found.copy] as const) {
      const sealed = new Uint8Array(SEALED);
      await keys.sealer.seal(superIdentity(keys.generation, copy), plain, sealed);
      await store.writeHeader("super", copy, sealed);
      if (copy === older && store.traits.atomicFlush) continue;
      await this.#flush();
    }
    this.#state.found = { ...found, superblock };
  }

  /** Gives free blocks at the end back to the store, all but the reserve. */
  async shrink(): Promise<void> {
    await this.#exclusive.run(() => this.space.shrink({ ended: true }));
  }

  /** Ends the session: nothing is open any more. Everything must have been committed before. */
  async end(): Promise<void> {
    await this.#exclusive.run(async () => {
      const { chunks, last, found: { superblock } } = this.#state, entries = [...superblock.sessions];
      const mine = entries.pop()!, closed = { ...mine, last };
      const chunk = chunks[chunks.length - 1]!;
      // The unused end of the last chunk is given back; a head that is that chunk says so.
      const used = this.#journal.used, rest = { position: chunk.position + used, count: chunk.count - used };
      const single = mine.head === chunk.position && last >= mine.first;
      await this.#switch({
        ...superblock,
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
}

/**
 * The chunks of journal that go on from a checkpoint. The first one may hold no record, only the way to the next, which
 * then begins with the same commit.
 *
 * @param next the first commit behind the last chunk
 */
function behind(
  { start }: CheckpointPointer,
  chunks: readonly Chunk[],
  next: CommitNumber = Infinity,
): Chunk[] {
  return chunks.filter(({ first }, i) => first > start || (chunks[i + 1]?.first ?? next) > start + 1);
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

/** What is in use, as what was loaded says. */
function* usedRuns(state: Loaded, before: readonly Run[]): Generator<Run> {
  yield* state.checkpointRuns;
  yield* before;
  yield* state.chunks;
  yield* state.tables.usedRuns();
}

function unwritable(why: string): CoverError {
  return new CoverError("damaged", `Cannot open container for writing: ${why}`, {
    hint: "Run coverfs fsck, and coverfs fsck --repair; reading is still possible",
  });
}
