/** What a container's store holds, loaded: the newest superblock, its checkpoint, and the journal from there on. */
import { newestEncryptionBlock } from "../crypto/encryption_block.ts";
import { CoverError, IntegrityError } from "../crypto/errors.ts";
import { BLOCK, Kind, type RunIdentity, type Sealer } from "../crypto/sealer.ts";
import { equalConstantTime } from "../crypto/bytes.ts";
import type { BlockStore } from "./block/store.ts";
import { DecodeError } from "./layout/bytes.ts";
import { applyChanges } from "./layout/changes.ts";
import { type CheckpointIndex, loadCheckpoint } from "./layout/checkpoint.ts";
import { type Chunk, JournalReader } from "./layout/journal.ts";
import {
  type CheckpointPointer,
  decodeSuperblock,
  type Run,
  type SessionEntry,
  type Superblock,
} from "./layout/superblock.ts";
import { Tables } from "./layout/tables.ts";
import type { CommitNumber, Position } from "./types.ts";

const ZERO_SESSION = new Uint8Array(16);

/** The keys side of a container: made by unlocking its encryption block. */
export interface ContainerKeys {
  readonly containerId: Uint8Array;
  readonly sealer: Sealer;
  /** Generation of the master key that new blocks are sealed under. */
  readonly generation: number;
  /** Older generations whose keys the sealer has too, while blocks are left that they seal. */
  readonly olderGenerations?: readonly number[];
  /** Sequence of the newest encryption block. */
  readonly keySequence: number;
}

/** A commit that is known to be durable: what a client remembers against rollback. */
export interface DurablePoint {
  readonly session: Uint8Array;
  readonly commit: CommitNumber;
}

/** A state that was loaded, as it is judged by what a client remembers. */
export interface History {
  /** Number of the newest commit. */
  readonly last: CommitNumber;
  readonly notes: Pick<LoadNotes, "journalDamage">;
  /**
   * Tells whether it holds this commit of this session. Sessions behind a damaged record of the journal are known, but
   * nothing of them is there.
   */
  contains(point: DurablePoint): boolean;
}

/** Refuses a state whose history lacks what is known to be durable. */
export type HistoryCheck = (loaded: History) => void;

/** A session in the history of the container; the newest one's `last` counts on. */
export interface Session {
  readonly id: Uint8Array;
  readonly generation: number;
  readonly first: CommitNumber;
  last: CommitNumber;
}

/** One superblock slot as it was found. */
export type SlotState = "valid" | "older" | "damaged";

/** Both superblock slots, read and judged. */
export interface FoundSuperblock {
  readonly superblock: Superblock;
  readonly copy: 0 | 1;
  readonly slots: readonly [SlotState, SlotState];
}

/** What a superblock is sealed as: it is found without knowing any session. */
export function superIdentity(generation: number, copy: 0 | 1): RunIdentity {
  return { session: ZERO_SESSION, generation, position: copy, birth: 0, kind: Kind.superblock };
}

/** Reads one superblock slot, under whichever key it verifies; undefined if it does under none. */
async function readSlot(
  store: BlockStore,
  keys: ContainerKeys,
  copy: 0 | 1,
): Promise<Superblock | undefined> {
  const sealed = await store.readHeader("super", copy), plain = new Uint8Array(BLOCK);
  for (const generation of [keys.generation, ...keys.olderGenerations ?? []]) {
    try {
      await keys.sealer.unseal(superIdentity(generation, copy), sealed, plain);
      return decodeSuperblock(plain);
    } catch (error) {
      if (!(error instanceof IntegrityError || error instanceof DecodeError)) throw error;
    }
  }
  return undefined;
}

/**
 * Reads both superblock slots and takes the newest valid one.
 *
 * @throws {CoverError} "damaged" if neither is valid; "failure" if that is because the master key was changed since;
 * "rollback" if it is of an older header than the keys are
 */
export async function readSuperblock(store: BlockStore, keys: ContainerKeys): Promise<FoundSuperblock> {
  const found = [await readSlot(store, keys, 0), await readSlot(store, keys, 1)] as const;
  const copy = (found[1]?.sequence ?? -1) > (found[0]?.sequence ?? -1) ? 1 : 0;
  const superblock = found[copy];
  if (superblock === undefined) {
    await refuseOldKeys(store, keys);
    throw new CoverError("damaged", "Cannot open container: neither superblock verifies");
  }
  if (!equalConstantTime(superblock.containerId, keys.containerId)) {
    throw new CoverError("damaged", "Cannot open container: the superblock is of another container");
  }
  if (superblock.keySequence > keys.keySequence) {
    throw new CoverError(
      "rollback",
      "Cannot open container: its encryption block is an older one played back",
    );
  }
  const state = (one: Superblock | undefined): SlotState =>
    one === undefined ? "damaged" : one.sequence === superblock.sequence ? "valid" : "older";
  return { superblock, copy, slots: [state(found[0]), state(found[1])] };
}

/**
 * Tells of a master key that came after these keys: only who has a secret gets at it. Without a key nothing vouches for
 * what the encryption block says, so nothing but the message depends on it.
 */
async function refuseOldKeys(store: BlockStore, { containerId, generation }: ContainerKeys): Promise<void> {
  let newer: boolean;
  try {
    const copies = [await store.readHeader("key", 0), await store.readHeader("key", 1)] as const;
    const { header } = await newestEncryptionBlock(...copies);
    newer = header.generation > generation && equalConstantTime(header.containerId, containerId);
  } catch (error) {
    if (error instanceof CoverError && ["damaged", "unsupported"].includes(error.kind)) return;
    throw error;
  }
  if (!newer) return;
  throw new CoverError("failure", "The container has a new master key", {
    hint: "Open it anew, with a secret that it takes now",
  });
}

/** What loading found that is not as it should be; nothing is lost by any of it. */
export interface LoadNotes {
  readonly checkpointsDamaged: CheckpointPointer[];
  readonly slots: readonly [SlotState, SlotState];
  /** Set where the journal is damaged: the state is that of the last commit before. */
  journalDamage: string | undefined;
}

/** A container's state as loaded from its store. What is not readonly moves on with who has the container open. */
export interface Loaded {
  found: FoundSuperblock;
  readonly tables: Tables;
  /** The checkpoint that served. */
  readonly pointer: CheckpointPointer;
  readonly index: CheckpointIndex;
  /** Runs of the current checkpoint, its index included. */
  checkpointRuns: readonly Run[];
  sessions: Session[];
  chunks: Chunk[];
  /** Number of the newest commit. */
  last: CommitNumber;
  /** The newest commit that is known to be durable. */
  durable: DurablePoint | undefined;
  readonly hash: Uint8Array;
  /** The reader at the journal's end, where the last segment is open. */
  tail: JournalReader | undefined;
  /** The reader at the place where the journal is damaged, inside a segment that was read. */
  readonly broken: JournalReader | undefined;
  readonly notes: LoadNotes;
}

/** Loads the newest state that there is. @throws {CoverError} "damaged" if neither checkpoint can be loaded */
export async function loadState(store: BlockStore, keys: ContainerKeys): Promise<Loaded> {
  const found = await readSuperblock(store, keys), { superblock } = found;
  const notes: LoadNotes = { checkpointsDamaged: [], slots: found.slots, journalDamage: undefined };
  let cause: unknown;
  for (const pointer of [superblock.current, superblock.previous]) {
    if (pointer === undefined) continue;
    try {
      return await loadFrom(store, keys, { found, pointer, notes });
    } catch (error) {
      if (!(error instanceof IntegrityError || error instanceof DecodeError)) throw error;
      notes.checkpointsDamaged.push(pointer);
      cause = error;
    }
  }
  throw new CoverError("damaged", "Cannot open container: no checkpoint verifies", { cause });
}

/**
 * Loads the state by one of the superblock's checkpoints.
 *
 * @param from `notes`: told of what the journal lacks
 * @throws {IntegrityError} if a block of the checkpoint does not verify
 * @throws {DecodeError} if what verified does not decode
 */
export async function loadFrom(
  store: BlockStore,
  keys: ContainerKeys,
  from: { found: FoundSuperblock; pointer: CheckpointPointer; notes: LoadNotes },
): Promise<Loaded> {
  const { found, pointer, notes } = from, { superblock } = found, tables = new Tables();
  const { index, runs } = await loadCheckpoint(store, keys.sealer, pointer, tables);
  const replayed = await replay(store, keys, { superblock, pointer, index, tables, notes });
  return { found, tables, pointer, index, checkpointRuns: runs, notes, ...replayed };
}

/** Applies the journal's records from the checkpoint on. */
async function replay(
  store: BlockStore,
  keys: ContainerKeys,
  from: {
    superblock: Superblock;
    pointer: CheckpointPointer;
    index: CheckpointIndex;
    tables: Tables;
    notes: LoadNotes;
  },
): Promise<Pick<Loaded, "sessions" | "chunks" | "last" | "durable" | "hash" | "tail" | "broken">> {
  const { superblock, pointer, index, tables, notes } = from;
  // Those of the superblock are later ones; but for sessions that committed nothing, which it has dropped already.
  const sessions: Session[] = index.sessions.filter((past) =>
    past.last >= past.first && !superblock.sessions.some((entry) => equalConstantTime(entry.id, past.id))
  ).map((past) => ({ ...past }));
  // What only the checkpoint before needs may be in use again where that is not kept any more.
  const chunks: Chunk[] = superblock.previous && pointer === superblock.current ? [...index.chunks] : [];
  let last = pointer.start, hash = index.hash;
  let tail: JournalReader | undefined, broken: JournalReader | undefined;
  for (const entry of superblock.sessions) {
    const session: Session = { ...entry, last: entry.last ?? entry.first - 1 };
    sessions.push(session);
    if (notes.journalDamage !== undefined) continue;
    if (entry.last !== undefined && (entry.last < entry.first || entry.last <= pointer.start)) {
      if (entry.first > pointer.start) chunks.push(chunkOf(entry));
      continue;
    }
    // The session that wrote the checkpoint began a chunk for it: what stands before is not needed.
    const own = index.head !== undefined && equalConstantTime(entry.id, pointer.session);
    const chunk = own && index.head!.position !== entry.head ? index.head! : chunkOf(entry);
    if (chunk.first !== last + 1) {
      notes.journalDamage = `The journal lacks the commits ${last + 1} to ${chunk.first - 1}`;
      continue;
    }
    const reader = new JournalReader(store, keys.sealer, {
      ...{ session: entry, chunk, commit: last + 1, hash },
      settled: entry.last,
    });
    while (entry.last === undefined || reader.commit <= entry.last) {
      const record = await reader.next();
      if (record === undefined) break;
      applyChanges(record.payload, tables);
    }
    last = reader.commit - 1;
    session.last = last;
    hash = reader.hash ?? hash;
    chunks.push(...reader.chunks);
    tail = entry.last === undefined ? reader : undefined;
    if (entry.last !== undefined && last < entry.last) {
      broken = reader;
      notes.journalDamage = `The journal is damaged: the commits ${
        last + 1
      } to ${entry.last} and later are lost`;
    }
  }
  notes.journalDamage ??= tail && await damageAt(tail);
  return { sessions, chunks, last, durable: durableOf({ sessions, last, tail }), hash, tail, broken };
}

/** What there is to say of damage where a reader found no record; undefined if there is none. */
export async function damageAt(tail: JournalReader): Promise<string | undefined> {
  if (!await tail.damaged()) return undefined;
  return `The journal is damaged: commit ${tail.commit} and later are lost`;
}

/** The first chunk of a session's segment that is still needed. */
export function chunkOf(entry: SessionEntry): Chunk {
  return { position: entry.head, count: entry.headBlocks, first: entry.headCommit };
}

/** The blocks of checkpoints and journal of a loaded state; of the checkpoint that did not serve, if its index is whole. */
export async function metadataRuns(
  store: BlockStore,
  keys: ContainerKeys,
  loaded: Loaded,
): Promise<readonly Run[]> {
  return [...loaded.checkpointRuns, ...loaded.chunks, ...await previousRuns(store, keys, loaded)];
}

/** The blocks of the checkpoint before the one that served; none if there is none, or its index is damaged. */
export async function previousRuns(
  store: BlockStore,
  keys: ContainerKeys,
  { found: { superblock }, pointer }: Loaded,
): Promise<readonly Run[]> {
  if (superblock.previous === undefined || pointer !== superblock.current) return [];
  try {
    return (await loadCheckpoint(store, keys.sealer, superblock.previous, undefined)).runs;
  } catch (error) {
    if (error instanceof IntegrityError || error instanceof DecodeError) return [];
    throw error;
  }
}

/**
 * Who a run of data blocks is that was born with this commit. Commit numbers are never used twice within a history,
 * so the birth tells the session: the newest one that began no later.
 *
 * @throws {IntegrityError} if no session fits
 */
export function dataIdentity(
  sessions: readonly Session[],
  position: Position,
  birth: CommitNumber,
): RunIdentity {
  for (let low = 0, high = sessions.length - 1; low <= high;) {
    const middle = (low + high) >> 1, session = sessions[middle]!;
    if (session.first > birth) high = middle - 1;
    else if (middle + 1 < sessions.length && sessions[middle + 1]!.first <= birth) low = middle + 1;
    else return { session: session.id, generation: session.generation, position, birth, kind: Kind.data };
  }
  throw new IntegrityError("Block of no known session");
}

/** {@linkcode History.contains} */
export function contains(
  { sessions, last }: Pick<Loaded, "sessions" | "last">,
  point: DurablePoint,
): boolean {
  return point.commit <= last &&
    sessions.some((session) =>
      equalConstantTime(session.id, point.session) && point.commit <= session.last &&
      point.commit >= session.first - 1
    );
}

/** What a state that was read proves to be durable: a closed segment's end, or what a valid record follows. */
export function durableOf(state: Pick<Loaded, "sessions" | "last" | "tail">): DurablePoint | undefined {
  const known = state.tail === undefined ? state.last : state.last - 1;
  const session = state.sessions.findLast((one) => one.first <= known && one.last >= one.first);
  return session ? { session: session.id, commit: Math.min(known, session.last) } : undefined;
}
