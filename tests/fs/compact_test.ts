/** Containers give room back: by themselves, and by compacting. */
import assert from "node:assert/strict";
import { SEALED } from "../../crypto/sealer.ts";
import { crashImages } from "../../fs/block/crash.ts";
import { RecordingStore } from "../../fs/block/recording.ts";
import type { Compacted } from "../../fs/compact.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { type Ino, ROOT } from "../../fs/types.ts";
import { blocksOfFile, check, spoil } from "./damaged_containers.ts";
import { equal, FILE, makeContainer, name, openVolume, pattern, ramContainer, SEED } from "./fixture.ts";

/** Compacts a container that is not in use. */
async function compactAlone(store: BlockStore): Promise<Compacted> {
  await using volume = await openVolume(store, "write", { atime: "noatime" });
  return await volume.compact();
}

/** A container of many files of which only every tenth is left. */
async function holey(files: number, bytes: number): Promise<RamStore> {
  const store = await ramContainer();
  const volume = await openVolume(store);
  for (let i = 0; i < files; i++) {
    await volume.admit();
    await volume.write(volume.create(ROOT, name(`${i}`), FILE), 0, pattern(bytes, i + 1));
  }
  await volume.sync();
  for (let i = 0; i < files; i++) if (i % 10 !== 9) volume.unlink(ROOT, name(`${i}`));
  await volume.end();
  return store;
}

async function assertTenths(store: RamStore, files: number, bytes: number, where = ""): Promise<void> {
  const volume = await openVolume(store, "read");
  for (let i = 9; i < files; i += 10) {
    const read = await volume.read(volume.lookup(ROOT, name(`${i}`))!, 0, 2 * bytes);
    assert.ok(equal(read, pattern(bytes, i + 1)), `file ${i} ${where}`);
  }
}

Deno.test("compact: a container whose files lie apart becomes as short as its content and the reserve", async () => {
  const store = await holey(300, 100_000), before = await store.size();
  const done = await compactAlone(store);
  assert.deepEqual(await check(store), []);
  await assertTenths(store, 300, 100_000);
  const live = 30 * 25, { space } = (await openVolume(store)).container.session;
  assert.ok(done.after >= await store.size());
  assert.ok(before > 300 * 25 && done.after < live + space.reserve + 300, `${before}, then ${done.after}`);
  assert.ok(done.moved > 0 && done.unreadable === 0);
});

Deno.test("compact: what does not verify stays where it is, and fails as before", async () => {
  const store = await holey(100, 50_000), [position] = (await blocksOfFile(store, "/99")).slice(-1);
  await spoil(store, position!);
  const { unreadable } = await compactAlone(store);
  assert.ok(unreadable > 0);
  const found = await check(store);
  assert.deepEqual(found.map(({ code, from, to }) => [code, from, to]), [["data", 49152, 50_000]]);
});

Deno.test(`compact: interrupted at any moment, nothing is lost (seed ${SEED})`, async () => {
  const base = await holey(60, 20_000);
  const store = new RecordingStore(base, { initial: base.toBytes(), scribble: true });
  await compactAlone(store);
  for (const image of crashImages(store, { seed: SEED, share: 0.3 })) {
    const crashed = RamStore.fromBytes(image.medium.toBytes()),
      where = `event ${image.events}, ${image.mode}`;
    const found = await check(crashed);
    assert.deepEqual(found.filter(({ code }) => code !== "superblock"), [], where);
    await assertTenths(crashed, 60, 20_000, where);
  }
});

Deno.test(`compact: interrupted when only a few blocks are moved, nothing is lost (seed ${SEED})`, async () => {
  const base = new RamStore(), content = pattern(40_000, 2);
  await makeContainer(base);
  const volume = await openVolume(base);
  for (const [called, bytes] of [["first", pattern(4 << 20)], ["last", content]] as const) {
    await volume.write(volume.create(ROOT, name(called), FILE), 0, bytes);
    await volume.sync();
  }
  volume.unlink(ROOT, name("first"));
  await volume.end();
  const store = new RecordingStore(base, { initial: base.toBytes(), scribble: true });
  assert.equal(
    (await compactAlone(store)).moved,
    10,
    "few enough to be listed by the record of their commit",
  );
  let images = 0;
  for (const image of crashImages(store, { seed: SEED, modes: ["subset", "reordered"] })) {
    const reader = await openVolume(RamStore.fromBytes(image.medium.toBytes()), "read");
    const read = await reader.read(reader.lookup(ROOT, name("last"))!, 0, content.length);
    assert.ok(equal(read, content), `event ${image.events}`);
    images++;
  }
  assert.ok(images > 50, `only ${images} images`);
});

Deno.test("a container that is overwritten ten times and emptied stays small", async () => {
  const store = await ramContainer();
  let volume = await openVolume(store);
  const files: Ino[] = [], size = 8 << 20, content = pattern(size);
  for (let i = 0; i < 8; i++) files.push(volume.create(ROOT, name(`f${i}`), FILE));
  for (let time = 0; time < 10; time++) {
    for (const file of files) {
      await volume.admit();
      await volume.write(file, 0, content);
    }
    await volume.sync();
    // With two steps ahead, of 32 MiB: on a busy machine growing seems to take its time even in RAM.
    const bytes = await store.size() * SEALED, most = 1.5 * files.length * size + (128 << 20);
    assert.ok(bytes < most, `${bytes} bytes after ${time + 1} times, at most ${most}`);
  }
  for (let i = 0; i < 8; i++) volume.unlink(ROOT, name(`f${i}`));
  await volume.sync();
  await volume.checkpoint();
  volume.setAttributes(ROOT, { mode: 0o700 });
  await volume.sync();
  await volume.checkpoint();
  const reserve = volume.container.session.space.reserve * SEALED, bytes = await store.size() * SEALED;
  assert.ok(bytes < (1 << 20) + reserve, `${bytes} bytes, ${reserve} of them reserve, while it is mounted`);
  await volume.end();
  const ended = await store.size() * SEALED;
  assert.ok(ended < (1 << 20) + reserve, `${ended} bytes in the end`);
  volume = await openVolume(store);
  await volume.end();
  assert.deepEqual(await check(store), []);
});
