/**
 * Crashes at every moment: a workload is recorded, and every prefix of what the store was told is opened again, with
 * the writes that no flush covers dropped, kept, or taken by chance. `COVERFS_SEED` replays one run.
 */
import assert from "node:assert/strict";
import { blockOffset, HEADER_AT } from "../../fs/block/byte_layout.ts";
import { crashImages } from "../../fs/block/crash.ts";
import { RecordingStore } from "../../fs/block/recording.ts";
import { SEALED } from "../../crypto/sealer.ts";
import { checkContainer } from "../../fs/fsck.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { type Ino, ROOT } from "../../fs/types.ts";
import type { Volume } from "../../fs/volume.ts";
import { equal, FILE, makeContainer, name, openVolume, pattern, randomNumbers, testKeys } from "./fixture.ts";

/** What must be there from an event on: the files' contents after an acknowledged sync. */
interface Promised {
  readonly events: number;
  readonly files: ReadonlyMap<string, Uint8Array>;
}

/** All contents that a name ever had at a sync or between: a crash shows one of them. */
type History = Map<string, Set<string>>;

const encode = (bytes: Uint8Array) => Array.from(bytes.subarray(0, 8)).join() + `+${bytes.length}`;

/** Random whole-file work: create, overwrite, replace by rename, delete, checkpoint, sync. */
async function work(volume: Volume, store: RecordingStore, seed: number, steps: number) {
  const random = randomNumbers(seed), files = new Map<string, Uint8Array>(), history: History = new Map();
  const promised: Promised[] = [{ events: store.events.length, files: new Map() }];
  const note = (file: string, bytes: Uint8Array) => {
    const all = history.get(file) ?? new Set();
    history.set(file, all.add(encode(bytes)));
  };
  const write = async (file: string) => {
    const bytes = pattern(1 + random(20_000), 1 + random(1 << 30));
    const temporary = name(`${file}.new`);
    await volume.admit();
    const ino = volume.create(ROOT, temporary, FILE);
    await volume.write(ino, 0, bytes);
    volume.rename(ROOT, temporary, ROOT, name(file));
    files.set(file, bytes);
    note(file, bytes);
    return ino;
  };
  for (let step = 0; step < steps || store.events.length < 120; step++) {
    const file = `f${random(6)}`, what = random(10);
    if (what < 5) await write(file);
    else if (what < 6 && files.has(file)) volume.unlink(ROOT, name(file)), files.delete(file);
    else if (what < 7) await volume.checkpoint();
    else {
      await volume.sync();
      promised.push({ events: store.events.length, files: new Map(files) });
    }
  }
  await volume.end();
  promised.push({ events: store.events.length, files: new Map(files) });
  return { promised, history };
}

/** Opens what a crash left, as reader and as writer, and compares it with what was promised. */
async function judge(store: RamStore, promised: Promised, history: History, where: string): Promise<void> {
  const report = await checkContainer(store, await testKeys(), { scrub: true });
  assert.deepEqual(report.findings.filter((one) => one.severity === "damage"), [], where);
  const reader = await openVolume(store, "read");
  const seen = new Map<string, Ino>();
  for (const entry of reader.list(ROOT)) seen.set(new TextDecoder().decode(entry.name), entry.ino);
  for (const [file, ino] of seen) {
    if (file.endsWith(".new")) continue;
    const bytes = await reader.read(ino, 0, reader.attributes(ino).size);
    const known = promised.files.get(file);
    const fine = known !== undefined && equal(known, bytes) || history.get(file)?.has(encode(bytes));
    assert.ok(fine, `${where}: "${file}" shows a content that it never had`);
  }
  const writer = await openVolume(store);
  const ino = writer.create(ROOT, name("after"), FILE);
  await writer.write(ino, 0, pattern(5000));
  await writer.end();
  const again = await checkContainer(store, await testKeys(), { scrub: true });
  assert.deepEqual(again.findings, [], `${where}: after writing again`);
}

const SEED = Number(Deno.env.get("COVERFS_SEED") ?? 1 + Math.floor(Math.random() * 1e9));

Deno.test(`after a crash at any moment the container opens and holds what was synced (seed ${SEED})`, async () => {
  const base = new RamStore();
  await makeContainer(base);
  const store = new RecordingStore(base, { initial: await imageOf(base), scribble: true });
  const { promised, history } = await work(await openVolume(store), store, SEED, 25);
  const options = {
    seed: SEED,
    garbage: ["none", "own"],
    share: Number(Deno.env.get("COVERFS_CRASH_SHARE") ?? 1),
  } as const;
  let states = 0;
  for (const image of crashImages(store, options)) {
    const { bytes, ...point } = image;
    const due = promised.findLast((one) => one.events <= point.events) ?? promised[0]!;
    const crashed = storeOf(bytes),
      where = `seed ${SEED}, ${JSON.stringify(point)} of ${store.events.length} events`;
    await judge(crashed, due, history, where);
    if (due.events === point.events) await holds(storeOf(bytes), due, where);
    states++;
  }
  assert.ok(states > 100, `${states} states`);
});

/** A store's bytes as they lie in a file. */
async function imageOf(store: RamStore): Promise<Uint8Array> {
  const blocks = await store.size(), bytes = new Uint8Array(blockOffset(blocks));
  for (const copy of [0, 1] as const) bytes.set(await store.readHeader("super", copy), HEADER_AT.super[copy]);
  bytes.set(store.read(0, blocks), blockOffset(0));
  return bytes;
}

/** A store that holds these bytes. */
function storeOf(bytes: Uint8Array): RamStore {
  const store = new RamStore(), blocks = Math.floor((bytes.length - blockOffset(0)) / SEALED);
  for (const copy of [0, 1] as const) {
    const at = HEADER_AT.super[copy];
    store.writeHeader("super", copy, bytes.slice(at, at + SEALED));
  }
  store.write(0, bytes.slice(blockOffset(0), blockOffset(blocks)));
  return store;
}

/** Exactly what was synced is there, where a sync was the last thing that happened. */
async function holds(crashed: RamStore, due: Promised, where: string): Promise<void> {
  const reader = await openVolume(crashed, "read");
  for (const [file, bytes] of due.files) {
    const ino = reader.lookup(ROOT, name(file));
    assert.ok(ino !== undefined, `${where}: "${file}" is missing`);
    assert.ok(equal(await reader.read(ino, 0, bytes.length + 1), bytes), `${where}: "${file}" differs`);
  }
}
