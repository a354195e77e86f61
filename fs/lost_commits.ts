/** What a damaged journal has lost: commits behind the damage, as far as their records still verify by themselves. */
import type { BlockStore } from "./block/store.ts";
import { DecodeError } from "./layout/bytes.ts";
import { applyChanges } from "./layout/changes.ts";
import { JournalReader } from "./layout/journal.ts";
import { Tables } from "./layout/tables.ts";
import { chunkOf, type ContainerKeys, type DurablePoint, type Loaded } from "./loading.ts";
import { Paths } from "./paths.ts";
import { type CommitNumber, S_IFMT, S_IFREG } from "./types.ts";

/** Names of lost changes that are told. */
const NAMES_MOST = 1000;

/** The commits that the journal's damage has taken. */
export interface LostCommits {
  readonly first: CommitNumber;
  /** The last one that is known to have been. */
  readonly last: CommitNumber;
  /** Those whose records verify by themselves, in order; that they follow each other is not known. */
  readonly readable: readonly CommitNumber[];
  /** Paths of files and directories that these made, moved or changed; the first thousand. */
  readonly names: readonly Uint8Array[];
  /** The newest lost commit of each session. */
  readonly points: readonly DurablePoint[];
}

/** Reads what is left behind the place where the journal of a loaded state is damaged. */
export async function lostCommits(
  store: BlockStore,
  keys: ContainerKeys,
  loaded: Loaded,
): Promise<LostCommits> {
  const readable: CommitNumber[] = [], points: DurablePoint[] = [], changed = new Tables();
  const first = loaded.last + 1;
  let last = first;
  const broken = loaded.broken ?? loaded.tail;
  for (const entry of loaded.found.superblock.sessions) {
    if (entry.last !== undefined && (entry.last < entry.first || entry.last < first)) continue;
    const mine = broken !== undefined && entry.first <= first && (entry.last ?? first) >= first;
    const reader = mine ? broken : new JournalReader(store, keys.sealer, {
      session: entry,
      chunk: chunkOf(entry),
      commit: entry.headCommit,
      hash: undefined,
    });
    let newest = entry.last ?? 0;
    for (;;) {
      const record = await reader.next();
      if (record === undefined) {
        if (!await reader.skip()) break;
        continue;
      }
      if (entry.last !== undefined && record.commit > entry.last) break;
      readable.push(record.commit);
      newest = Math.max(newest, record.commit);
      try {
        applyChanges(record.payload, changed);
      } catch (error) {
        if (!(error instanceof DecodeError)) throw error;
      }
    }
    last = Math.max(last, newest);
    if (newest >= first) points.push({ session: entry.id, commit: newest });
  }
  return { first, last, readable, names: namesIn(changed, loaded.tables), points };
}

/** What the changes name: new entries, and files that were changed under the names that they had. */
function namesIn(changed: Tables, known: Tables): Uint8Array[] {
  const names: Uint8Array[] = [], named = new Set<number>(), paths = new Paths(known, changed);
  const { dentries, inodes } = changed;
  for (let slot = 0; slot < dentries.end && names.length < NAMES_MOST; slot++) {
    if (!dentries.live(slot)) continue;
    names.push(paths.entry(dentries.parentAt(slot), dentries.nameAt(slot)));
    named.add(dentries.inoAt(slot));
  }
  for (let ino = 0; ino < inodes.end && names.length < NAMES_MOST; ino++) {
    const regular = inodes.has(ino) && (inodes.mode[ino]! & S_IFMT) === S_IFREG;
    if (!regular || named.has(ino)) continue;
    const path = paths.of(ino);
    if (path.length > 0) names.push(path);
  }
  return names;
}
