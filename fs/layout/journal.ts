/** The journal: records in chunks of blocks. Byte tables and rules: docs/format.md, "Journal". */
import { BLOCK, Kind, type RunIdentity, SEALED, type Sealer } from "../../crypto/sealer.ts";
import { CoverError, IntegrityError } from "../../crypto/errors.ts";
import { equalConstantTime } from "../../crypto/bytes.ts";
import { sha256 } from "../../crypto/digest.ts";
import { readSealed, writeSealed } from "../block/sealed.ts";
import type { BlockStore } from "../block/store.ts";
import type { CommitNumber, Position } from "../types.ts";
import { ByteReader, ByteWriter, getU64, setU64 } from "./bytes.ts";
import type { Run } from "./superblock.ts";

const RECORD_MAGIC = 0x314c_4e52_4a53_4643n; // "CFSJRNL1"
const LINK_MAGIC = 0x4b4e_494c_4a53_4643n; // "CFSJLINK"
const HEADER = 80;
/** Bytes of changes in a record at most. */
export const RECORD_MAX = 1 << 20;
/** Blocks of a chunk: the first of a session, and at most. */
export const CHUNK_FIRST = 32, CHUNK_LARGEST = 1024;

/** Flag of a record: its payload begins with the blocks that may not have been flushed before it. */
const PROVES_ITSELF = 1;
/** Runs in such a list at most. */
const PROOF_RUNS_MAX = 1024;

/** A run of data blocks and the commit that wrote it. */
export interface BornRun extends Run {
  readonly birth: CommitNumber;
}

function withProof(proof: readonly BornRun[], changes: Uint8Array): Uint8Array {
  const out = new ByteWriter(changes.length + 16 + 24 * proof.length);
  out.varint(proof.length);
  for (const { position, count, birth } of proof) out.varint(position), out.varint(count), out.varint(birth);
  out.raw(changes);
  return out.take();
}

function getProof(input: ByteReader): BornRun[] {
  const proof: BornRun[] = [];
  for (let n = input.varint(PROOF_RUNS_MAX); n > 0; n--) {
    proof.push({ position: input.varint(), count: input.varint(PROOF_RUNS_MAX), birth: input.varint() });
  }
  return proof;
}

/** How many records in a row may be missing for the ones behind them to be found. */
const MISSING_MOST = 8;

/** A writer session, as far as sealing needs it. */
export interface SessionIdentity {
  readonly id: Uint8Array;
  readonly generation: number;
}

/** The SHA-256 of a record, which the next one carries. */
export type RecordHash = Uint8Array;

/** A chunk of the journal; `first` is the number of its first record. */
export interface Chunk extends Run {
  readonly first: CommitNumber;
}

/** Blocks that a record with so many bytes of changes takes. */
export function recordBlocks(length: number): number {
  return Math.ceil((HEADER + length) / BLOCK);
}

function identity(session: SessionIdentity, position: Position, birth: CommitNumber): RunIdentity {
  return { session: session.id, generation: session.generation, position, birth, kind: Kind.journal };
}

/** Appends records. The caller flushes between data and record, and after each record. */
export class JournalWriter {
  readonly #store: BlockStore;
  readonly #sealer: Sealer;
  readonly #session: SessionIdentity;
  readonly #allocate: (wanted: number, least: number) => Promise<Run>;
  #chunk: Run;
  #next: Position;
  /** Of the newest record: made while that one is being flushed, needed for the next. */
  #hash: RecordHash | Promise<RecordHash>;

  /**
   * @param allocate gives contiguous blocks, as many as wanted or, where room is short, the fewest that do; from the
   * reserve if need be
   * @param hash of the record before the first one
   */
  constructor(
    store: BlockStore,
    sealer: Sealer,
    options: {
      session: SessionIdentity;
      chunk: Run;
      hash: RecordHash;
      allocate: (wanted: number, least: number) => Promise<Run>;
    },
  ) {
    this.#store = store;
    this.#sealer = sealer;
    this.#session = options.session;
    this.#allocate = options.allocate;
    this.#chunk = options.chunk;
    this.#next = options.chunk.position;
    this.#hash = options.hash;
  }

  /** Hash of the newest record. */
  get hash(): RecordHash | Promise<RecordHash> {
    return this.#hash;
  }

  /** Blocks of the newest chunk that are in use, counted from its start. */
  get used(): number {
    return this.#next - this.#chunk.position;
  }

  get chunk(): Run {
    return this.#chunk;
  }

  /** Tells whether a record with so many bytes of changes needs a new chunk. */
  #fits(blocks: number): boolean {
    return this.#next + blocks + 1 <= this.#chunk.position + this.#chunk.count - 1;
  }

  /**
   * Writes one record; durable after the next flush.
   *
   * @param proof blocks of this session that the changes rest on and that were not flushed yet
   * @returns the new chunk, if one was begun
   * @throws {CoverError} "failure" if it is longer than a record may be: nobody would read it
   */
  async append(
    commit: CommitNumber,
    changes: Uint8Array,
    proof: readonly BornRun[] = [],
  ): Promise<Run | undefined> {
    const payload = proof.length > 0 ? withProof(proof, changes) : changes;
    const flags = proof.length > 0 ? PROVES_ITSELF : 0, blocks = recordBlocks(payload.length);
    if (payload.length > RECORD_MAX) {
      throw new CoverError("failure", "Cannot commit: the changes are longer than a record of the journal");
    }
    let begun: Run | undefined;
    if (!this.#fits(blocks)) {
      const wanted = Math.min(CHUNK_LARGEST, this.#chunk.count * 2);
      begun = await this.#begin(commit, wanted, Math.max(CHUNK_FIRST, blocks + 2));
    }
    const plain = new Uint8Array(blocks * BLOCK), view = new DataView(plain.buffer);
    view.setBigUint64(0, RECORD_MAGIC, true);
    plain.set(this.#session.id, 8);
    setU64(view, 24, commit);
    view.setUint32(32, payload.length, true);
    view.setUint32(36, flags, true);
    plain.set(await this.#hash, 40);
    plain.set(payload, HEADER);
    await this.#write(this.#next, commit, plain);
    this.#next += blocks + 1;
    this.#hash = sha256(plain.subarray(0, HEADER + payload.length));
    return begun;
  }

  /** Begins a new chunk: the old one's last block says where it lies. */
  async #begin(commit: CommitNumber, wanted: number, least: number): Promise<Run> {
    const chunk = await this.#allocate(Math.max(wanted, least), least);
    const plain = new Uint8Array(BLOCK), view = new DataView(plain.buffer);
    view.setBigUint64(0, LINK_MAGIC, true);
    setU64(view, 8, commit);
    setU64(view, 16, chunk.position);
    view.setUint32(24, chunk.count, true);
    await this.#write(this.#chunk.position + this.#chunk.count - 1, commit, plain);
    this.#chunk = chunk;
    this.#next = chunk.position;
    return chunk;
  }

  /**
   * Begins a new chunk with the next record whatever room there is, so that older ones can be given back. It is as small
   * as a session's first: how much will be written until the next checkpoint is not known.
   */
  async cut(commit: CommitNumber): Promise<Run> {
    return await this.#begin(commit, CHUNK_FIRST, CHUNK_FIRST);
  }

  async #write(position: Position, birth: CommitNumber, plain: Uint8Array): Promise<void> {
    await writeSealed(this.#store, this.#sealer, identity(this.#session, position, birth), plain);
  }
}

/** A record that was read and verified. */
export interface JournalRecord {
  readonly commit: CommitNumber;
  /** The changes. */
  readonly payload: Uint8Array;
  /** Blocks that it rests on and that may not have been flushed before it. */
  readonly proof: readonly BornRun[];
}

/** Where a reader is: everything before is read. */
interface Place {
  readonly chunk: Run;
  readonly next: Position;
  readonly commit: CommitNumber;
  readonly hash: RecordHash | undefined;
}

/** Reads the records of one session's segment in order, and may go on when more have been written. */
export class JournalReader {
  readonly #store: BlockStore;
  readonly #sealer: Sealer;
  readonly #session: SessionIdentity;
  readonly #settled: CommitNumber;
  #place: Place;
  /** What was found at the place, if somebody has looked. */
  #ahead: { readonly record: JournalRecord; readonly then: Place } | undefined;
  readonly chunks: Chunk[];

  /**
   * @param options `hash`: of the record before, undefined if it is not known (then the first one is not compared);
   * `settled`: the last record that need not prove itself any more, as its segment was closed behind it
   */
  constructor(
    store: BlockStore,
    sealer: Sealer,
    options: {
      session: SessionIdentity;
      chunk: Run;
      commit: CommitNumber;
      hash: RecordHash | undefined;
      settled?: CommitNumber | undefined;
    },
  ) {
    const { session, chunk, commit, hash, settled = 0 } = options;
    this.#store = store;
    this.#sealer = sealer;
    this.#session = session;
    this.#settled = settled;
    this.#place = { chunk, next: chunk.position, commit, hash };
    this.chunks = [{ ...chunk, first: commit }];
  }

  /** Number of the record that comes next. */
  get commit(): CommitNumber {
    return this.#place.commit;
  }

  get hash(): RecordHash | undefined {
    return this.#place.hash;
  }

  /** How many blocks of the chunk being read are behind the reader. */
  get used(): number {
    return this.#place.next - this.#place.chunk.position;
  }

  /**
   * @returns the next record, or undefined where there is none (yet)
   * @throws {CoverError} "unsupported" if it has a flag that this version does not know
   */
  async next(): Promise<JournalRecord | undefined> {
    const found = this.#ahead ?? await this.#read(this.#place);
    this.#ahead = undefined;
    if (found === undefined || !await this.#counts(found)) return undefined;
    if (found.then.chunk !== this.#place.chunk) {
      this.chunks.push({ ...found.then.chunk, first: found.record.commit });
    }
    this.#place = found.then;
    return found.record;
  }

  /**
   * A record that rests on blocks which may not have been flushed counts if they verify, or if another one follows it:
   * that one was appended only after a flush had covered both the record and its blocks, which may since be others.
   */
  async #counts({ record, then }: { record: JournalRecord; then: Place }): Promise<boolean> {
    if (record.proof.length === 0 || record.commit <= this.#settled) return true;
    this.#ahead = await this.#read(then);
    if (this.#ahead || await this.#proven(record.proof)) return true;
    this.#ahead = await this.#read(then); // a writer may have gone on meanwhile
    return this.#ahead !== undefined;
  }

  async #proven(proof: readonly BornRun[]): Promise<boolean> {
    for (const { position, count, birth } of proof) {
      const run = { ...identity(this.#session, position, birth), kind: Kind.data };
      if (await this.#open(run, count) === undefined) return false;
    }
    return true;
  }

  /** Reads the record at a place, if there is a whole one that follows what is before it. */
  async #read(place: Place): Promise<{ record: JournalRecord; then: Place } | undefined> {
    const { commit, hash } = place;
    let { chunk, next } = place, first = await this.#openRecord(next, 1, commit);
    if (first === undefined || !isRecord(first, commit, this.#session.id)) {
      const linked = await this.#link(chunk, commit);
      if (linked === undefined) return undefined;
      first = await this.#openRecord(linked.position, 1, commit);
      if (first === undefined || !isRecord(first, commit, this.#session.id)) return undefined;
      chunk = linked;
      next = linked.position;
    }
    const view = new DataView(first.buffer);
    const length = view.getUint32(32, true), blocks = recordBlocks(length), flags = view.getUint32(36, true);
    if (length > RECORD_MAX || next + blocks > chunk.position + chunk.count) return undefined;
    const plain = blocks === 1 ? first : await this.#openRecord(next, blocks, commit);
    if (plain === undefined) return undefined;
    if (hash !== undefined && !equalConstantTime(plain.subarray(40, 72), hash)) return undefined;
    if ((flags & ~PROVES_ITSELF) !== 0) {
      throw new CoverError(
        "unsupported",
        "Cannot read the journal: it has records that this version does not know",
        {
          hint: "Use a newer version of coverfs",
        },
      );
    }
    const body = plain.subarray(HEADER, HEADER + length);
    const then = {
      chunk,
      next: next + blocks + 1,
      commit: commit + 1,
      hash: await sha256(plain.subarray(0, HEADER + length)),
    };
    if ((flags & PROVES_ITSELF) === 0) return { record: { commit, payload: body, proof: [] }, then };
    const input = new ByteReader(body), proof = getProof(input);
    return { record: { commit, payload: input.raw(input.rest), proof }, then };
  }

  /**
   * Tells whether a valid record stands behind the place where {@linkcode next} found none. A record is appended
   * only after the one before is durable, so that is damage and not a crash.
   */
  async damaged(): Promise<boolean> {
    const { chunk, next, commit } = this.#place;
    const more = await this.#link(chunk, commit + 1, commit + MISSING_MOST) ?? await this.#behind();
    if (more === undefined) return false;
    // A writer may have gone on since: then the record is there by now.
    this.#store.doubt?.(next, chunk.position + chunk.count - next);
    return await this.#read(this.#place) === undefined;
  }

  /**
   * Goes on to the next record that verifies by itself, behind one that does not; {@linkcode next} then answers it.
   * That it follows what was read before is not known: the chain of hashes is broken. Up to
   * {@linkcode MISSING_MOST} records in a row are looked beyond, and a link as far as its chunk reaches.
   *
   * @returns false if there is none; the reader is where it was
   */
  async skip(): Promise<boolean> {
    const place = await this.#behind();
    if (place === undefined) return false;
    if (place.chunk !== this.#place.chunk) this.chunks.push({ ...place.chunk, first: place.commit });
    this.#place = place;
    this.#ahead = undefined;
    return true;
  }

  /** Where the next record is that verifies by itself, behind one that does not. */
  async #behind(): Promise<Place | undefined> {
    const { chunk, next, commit } = this.#place;
    const here = await this.#seek(chunk, next, commit + 1);
    if (here) return here;
    const linked = await this.#link(chunk, commit, commit + Math.floor(chunk.count / 2) + 1);
    // The missing record itself may be there in part.
    return linked && await this.#seek(linked, linked.position, Math.max(linked.first, commit + 1));
  }

  /** Looks for a record's beginning from `from` to the end of a chunk, of `least` or one of the commits after it. */
  async #seek(chunk: Run, from: Position, least: CommitNumber): Promise<Place | undefined> {
    const count = chunk.position + chunk.count - 1 - from, plain = new Uint8Array(BLOCK);
    if (count <= 0) return undefined;
    const sealed = await this.#store.read(from, count);
    for (let i = 0; i < count; i++) {
      const block = sealed.subarray(i * SEALED, (i + 1) * SEALED);
      for (let commit = least; commit < least + MISSING_MOST; commit++) {
        if (!await this.#unseal(from + i, commit, block, plain)) continue;
        if (!isRecord(plain, commit, this.#session.id)) continue;
        return { chunk, next: from + i, commit, hash: undefined };
      }
    }
    return undefined;
  }

  /** Reads a chunk's link to the next one, if that begins with the record `least` or a later one up to `most`. */
  async #link(chunk: Run, least: CommitNumber, most = least): Promise<Chunk | undefined> {
    const position = chunk.position + chunk.count - 1, sealed = await this.#store.read(position, 1);
    const plain = new Uint8Array(BLOCK), view = new DataView(plain.buffer);
    for (let first = least; first <= most; first++) {
      if (!await this.#unseal(position, first, sealed, plain)) continue;
      if (view.getBigUint64(0, true) !== LINK_MAGIC || getU64(view, 8) !== first) continue;
      return { position: getU64(view, 16), count: view.getUint32(24, true), first };
    }
    return undefined;
  }

  /** @returns false where the block does not verify */
  async #unseal(
    position: Position,
    birth: CommitNumber,
    sealed: Uint8Array,
    plain: Uint8Array,
  ): Promise<boolean> {
    try {
      await this.#sealer.unseal(identity(this.#session, position, birth), sealed, plain);
      return true;
    } catch (error) {
      if (error instanceof IntegrityError) return false;
      throw error;
    }
  }

  #openRecord(position: Position, count: number, birth: CommitNumber): Promise<Uint8Array | undefined> {
    return this.#open(identity(this.#session, position, birth), count);
  }

  /** @returns undefined where the blocks do not verify */
  async #open(run: RunIdentity, count: number): Promise<Uint8Array | undefined> {
    const plain = new Uint8Array(count * BLOCK);
    try {
      await readSealed(this.#store, this.#sealer, run, plain);
    } catch (error) {
      if (error instanceof IntegrityError) return undefined;
      throw error;
    }
    return plain;
  }
}

function isRecord(plain: Uint8Array, commit: CommitNumber, session: Uint8Array): boolean {
  const view = new DataView(plain.buffer);
  return view.getBigUint64(0, true) === RECORD_MAGIC && getU64(view, 24) === commit &&
    equalConstantTime(plain.subarray(8, 24), session);
}
