/** Repairing of a container: from what is damaged the best state that can be had, through the same commits as ever. */
import type { BlockStore } from "./block/store.ts";
import { Container } from "./container.ts";
import { checkContainer, type CheckedContainer, type Finding, type FsckOptions } from "./fsck.ts";
import {
  type ContainerKeys,
  type DurablePoint,
  type HistoryCheck,
  loadState,
  metadataRuns,
} from "./loading.ts";
import { type Mended, Mending } from "./mending.ts";
import { mendInodes, mendNames } from "./repair_names.ts";
import { mendOverlaps, mendOwners, removeDamaged, zeroDamaged } from "./repair_space.ts";

/** What is to become of data that does not verify: it stays as it is, reads as zeros, or goes with its files. */
export type DamagedData = "keep" | "zero" | "remove";

/** How to repair. */
export interface RepairOptions extends FsckOptions {
  /** The writer session's id, 16 random bytes that the store was told of. */
  readonly session: Uint8Array;
  /** Default, `keep`. Only what a check with `scrub` finds is dealt with. */
  readonly damaged?: DamagedData | undefined;
  /** As of `Container.open`. */
  readonly check?: HistoryCheck | undefined;
}

/** What repairing found, did and left. */
export interface RepairReport {
  readonly before: CheckedContainer;
  /** What was done, in order. */
  readonly mended: readonly Mended[];
  /** The check afterwards; the same as before where nothing was to be done. */
  readonly after: CheckedContainer;
  /** The newest commit afterwards, to be remembered against rollback. */
  readonly durable: DurablePoint | undefined;
}

/**
 * Checks a container and mends what can be mended. Nothing is believed that does not verify, and data is given up only
 * as `damaged` says. It may be interrupted at any moment and begun anew: every state in between is a commit. In the
 * end a checkpoint is written, so that nothing damaged is needed any more.
 *
 * @throws {CoverError} as `checkContainer` and `Container.open`
 * @throws {FsError} ENOSPC if there is no room for the repair
 */
export async function repairContainer(
  store: BlockStore,
  keys: ContainerKeys,
  options: RepairOptions,
): Promise<RepairReport> {
  const { session, check, damaged = "keep" } = options;
  const before = await checkContainer(store, keys, options);
  const due = ({ remedy }: Finding) => remedy === "repair" || (remedy === "discard" && damaged !== "keep");
  if (!before.findings.some(due)) return { before, mended: [], after: before, durable: undefined };
  const loaded = await loadState(store, keys), { sessions } = loaded;
  const used = { sessions, metadata: await metadataRuns(store, keys, loaded) };
  const container = await Container.open(store, keys, { mode: "write", session, repair: true, check });
  const mending = new Mending(container);
  await mendInodes(mending);
  await mendOwners(mending);
  await mendOverlaps(mending, used);
  await mendNames(mending);
  // What is moved or cut by now is not where the findings say: they count for what is the same file still.
  const unreadable = before.findings.filter(({ remedy }) => remedy === "discard");
  if (damaged === "zero") await zeroDamaged(mending, unreadable);
  if (damaged === "remove") await removeDamaged(mending, unreadable);
  await mending.commit();
  await container.session.checkpoint({
    sizeOf: (ino) => container.tables.inodes.size[ino]!,
    commit: () => Promise.resolve(),
    pause: () => Promise.resolve(),
  });
  await container.session.end();
  const mended = [...aboutStorage(before.findings), ...mending.done];
  const after = await checkContainer(store, keys, options);
  return { before, mended, after, durable: container.durable };
}

/** What opening to write, and the new checkpoint, have done. */
function aboutStorage(findings: readonly Finding[]): Mended[] {
  const what: Readonly<Record<string, string>> = {
    superblock: "both superblocks are written anew",
    checkpoint: "a new checkpoint is written, and the whole one is kept as the previous",
    journal: "the damaged commit and those behind it are given up",
  };
  const codes = new Set(findings.filter(({ remedy }) => remedy === "repair").map(({ code }) => code));
  return [...codes].flatMap((code) => what[code] ? [{ code, message: what[code] }] : []);
}
