import assert from "node:assert/strict";
import { StoreDecorator } from "../../fs/block/decorator.ts";
import { breathe } from "../../fs/clock.ts";
import { checkContainer } from "../../fs/fsck.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { ROOT } from "../../fs/types.ts";
import type { Volume } from "../../fs/volume.ts";
import {
  content,
  equal,
  fails,
  FILE,
  FOLDER,
  makeContainer,
  name,
  openVolume,
  pattern,
  ramContainer,
  SUITES,
  testKeys,
} from "./fixture.ts";

/** Runs `work` on a fresh container, ends the volume, and sees that fsck finds nothing. */
async function onVolume(
  suite: string,
  work: (volume: Volume, store: RamStore) => Promise<void> | void,
): Promise<RamStore> {
  const store = new RamStore();
  await makeContainer(store, suite);
  const volume = await openVolume(store, "write", { suite });
  await work(volume, store);
  await volume.end();
  await assertClean(store, suite);
  return store;
}

async function assertClean(store: RamStore, suite: string): Promise<void> {
  const keys = await testKeys(suite);
  const report = await checkContainer(store, keys, { scrub: true });
  assert.deepEqual(report.findings, []);
  assert.equal(report.verifiedBlocks, report.dataBlocks);
}

for (const suite of SUITES) {
  Deno.test(`${suite}: what was written is there after opening again`, async () => {
    const bytes = pattern(3_000_001);
    const store = await onVolume(suite, async (volume) => {
      const folder = volume.create(ROOT, name("folder"), FOLDER);
      const file = volume.create(folder, name("file"), FILE);
      await volume.write(file, 0, bytes);
      assert.ok(equal(await content(volume, file), bytes));
    });
    const volume = await openVolume(store, "read", { suite });
    const folder = volume.lookup(ROOT, name("folder"))!, file = volume.lookup(folder, name("file"))!;
    assert.ok(equal(await content(volume, file), bytes));
    assert.equal(volume.attributes(file).blocks, Math.ceil(bytes.length / 4096) * 8);
    assert.throws(() => volume.create(ROOT, name("x"), FILE), fails("EROFS"));
  });
}

Deno.test("an unlinked file lives while it is held, and is gone after a crash", async () => {
  const store = await ramContainer();
  const volume = await openVolume(store);
  const file = volume.create(ROOT, name("f"), FILE);
  volume.hold(file);
  await volume.write(file, 0, pattern(10_000));
  volume.unlink(ROOT, name("f"));
  await volume.sync();
  assert.ok(equal(await content(volume, file), pattern(10_000)));
  await assertClean(store, SUITES[0]); // open and unlinked: not damage
  const again = await openVolume(store); // as if the first had crashed
  assert.throws(() => again.attributes(file), fails("ESTALE"));
  await again.end();
  await assertClean(store, SUITES[0]);
});

Deno.test("a reader follows a writer by whole commits", async () => {
  const store = await ramContainer();
  const writer = await openVolume(store), reader = await openVolume(store, "read");
  const file = writer.create(ROOT, name("f"), FILE);
  await writer.write(file, 0, pattern(50_000));
  assert.equal(await reader.refresh(), false);
  assert.equal(reader.lookup(ROOT, name("f")), undefined);
  await writer.sync();
  assert.equal(await reader.refresh(), true);
  assert.ok(equal(await content(reader, reader.lookup(ROOT, name("f"))!), pattern(50_000)));
  for (let round = 2; round < 6; round++) {
    await writer.write(file, 0, pattern(50_000, round));
    await writer.sync();
    await writer.checkpoint();
    // The blocks that the reader knows are free, and written again by now or soon: it shows one whole state.
    const seen = await content(reader, reader.lookup(ROOT, name("f"))!);
    assert.ok([...Array(round + 1).keys()].some((one) => equal(seen, pattern(50_000, one))));
    await reader.refresh();
    assert.ok(equal(await content(reader, reader.lookup(ROOT, name("f"))!), pattern(50_000, round)));
  }
  await writer.end();
});

/** Answers every fourth read later than those that were asked for after it. */
class UnevenStore extends StoreDecorator {
  onRead: (() => void) | undefined;
  #reads = 0;

  override async read(position: number, count: number): Promise<Uint8Array> {
    this.onRead?.();
    for (let late = this.#reads++ % 4 === 0 ? 12 : 1; late > 0; late--) await breathe();
    return await super.read(position, count);
  }
}

Deno.test("a reader that is asked to go on while it does so never goes back to an older commit", async () => {
  const base = new RamStore(), store = new UnevenStore(base);
  await makeContainer(base);
  const writer = await openVolume(base), reader = await openVolume(store, "read");
  const seen: number[] = [];
  const look = () => void seen.push(reader.attributes(ROOT).uid);
  store.onRead = look;
  for (let uid = 1; uid <= 40; uid++) {
    writer.setAttributes(ROOT, { uid });
    await writer.sync();
    if (uid === 20) await writer.checkpoint();
    if (uid % 5 === 0) await Promise.all([reader.refresh(), breathe().then(() => reader.refresh())]);
  }
  look();
  assert.equal(seen[seen.length - 1], 40);
  assert.deepEqual(seen, seen.slice().sort((a, b) => a - b));
  await writer.end();
});

Deno.test("many sessions one after the other keep the container small and readable", async () => {
  const store = await ramContainer();
  for (let i = 0; i < 70; i++) {
    const volume = await openVolume(store);
    const file = volume.create(ROOT, name(`f${i}`), FILE);
    await volume.write(file, 0, pattern(100, i + 1));
    await volume.end();
  }
  await assertClean(store, SUITES[0]);
  const reader = await openVolume(store, "read");
  assert.equal([...reader.list(ROOT)].length, 70);
  for (let i = 0; i < 70; i++) {
    assert.ok(equal(await content(reader, reader.lookup(ROOT, name(`f${i}`))!), pattern(100, i + 1)));
  }
});
