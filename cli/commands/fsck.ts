import { Option } from "@commander-js/extra-typings";
import { equalConstantTime } from "../../crypto/bytes.ts";
import { CoverError } from "../../crypto/errors.ts";
import { OverlayStore } from "../../fs/block/overlay.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { Container } from "../../fs/container.ts";
import { checkContainer, type CheckedContainer, type Finding } from "../../fs/fsck.ts";
import { type History, readSuperblock } from "../../fs/loading.ts";
import type { Mended } from "../../fs/mending.ts";
import { type DamagedData, repairContainer, type RepairReport } from "../../fs/repair.ts";
import { type Ino, inodeNumber } from "../../fs/types.ts";
import { rolledBack, type UnlockedContainer, withOpened, writeEncryptionCopy } from "../container.ts";
import { FSCK_EXIT } from "../exit.ts";
import { interruptible } from "../interrupt.ts";
import { writingCommand } from "../options.ts";
import { escapeControls, humanSize, nameText, print, printJson } from "../output.ts";
import { Progress } from "../progress.ts";
import { Terminal } from "../terminal.ts";

/** Names of lost changes that the text shows. */
const NAMES_SHOWN = 20;

interface FsckCommandOptions {
  readonly scrub?: boolean | undefined;
  readonly repair?: true | undefined;
  readonly dryRun?: true | undefined;
  readonly zeroDamaged?: true | undefined;
  readonly removeDamaged?: true | undefined;
  readonly yes?: true | undefined;
  readonly json?: true | undefined;
  readonly quiet?: true | undefined;
  readonly acceptRollback?: true | undefined;
}

/** What was found and done, with the copies of the encryption block counted in. */
interface Outcome extends Pick<RepairReport, "before" | "mended" | "after"> {
  readonly durable?: RepairReport["durable"];
}

/** `coverfs fsck`: checks and repairs a container; its exit codes are those of fsck(8). */
export const fsckCommand = (setExitCode: (code: number) => void) =>
  writingCommand(
    "fsck",
    "coverfs fsck container\ncoverfs fsck --scrub --json container\ncoverfs fsck --repair --dry-run container\n" +
      "coverfs fsck --repair --zero-damaged -y container",
  )
    .description("check a container; repair it with --repair")
    .argument("[CONTAINER]", "the container; else -c or COVERFS_CONTAINER")
    .option("--scrub", "read and verify all data too")
    .option("--repair", "mend what can be mended without giving data up; asks before")
    .option("-n, --dry-run", "with --repair: show what would be done, and change nothing")
    .addOption(
      new Option(
        "--zero-damaged",
        "with --repair: let data that does not verify read as zeros (verifies all)",
      )
        .conflicts("removeDamaged"),
    )
    .option("--remove-damaged", "with --repair: remove files with data that does not verify (verifies all)")
    .option("-y, --yes", "with --repair: do not ask")
    .option("--json", "print one object")
    .option("-q, --quiet", "no progress")
    .action((argument, options) => {
      refuseAlone(options);
      const writing = options.repair && !options.dryRun;
      const open = ({ store, keys }: UnlockedContainer) => readSuperblock(store, keys);
      return interruptible((signal) =>
        withOpened(options, { mode: writing ? "write" : "read", argument, open }, async (unlocked) => {
          using progress = new Progress(options);
          const onProgress = (done: number, all: number) => {
            signal.throwIfAborted();
            progress.show(`verified ${done} of ${all} blocks`);
          };
          const checking = { scrub: scrubs(options), onProgress };
          const outcome = options.repair
            ? await repair(unlocked, { ...options, ...checking, progress })
            : await check(unlocked, { ...options, ...checking });
          progress.clear();
          setExitCode(exitCode(outcome, options.dryRun === true));
          tell(unlocked.name, outcome, options);
        })
      );
    });

function refuseAlone({ repair, dryRun, zeroDamaged, removeDamaged, yes }: FsckCommandOptions): void {
  if (repair) return;
  const given = Object.entries({
    "--dry-run": dryRun,
    "--zero-damaged": zeroDamaged,
    "--remove-damaged": removeDamaged,
    "--yes": yes,
  }).find(([, value]) => value);
  if (given) throw new CoverError("usage", `Cannot use ${given[0]} without --repair`);
}

/** What is to be done about damaged data cannot be done without looking for it. */
function scrubs({ scrub, zeroDamaged, removeDamaged }: FsckCommandOptions): boolean {
  return scrub === true || zeroDamaged === true || removeDamaged === true;
}

type Checking = { readonly scrub: boolean; readonly onProgress: (done: number, all: number) => void };

async function check(unlocked: UnlockedContainer, options: FsckCommandOptions & Checking): Promise<Outcome> {
  const { store, keys } = unlocked;
  const checked = withEncryption(unlocked, await checkContainer(store, keys, options));
  const durable = await refuseRollback(unlocked, checked, options);
  await unlocked.memory.remember(unlocked.name, keys.containerId, durable, { lower: options.acceptRollback });
  return { before: checked, mended: [], after: checked };
}

/** Commits that damage has taken are not rolled back: they are known to have been. */
async function refuseRollback(
  { store, keys, memory }: UnlockedContainer,
  { lost }: CheckedContainer,
  options: FsckCommandOptions,
) {
  const point = memory.point(keys.containerId);
  const container = await Container.open(store, keys, { mode: "read" });
  const known = !point || container.contains(point) ||
    lost.some((one) => equalConstantTime(one.session, point.session) && point.commit <= one.commit);
  if (!known && !options.acceptRollback) {
    throw rolledBack(container, point, "check");
  }
  return container.durable;
}

/** The check's findings and, before them, that of the encryption block. */
function withEncryption({ encryption }: UnlockedContainer, checked: CheckedContainer): CheckedContainer {
  const findings: Finding[] = [];
  if (encryption.other !== "same") {
    findings.push({
      severity: "degraded",
      remedy: "repair",
      code: "encryption-block",
      message: `Encryption block ${"BA"[encryption.copy]} is ${encryption.other}; the other one serves`,
    });
  }
  if (encryption.header.previousGeneration !== undefined) {
    findings.push({
      severity: "note",
      remedy: "none",
      code: "rekeying",
      message: "The master key is being changed, and the previous one is still kept: coverfs rekey goes on",
    });
  }
  return { ...checked, findings: [...findings, ...checked.findings] };
}

/** Tries it in memory first where somebody is to be asked, or nothing is to be changed. */
async function repair(
  unlocked: UnlockedContainer,
  options: FsckCommandOptions & Checking & { readonly progress: Progress },
): Promise<Outcome> {
  const { store, keys, memory, name } = unlocked;
  const damaged: DamagedData = options.zeroDamaged ? "zero" : options.removeDamaged ? "remove" : "keep";
  const how = { ...options, damaged, session: unlocked.session };
  let judged: CheckedContainer;
  if (options.dryRun || !options.yes) {
    const planned = await repairAll(unlocked, new OverlayStore(store), how);
    await refuseRollback(unlocked, planned.before, options);
    if (options.dryRun || planned.mended.length === 0) return planned;
    options.progress.clear();
    if (!await confirm(name, planned)) return { before: planned.before, mended: [], after: planned.before };
    judged = planned.before;
  } else {
    judged = await checkContainer(store, keys);
    await refuseRollback(unlocked, judged, options);
  }
  const check = ({ last }: History) => {
    if (last < judged.commit) throw new CoverError("rollback", "The container went back to an older state");
  };
  const done = await repairAll(unlocked, store, { ...how, check });
  if (done.durable) await memory.remember(name, keys.containerId, done.durable, { lower: true });
  return done;
}

/** Repairs the encryption block and the container in a store. */
async function repairAll(
  unlocked: UnlockedContainer,
  store: BlockStore,
  how: Parameters<typeof repairContainer>[2],
): Promise<Outcome> {
  const { encryption } = unlocked, mended: Mended[] = [];
  if (encryption.other !== "same") {
    const other = encryption.copy === 0 ? 1 : 0;
    await writeEncryptionCopy(store, other, encryption.header.bytes);
    mended.push({
      code: "encryption-block",
      message: `encryption block ${"AB"[other]} is written anew from the other one`,
    });
  }
  const done = await repairContainer(store, unlocked.keys, how);
  return { ...done, before: withEncryption(unlocked, done.before), mended: [...mended, ...done.mended] };
}

/** Shows what would be done and asks. @throws {CoverError} "usage" where there is no terminal */
async function confirm(name: string, { before, mended }: Outcome): Promise<boolean> {
  using terminal = Terminal.open();
  if (terminal === undefined) {
    throw new CoverError("usage", "Cannot ask whether to repair: there is no terminal", {
      hint: "Look at it with --dry-run, then use --yes",
    });
  }
  const lines = [...before.findings.map(describe), ...mended.map(({ message }) => `would do: ${message}`)];
  return await terminal.confirm(
    `${lines.map(escapeControls).join("\n")}\nRepair ${escapeControls(name)}?`,
  );
}

function exitCode({ mended, after }: Outcome, planned: boolean): number {
  const left = after.findings.some(({ severity }) => severity !== "note");
  if (left || (planned && mended.length > 0)) return FSCK_EXIT.uncorrected;
  return mended.length > 0 ? FSCK_EXIT.corrected : FSCK_EXIT.clean;
}

function tell(name: string, outcome: Outcome, options: FsckCommandOptions): void {
  const { before, mended, after } = outcome, left = after.findings;
  const clean = left.every(({ severity }) => severity === "note");
  if (options.json) {
    const { lost: _, findings, ...counts } = before;
    const repaired = options.repair &&
      {
        dryRun: options.dryRun === true,
        mended: mended.map(numbered),
        left: left.map(toJson),
        cleanAfter: clean,
      };
    const wasClean = findings.every(({ severity }) => severity === "note");
    return printJson({
      container: name,
      clean: wasClean,
      ...counts,
      findings: findings.map(toJson),
      ...repaired,
    });
  }
  for (const finding of before.findings) {
    print(describe(finding));
    for (const path of finding.names?.slice(0, NAMES_SHOWN) ?? []) {
      print(`  lost with it: ${escapeControls(nameText(path))}`);
    }
    const more = (finding.names?.length ?? 0) - NAMES_SHOWN;
    if (more > 0) print(`  and ${more} more: --json has them`);
  }
  for (const { message } of mended) print(`${options.dryRun ? "would do" : "done"}: ${message}`);
  if (mended.length > 0) { for (const finding of left) print(`left: ${describe(finding)}`); }
  const { files, dataBlocks, verifiedBlocks, commit } = after;
  const verified = scrubs(options)
    ? `${verifiedBlocks} of ${dataBlocks} data blocks verified`
    : "data not read";
  const state = mended.length === 0
    ? clean ? "clean" : "not clean"
    : `${options.dryRun ? "would be " : ""}${clean ? "repaired" : "repaired in part"}`;
  print(`${escapeControls(name)}: ${state}, commit ${commit}, ${files} files, ${verified}`);
}

/** What mends a finding, in words. */
const REMEDY = {
  none: "",
  repair: "; --repair mends it",
  discard: "; --repair --zero-damaged or --remove-damaged gives it up",
} as const;

function describe({ severity, remedy, message, path, from, to }: Finding): string {
  const where = path && path.length > 0 ? ` (${escapeControls(nameText(path))})` : "";
  const size = from !== undefined && to !== undefined ? `, ${humanSize(to - from)}` : "";
  return `${severity}: ${message}${size}${where}${REMEDY[remedy]}`;
}

/** With the inode's number in the place of its id. */
function numbered<T extends { readonly ino?: Ino }>(one: T): T {
  return one.ino === undefined ? one : { ...one, ino: inodeNumber(one.ino) };
}

function toJson({ path, names, ...rest }: Finding): unknown {
  return {
    ...numbered(rest),
    ...(path === undefined || path.length === 0 ? {} : { path: nameText(path) }),
    ...(names === undefined ? {} : { names: names.map(nameText) }),
  };
}
