/** A container: tables in memory, journal and checkpoints in the store, and the rules that keep the two together. */
import { CoverError } from "../crypto/errors.ts";
import type { RunIdentity } from "../crypto/sealer.ts";
import { hex } from "../crypto/bytes.ts";
import type { BlockStore } from "./block/store.ts";
import { Exclusive } from "./exclusive.ts";
import { DecodeError } from "./layout/bytes.ts";
import { applyChanges } from "./layout/changes.ts";
import type { JournalReader } from "./layout/journal.ts";
import type { Superblock } from "./layout/superblock.ts";
import type { Tables } from "./layout/tables.ts";
import {
  type ContainerKeys,
  contains,
  damageAt,
  dataIdentity,
  durableOf,
  type DurablePoint,
  type FoundSuperblock,
  type HistoryCheck,
  type Loaded,
  type LoadNotes,
  loadState,
  readSuperblock,
} from "./loading.ts";
import type { CommitNumber, Position } from "./types.ts";
import { type SessionOptions, WriterSession } from "./writer_session.ts";

/**
 * How to open. `session` is 16 random bytes that the store was told of (a store that fences knows it). `repair`: what
 * is wrong with journal and tables does not bar writing. Commits behind a damaged one are then given up for good; no
 * block that the tables refer to counts as free, though several refer to it. `check` is given what was loaded, before
 * anything is written on top of that; what it throws ends the opening, but for a reader who was overtaken by a writer.
 */
export type OpenOptions =
  & { readonly check?: HistoryCheck | undefined }
  & ({ readonly mode: "read" } | { readonly mode: "write" } & SessionOptions);

/** At which of the refreshes that bring nothing a reader looks for damage: that reads the rest of a chunk of journal. */
const LOOKS_EVERY = 16;

/** How often a reader begins anew at most, where a writer goes on while the state is read. */
const READINGS = 3;

/** An opened container. */
export class Container implements AsyncDisposable {
  readonly store: BlockStore;
  readonly keys: ContainerKeys;
  readonly readOnly: boolean;
  #state: Loaded;
  #session: WriterSession | undefined;
  readonly #exclusive = new Exclusive();
  /** Whether the store may have changed since somebody looked for damage, and how often nothing new was found then. */
  #unlooked = false;
  #quiet = 0;
  /** Told of damage of the journal that a refresh finds, once. */
  onJournalDamage: ((damage: string) => void) | undefined;

  private constructor(store: BlockStore, keys: ContainerKeys, loaded: Loaded, readOnly: boolean) {
    this.store = store;
    this.keys = keys;
    this.readOnly = readOnly;
    this.#state = loaded;
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
        if (options.mode === "write") {
          container.#session = await WriterSession.begin(container, loaded, options);
        } else if (loaded.notes.journalDamage !== undefined && await again()) continue;
        return container;
      } catch (error) {
        const doubtful = error instanceof CoverError && ["damaged", "rollback"].includes(error.kind);
        if (!doubtful || !await again()) throw error;
      }
    }
  }

  get tables(): Tables {
    return this.#state.tables;
  }

  /** What was not as it should be when the container was loaded. */
  get notes(): LoadNotes {
    return this.#state.notes;
  }

  get superblock(): Superblock {
    return this.#state.found.superblock;
  }

  /** Number of the newest commit. */
  get last(): CommitNumber {
    return this.#state.last;
  }

  /** The newest commit that is known to be durable. */
  get durable(): DurablePoint | undefined {
    return this.#state.durable;
  }

  /** What writes. @throws {CoverError} "failure" if the container is open for reading only */
  get session(): WriterSession {
    if (this.#session === undefined) {
      throw new CoverError("failure", "The container is open for reading only");
    }
    return this.#session;
  }

  /** Blocks of the current checkpoint. */
  get checkpointBlocks(): number {
    return this.#state.checkpointRuns.reduce((sum, run) => sum + run.count, 0);
  }

  /** Blocks of journal since the current checkpoint, about. */
  get journalBlocks(): number {
    const start = this.#state.found.superblock.current.start;
    return this.#state.chunks.reduce((sum, chunk) => sum + (chunk.first > start ? chunk.count : 0), 0);
  }

  contains(point: DurablePoint): boolean {
    return contains(this.#state, point);
  }

  /** Who a run of data blocks is that was born with this commit. @throws {IntegrityError} if no session fits */
  dataIdentity(position: Position, birth: CommitNumber): RunIdentity {
    return dataIdentity(this.#state.sessions, position, birth);
  }

  /** Readers: goes on to the newest commit, one call after another. @returns true if anything changed */
  refresh(): Promise<boolean> {
    return this.#exclusive.run(() => this.#refresh());
  }

  async #refresh(): Promise<boolean> {
    if (await this.store.refresh()) this.#unlooked = true;
    // A key slot may have been changed since: that an older encryption block is not played back binds who opens anew.
    const keys = { ...this.keys, keySequence: Number.MAX_SAFE_INTEGER };
    const found = await readSuperblock(this.store, keys), state = this.#state, { tail, durable } = state;
    const { sequence } = found.superblock, known = state.found.superblock.sequence;
    if (sequence < known) throw new CoverError("rollback", "The container went back to an older state");
    if (sequence === known) {
      return tail !== undefined && await this.#follow(tail, { keys, found });
    }
    const fresh = await Container.open(this.store, keys, {
      mode: "read",
      check: (loaded) => {
        if (durable === undefined || loaded.contains(durable)) return;
        throw new CoverError("rollback", "The container's history no longer holds what was read from it");
      },
    });
    this.#state = fresh.#state;
    this.tellDamage(state.notes.journalDamage);
    return true;
  }

  /** Readers: applies the records that have come since. @returns true if there were any */
  async #follow(
    tail: JournalReader,
    { keys, found }: { keys: ContainerKeys; found: FoundSuperblock },
  ): Promise<boolean> {
    const state = this.#state;
    let changed = false, undecodable = false;
    try {
      for (let record = await tail.next(); record; record = await tail.next()) {
        applyChanges(record.payload, state.tables);
        state.last = record.commit;
        state.sessions[state.sessions.length - 1]!.last = record.commit;
        changed = true;
      }
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      undecodable = true;
      state.tail = undefined; // what follows builds on that record: no more until there is another superblock
    }
    state.durable = durableOf(state);
    if (undecodable) {
      const before = state.notes.journalDamage, first = state.last + 1;
      state.notes.journalDamage = `The journal is damaged: commit ${first} and later cannot be decoded`;
      this.tellDamage(before);
    } else if (changed) state.notes.journalDamage = undefined;
    else await this.#lookForDamage(tail, { keys, found });
    return changed;
  }

  /** Readers: tells of damage of the journal, other than what was told already. */
  tellDamage(before?: string): void {
    const { journalDamage } = this.#state.notes;
    if (journalDamage !== undefined && journalDamage !== before) this.onJournalDamage?.(journalDamage);
  }

  /** Where no record follows though the store may have changed: looks whether there is one behind it. */
  async #lookForDamage(
    tail: JournalReader,
    { keys, found }: { keys: ContainerKeys; found: FoundSuperblock },
  ): Promise<void> {
    if (!this.#unlooked || this.#state.notes.journalDamage !== undefined || this.#quiet++ % LOOKS_EVERY > 0) {
      return;
    }
    this.#unlooked = false;
    const damage = await damageAt(tail);
    if (damage === undefined || await hasMovedOn(this.store, keys, found)) return;
    this.#state.notes.journalDamage = damage;
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
