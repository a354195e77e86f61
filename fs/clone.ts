/** Copying of a container as it is sealed: block by block to the same positions, each verified on its way. */
import type { EncryptionHeader } from "../crypto/encryption_block.ts";
import { CoverError, IntegrityError } from "../crypto/errors.ts";
import { SEALED } from "../crypto/sealer.ts";
import type { BlockStore } from "./block/store.ts";
import { breathe } from "./clock.ts";
import { badBlocks } from "./fsck.ts";
import { DecodeError } from "./layout/bytes.ts";
import { blocksFor } from "./layout/extent_tree.ts";
import { encodeSuperblock, type Run } from "./layout/superblock.ts";
import {
  type ContainerKeys,
  contains,
  durableOf,
  type DurablePoint,
  type HistoryCheck,
  type Loaded,
  loadState,
  superIdentity,
} from "./loading.ts";
import { Paths } from "./paths.ts";
import type { CommitNumber, Ino, Position } from "./types.ts";

/** Blocks that are copied at once. */
const COPY_RUN = 256;
/** Reads that are under way at the same time, so that a server far away is asked before the answer is needed. */
const READS_AT_ONCE = 4;
/** Blocks that are written between flushes: a store may keep what is not flushed in memory. */
const FLUSH_BLOCKS = 16_384;
/** How often a copy follows a writer that reuses blocks before they were copied. */
const PASSES = 20;

/** How to clone. */
export interface CloneOptions {
  /** The encryption block, for both copies; it is written last, and only with it the target is a container. */
  readonly encryptionBlock: Uint8Array;
  /**
   * Reads it anew, as the source has it by then, proven by the master key: asked where a key slot has been changed since
   * the keys were made. What it throws ends the copy.
   */
  readonly readEncryptionBlock?: () => Promise<Pick<EncryptionHeader, "bytes" | "sequence">>;
  /** Judges each state before it is copied: of two readings, a server may answer the second with an older one. */
  readonly check?: HistoryCheck | undefined;
  /** Told of progress: blocks of data done of all. What it throws ends the copy. */
  readonly onProgress?: (done: number, all: number) => void;
}

/** What was cloned. */
export interface Cloned {
  readonly commit: CommitNumber;
  readonly blocks: number;
  readonly durable: DurablePoint | undefined;
}

/** A run of data blocks of one file. */
interface DataRun extends Run {
  readonly ino: Ino;
  readonly birth: CommitNumber;
}

/**
 * Copies the newest commit of a container into an empty store that was opened to create. The source may be written
 * meanwhile: what was reused before it was copied is taken from a newer commit, so that the copy is one commit whole.
 *
 * @throws {IntegrityError} if the source is damaged
 * @throws {CoverError} "busy" if the source changes faster than it can be copied; "rollback" if the encryption block is
 * older than the source says; as `check` and `loadState`
 * @throws {FsError} ENOSPC or EDQUOT of the target
 */
export async function cloneContainer(
  source: BlockStore,
  opened: ContainerKeys,
  target: BlockStore,
  options: CloneOptions,
): Promise<Cloned> {
  let before: { commit: CommitNumber; sequence: number } | undefined;
  let encryption = { bytes: options.encryptionBlock, sequence: opened.keySequence };
  const keys = { ...opened, keySequence: Number.MAX_SAFE_INTEGER }; // it is compared below
  for (let pass = 1; pass <= PASSES; pass++) {
    await source.refresh();
    const loaded = await loadState(source, keys), { sequence, keySequence } = loaded.found.superblock;
    if (keySequence > encryption.sequence) {
      encryption = await options.readEncryptionBlock?.() ?? encryption;
      // Loaded again then: the keys of a block that is read later need not open what was loaded before.
      if (keySequence <= encryption.sequence) continue;
      throw new CoverError(
        "rollback",
        "Cannot clone container: its encryption block is an older one played back",
      );
    }
    const { journalDamage } = loaded.notes, runs = dataRuns(loaded);
    await target.reserve(endOf([...loaded.checkpointRuns, ...loaded.chunks, ...runs]));
    const missing = journalDamage !== undefined
      ? new CoverError("damaged", `Cannot clone container: ${journalDamage}`)
      : refused(loaded, options.check) ?? await copyMetadata(source, keys, target, loaded) ??
        await copyData(source, keys, target, { ...options, loaded, runs, fresh: before === undefined });
    if (missing === undefined) {
      await target.flush();
      for (const copy of [0, 1] as const) {
        await target.writeHeader("key", copy, encryption.bytes);
        await target.flush();
      }
      const blocks = runs.reduce((sum, run) => sum + run.count, 0);
      const durable = durableOf({ ...loaded, tail: undefined });
      return { commit: loaded.last, blocks, durable };
    }
    const moved = before?.commit !== loaded.last || before.sequence !== sequence;
    if (!moved) throw missing;
    before = { commit: loaded.last, sequence };
  }
  throw new CoverError("busy", "Cannot clone container: it changes faster than it can be copied");
}

/** What the check has against a state. Blocks that a writer reuses may hide what was durable: that is looked at again. */
function refused(loaded: Loaded, check?: HistoryCheck): CoverError | undefined {
  try {
    check?.({ ...loaded, contains: (point) => contains(loaded, point) });
    return undefined;
  } catch (error) {
    if (error instanceof CoverError) return error;
    throw error;
  }
}

function dataRuns({ tables: { extents } }: Loaded): DataRun[] {
  const runs: DataRun[] = [];
  extents.everyExtent((ino, _offset, length, position, birth) => {
    const blocks = blocksFor(length);
    for (let at = 0; at < blocks; at += COPY_RUN) {
      runs.push({ ino, position: position + at, count: Math.min(COPY_RUN, blocks - at), birth });
    }
  });
  return runs;
}

function endOf(runs: readonly Run[]): Position {
  return runs.reduce((end, run) => Math.max(end, run.position + run.count), 0);
}

/**
 * Copies checkpoint and journal, and writes superblocks that end with the commit that was loaded.
 *
 * @returns what is missing: the source's blocks were reused since it was loaded, or they are damaged
 */
async function copyMetadata(
  source: BlockStore,
  keys: ContainerKeys,
  target: BlockStore,
  loaded: Loaded,
): Promise<Error | undefined> {
  for (const { position, count } of [...loaded.checkpointRuns, ...loaded.chunks]) {
    for (let at = 0; at < count; at += COPY_RUN) {
      const blocks = Math.min(COPY_RUN, count - at);
      const bytes = await source.read(position + at, blocks);
      await target.write(position + at, bytes.slice(0, blocks * SEALED));
    }
  }
  const { superblock } = loaded.found, { last } = loaded;
  const plain = encodeSuperblock({
    ...superblock,
    clean: true,
    current: loaded.pointer,
    previous: undefined,
    sessions: superblock.sessions
      .map((entry) => ({ ...entry, last: Math.min(entry.last ?? last, last) }))
      .filter((entry) => entry.last >= entry.first),
  });
  for (const copy of [0, 1] as const) {
    const sealed = new Uint8Array(SEALED);
    await keys.sealer.seal(superIdentity(keys.generation, copy), plain, sealed);
    await target.writeHeader("super", copy, sealed);
  }
  try {
    const there = await loadState(target, keys);
    if (there.last === last && there.notes.journalDamage === undefined) return undefined;
    return new IntegrityError("The journal does not verify");
  } catch (error) {
    if (error instanceof DecodeError || error instanceof CoverError && error.kind === "damaged") {
      return new IntegrityError("The checkpoint does not verify");
    }
    throw error;
  }
}

/** Copies the data that the target has not yet. @returns what of it does not verify in the source, undefined for nothing */
async function copyData(
  source: BlockStore,
  keys: ContainerKeys,
  target: BlockStore,
  options: CloneOptions & {
    readonly loaded: Loaded;
    readonly runs: readonly DataRun[];
    readonly fresh: boolean;
  },
): Promise<Error | undefined> {
  const { loaded, runs, fresh } = options, all = runs.reduce((sum, run) => sum + run.count, 0);
  const groups = grouped(runs), ahead: Promise<Uint8Array>[] = [];
  const read = ({ position, count }: Run) => {
    const reading = Promise.resolve(source.read(position, count));
    reading.catch(() => {}); // told when its turn comes, unless another failure came before
    return reading;
  };
  let done = 0, unflushed = 0, missing: Error | undefined;
  for (const [i, group] of groups.entries()) {
    for (let next = i + ahead.length; fresh && next < groups.length && ahead.length < READS_AT_ONCE; next++) {
      ahead.push(read(groups[next]!));
    }
    // Of an earlier pass: what is the same still is there.
    if (fresh || !await verifies(target, keys, loaded, group)) {
      const bytes = (await (ahead.shift() ?? read(group))).slice(0, group.count * SEALED);
      const bad = await firstBad(bytes, keys, loaded, group);
      if (bad) missing ??= damageOf(loaded, bad);
      await target.write(group.position, bytes);
      unflushed += group.count;
    }
    if (unflushed >= FLUSH_BLOCKS) {
      await target.flush();
      unflushed = 0;
    }
    done += group.count;
    options.onProgress?.(done, all);
    await breathe();
  }
  return missing;
}

/** Runs of data that follow each other in the container, to be read and written at once. */
interface Group extends Run {
  readonly runs: readonly DataRun[];
}

function grouped(runs: readonly DataRun[]): Group[] {
  const groups: (Group & { runs: DataRun[]; count: number })[] = [];
  for (const run of [...runs].sort((a, b) => a.position - b.position)) {
    const last = groups[groups.length - 1];
    if (last && last.position + last.count === run.position && last.count + run.count <= COPY_RUN) {
      last.runs.push(run);
      last.count += run.count;
    } else groups.push({ position: run.position, count: run.count, runs: [run] });
  }
  return groups;
}

async function verifies(
  store: BlockStore,
  keys: ContainerKeys,
  loaded: Loaded,
  group: Group,
): Promise<boolean> {
  return await firstBad(await store.read(group.position, group.count), keys, loaded, group) === undefined;
}

/** The first run of a group that has blocks which do not verify. */
async function firstBad(
  sealed: Uint8Array,
  keys: ContainerKeys,
  loaded: Loaded,
  group: Group,
): Promise<DataRun | undefined> {
  for (const run of group.runs) {
    const from = (run.position - group.position) * SEALED;
    const held = { read: () => sealed.subarray(from, from + run.count * SEALED) };
    if ((await badBlocks(held, keys, loaded, run)).length > 0) return run;
  }
  return undefined;
}

function damageOf({ tables }: Loaded, { ino }: DataRun): Error {
  const path = new TextDecoder().decode(new Paths(tables).of(ino));
  return new CoverError("integrity", `Cannot clone container: a block of "${path}" does not verify`, {
    hint: "Look at it with coverfs fsck --scrub",
  });
}
