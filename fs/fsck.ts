/** Checking of a container: what is damaged, what that means, whether anything is lost by it, and what mends it. */
import { IntegrityError } from "../crypto/errors.ts";
import { BLOCK, SEALED } from "../crypto/sealer.ts";
import type { BlockStore } from "./block/store.ts";
import { breathe } from "./clock.ts";
import { checkNames, hasType } from "./fsck_names.ts";
import { DecodeError } from "./layout/bytes.ts";
import { blocksFor } from "./layout/extent_tree.ts";
import { FreeSpace } from "./layout/free_space.ts";
import type { Run } from "./layout/superblock.ts";
import type { Tables } from "./layout/tables.ts";
import {
  type ContainerKeys,
  dataIdentity,
  type DurablePoint,
  type Loaded,
  loadFrom,
  loadState,
  metadataRuns,
} from "./loading.ts";
import { lostCommits } from "./lost_commits.ts";
import { Paths } from "./paths.ts";
import { type CommitNumber, type Ino, inodeNumber, type Position, S_IFMT, S_IFREG } from "./types.ts";

/**
 * How bad a finding is. `note`: as it may be, nothing is needed. `degraded`: a copy is lost that nothing depends on as
 * long as the other one is whole. `damage`: something is lost or wrong.
 */
export type Severity = "note" | "degraded" | "damage";

/**
 * What mends a finding. `none`: nothing has to be. `repair`: repairing does, and what could be read before can be read
 * after it. `discard`: only giving the damaged data up does, which is done on request alone.
 */
export type Remedy = "none" | "repair" | "discard";

/** One thing that fsck found. */
export interface Finding {
  readonly severity: Severity;
  readonly remedy: Remedy;
  /** What kind: stable words for programs (docs/reliability.md, "Repair"). */
  readonly code: string;
  readonly message: string;
  /** The file that it concerns, if any, with the damaged bytes. */
  readonly ino?: Ino;
  readonly path?: Uint8Array;
  readonly from?: number;
  readonly to?: number;
  /** Of lost commits: paths that they named, the first thousand. */
  readonly names?: readonly Uint8Array[];
}

/** What fsck is to do. */
export interface FsckOptions {
  /** Verify every data block too. */
  readonly scrub?: boolean | undefined;
  /** Told of progress: blocks verified of all. What it throws ends the check. */
  readonly onProgress?: ((done: number, all: number) => void) | undefined;
}

/** What fsck counted. */
export interface FsckReport {
  readonly findings: Finding[];
  readonly commit: number;
  readonly files: number;
  readonly dataBlocks: number;
  readonly verifiedBlocks: number;
}

/** A report with what only programs need. */
export interface CheckedContainer extends FsckReport {
  /** Commits that are known to have been, though the journal's damage has taken them: no rollback. */
  readonly lost: readonly DurablePoint[];
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
): Promise<CheckedContainer> {
  const findings: Finding[] = [];
  const loaded = await loadState(store, keys), paths = new Paths(loaded.tables);
  checkHeaders(loaded, findings);
  const lost = await checkJournal(store, keys, loaded, findings);
  await checkPrevious(store, keys, loaded, findings);
  findings.push(...checkNames(loaded.tables, paths));
  const size = await store.size();
  const metadata = await metadataRuns(store, keys, loaded);
  checkSpace(loaded, findings, { size, paths, metadata });
  const counts = await scrub(store, keys, loaded, { ...options, findings, size, paths });
  const { commit, files } = { commit: loaded.last, files: loaded.tables.inodes.count };
  return { findings, commit, files, ...counts, lost };
}

function checkHeaders({ notes, found }: Loaded, findings: Finding[]): void {
  notes.slots.forEach((state, copy) => {
    if (state === "valid") return;
    const message = `Superblock ${"AB"[copy]} is ${state}; the other one serves`;
    const older = { severity: "note", remedy: "none" } as const;
    const damaged = { severity: "degraded", remedy: "repair" } as const;
    findings.push({ ...(state === "older" ? older : damaged), code: "superblock", message });
  });
  const other = notes.journalDamage === undefined
    ? "the other one and the journal give the same state"
    : "the other one serves";
  for (const pointer of notes.checkpointsDamaged) {
    const which = pointer === found.superblock.current ? "newest" : "previous";
    findings.push({
      severity: "degraded",
      remedy: "repair",
      code: "checkpoint",
      message: `The ${which} checkpoint is damaged; ${other}`,
    });
  }
}

/** What the journal lacks, and what is known of that. */
async function checkJournal(
  store: BlockStore,
  keys: ContainerKeys,
  loaded: Loaded,
  findings: Finding[],
): Promise<readonly DurablePoint[]> {
  if (loaded.notes.journalDamage === undefined) return [];
  const { first, last, readable, names, points } = await lostCommits(store, keys, loaded);
  const which = first === last ? `commit ${first} is lost` : `commits ${first} to ${last} are lost`;
  const none = first === last ? "it cannot be read" : "none of them can be read";
  const rest = readable.length === 0 ? none : `${rangesOf(readable)} can still be read`;
  findings.push({
    severity: "damage",
    remedy: "repair",
    code: "journal",
    message: `The journal is damaged: ${which}, ${rest}; the state is that of commit ${loaded.last}`,
    names,
  });
  return points;
}

/** Numbers in order, as `3, 5 to 9`. */
function rangesOf(numbers: readonly number[]): string {
  const ranges: [from: number, to: number][] = [];
  for (const number of numbers) {
    const last = ranges[ranges.length - 1];
    if (last && last[1] + 1 === number) last[1] = number;
    else ranges.push([number, number]);
  }
  return ranges.map(([from, to]) => from === to ? `${from}` : `${from} to ${to}`).join(", ");
}

/** The checkpoint that did not have to serve must be whole too, and lead to the same commit. */
async function checkPrevious(
  store: BlockStore,
  keys: ContainerKeys,
  { found, pointer, last }: Loaded,
  findings: Finding[],
): Promise<void> {
  const { previous, current } = found.superblock;
  if (previous === undefined || pointer !== current) return;
  const report = (message: string) =>
    findings.push({ severity: "degraded", remedy: "repair", code: "checkpoint", message });
  try {
    const notes = { checkpointsDamaged: [], slots: found.slots, journalDamage: undefined };
    const other = await loadFrom(store, keys, { found, pointer: previous, notes });
    if (other.last < last) {
      report(
        `The journal before the newest checkpoint is damaged at commit ${other.last + 1}; it is not needed`,
      );
    }
  } catch (error) {
    if (!(error instanceof IntegrityError || error instanceof DecodeError)) throw error;
    report("The previous checkpoint is damaged; the newest one is whole");
  }
}

/** What checks of data have besides the container. */
interface DataCheck {
  /** Blocks of the store. */
  readonly size: number;
  readonly paths: Paths;
}

/** No block belongs to two, none lies outside, and only regular files have data. */
function checkSpace(
  loaded: Loaded,
  findings: Finding[],
  { size, paths, metadata }: DataCheck & { readonly metadata: readonly Run[] },
): void {
  const { tables } = loaded, { inodes, extents } = tables;
  const damage = (finding: Omit<Finding, "severity" | "code">) =>
    findings.push({ severity: "damage", code: "extent", ...finding });
  for (const { position, count } of overlapsOf(tables, metadata, size)) {
    findings.push({
      severity: "damage",
      remedy: "repair",
      code: "overlap",
      message: `Blocks ${position} to ${position + count - 1} are used twice`,
    });
  }
  for (let ino = extents.nextFile(0); ino < extents.end; ino = extents.nextFile(ino + 1)) {
    if (inodes.has(ino) && !hasType(inodes.mode[ino]!)) continue; // told with the names
    if (!isRegular(loaded, ino)) {
      const what = inodes.has(ino) ? "is not a regular file" : "is not there";
      damage({ remedy: "repair", message: `Inode ${inodeNumber(ino)}: it has data, but ${what}`, ino });
      continue;
    }
    const end = inodes.size[ino]!;
    let past = false;
    extents.each(ino, (offset, length, position) => {
      past ||= offset + length > end;
      const inside = Math.max(0, size - position), from = offset + inside * BLOCK;
      if (inside >= blocksFor(length)) return;
      const message = `Inode ${inodeNumber(ino)}: bytes ${from} to ${
        offset + length - 1
      } lie behind the container's end`;
      damage({ remedy: "discard", message, ino, path: paths.of(ino), from, to: offset + length });
    });
    if (!past) continue;
    const message = `Inode ${inodeNumber(ino)}: data lies past its size of ${end} bytes`;
    damage({ remedy: "repair", message, ino, path: paths.of(ino) });
  }
}

function isRegular({ tables: { inodes } }: Loaded, ino: Ino): boolean {
  return inodes.has(ino) && (inodes.mode[ino]! & S_IFMT) === S_IFREG;
}

/** The blocks inside a store of `size` blocks that more than one thing uses, in order. */
export function overlapsOf(tables: Tables, metadata: readonly Run[], size: number): Run[] {
  function* all() {
    for (const runs of [metadata, tables.usedRuns()]) {
      for (const { position, count } of runs) {
        if (position < size) yield { position, count: Math.min(count, size - position) };
      }
    }
  }
  return new FreeSpace().build(all());
}

/** Verifies data blocks, in the order in which they lie in the files. */
async function scrub(
  store: BlockStore,
  keys: ContainerKeys,
  loaded: Loaded,
  options: FsckOptions & DataCheck & { readonly findings: Finding[] },
): Promise<{ dataBlocks: number; verifiedBlocks: number }> {
  const { extents } = loaded.tables, { findings, size, paths } = options;
  let dataBlocks = 0, verifiedBlocks = 0;
  for (let ino = 0; ino < extents.end; ino++) dataBlocks += extents.blocksOf(ino);
  if (!options.scrub) return { dataBlocks, verifiedBlocks };
  for (let ino = extents.nextFile(0); ino < extents.end; ino = extents.nextFile(ino + 1)) {
    const runs: { offset: number; length: number; position: Position; birth: number }[] = [];
    extents.each(ino, (offset, length, position, birth) => {
      runs.push({ offset, length, position, birth });
    });
    for (const { offset, length, position, birth } of runs) {
      const blocks = Math.min(blocksFor(length), Math.max(0, size - position));
      for (let at = 0; at < blocks; at += SCRUB_RUN) {
        const count = Math.min(SCRUB_RUN, blocks - at);
        for (const bad of await badBlocks(store, keys, loaded, { position: position + at, birth, count })) {
          const from = offset + (at + bad) * BLOCK, to = Math.min(from + BLOCK, offset + length);
          report(findings, { ino, from, to, path: paths.of(ino) });
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
function report(findings: Finding[], range: { ino: Ino; from: number; to: number; path: Uint8Array }): void {
  const { ino } = range, last = findings[findings.length - 1];
  const joined = last?.code === "data" && last.ino === ino && last.to === range.from;
  const from = joined ? last.from! : range.from;
  if (joined) findings.pop();
  const message = `Inode ${inodeNumber(ino)}: bytes ${from} to ${range.to - 1} do not verify`;
  findings.push({ severity: "damage", remedy: "discard", code: "data", message, ...range, from });
}

/** Which blocks of a run of data do not verify, by their place in the run. */
export async function badBlocks(
  store: Pick<BlockStore, "read">,
  keys: ContainerKeys,
  { sessions }: Pick<Loaded, "sessions">,
  run: { readonly position: Position; readonly birth: CommitNumber; readonly count: number },
): Promise<readonly number[]> {
  const { position, birth, count } = run, sealed = await store.read(position, count);
  const all = Array.from({ length: count }, (_, i) => i);
  try {
    const identity = dataIdentity(sessions, position, birth);
    await keys.sealer.unseal(identity, sealed.subarray(0, count * SEALED), new Uint8Array(count * BLOCK));
    return [];
  } catch (error) {
    if (!(error instanceof IntegrityError)) throw error;
    return error.blocks.length > 0 ? error.blocks : all;
  }
}
