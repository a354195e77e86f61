/** Clones: one commit whole, sealed as it is, also of a container that is written meanwhile. */
import assert from "node:assert/strict";
import { CoverError } from "../../crypto/errors.ts";
import { StoreDecorator } from "../../fs/block/decorator.ts";
import { cloneContainer } from "../../fs/clone.ts";
import { checkContainer } from "../../fs/fsck.ts";
import type { History } from "../../fs/loading.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { ROOT } from "../../fs/types.ts";
import { assertFiles, blocksOfFile, check, FILES, repair, spoil, treeStore } from "./damaged_containers.ts";
import { kind } from "../crypto/blocks.ts";
import { equal, FILE, makeContainer, name, openVolume, pattern, ramContainer, testKeys } from "./fixture.ts";

const encryptionBlock = new Uint8Array(4096).fill(5);

/** A store that tells before each read. */
class Watched extends StoreDecorator {
  constructor(base: RamStore, readonly onRead: (count: number) => Promise<void>) {
    super(base);
  }
  override async read(position: number, count: number): Promise<Uint8Array> {
    await this.onRead(count);
    return await super.read(position, count);
  }
}

Deno.test("clone: the copy is clean, holds all, and has the same sealed blocks where files lie", async () => {
  const source = await treeStore(), target = new RamStore(), before = source.toBytes();
  const { commit } = await cloneContainer(source, await testKeys(), target, { encryptionBlock });
  assert.deepEqual(await check(target), []);
  const volume = await openVolume(target);
  await assertFiles(volume, Object.keys(FILES));
  assert.equal(commit, 5);
  for (const position of await blocksOfFile(source, "/folder/inner/d")) {
    assert.ok(equal(target.read(position, 1), source.read(position, 1)));
  }
  await volume.end();
  assert.ok(equal(source.toBytes(), before), "the source is not written");
  assert.ok(equal(await target.readHeader("key", 1), encryptionBlock));
});

Deno.test("clone: a session that is still open ends in the copy with the commit that was read", async () => {
  const source = await ramContainer();
  const writer = await openVolume(source);
  await writer.write(writer.create(ROOT, name("f"), FILE), 0, pattern(10_000));
  await writer.sync();
  const target = new RamStore();
  await cloneContainer(source, await testKeys(), target, { encryptionBlock });
  const copy = await openVolume(target);
  assert.ok(equal(await copy.read(copy.lookup(ROOT, name("f"))!, 0, 20_000), pattern(10_000)));
  assert.equal(copy.container.superblock.sessions.length, 2);
  await copy.end();
  await writer.write(writer.create(ROOT, name("g"), FILE), 0, pattern(10));
  await writer.end();
  assert.deepEqual(await check(source), []);
  assert.deepEqual(await check(target), []);
});

Deno.test("clone: blocks that a writer reuses meanwhile are taken from a newer commit", async () => {
  const base = await ramContainer();
  const writer = await openVolume(base),
    files = [0, 1, 2, 3].map((i) => writer.create(ROOT, name(`f${i}`), FILE));
  for (const [i, file] of files.entries()) await writer.write(file, 0, pattern(1 << 20, i + 1));
  await writer.sync();
  let rounds = 0;
  const source = new Watched(base, async (count) => {
    // Between the loading and the copying of data, all data moves, twice: its old places are written again.
    if (count < 200 || rounds >= 3) return;
    rounds++;
    for (let time = 0; time < 2; time++) {
      for (const [i, file] of files.entries()) {
        await writer.write(file, 0, pattern(1 << 20, i + 1 + 10 * rounds));
      }
      await writer.sync();
      await writer.checkpoint();
    }
  });
  const target = new RamStore(), point = writer.container.durable!;
  const judge = (loaded: History) => assert.ok(loaded.contains(point), "no rollback");
  await cloneContainer(source, await testKeys(), target, { encryptionBlock, check: judge });
  assert.equal(rounds, 3);
  assert.deepEqual(await check(target), []);
  const copy = await openVolume(target, "read");
  for (const [i, file] of files.entries()) {
    assert.ok(equal(await copy.read(file, 0, 2 << 20), pattern(1 << 20, i + 1 + 30)), `file ${i}`);
  }
  await writer.end();
});

Deno.test("clone: a state that is older than what is known is refused, and nothing of it becomes a container", async () => {
  const source = new RamStore();
  await makeContainer(source);
  const older = RamStore.fromBytes(source.toBytes());
  const writer = await openVolume(source);
  writer.create(ROOT, name("f"), FILE);
  await writer.end();
  const point = writer.container.durable!, target = new RamStore();
  const check = (loaded: History) => {
    if (!loaded.contains(point)) throw new CoverError("rollback", "older");
  };
  const options = { encryptionBlock, check };
  await cloneContainer(source, await testKeys(), new RamStore(), options);
  await assert.rejects(cloneContainer(older, await testKeys(), target, options), kind("rollback"));
  assert.ok((await target.readHeader("key", 0)).every((byte) => byte === 0));
});

Deno.test("clone: a damaged source is refused, with the file's name; a damaged checkpoint is none", async () => {
  const source = await treeStore();
  const { current } = (await openVolume(source, "read")).container.superblock;
  await spoil(source, current.runs[0]!.position);
  const target = new RamStore();
  await cloneContainer(source, await testKeys(), target, { encryptionBlock });
  assert.deepEqual(await check(target), []);
  await repair(source);
  await spoil(source, (await blocksOfFile(source, "/folder/inner/d"))[5]!);
  await assert.rejects(
    async () => await cloneContainer(source, await testKeys(), new RamStore(), { encryptionBlock }),
    (error) =>
      error instanceof CoverError && error.kind === "integrity" && error.message.includes("/folder/inner/d"),
  );
});

Deno.test("clone: where a key slot is changed meanwhile, the copy has the encryption block that it needs", async () => {
  const base = new RamStore(), bytes = new Uint8Array(4096).fill(6);
  await makeContainer(base);
  const writer = await openVolume(base), file = writer.create(ROOT, name("f"), FILE);
  await writer.write(file, 0, pattern(1 << 20, 1));
  await writer.end();
  let changes = 0;
  const changing = new Watched(base, async (count) => {
    if (count < 200 || changes++ > 0) return;
    // As the data is copied, it moves to other places and its old ones are written again; then the slot is changed.
    for (const seed of [2, 3]) {
      const other = await openVolume(base, "write", { keys: { ...await testKeys(), keySequence: seed - 1 } });
      await other.write(file, 0, pattern(1 << 20, seed));
      await other.checkpoint();
      await other.end();
    }
  });
  const target = new RamStore(), keys = await testKeys(), asked: number[] = [];
  const readEncryptionBlock = () => {
    asked.push(changes);
    return Promise.resolve({ bytes, sequence: 2 });
  };
  await cloneContainer(changing, keys, target, { encryptionBlock, readEncryptionBlock });
  assert.deepEqual(asked, [1], "once, in the second pass");
  assert.ok(equal(await target.readHeader("key", 0), bytes));
  const changed = { ...keys, keySequence: 2 };
  assert.deepEqual((await checkContainer(target, changed, { scrub: true })).findings, []);
  const copy = await openVolume(target, "read", { keys: changed });
  assert.ok(equal(await copy.read(file, 0, 2 << 20), pattern(1 << 20, 3)));
  // An encryption block that is older than the superblock says is one played back.
  const played = { encryptionBlock, readEncryptionBlock: () => Promise.resolve({ bytes, sequence: 1 }) };
  await assert.rejects(cloneContainer(base, keys, new RamStore(), played), kind("rollback"));
});
