/**
 * Crashes at every moment: a workload is recorded, and every prefix of what the store was told is opened again, with
 * the writes that no flush covers dropped, kept, torn or taken by chance. `COVERFS_SEED` replays one run.
 */
import assert from "node:assert/strict";
import { BLOCK } from "../../crypto/sealer.ts";
import { openLibcrypto } from "../../ffi/libcrypto.ts";
import { type CrashImage, crashImages } from "../../fs/block/crash.ts";
import { RecordingStore } from "../../fs/block/recording.ts";
import { checkContainer } from "../../fs/fsck.ts";
import type { ContainerKeys } from "../../fs/loading.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { type Ino, ROOT, S_IFMT, S_IFREG } from "../../fs/types.ts";
import type { Volume } from "../../fs/volume.ts";
import { type History, KINDS, namesOf, runWorkload } from "./crash_workload.ts";
import {
  equal,
  FILE,
  makeContainer,
  name,
  openVolume,
  pattern,
  SEED,
  SUITES,
  testKeys,
  walk,
} from "./fixture.ts";

/** The writer that comes after a crash is crashed too, once in so many states. */
const AGAIN = 100;

/** All that a reader sees. */
interface Picture {
  readonly commit: number;
  readonly names: string;
  readonly files: ReadonlyMap<string, Uint8Array>;
}

async function pictureOf(volume: Volume): Promise<Picture> {
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
  let { from } = range;
  while (!steps[from]!.contents.has(file)) from++;
  for (let step = from; step <= to; step++) {
    const { change } = steps[step]!;
    if (change?.file === file && change.kind === "must") from = step;
  }
  const states: Lagging[] = [], lengths: number[] = [];
  for (let step = to; step >= from; step--) {
    states.push(lagging(history, file, step, to));
    lengths.push(steps[step]!.contents.get(file)!.length);
  }
  const newest = lengths[0]!, least = Math.min(...lengths);
  // A page that is cut off while it is flushed stays dirty, and a growth after it is not recorded until it is clean.
  const sized = (held: Lagging) =>
    held.missing.size === 0 && !range.pages
      ? seen.length === newest
      : seen.length >= Math.min(held.size, range.pages ? least : Infinity) && seen.length <= newest;
  const pages = Array.from({ length: Math.ceil(seen.length / BLOCK) }, (_, page) => page);
  if (!states.some(sized)) return `has ${seen.length} bytes, a size that it had not since it was synced`;
  const fits = range.pages
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
async function assertSound(store: RamStore, keys: ContainerKeys, where: string): Promise<void> {
  const report = await checkContainer(store, keys, { scrub: true });
  assert.deepEqual(report.findings.filter((one) => one.code !== "superblock"), [], where);
  assert.ok(report.findings.every((one) => one.severity !== "damage"), where);
  assert.equal(report.verifiedBlocks, report.dataBlocks, where);
}

/** Opens to write what a crash left, adds a file, ends. */
async function writeAfter(store: RecordingStore | RamStore, keys: ContainerKeys): Promise<void> {
  const writer = await openVolume(store, "write", { atime: "noatime", keys });
  const ino = writer.create(ROOT, name("after"), FILE);
  await writer.write(ino, 0, pattern(5000));
  await writer.end();
}

/** A crash of the writer that came after a crash: what was there stays, and the new file is there whole or not. */
async function judgeAgain(
  first: CrashImage,
  picture: Picture,
  keys: ContainerKeys,
  where: string,
): Promise<void> {
  const store = new RecordingStore(RamStore.fromBytes(first.bytes), {
    initial: first.bytes.slice(),
    scribble: true,
  });
  await writeAfter(store, keys);
  for (const image of crashImages(store, { seed: first.seed, share: 0.2 })) {
    const { bytes, ...point } = image, again = `${where}, then ${JSON.stringify(point)}`;
    const crashed = RamStore.fromBytes(bytes);
    await assertSound(crashed, keys, again);
    const { names, files } = await pictureOf(await openVolume(crashed, "read", { keys }));
    const added = files.get("/after");
    const known = picture.names.split("\n").slice(1), seen = names.split("\n").slice(1);
    assert.deepEqual(seen.filter((line) => !line.startsWith("/after ")), known, again);
    for (const [path, bytes] of picture.files) assert.ok(equal(files.get(path)!, bytes), `${again}: ${path}`);
    if (point.events === store.events.length) assert.ok(equal(added!, pattern(5000)), again);
    else assert.ok(added === undefined || added.length === 0 || equal(added, pattern(5000)), again);
  }
}

/** A workload's history and what is known of its commits so far. */
interface Recorded {
  readonly seed: number;
  readonly history: History;
  readonly store: RecordingStore;
  /** Content by path may lag behind by pages, not only as a whole. */
  readonly pages: boolean;
  readonly pictures: Map<number, Picture>;
  /** What judges has other keys than what worked: an engine that is fast with few blocks, where it is found. */
  readonly keys: ContainerKeys;
}

async function record(seed: number, overlapping: boolean, keys: ContainerKeys): Promise<Recorded> {
  const base = new RamStore();
  await makeContainer(base);
  const store = new RecordingStore(base, { initial: base.toBytes(), scribble: true });
  const history = await runWorkload({
    seed,
    overlapping,
    // Few dirty pages, so that files are flushed in the middle too.
    open: () => openVolume(store, "write", { atime: "noatime", dirtyBytes: 24 * BLOCK }),
    events: () => store.events.length,
  });
  assert.deepEqual(KINDS.filter((kind) => !history.kinds.has(kind)), [], `seed ${seed} lacks these`);
  return { seed, history, store, pages: overlapping, pictures: new Map(), keys };
}

/** Opens what a crash left as a reader, and judges it; then as a writer, which crashes too if `again`. */
async function judge(recorded: Recorded, image: CrashImage, again: boolean): Promise<void> {
  const { seed, history, store, pages, pictures, keys } = recorded, { bytes, ...point } = image;
  const where = `seed ${seed}, ${JSON.stringify(point)} of ${store.events.length} events`;
  const crashed = RamStore.fromBytes(bytes);
  await assertSound(crashed, keys, where);
  const reader = await openVolume(crashed, "read", { keys }), picture = await pictureOf(reader);
  const why = fault(history, picture, point.events, pages);
  assert.equal(why, undefined, `${where}: ${why}`);
  for (const { durable, events } of history.promised) {
    if (durable === undefined || events > point.events) continue;
    assert.ok(reader.container.contains(durable), `${where}: commit ${durable.commit} counts as rolled back`);
  }
  // Whatever else is left of it: a commit is a commit.
  const known = pictures.get(picture.commit) ?? picture;
  assert.equal(picture.names, known.names, where);
  for (const [path, bytes] of known.files) {
    assert.ok(
      equal(picture.files.get(path)!, bytes),
      `${where}: commit ${picture.commit} has two "${path}"`,
    );
  }
  pictures.set(picture.commit, known);
  if (again) await judgeAgain(image, picture, keys, where);
  await writeAfter(crashed, keys);
  const report = await checkContainer(crashed, keys, { scrub: true });
  assert.deepEqual(report.findings, [], `${where}: after writing again`);
}

async function crashEverywhere(seed: number, overlapping: boolean, share: number): Promise<void> {
  using engine = await openLibcrypto();
  const keys = await testKeys(SUITES[0], engine);
  const recorded = await record(seed, overlapping, keys), { store, pictures } = recorded;
  let states = 0;
  const options = { seed, garbage: ["none", "own"] } as const;
  for (const image of crashImages(store, { ...options, share })) {
    await judge(recorded, image, states++ % AGAIN === 17);
  }
  // When a flush begins, most is pending; and superblocks are written so seldom that they would hardly be met.
  for (const [at, event] of store.events.entries()) {
    if (event.kind !== "flush-begin") continue;
    const near = store.events[at - 1]?.kind === "header"
      ? { from: at, to: at, modes: ["torn", "reordered"], variants: 4 } as const
      : { from: at, to: at, modes: ["reordered"] } as const;
    for (const image of crashImages(store, { ...options, ...near })) await judge(recorded, image, false);
  }
  assert.ok(pictures.size > 20, `${states} states of only ${pictures.size} commits`);
}

for (const overlapping of [false, true]) {
  const how = overlapping ? "while commits run" : "one after the other";
  Deno.test(`after a crash at any moment there is a commit, none older than was synced: changes ${how} (seed ${SEED})`, async () => {
    await crashEverywhere(SEED, overlapping, Number(Deno.env.get("COVERFS_CRASH_SHARE") ?? 0.1));
  });
}
