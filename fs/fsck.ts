/** Checking of a container: what is damaged, what that means, and whether anything is lost by it. */
import { IntegrityError } from "../crypto/errors.ts";
import { BLOCK } from "../crypto/sealer.ts";
import type { BlockStore } from "./block/store.ts";
import { breathe } from "./clock.ts";
import { DecodeError } from "./layout/bytes.ts";
import { isDirectory } from "./layout/changes.ts";
import { loadCheckpoint } from "./layout/checkpoint.ts";
import { FreeSpace } from "./layout/free_space.ts";
import { Tables } from "./layout/tables.ts";
import { type ContainerKeys, dataIdentity, type Loaded, loadState, usedRuns } from "./loading.ts";
import { type CommitNumber, type Ino, type Position, ROOT, S_IFMT, S_IFREG } from "./types.ts";

/** How bad a finding is: `note` needs nothing, `fixable` costs nothing to mend, `damage` has lost something. */
export type Severity = "note" | "fixable" | "damage";

/** One thing that fsck found. */
export interface Finding {
  readonly severity: Severity;
  /** What kind: stable words for programs. */
  readonly code: string;
  readonly message: string;
  /** The file that it concerns, if any, with the damaged bytes. */
  readonly ino?: Ino;
  readonly path?: Uint8Array;
  readonly from?: number;
  readonly to?: number;
}

/** What fsck is to do. */
export interface FsckOptions {
  /** Verify every data block too. */
  readonly scrub?: boolean;
  /** Told of progress: blocks verified of all. */
  readonly onProgress?: (done: number, all: number) => void;
}

/** What fsck counted. */
export interface FsckReport {
  readonly findings: Finding[];
  readonly commit: number;
  readonly files: number;
  readonly dataBlocks: number;
  readonly verifiedBlocks: number;
}

/** How many blocks are verified at once. */
const SCRUB_RUN = 256;

/**
 * Checks a container without changing it. The encryption block is the caller's: it was needed to get the keys.
 *
 * @throws {CoverError} if nothing can be loaded at all
 */
export async function checkContainer(
  store: BlockStore,
  keys: ContainerKeys,
  options: FsckOptions = {},
): Promise<FsckReport> {
  const findings: Finding[] = [];
  const loaded = await loadState(store, keys);
  checkHeaders(loaded, findings);
  if (loaded.notes.journalDamage === undefined && await loaded.tail?.damaged()) {
    loaded.notes.journalDamage = `The journal is damaged: commit ${loaded.last + 1} and later are lost`;
  }
  if (loaded.notes.journalDamage !== undefined) {
    findings.push({ severity: "damage", code: "journal", message: loaded.notes.journalDamage });
  }
  await checkPrevious(store, keys, loaded, findings);
  checkInodes(loaded, findings);
  checkSpace(loaded, findings, await store.size());
  const counts = await scrub(store, keys, loaded, options, findings);
  return { findings, commit: loaded.last, files: loaded.tables.inodes.count, ...counts };
}

function checkHeaders({ notes, found }: Loaded, findings: Finding[]): void {
  notes.slots.forEach((state, copy) => {
    if (state === "valid") return;
    const message = `Superblock ${"AB"[copy]} is ${state}; the other one serves`;
    findings.push({ severity: state === "older" ? "note" : "fixable", code: "superblock", message });
  });
  for (const pointer of notes.checkpointsDamaged) {
    const which = pointer === found.superblock.current ? "newest" : "previous";
    findings.push({
      severity: "fixable",
      code: "checkpoint",
      message: `The ${which} checkpoint is damaged; the other one and the journal give the same state`,
    });
  }
}

/** The checkpoint that did not have to serve must be whole too. */
async function checkPrevious(
  store: BlockStore,
  keys: ContainerKeys,
  loaded: Loaded,
  findings: Finding[],
): Promise<void> {
  const { previous, current } = loaded.found.superblock;
  if (previous === undefined || loaded.pointer !== current) return;
  try {
    await loadCheckpoint(store, keys.sealer, previous, new Tables());
  } catch (error) {
    if (!(error instanceof IntegrityError || error instanceof DecodeError)) throw error;
    findings.push({
      severity: "fixable",
      code: "checkpoint",
      message: "The previous checkpoint is damaged; the newest one is whole",
    });
  }
}

/** Entries, link counts, and that every inode is reached. */
function checkInodes({ tables }: Loaded, findings: Finding[]): void {
  const { inodes, dentries } = tables;
  const names = new Uint32Array(inodes.end), folders = new Uint32Array(inodes.end);
  const report = (code: string, ino: Ino, message: string) =>
    findings.push({ severity: "damage", code, message: `Inode ${ino}: ${message}`, ino });
  if (!inodes.has(ROOT) || !isDirectory(inodes.mode[ROOT]!)) {
    report("root", ROOT, "the root is not a directory");
  }
  for (let slot = 0; slot < dentries.end; slot++) {
    if (!dentries.live(slot)) continue;
    const parent = dentries.parentAt(slot), ino = dentries.inoAt(slot);
    if (!inodes.has(parent) || !isDirectory(inodes.mode[parent]!)) {
      report("entry", ino, `an entry lies in inode ${parent}, which is not a directory`);
    }
    if (!inodes.has(ino)) {
      report("entry", ino, `an entry of directory ${parent} names it, but it is not there`);
    } else {
      names[ino]!++;
      if (isDirectory(inodes.mode[ino]!)) folders[parent]!++;
    }
  }
  for (let ino = 0; ino < inodes.end; ino++) {
    if (!inodes.has(ino)) continue;
    const folder = isDirectory(inodes.mode[ino]!), nlink = inodes.nlink[ino]!;
    if (nlink === 0) {
      if (names[ino]! > 0) report("links", ino, `it has no links, but ${names[ino]} names`);
      continue; // open and unlinked when the writer went away: removed at the next opening to write
    }
    if (ino !== ROOT && names[ino] === 0) report("orphan", ino, "no directory names it");
    if (folder && ino !== ROOT && names[ino]! > 1) report("links", ino, "a directory has more than one name");
    const expected = folder ? 2 + folders[ino]! : names[ino]!;
    if (nlink !== expected) report("links", ino, `link count is ${nlink}, expected ${expected}`);
    if (folder && !reachesRoot(tables, ino)) report("cycle", ino, "the directory is not below the root");
  }
}

function reachesRoot({ inodes, dentries }: Loaded["tables"], ino: Ino): boolean {
  for (let steps = 0, at = ino; steps <= inodes.count; steps++) {
    if (at === ROOT) return true;
    const slot = dentries.directoryEntryOf(at);
    if (slot < 0) return false;
    at = dentries.parentAt(slot);
  }
  return false;
}

/** No block belongs to two, none lies outside, and only regular files have data. */
function checkSpace(loaded: Loaded, findings: Finding[], size: number): void {
  const { tables } = loaded, { inodes, extents } = tables;
  function* all() {
    yield* usedRuns(loaded);
    yield* tables.usedRuns();
  }
  for (const overlap of new FreeSpace().build(all())) {
    findings.push({
      severity: "damage",
      code: "overlap",
      message: `Blocks ${overlap.position} to ${overlap.position + overlap.count - 1} are used twice`,
    });
  }
  for (let ino = 0; ino < inodes.end; ino++) {
    if (extents.countOf(ino) === 0) continue;
    const regular = inodes.has(ino) && (inodes.mode[ino]! & S_IFMT) === S_IFREG;
    if (!regular) {
      const message = `Inode ${ino}: it has data, but is not a regular file`;
      findings.push({ severity: "damage", code: "extent", message, ino });
      continue;
    }
    extents.each(ino, (offset, length, position) => {
      const end = position + Math.ceil(length / BLOCK);
      const message = end > size
        ? `Inode ${ino}: its blocks ${position} to ${end - 1} lie past the end of the container`
        : offset + length > inodes.size[ino]!
        ? `Inode ${ino}: data at ${offset} lies past its size`
        : undefined;
      if (message) {
        findings.push({ severity: "damage", code: "extent", message, ino, path: pathOf(tables, ino) });
      }
    });
  }
}

/** Verifies data blocks, in the order in which they lie in the files. */
async function scrub(
  store: BlockStore,
  keys: ContainerKeys,
  loaded: Loaded,
  options: FsckOptions,
  findings: Finding[],
): Promise<{ dataBlocks: number; verifiedBlocks: number }> {
  const { inodes, extents } = loaded.tables;
  let dataBlocks = 0, verifiedBlocks = 0;
  for (let ino = 0; ino < inodes.end; ino++) dataBlocks += extents.blocksOf(ino);
  if (!options.scrub) return { dataBlocks, verifiedBlocks };
  for (let ino = 0; ino < inodes.end; ino++) {
    const runs: { offset: number; length: number; position: Position; birth: number }[] = [];
    extents.each(ino, (offset, length, position, birth) => {
      runs.push({ offset, length, position, birth });
    });
    for (const { offset, length, position, birth } of runs) {
      const blocks = Math.ceil(length / BLOCK);
      for (let at = 0; at < blocks; at += SCRUB_RUN) {
        const count = Math.min(SCRUB_RUN, blocks - at);
        for (const bad of await badBlocks(store, keys, loaded, { position: position + at, birth, count })) {
          const from = offset + (at + bad) * BLOCK, to = Math.min(from + BLOCK, offset + length);
          report(findings, loaded, ino, from, to);
        }
        verifiedBlocks += count;
        options.onProgress?.(verifiedBlocks, dataBlocks);
        await breathe();
      }
    }
  }
  return { dataBlocks, verifiedBlocks };
}

/** Names a damaged range; neighbours become one finding. */
function report(findings: Finding[], loaded: Loaded, ino: Ino, from: number, to: number): void {
  const last = findings[findings.length - 1];
  const joined = last?.code === "data" && last.ino === ino && last.to === from;
  const begin = joined ? last.from! : from;
  if (joined) findings.pop();
  findings.push({
    severity: "damage",
    code: "data",
    message: `Inode ${ino}: bytes ${begin} to ${to - 1} do not verify`,
    ino,
    path: pathOf(loaded.tables, ino),
    from: begin,
    to,
  });
}

/** Which blocks of a run do not verify. */
async function badBlocks(
  store: BlockStore,
  keys: ContainerKeys,
  loaded: Loaded,
  run: { position: Position; birth: CommitNumber; count: number },
): Promise<readonly number[]> {
  const { position, birth, count } = run, sealed = await store.read(position, count);
  try {
    const identity = dataIdentity(loaded.sessions, position, birth);
    await keys.sealer.unseal(identity, sealed, new Uint8Array(count * BLOCK));
    return [];
  } catch (error) {
    if (!(error instanceof IntegrityError)) throw error;
    return error.blocks.length > 0 ? error.blocks : Array.from({ length: count }, (_, i) => i);
  }
}

/** A path of an inode, by the first name that is found; for files this looks through all entries. */
export function pathOf({ inodes, dentries }: Loaded["tables"], ino: Ino): Uint8Array {
  const parts: Uint8Array[] = [];
  let slot = -1;
  if (inodes.has(ino) && isDirectory(inodes.mode[ino]!)) slot = dentries.directoryEntryOf(ino);
  else {
    for (let one = 0; one < dentries.end && slot < 0; one++) {
      if (dentries.live(one) && dentries.inoAt(one) === ino) slot = one;
    }
  }
  for (let steps = 0; slot >= 0 && steps < 4096; steps++) {
    parts.unshift(Uint8Array.of(0x2f), dentries.nameAt(slot));
    const parent = dentries.parentAt(slot);
    slot = parent === ROOT ? -1 : dentries.directoryEntryOf(parent);
  }
  const path = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) path.set(part, at), at += part.length;
  return path;
}
