/**
 * The judge of crash tests: records workloads, and tells for what a crash left of them whether it may be so. Used by
 * `crash_test.ts` and by the long run, `deno task crash`.
 */
import assert from "node:assert/strict";
import { BLOCK } from "../../crypto/sealer.ts";
import { type CrashImage, crashImages, type CrashOptions } from "../../fs/block/crash.ts";
import { type Medium, MediumStore } from "../../fs/block/medium.ts";
import { StoreDecorator } from "../../fs/block/decorator.ts";
import { RecordingStore } from "../../fs/block/recording.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { FsError } from "../../fs/errors.ts";
import { checkContainer } from "../../fs/fsck.ts";
import type { ContainerKeys, DurablePoint } from "../../fs/loading.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { type Ino, ROOT, S_IFMT, S_IFREG } from "../../fs/types.ts";
import type { Volume } from "../../fs/volume.ts";
import { type History, KINDS, namesOf, runWorkload } from "./crash_workload.ts";
import { equal, FILE, inoOf, makeContainer, name, openVolume, pattern, walk } from "./fixture.ts";
import { ReadMemo } from "./read_memo.ts";

/** A store that can be told to grow no more. */
class LimitedStore extends StoreDecorator {
  #limit = Infinity;
  #lowest = Infinity;

  /** The fewest blocks that it was ever limited to. */
  get lowest(): number {
    return this.#lowest;
  }

  /** From now on it holds `blocks` more than it does at most; any number if undefined. */
  async limit(blocks: number | undefined): Promise<void> {
    this.#limit = blocks === undefined ? Infinity : await this.size() + blocks;
    this.#lowest = Math.min(this.#lowest, this.#limit);
  }

  override reserve(blocks: number): Promise<void> {
    if (blocks <= this.#limit) return super.reserve(blocks);
    return Promise.reject(
      new FsError("ENOSPC", `Cannot reserve ${blocks} blocks: ${this.#limit} is the limit`),
    );
  }
}

/** All that a reader sees. */
export interface Picture {
  readonly commit: number;
  readonly names: string;
  readonly files: ReadonlyMap<string, Uint8Array>;
}

/** Reads all of a volume. */
export async function pictureOf(volume: Volume): Promise<Picture> {
  const files = new Map<string, Uint8Array>();
  for (const { path, ino } of walk(volume)) {
    const { mode, size } = volume.attributes(ino);
    if ((mode & S_IFMT) === S_IFREG) files.set(path, await volume.read(ino, 0, size));
  }
  return { commit: volume.container.last, names: namesOf(volume), files };
}

/** What a commit may hold of a file whose data was flushed some steps before. */
interface Lagging {
  readonly bytes: Uint8Array;
  /** The size that is recorded at least. */
  readonly size: number;
  /** Pages that were written since and are not there, and the size that may have been recorded before that. */
  readonly missing: ReadonlyMap<number, number>;
}

/**
 * What a file holds whose data was last flushed after step `from`, in a commit after step `to`: writes in between are
 * missing, but cuts and holes are metadata and are there.
 */
function lagging({ steps }: History, file: Ino, from: number, to: number): Lagging {
  const bytes = steps[from]!.contents.get(file)!.slice(), missing = new Map<number, number>();
  let size = bytes.length, filled = size, reach = size;
  for (let step = from + 1; step <= to; step++) {
    const { change, contents } = steps[step]!;
    if (change?.file !== file) continue;
    const now = contents.get(file)!.length;
    const drop = (first: number, end: number) => {
      for (const page of missing.keys()) if (page >= first && page < end) missing.delete(page);
    };
    const add = (page: number) => missing.has(page) || missing.set(page, reach);
    const beyond = () => Math.min(...[...missing.keys()].filter((page) => (page + 1) * BLOCK > size)) * BLOCK;
    if (change.kind === "write") {
      const last = Math.floor((change.to - 1) / BLOCK);
      for (let page = Math.floor(change.from / BLOCK); page <= last; page++) add(page);
    } else if (change.kind === "truncate") {
      filled = Math.min(filled, change.size);
      drop(Math.ceil(change.size / BLOCK), Infinity);
      size = beyond() === Infinity ? change.size : Math.min(size, change.size);
      reach = Math.min(reach, change.size);
    } else if (change.kind === "punch") {
      const first = Math.ceil(change.from / BLOCK), inside = Math.min(change.to, now);
      const end = inside === now ? Math.ceil(inside / BLOCK) : Math.floor(inside / BLOCK);
      bytes.fill(0, first * BLOCK, Math.max(first, end) * BLOCK);
      drop(first, end);
      for (const edge of [change.from, inside]) {
        if (edge % BLOCK !== 0 && edge < now) add(Math.floor(edge / BLOCK));
      }
    }
    if (missing.size === 0) size = now;
    // A commit after this step may have recorded as much as this.
    reach = Math.max(reach, size, Math.min(now, beyond()));
  }
  return { bytes: bytes.subarray(0, filled), size, missing };
}

/** Tells whether a page shows what was flushed, with zeros behind it, and nothing of a write that is missing. */
function samePage(seen: Uint8Array, held: Lagging, page: number): boolean {
  const from = page * BLOCK, end = Math.min(from + BLOCK, seen.length);
  const both = Math.min(end, Math.max(from, held.bytes.length));
  if (end > Math.max(held.size, held.missing.get(page) ?? Infinity)) return false;
  return equal(seen.subarray(from, both), held.bytes.subarray(from, both)) &&
    seen.subarray(both, end).every((byte) => byte === 0);
}

/** Why a file's content cannot be that of a commit after step `to` whose data is of step `from` or later. */
function contentFault(
  history: History,
  file: Ino,
  seen: Uint8Array,
  range: { from: number; to: number; pages: boolean },
): string | undefined {
  const { steps } = history, { to } = range;
  let { from, pages: byPages } = range;
  while (!steps[from]!.contents.has(file)) from++;
  for (let step = from; step <= to; step++) {
    const { change } = steps[step]!;
    if (change?.file === file && change.kind === "must") from = step;
  }
  const states: Lagging[] = [], lengths: number[] = [];
  for (let step = to; step >= from; step--) {
    byPages ||= steps[step]!.full;
    states.push(lagging(history, file, step, to));
    lengths.push(steps[step]!.contents.get(file)!.length);
  }
  const newest = lengths[0]!, least = Math.min(...lengths);
  // A page that is cut off while it is flushed stays dirty, and a growth after it is not recorded until it is clean.
  const sized = (held: Lagging) =>
    held.missing.size === 0 && !byPages
      ? seen.length === newest
      : seen.length >= Math.min(held.size, byPages ? least : Infinity) && seen.length <= newest;
  const pages = Array.from({ length: Math.ceil(seen.length / BLOCK) }, (_, page) => page);
  if (!states.some(sized)) return `has ${seen.length} bytes, a size that it had not since it was synced`;
  const fits = byPages
    ? pages.every((page) => states.some((held) => samePage(seen, held, page)))
    : states.some((held) => sized(held) && pages.every((page) => samePage(seen, held, page)));
  return fits ? undefined : "shows a content that it had not since it was synced";
}

/** Why a picture is none that a crash after so many events may leave. */
function fault(history: History, picture: Picture, events: number, pages: boolean): string | undefined {
  const { steps, promised } = history, due = promised.filter((one) => one.events <= events);
  const least = Math.max(...due.map((one) => one.step));
  const most = steps.findLastIndex((step) => step.events <= events);
  let found: string | undefined;
  for (let to = most; to >= least; to--) {
    const step = steps[to]!;
    if (step.names !== picture.names) continue;
    found = undefined;
    for (const [path, seen] of picture.files) {
      const file = step.files.get(path)!;
      const from = Math.max(
        ...due.filter((one) => one.file === undefined || one.file === file).map((one) => one.step),
      );
      const why = contentFault(history, file, seen, { from: Math.min(from, to), to, pages });
      if (why) found = `"${path}" ${why}; names are those after step ${to}, ${step.what}`;
    }
    if (found === undefined) return undefined;
  }
  if (found) return found;
  const known = steps.findLastIndex((step) => step.names === picture.names);
  if (known >= 0) return `the names are those after step ${known}, not of ${least} to ${most}`;
  const seen = new Set(picture.names.split("\n")), expected = steps[least]!.names.split("\n");
  return `the names are those of no step; after step ${least} (${steps[least]!.what}) there was\n` +
    expected.filter((line) => !seen.delete(line)).join("\n") + `\nbut here is\n${[...seen].join("\n")}`;
}

/** Finds nothing in a container but a superblock slot that a switch was about to write. */
export async function assertSound(store: BlockStore, keys: ContainerKeys): Promise<void> {
  const report = await checkContainer(store, keys, { scrub: true });
  assert.deepEqual(report.findings.filter((one) => one.code !== "superblock"), []);
  assert.ok(report.findings.every((one) => one.severity !== "damage"));
  assert.equal(report.verifiedBlocks, report.dataBlocks);
}

/** What a crash left, as a reader finds it. */
export interface Seen {
  readonly picture: Picture;
  readonly contains: (point: DurablePoint) => boolean;
}

/** Checks what a crash left, and reads all of it. */
export async function look(store: BlockStore, keys: ContainerKeys): Promise<Seen> {
  await assertSound(store, keys);
  const reader = await openVolume(store, "read", { keys });
  return { picture: await pictureOf(reader), contains: (point) => reader.container.contains(point) };
}

/**
 * Opens to write what a crash left, adds a file, ends. Where there is no room for it, everything that was there can
 * be deleted, and then there is.
 */
export async function writeAfter(store: BlockStore, keys: ContainerKeys, called = "after"): Promise<void> {
  const writer = await openVolume(store, "write", { atime: "noatime", keys });
  const add = async () => {
    await writer.admit();
    const ino = writer.lookup(ROOT, name(called)) ?? writer.create(ROOT, name(called), FILE);
    await writer.write(ino, 0, pattern(5000));
  };
  try {
    await add();
  } catch (error) {
    if (!(error instanceof FsError && error.code === "ENOSPC")) throw error;
    for (const { path, ino } of walk(writer)) {
      if ((writer.attributes(ino).mode & S_IFMT) !== S_IFREG) continue;
      const cut = path.lastIndexOf("/");
      writer.unlink(inoOf(writer, path.slice(0, cut)), name(path.slice(cut + 1)));
    }
    await writer.sync();
    // What the journal takes is given back by the second checkpoint from here.
    for (let i = 0; i < 2; i++) {
      writer.setAttributes(ROOT, { mode: 0o755 });
      await writer.checkpoint();
    }
    await add();
  }
  await writer.end();
}

/** Whatever else a crash leaves: a commit is a commit. */
function assertSame(seen: Picture, known: Picture): void {
  assert.equal(seen.names, known.names, `commit ${seen.commit} has two trees`);
  for (const [path, bytes] of known.files) {
    assert.ok(equal(seen.files.get(path)!, bytes), `commit ${seen.commit} has two "${path}"`);
  }
}

/** A workload's history, and all that is known of what crashes may leave of it. */
export interface Recorded {
  readonly seed: number;
  readonly history: History;
  readonly store: RecordingStore;
  /** Content by path may lag behind by pages, not only as a whole. */
  readonly pages: boolean;
  readonly pictures: Map<number, Picture>;
  /** What judges has other keys than what worked: an engine that is fast with few blocks, where it is found. */
  readonly keys: ContainerKeys;
  /** The states that were judged, as hashes. */
  readonly states: Set<number>;
  readonly looks: ReadMemo<Seen>;
  readonly writes: ReadMemo<true>;
  /** Why a picture may not be so, by steps and promises. */
  readonly faults: Map<Picture, Map<string, string | undefined>>;
}

/** Runs a workload, and records it. @param overlapping changes go on while commits run */
export async function record(seed: number, overlapping: boolean, keys: ContainerKeys): Promise<Recorded> {
  const base = new RamStore(), limited = new LimitedStore(base);
  await makeContainer(base);
  const store = new RecordingStore(limited, { initial: base.toBytes(), scribble: true });
  const history = await runWorkload({
    seed,
    overlapping,
    // Few dirty pages, so that files are flushed in the middle too.
    open: () => openVolume(store, "write", { atime: "noatime", dirtyBytes: 24 * BLOCK }),
    events: () => store.events.length,
    limit: (blocks) => limited.limit(blocks),
  });
  assert.deepEqual(KINDS.filter((kind) => !history.kinds.has(kind)), [], `seed ${seed} lacks these`);
  const pictures = new Map<number, Picture>();
  const looks = new ReadMemo(async (image) => {
    const seen = await look(image, keys), picture = pictures.get(seen.picture.commit) ?? seen.picture;
    assertSame(seen.picture, picture);
    pictures.set(picture.commit, picture);
    return { ...seen, picture };
  });
  const writes = new ReadMemo(async (image) => {
    await writeAfter(image, keys);
    const report = await checkContainer(image, keys, { scrub: true });
    assert.deepEqual(report.findings, [], "after writing again");
    return true as const;
  }, { quota: limited.lowest });
  return {
    ...{ seed, history, store, pages: overlapping, keys, looks, writes },
    ...{ pictures, states: new Set(), faults: new Map() },
  };
}

/** Which crash of which workload: what finds it again. */
export function whereIs({ seed, pages, store }: Recorded, image: CrashImage): string {
  const { medium: _, ...point } = image, how = pages ? "while commits run" : "one after the other";
  return `seed ${seed}, ${how}, ${JSON.stringify(point)} of ${store.events.length} events`;
}

/** Does some work; what it throws says where. */
export async function within<T>(where: string, work: () => Promise<T> | T): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw new Error(`${where}: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

/**
 * Opens what a crash left as a reader, and judges it; then as a writer.
 *
 * @returns what a reader sees
 * @throws {Error} which names the crash, if it may not be so
 */
export async function judge(recorded: Recorded, image: CrashImage): Promise<Picture> {
  const { history, pages, faults } = recorded;
  return await within(whereIs(recorded, image), async () => {
    recorded.states.add(image.medium.hash());
    const { picture, contains } = await recorded.looks.of(image.medium);
    // What may be so depends on how many steps had begun and on what was promised by then.
    const due = history.promised.filter(({ events }) => events <= image.events);
    const now = `${history.steps.findLastIndex((step) => step.events <= image.events)}:${due.length}`;
    const known = faults.get(picture) ?? new Map<string, string | undefined>();
    faults.set(picture, known);
    if (!known.has(now)) known.set(now, fault(history, picture, image.events, pages));
    assert.equal(known.get(now), undefined, known.get(now));
    for (const { durable } of due) {
      assert.ok(!durable || contains(durable), `commit ${durable?.commit} counts as rolled back`);
    }
    await recorded.writes.of(image.medium);
    return picture;
  });
}

/** Which images of a recording are judged, and how often what is drawn is drawn anew. */
export interface JudgeOptions {
  /** Changes what is drawn. */
  readonly seed: number;
  /** Drawn images at each moment, for torn and for reordered writes; default 1. */
  readonly variants?: number;
  /** Takes each moment with this probability; default 1. */
  readonly share?: number;
  /** Told after each image, with what a reader sees of it. */
  readonly onJudged?: (image: CrashImage, picture: Picture) => Promise<void> | void;
}

/** Judges what crashes at every moment of a recording may leave. @throws {Error} as {@linkcode judge} */
export async function judgeAll(recorded: Recorded, options: JudgeOptions): Promise<void> {
  const { seed, variants = 1, share = 1, onJudged } = options, { store } = recorded;
  const draw = async (crashes: CrashOptions) => {
    for (const image of crashImages(store, { seed, garbage: ["none", "own"], variants, ...crashes })) {
      const picture = await judge(recorded, image);
      await onJudged?.(image, picture);
    }
  };
  await draw({ modes: ["subset", "torn", "reordered"], share });
  // When a flush begins, most is pending; and superblocks are written so seldom that they would hardly be met.
  for (const [at, event] of store.events.entries()) {
    if (event.kind !== "flush-begin") continue;
    const header = store.events[at - 1]?.kind === "header";
    await draw({ from: at, to: at, modes: ["torn", "reordered"], variants: (header ? 8 : 2) * variants });
  }
}

/**
 * What a crash of a later writer may show: all that was there before, and of each file that was added all or nothing.
 *
 * @param added the contents of these files by path
 */
export function assertOnlyAdded(
  seen: Picture,
  before: Picture,
  added: ReadonlyMap<string, Uint8Array>,
): void {
  const isAdded = (line: string) => added.has(line.slice(0, line.indexOf(" ")));
  // The first line is the root, whose times move.
  const lines = ({ names }: Picture) => names.split("\n").slice(1).filter((line) => !isAdded(line));
  assert.deepEqual(lines(seen), lines(before));
  for (const [path, bytes] of before.files) {
    if (!added.has(path)) assert.ok(equal(seen.files.get(path)!, bytes), path);
  }
  for (const [path, whole] of added) {
    const bytes = seen.files.get(path);
    assert.ok(bytes === undefined || bytes.length === 0 || equal(bytes, whole), path);
  }
}

/** How crashes of a recovery are judged. */
export interface RecoveryOptions {
  /** How many writers come one after the other, each of which crashes. */
  readonly depth: number;
  /** Of a later writer's crashes, how many are followed by another writer. */
  readonly again: number;
  readonly crashes: CrashOptions;
  /** Told of each state, by its hash. */
  readonly onState?: (hash: number) => void;
}

/**
 * The writer that comes after a crash crashes too, at every moment; and so does the one that comes then. What was
 * there stays; the file that each adds is there whole or not, and is there if its writer came to an end.
 */
export async function judgeRecovery(
  crashed: { readonly medium: Medium; readonly picture: Picture },
  keys: ContainerKeys,
  where: string,
  options: RecoveryOptions,
  added: ReadonlyMap<string, Uint8Array> = new Map(),
): Promise<void> {
  const called = `after${options.depth}`,
    path = `/${called}`,
    all = new Map([...added, [path, pattern(5000)]]);
  const store = new RecordingStore(new MediumStore(crashed.medium.fork()), {
    initial: crashed.medium.toBytes(),
    scribble: true,
  });
  await within(`${where}, then writing`, () => writeAfter(store, keys, called));
  const looks = new ReadMemo(async (image) => {
    const { picture } = await look(image, keys);
    assertOnlyAdded(picture, crashed.picture, all);
    for (const one of added.keys()) {
      assert.equal(picture.files.get(one)?.length, crashed.picture.files.get(one)?.length, one);
    }
    return picture;
  });
  const known = new Set<number>();
  const next: { medium: Medium; picture: Picture; where: string }[] = [];
  for (const image of crashImages(store, options.crashes)) {
    const { medium, ...point } = image, hash = medium.hash(), ended = point.events === store.events.length;
    if (known.has(hash) && !ended) continue;
    known.add(hash);
    options.onState?.(hash);
    const here = `${where}, then ${JSON.stringify(point)}`;
    const picture = await within(here, () => looks.of(medium));
    if (ended) assert.equal(picture.files.get(path)?.length, 5000, `${here}: ${path} was synced`);
    next.push({ medium, picture, where: here });
  }
  if (options.depth <= 1) return;
  const step = Math.max(1, next.length / options.again);
  for (let i = 0; i < next.length; i += step) {
    const one = next[Math.floor(i)]!, deeper = { ...options, depth: options.depth - 1 };
    await judgeRecovery(one, keys, one.where, deeper, all);
  }
}
