/** The newest checkpoint is gone, and the one before serves: a container that was long in use. */
import assert from "node:assert/strict";
import { cloneContainer } from "../../fs/clone.ts";
import { loadState } from "../../fs/loading.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { ROOT } from "../../fs/types.ts";
import type { Volume } from "../../fs/volume.ts";
import { check, codesOf, repair, spoil } from "./damaged_containers.ts";
import { equal, FILE, makeContainer, name, openVolume, pattern, ramContainer, testKeys } from "./fixture.ts";

const FILES = 12, BYTES = 60_000;

/** Sessions with checkpoints, so that blocks of old journal are used again; then the newest checkpoint is damaged. */
async function withPrevious(): Promise<RamStore> {
  const store = await ramContainer();
  for (let i = 0; i < FILES; i++) {
    const volume = await openVolume(store);
    await volume.write(volume.create(ROOT, name(`${i}`), FILE), 0, pattern(BYTES, i + 1));
    await volume.end();
    if (i === FILES - 1) break;
    const next = await openVolume(store);
    await next.compact(); // which writes two checkpoints
    await next.end();
  }
  const { checkpointRuns } = await loadState(store, await testKeys());
  for (const { position, count } of checkpointRuns) await spoil(store, position, count);
  return store;
}

async function assertWhole(volume: Volume): Promise<void> {
  for (let i = 0; i < FILES; i++) {
    const read = await volume.read(volume.lookup(ROOT, name(`${i}`))!, 0, 2 * BYTES);
    assert.ok(equal(read, pattern(BYTES, i + 1)), `file ${i}`);
  }
}

Deno.test("a damaged newest checkpoint is all that is found, and is mended", async () => {
  const store = await withPrevious();
  assert.deepEqual(codesOf(await check(store)), ["checkpoint"]);
  const { after } = await repair(store);
  assert.deepEqual(after.findings, []);
  await assertWhole(await openVolume(store, "read"));
});

Deno.test("of a checkpoint that serves before a damaged journal it is not said that nothing is lost", async () => {
  const store = await withPrevious(), { chunks } = await loadState(store, await testKeys());
  await spoil(store, chunks.at(-1)!.position, 1);
  const [checkpoint, journal] = await check(store);
  assert.equal(checkpoint!.message, "The newest checkpoint is damaged; the other one serves");
  assert.equal(journal!.code, "journal");
  assert.deepEqual((await repair(store)).after.findings, []);
});

Deno.test("a container whose newest checkpoint is damaged can be written, also by the writer after a crash", async () => {
  const store = await withPrevious();
  const volume = await openVolume(store);
  await assertWhole(volume);
  await volume.write(volume.create(ROOT, name("new"), FILE), 0, pattern(400_000));
  await volume.sync(); // and then it is killed
  const next = await openVolume(RamStore.fromBytes(store.toBytes()));
  await assertWhole(next);
  assert.ok(equal(await next.read(next.lookup(ROOT, name("new"))!, 0, 400_000), pattern(400_000)));
  await next.end();
});

Deno.test("a clone of a container whose newest checkpoint is damaged is whole", async () => {
  const store = await withPrevious(), target = new RamStore();
  await cloneContainer(store, await testKeys(), target, { encryptionBlock: new Uint8Array(4096) });
  assert.deepEqual(await check(target), []);
  const volume = await openVolume(target);
  await assertWhole(volume);
  await volume.end();
});

Deno.test("the way on from the previous checkpoint is kept, where the first record needs a chunk of its own", async () => {
  const store = new RamStore({ quota: 1200 });
  await makeContainer(store);
  const volume = await openVolume(store), { session, tables } = volume.container;
  for (let i = 0; i < 2000; i++) volume.create(ROOT, name(`${i} ${"x".repeat(60)}`), FILE);
  await volume.sync();
  await session.checkpoint({
    sizeOf: (ino) => tables.inodes.size[ino]!,
    commit: async () => void await volume.sync(),
    pause: () => Promise.resolve(),
  });
  const fill = async () => { // takes all that is free
    for (let i = 0;; i++) {
      await volume.write(volume.create(ROOT, name(`fill ${i}`), FILE), 0, pattern(16_384, i));
    }
  };
  await assert.rejects(fill(), { code: "ENOSPC" });
  await volume.sync();
  assert.deepEqual(await check(store), []);
});
