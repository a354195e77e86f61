/** Sealing a container anew under another master key. */
import assert from "node:assert/strict";
import { createSealer } from "../../crypto/mod.ts";
import { crashImages } from "../../fs/block/crash.ts";
import { RecordingStore } from "../../fs/block/recording.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { checkContainer } from "../../fs/fsck.ts";
import type { ContainerKeys } from "../../fs/loading.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { ROOT } from "../../fs/types.ts";
import { blocksOfFile, spoil } from "./damaged_containers.ts";
import {
  equal,
  FILE,
  masterKey,
  name,
  openVolume,
  pattern,
  ramContainer,
  SEED,
  SUITES,
  testKeys,
} from "./fixture.ts";

const FILES = 8, BYTES = 50_000;

/** Keys of the next generation, with the one before or without. */
async function nextKeys(both: boolean): Promise<ContainerKeys> {
  const { containerId } = await testKeys(), keys = new Map([[2, new Uint8Array(32).fill(21)]]);
  if (both) keys.set(1, masterKey.slice());
  const sealer = await createSealer({ suite: SUITES[0], containerId, keys });
  return { containerId, sealer, generation: 2, keySequence: 1, ...(both && { olderGenerations: [1] }) };
}

/** A container of the first generation, with data, journal and checkpoints of several sessions. */
async function oldContainer(): Promise<RamStore> {
  const store = await ramContainer();
  for (let i = 0; i < FILES; i++) {
    const volume = await openVolume(store);
    await volume.write(volume.create(ROOT, name(`${i}`), FILE), 0, pattern(BYTES, i + 1));
    if (i % 3 === 2) await volume.checkpoint();
    await volume.end();
  }
  return store;
}

async function assertWhole(store: BlockStore, keys: ContainerKeys, where = ""): Promise<void> {
  const volume = await openVolume(store, "read", { keys });
  for (let i = 0; i < FILES; i++) {
    const read = await volume.read(volume.lookup(ROOT, name(`${i}`))!, 0, 2 * BYTES);
    assert.ok(equal(read, pattern(BYTES, i + 1)), `file ${i} ${where}`);
  }
}

async function rekeyAll(store: BlockStore): Promise<{ moved: number; unreadable: number }> {
  const volume = await openVolume(store, "write", { keys: await nextKeys(true) });
  const done = await volume.rekey();
  await volume.end();
  return done;
}

Deno.test("rekey: afterwards the old key opens nothing, and is needed for nothing", async () => {
  const store = await oldContainer(), keys = await nextKeys(false);
  await assert.rejects(openVolume(store, "read", { keys }), { kind: "damaged" });
  const done = await rekeyAll(store);
  assert.deepEqual(done, { moved: FILES * Math.ceil(BYTES / 4096), unreadable: 0 });
  assert.deepEqual((await checkContainer(store, keys, { scrub: true })).findings, []);
  await assertWhole(store, keys);
  await assert.rejects(openVolume(store, "read"), { kind: "damaged" });
  assert.deepEqual(await rekeyAll(store), { moved: 0, unreadable: 0 }, "there is nothing left to do");
});

Deno.test("rekey: nothing that was sealed under the old key is left, and the old header shows nothing", async () => {
  const store = await oldContainer();
  const volume = await openVolume(store);
  await volume.write(volume.create(ROOT, name("large"), FILE), 0, pattern(2 << 20));
  await volume.write(volume.create(ROOT, name("behind it"), FILE), 0, pattern(BYTES));
  await volume.sync();
  volume.unlink(ROOT, name("large")); // where chunks of journal are then begun
  await volume.end();
  const before = RamStore.fromBytes(store.toBytes());
  await rekeyAll(store);
  await assertWhole(store, await nextKeys(false));
  for (let position = 0; position < Math.min(await before.size(), await store.size()); position++) {
    const was = await before.read(position, 1), is = await store.read(position, 1);
    assert.ok(is.every((byte) => byte === 0) || !equal(is, was), `block ${position} is as it was`);
  }
  for (const copy of [0, 1] as const) {
    await store.writeHeader("super", copy, await before.readHeader("super", copy));
  }
  await assert.rejects(openVolume(store, "read"), { kind: "damaged" });
});

Deno.test("rekey: a container that is in use is sealed anew all the same", async () => {
  const store = await oldContainer(), keys = await nextKeys(false);
  const volume = await openVolume(store, "write", { keys: await nextKeys(true) });
  const rekeying = volume.rekey();
  for (let i = 0; i < FILES; i++) {
    const ino = volume.lookup(ROOT, name(`${i}`))!;
    await volume.write(ino, 10_000, pattern(BYTES, i + 1).subarray(10_000, 30_000));
    if (i % 2 === 0) await volume.fsync(ino);
  }
  assert.ok((await rekeying).moved > 0);
  await volume.end();
  assert.deepEqual((await checkContainer(store, keys, { scrub: true })).findings, []);
  await assertWhole(store, keys);
});

Deno.test("rekey: what does not verify stays, and is told", async () => {
  const store = await oldContainer();
  await spoil(store, (await blocksOfFile(store, "/5"))[3]!);
  assert.equal((await rekeyAll(store)).unreadable, 1);
  const { findings } = await checkContainer(store, await nextKeys(false), { scrub: true });
  assert.deepEqual(findings.map(({ code, from, to }) => [code, from, to]), [["data", 12_288, 16_384]]);
});

Deno.test(`rekey: interrupted at any moment both keys open it, and it can be gone on with (seed ${SEED})`, async () => {
  const base = await oldContainer(), both = await nextKeys(true), keys = await nextKeys(false);
  const store = new RecordingStore(base, { initial: base.toBytes(), scribble: true });
  await rekeyAll(store);
  let images = 0;
  for (const image of crashImages(store, { seed: SEED, share: 0.5 })) {
    const crashed = RamStore.fromBytes(image.medium.toBytes()),
      where = `event ${image.events}, ${image.mode}`;
    const { findings } = await checkContainer(crashed, both, { scrub: true });
    assert.deepEqual(findings.filter(({ code }) => code !== "superblock"), [], where);
    await assertWhole(crashed, both, where);
    if (images++ % 10 !== 0) continue;
    await rekeyAll(crashed);
    assert.deepEqual((await checkContainer(crashed, keys, { scrub: true })).findings, [], where);
    await assertWhole(crashed, keys, where);
  }
  assert.ok(images > 50, `only ${images} images`);
});
