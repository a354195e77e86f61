/** The superblock: where everything begins. Byte table: docs/format.md, "Superblock". */
import { BLOCK } from "../../crypto/sealer.ts";
import type { CommitNumber, Position } from "../types.ts";
import { DecodeError, getU64, setU64 } from "./bytes.ts";

const MAGIC = 0x5245_5055_5353_4643n; // "CFSSUPER"
const VERSION = 2;
const POINTER = 128, SESSION = 64, SESSIONS_AT = 320;
/** How many runs an index may lie in. */
export const INDEX_RUNS_MAX = 4;
/** How many sessions fit. */
export const SESSIONS_MAX = 56;

/** A run of consecutive blocks. */
export interface Run {
  readonly position: Position;
  readonly count: number;
}

/** Where a checkpoint's index (the basic layout table) lies, and what its blocks are sealed as. */
export interface CheckpointPointer {
  readonly session: Uint8Array;
  readonly generation: number;
  /** The checkpoint and the records from `start` + 1 on give the whole state. */
  readonly start: CommitNumber;
  readonly birth: CommitNumber;
  /** Bytes of the index. */
  readonly length: number;
  readonly runs: readonly Run[];
}

/** One writer session with its piece of the journal. */
export interface SessionEntry {
  /** Random, 16 bytes. */
  readonly id: Uint8Array;
  readonly generation: number;
  /** The first commit number that this session may have used. */
  readonly first: CommitNumber;
  /** The last commit; undefined while the session is open. Less than `first`: it committed nothing. */
  readonly last: CommitNumber | undefined;
  /** The first chunk of the journal that is still needed, its size, and the number of its first record. */
  readonly head: Position;
  readonly headBlocks: number;
  readonly headCommit: CommitNumber;
}

/** All that the superblock says. */
export interface Superblock {
  readonly containerId: Uint8Array;
  /** Counts the switches. */
  readonly sequence: number;
  /** Sequence of the newest encryption block; a lower one is an old header played back. */
  readonly keySequence: number;
  readonly clean: boolean;
  readonly current: CheckpointPointer;
  /** Undefined for a container that has had one checkpoint only. */
  readonly previous: CheckpointPointer | undefined;
  /** Oldest first; the last one is the newest. */
  readonly sessions: readonly SessionEntry[];
}

function putPointer(view: DataView, bytes: Uint8Array, at: number, pointer: CheckpointPointer): void {
  bytes.set(pointer.session, at);
  view.setUint32(at + 16, pointer.generation, true);
  view.setUint32(at + 20, pointer.runs.length, true);
  setU64(view, at + 24, pointer.start);
  setU64(view, at + 32, pointer.birth);
  setU64(view, at + 40, pointer.length);
  pointer.runs.forEach((run, i) => {
    setU64(view, at + 48 + 16 * i, run.position);
    setU64(view, at + 56 + 16 * i, run.count);
  });
}

function getPointer(view: DataView, bytes: Uint8Array, at: number): CheckpointPointer | undefined {
  const count = view.getUint32(at + 20, true);
  if (count === 0) return undefined;
  if (count > INDEX_RUNS_MAX) throw new DecodeError("Superblock: too many runs");
  const length = getU64(view, at + 40);
  const runs: Run[] = [];
  let blocks = 0;
  for (let i = 0; i < count; i++) {
    const run = { position: getU64(view, at + 48 + 16 * i), count: getU64(view, at + 56 + 16 * i) };
    blocks += run.count;
    runs.push(run);
  }
  if (blocks > 1 << 16 || length > blocks * BLOCK) throw new DecodeError("Superblock: index too large");
  return {
    session: bytes.slice(at, at + 16),
    generation: view.getUint32(at + 16, true),
    start: getU64(view, at + 24),
    birth: getU64(view, at + 32),
    length,
    runs,
  };
}

/** Encodes a superblock into one block of plaintext. */
export function encodeSuperblock(superblock: Superblock): Uint8Array {
  if (superblock.sessions.length > SESSIONS_MAX) throw new RangeError("Too many sessions");
  const bytes = new Uint8Array(BLOCK), view = new DataView(bytes.buffer);
  view.setBigUint64(0, MAGIC, true);
  view.setUint16(8, VERSION, true);
  view.setUint16(10, superblock.clean ? 1 : 0, true);
  view.setUint32(12, superblock.sessions.length, true);
  bytes.set(superblock.containerId, 16);
  setU64(view, 32, superblock.sequence);
  setU64(view, 40, superblock.keySequence);
  putPointer(view, bytes, 64, superblock.current);
  if (superblock.previous) putPointer(view, bytes, 64 + POINTER, superblock.previous);
  superblock.sessions.forEach((session, i) => {
    const at = SESSIONS_AT + SESSION * i;
    bytes.set(session.id, at);
    view.setUint32(at + 16, session.generation, true);
    view.setUint32(at + 20, session.last === undefined ? 1 : 0, true);
    setU64(view, at + 24, session.first);
    setU64(view, at + 32, session.last ?? 0);
    setU64(view, at + 40, session.head);
    setU64(view, at + 48, session.headCommit);
    view.setUint32(at + 56, session.headBlocks, true);
  });
  return bytes;
}

/** Decodes a superblock that was authenticated. @throws {DecodeError} */
export function decodeSuperblock(bytes: Uint8Array): Superblock {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getBigUint64(0, true) !== MAGIC) throw new DecodeError("Superblock: wrong magic");
  if (view.getUint16(8, true) !== VERSION) throw new DecodeError("Superblock: unknown version");
  const count = view.getUint32(12, true);
  if (count > SESSIONS_MAX) throw new DecodeError("Superblock: too many sessions");
  const current = getPointer(view, bytes, 64);
  if (current === undefined) throw new DecodeError("Superblock: no checkpoint");
  const sessions: SessionEntry[] = [];
  for (let i = 0; i < count; i++) {
    const at = SESSIONS_AT + SESSION * i;
    sessions.push({
      id: bytes.slice(at, at + 16),
      generation: view.getUint32(at + 16, true),
      first: getU64(view, at + 24),
      last: view.getUint32(at + 20, true) & 1 ? undefined : getU64(view, at + 32),
      head: getU64(view, at + 40),
      headCommit: getU64(view, at + 48),
      headBlocks: view.getUint32(at + 56, true),
    });
  }
  return {
    containerId: bytes.slice(16, 32),
    sequence: getU64(view, 32),
    keySequence: getU64(view, 40),
    clean: (view.getUint16(10, true) & 1) !== 0,
    current,
    previous: getPointer(view, bytes, 64 + POINTER),
    sessions,
  };
}
