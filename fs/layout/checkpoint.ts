/**
 * Checkpoints: the tables as pages, and the index (the basic layout table) that lists them. Byte tables:
 * docs/format.md, "Checkpoint". A checkpoint is fuzzy: its pages are written one after the other while the tables
 * change, and the journal's records from its start on bring all of them to the same commit.
 */
import { BLOCK, Kind, type RunIdentity, type Sealer } from "../../crypto/sealer.ts";
import { readSealed, writeSealed } from "../block/sealed.ts";
import type { BlockStore } from "../block/store.ts";
import type { CommitNumber, Ino } from "../types.ts";
import { ByteReader, ByteWriter, DecodeError } from "./bytes.ts";
import type { Chunk, SessionIdentity } from "./journal.ts";
import { decodePage, encodePages, PAGE_KINDS, PAGE_MAX, type PageKind } from "./pages.ts";
import { type CheckpointPointer, INDEX_RUNS_MAX, type Run } from "./superblock.ts";
import type { Tables } from "./tables.ts";

const INDEX_VERSION = 1;
/** Sessions, pages and runs that an index may name; far above what a container can have. */
const INDEX_LIMIT = 1 << 24;
const RUN_BLOCKS_MAX = 1 << 16;
/** How many pages are read at once when loading. */
const PAGES_AT_ONCE = 64;

/** A session whose journal is no longer needed, but whose blocks are. */
export interface PastSession extends SessionIdentity {
  readonly first: CommitNumber;
  readonly last: CommitNumber;
}

/** One page of a checkpoint. */
interface PageEntry {
  readonly kind: PageKind;
  readonly birth: CommitNumber;
  /** Bytes stored (deflated) and plain. */
  readonly stored: number;
  readonly plain: number;
  readonly runs: readonly Run[];
}

/** What the index says besides where the pages are. */
export interface CheckpointIndex {
  /** SHA-256 of the record of the commit that the checkpoint starts from; zeros if there was none. */
  readonly hash: Uint8Array;
  readonly sessions: readonly PastSession[];
  /** The journal's chunks before `head` that the checkpoint before this one needs. */
  readonly chunks: readonly Chunk[];
  /** The chunk that begins with the record after the checkpoint's start. */
  readonly head: Chunk | undefined;
  readonly pages: readonly PageEntry[];
}

/** A loaded checkpoint with all the blocks that it lies in. */
export interface LoadedCheckpoint {
  readonly index: CheckpointIndex;
  readonly runs: readonly Run[];
}

/** What a checkpoint is written with. */
export interface CheckpointOptions {
  readonly session: SessionIdentity;
  readonly start: CommitNumber;
  readonly hash: Uint8Array;
  readonly sessions: readonly PastSession[];
  readonly chunks: readonly Chunk[];
  readonly head: Chunk | undefined;
  /** Number of the commit that is open now; asked before each write. */
  readonly birth: () => CommitNumber;
  /** Gives blocks in as few runs as possible, at most `runs` of them. */
  readonly allocate: (blocks: number, runs: number) => Promise<Run[]>;
  /** The size to record for an inode. */
  readonly sizeOf: (ino: Ino) => number;
  /** Called between slices, so that requests are answered meanwhile. */
  readonly pause: () => Promise<void>;
}

async function pipe(bytes: Uint8Array, through: GenericTransformStream, limit: number): Promise<Uint8Array> {
  const out = new Uint8Array(limit);
  let length = 0;
  const stream = new Blob([bytes as Uint8Array<ArrayBuffer>]).stream().pipeThrough(
    through as ReadableWritablePair<Uint8Array, Uint8Array<ArrayBuffer>>,
  );
  for await (const chunk of stream) {
    if (length + chunk.length > limit) throw new DecodeError("Page is larger than its index says");
    out.set(chunk, length);
    length += chunk.length;
  }
  return out.subarray(0, length);
}

/** Deflates; a page that does not get smaller still fits the room that this allows. */
async function deflate(bytes: Uint8Array): Promise<Uint8Array> {
  return await pipe(bytes, new CompressionStream("deflate-raw"), bytes.length + 1024);
}

async function inflate(bytes: Uint8Array, length: number): Promise<Uint8Array> {
  let plain: Uint8Array;
  try {
    plain = await pipe(bytes, new DecompressionStream("deflate-raw"), length);
  } catch (cause) {
    throw new DecodeError(`Page does not inflate: ${cause instanceof Error ? cause.message : cause}`);
  }
  if (plain.length !== length) throw new DecodeError("Page is shorter than its index says");
  return plain;
}

function blocksOf(bytes: number): number {
  return Math.ceil(bytes / BLOCK);
}

/** Writes `bytes`, padded to blocks, into runs. */
async function writeRuns(
  store: BlockStore,
  sealer: Sealer,
  who: Omit<RunIdentity, "position">,
  runs: readonly Run[],
  bytes: Uint8Array,
): Promise<void> {
  const plain = new Uint8Array(blocksOf(bytes.length) * BLOCK);
  plain.set(bytes);
  let at = 0;
  for (const run of runs) {
    const end = at + run.count * BLOCK;
    await writeSealed(store, sealer, { ...who, position: run.position }, plain.subarray(at, end));
    at = end;
  }
}

async function readRuns(
  store: BlockStore,
  sealer: Sealer,
  who: Omit<RunIdentity, "position">,
  runs: readonly Run[],
  length: number,
): Promise<Uint8Array> {
  const plain = new Uint8Array(runs.reduce((sum, run) => sum + run.count, 0) * BLOCK);
  if (length > plain.length) throw new DecodeError("Runs are shorter than their content");
  let at = 0;
  for (const run of runs) {
    const end = at + run.count * BLOCK;
    await readSealed(store, sealer, { ...who, position: run.position }, plain.subarray(at, end));
    at = end;
  }
  return plain.subarray(0, length);
}

/**
 * Writes a checkpoint; it counts only once a superblock points to it, after a commit that was frozen later than
 * the last page. Nothing is flushed here.
 *
 * @returns the pointer and all runs that it takes, those of the index included
 */
export async function writeCheckpoint(
  store: BlockStore,
  sealer: Sealer,
  tables: Tables,
  options: CheckpointOptions,
): Promise<{ pointer: CheckpointPointer; runs: Run[] }> {
  const { session } = options, all: Run[] = [], pages: PageEntry[] = [];
  const who = (kind: Kind) => ({
    session: session.id,
    generation: session.generation,
    birth: options.birth(),
    kind,
  });
  for (const kind of PAGE_KINDS) {
    for (const page of encodePages(tables, kind, { sizeOf: options.sizeOf })) {
      const stored = await deflate(page.bytes);
      const runs = await options.allocate(blocksOf(stored.length), Infinity);
      all.push(...runs);
      const identity = who(Kind.table);
      await writeRuns(store, sealer, identity, runs, stored);
      pages.push({ kind, birth: identity.birth, stored: stored.length, plain: page.bytes.length, runs });
      await options.pause();
    }
  }
  const { hash, sessions, chunks, head } = options;
  const bytes = encodeIndex({ hash, sessions, chunks, head, pages });
  const runs = await options.allocate(blocksOf(bytes.length), INDEX_RUNS_MAX);
  all.push(...runs);
  const identity = who(Kind.index);
  await writeRuns(store, sealer, identity, runs, bytes);
  const pointer = {
    session: session.id,
    generation: session.generation,
    start: options.start,
    birth: identity.birth,
    length: bytes.length,
    runs,
  };
  return { pointer, runs: all };
}

/**
 * Loads a checkpoint into empty tables; without tables only its index is read, which tells where it lies.
 *
 * @throws {IntegrityError} if a block does not verify
 * @throws {DecodeError} if what verified does not decode
 */
export async function loadCheckpoint(
  store: BlockStore,
  sealer: Sealer,
  pointer: CheckpointPointer,
  tables: Tables | undefined,
): Promise<LoadedCheckpoint> {
  const who = { session: pointer.session, generation: pointer.generation };
  const index = decodeIndex(
    await readRuns(
      store,
      sealer,
      { ...who, birth: pointer.birth, kind: Kind.index },
      pointer.runs,
      pointer.length,
    ),
  );
  const load = async (page: PageEntry) =>
    await inflate(
      await readRuns(store, sealer, { ...who, birth: page.birth, kind: Kind.table }, page.runs, page.stored),
      page.plain,
    );
  for (let i = 0; tables && i < index.pages.length; i += PAGES_AT_ONCE) {
    const batch = index.pages.slice(i, i + PAGES_AT_ONCE);
    const plain = await Promise.all(batch.map(load));
    batch.forEach((page, j) => decodePage(page.kind, plain[j]!, tables));
  }
  return { index, runs: [...pointer.runs, ...index.pages.flatMap((page) => page.runs)] };
}

function putRuns(out: ByteWriter, runs: readonly Run[]): void {
  out.varint(runs.length);
  for (const run of runs) out.varint(run.position), out.varint(run.count);
}

function getRuns(input: ByteReader): Run[] {
  const runs: Run[] = [];
  for (let n = input.varint(RUN_BLOCKS_MAX); n > 0; n--) {
    runs.push({ position: input.varint(), count: input.varint(RUN_BLOCKS_MAX) });
  }
  return runs;
}

function putChunks(out: ByteWriter, chunks: readonly Chunk[]): void {
  out.varint(chunks.length);
  for (const chunk of chunks) out.varint(chunk.position), out.varint(chunk.count), out.varint(chunk.first);
}

function getChunks(input: ByteReader): Chunk[] {
  const chunks: Chunk[] = [];
  for (let n = input.varint(INDEX_LIMIT); n > 0; n--) {
    chunks.push({ position: input.varint(), count: input.varint(RUN_BLOCKS_MAX), first: input.varint() });
  }
  return chunks;
}

/** Encodes the index. */
export function encodeIndex(index: CheckpointIndex): Uint8Array {
  const out = new ByteWriter();
  out.varint(INDEX_VERSION);
  out.raw(index.hash);
  out.varint(index.sessions.length);
  for (const session of index.sessions) {
    out.raw(session.id);
    out.varint(session.generation);
    out.varint(session.first);
    out.varint(session.last + 1);
  }
  putChunks(out, index.chunks);
  putChunks(out, index.head ? [index.head] : []);
  out.varint(index.pages.length);
  for (const page of index.pages) {
    out.varint(PAGE_KINDS.indexOf(page.kind));
    out.varint(page.birth);
    out.varint(page.stored);
    out.varint(page.plain);
    putRuns(out, page.runs);
  }
  return out.take();
}

/** Decodes an index that was authenticated. @throws {DecodeError} */
export function decodeIndex(bytes: Uint8Array): CheckpointIndex {
  const input = new ByteReader(bytes);
  if (input.varint() !== INDEX_VERSION) throw new DecodeError("Index: unknown version");
  const hash = input.raw(32).slice(), sessions: PastSession[] = [], pages: PageEntry[] = [];
  for (let n = input.varint(INDEX_LIMIT); n > 0; n--) {
    sessions.push({
      id: input.raw(16).slice(),
      generation: input.varint(0xffff_ffff),
      first: input.varint(),
      last: input.varint() - 1,
    });
  }
  const chunks = getChunks(input), head = getChunks(input)[0];
  for (let n = input.varint(INDEX_LIMIT); n > 0; n--) {
    const kind = PAGE_KINDS[input.varint(PAGE_KINDS.length - 1)]!;
    const birth = input.varint(), stored = input.varint(PAGE_MAX + 1024), plain = input.varint(PAGE_MAX);
    pages.push({ kind, birth, stored, plain, runs: getRuns(input) });
  }
  return { hash, sessions, chunks, head, pages };
}
