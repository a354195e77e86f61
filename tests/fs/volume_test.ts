import assert from "node:assert/strict";
import { StoreDecorator } from "../../fs/block/decorator.ts";
import { breathe } from "../../fs/clock.ts";
import { checkContainer } from "../../fs/fsck.ts";
import { FsError } from "../../fs/errors.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, RENAME_EXCHANGE } from "../../fs/filesystem.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { ROOT } from "../../fs/types.ts";
import type { Volume } from "../../fs/volume.ts";
import {
  equal,
  FILE,
  FOLDER,
  makeContainer,
  name,
  openVolume,
  pattern,
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

function fails(code: string) {
  return (error: unknown) => error instanceof FsError && error.code === code;
}

async function content(volume: Volume, ino: number): Promise<Uint8Array> {
  return await volume.read(ino, 0, volume.attributes(ino).size);
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

  Deno.test(`${suite}: sparse files, random writes and truncation read back right`, async () => {
    let expected = new Uint8Array(0);
    const store = await onVolume(suite, async (volume) => {
      const file = volume.create(ROOT, name("f"), FILE);
      let model = new Uint8Array(0);
      for (let i = 0; i < 200; i++) {
        const at = (i * 7919) % 100_000, data = pattern(1 + (i * 613) % 9000, i + 1);
        if (i % 17 === 16) {
          const size = (i * 5003) % 120_000, cut = new Uint8Array(size);
          cut.set(model.subarray(0, size));
          volume.setAttributes(file, { size });
          model = cut;
        } else {
          if (at + data.length > model.length) {
            const longer = new Uint8Array(at + data.length);
            longer.set(model);
            model = longer;
          }
          model.set(data, at);
          await volume.write(file, at, data);
        }
        if (i % 23 === 0) await volume.fsync(file);
        if (i % 50 === 49) await volume.checkpoint();
        assert.ok(equal(await content(volume, file), model));
      }
      expected = model;
    });
    const volume = await openVolume(store, "read", { suite });
    assert.ok(equal(await content(volume, volume.lookup(ROOT, name("f"))!), expected));
  });
}

Deno.test("a write past 4 GiB makes a sparse file whose hole reads as zeros", async () => {
  await onVolume(SUITES[0], async (volume) => {
    const file = volume.create(ROOT, name("big"), FILE), far = 2 ** 33 + 123;
    await volume.write(file, far, pattern(5000));
    await volume.fsync(file);
    assert.equal(volume.attributes(file).size, far + 5000);
    assert.equal(volume.attributes(file).blocks, 16);
    assert.deepEqual(await volume.read(file, far, 5000), pattern(5000));
    assert.deepEqual(await volume.read(file, 2 ** 32, 100), new Uint8Array(100));
    assert.equal(volume.seek(file, 0, "data"), 2 ** 33);
    assert.equal(volume.seek(file, 0, "hole"), 0);
    await volume.allocate(file, 2 ** 33, 8192, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
    assert.throws(() => volume.seek(file, 0, "data"), fails("ENXIO"));
    assert.equal(volume.attributes(file).blocks, 0);
  });
});

Deno.test("names, links and directories behave as POSIX says", async () => {
  await onVolume(SUITES[0], async (volume) => {
    const a = volume.create(ROOT, name("a"), FOLDER), b = volume.create(ROOT, name("b"), FOLDER);
    const file = volume.create(a, name("f"), FILE);
    assert.equal(volume.attributes(ROOT).nlink, 4);
    assert.throws(() => volume.create(a, name("f"), FILE), fails("EEXIST"));
    assert.throws(() => volume.create(file, name("x"), FILE), fails("ENOTDIR"));
    assert.throws(() => volume.create(a, name("n".repeat(256)), FILE), fails("ENAMETOOLONG"));
    assert.throws(() => volume.unlink(ROOT, name("a")), fails("EISDIR"));
    assert.throws(() => volume.rmdir(ROOT, name("a")), fails("ENOTEMPTY"));
    assert.throws(() => volume.rmdir(a, name("f")), fails("ENOTDIR"));
    volume.link(file, b, name("g"));
    assert.equal(volume.attributes(file).nlink, 2);
    volume.rename(a, name("f"), b, name("g")); // two names of one file: nothing happens
    assert.equal(volume.lookup(a, name("f")), file);
    volume.unlink(a, name("f"));
    assert.equal(volume.lookup(b, name("g")), file);
    assert.throws(() => volume.rename(ROOT, name("b"), b, name("inside")), fails("EINVAL"));
    volume.rename(ROOT, name("b"), a, name("c"));
    assert.equal(volume.parent(b), a);
    assert.equal(volume.attributes(ROOT).nlink, 3);
    volume.rename(ROOT, name("a"), ROOT, name("z"));
    assert.deepEqual([...volume.list(ROOT)].map((entry) => new TextDecoder().decode(entry.name)), ["z"]);
    volume.create(ROOT, name("y"), { ...FILE, mode: 0o120777, target: name("somewhere") });
    assert.deepEqual(volume.readlink(volume.lookup(ROOT, name("y"))!), name("somewhere"));
    volume.rename(ROOT, name("y"), ROOT, name("z"), RENAME_EXCHANGE);
    assert.equal(volume.lookup(ROOT, name("y")), a);
    await volume.sync();
  });
});

Deno.test("an unlinked file lives while it is held, and is gone after a crash", async () => {
  const store = new RamStore();
  await makeContainer(store);
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
  const store = new RamStore();
  await makeContainer(store);
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
  const store = new RamStore();
  await makeContainer(store);
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

Deno.test("extended attributes are kept, listed and removed", async () => {
  const store = await onVolume(SUITES[0], (volume) => {
    const file = volume.create(ROOT, name("f"), FILE);
    volume.setXattr(file, name("user.a"), name("one"));
    volume.setXattr(file, name("user.b"), new Uint8Array(60_000));
    volume.removeXattr(file, name("user.b"));
    assert.equal(volume.getXattr(file, name("user.b")), undefined);
  });
  const volume = await openVolume(store, "read"), file = volume.lookup(ROOT, name("f"))!;
  assert.deepEqual(volume.listXattr(file), [name("user.a")]);
  assert.deepEqual(volume.getXattr(file, name("user.a")), name("one"));
});
