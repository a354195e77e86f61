/** Writing, cutting and punching while a flush of the same file is under way: what a commit then holds. */
import assert from "node:assert/strict";
import { breathe } from "../../fs/clock.ts";
import { checkContainer } from "../../fs/fsck.ts";
import { SEALED } from "../../crypto/sealer.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../../fs/filesystem.ts";
import { StoreDecorator } from "../../fs/block/decorator.ts";
import type { StoreTraits } from "../../fs/block/store.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { type Ino, ROOT } from "../../fs/types.ts";
import type { Volume } from "../../fs/volume.ts";
import { equal, FILE, makeContainer, name, openVolume, pattern, ramContainer, testKeys } from "./fixture.ts";

const BLOCK = 4096;
/** From so many dirty pages on a file is written without being asked for. */
const MANY = 1100;

/**
 * Writes `before` to a new file, begins an fsync, does `meanwhile`, and gives what a crash after the fsync leaves of
 * the file. The volume must show the newest state all along, before and after it is ended.
 */
async function crashAfterFsync(
  before: Uint8Array,
  meanwhile: (volume: Volume, ino: Ino) => Promise<void> | void,
  newest: Uint8Array,
): Promise<Uint8Array> {
  const store = await ramContainer();
  const volume = await openVolume(store), ino = volume.create(ROOT, name("f"), FILE);
  const content = async (of: Volume) => await of.read(ino, 0, of.attributes(ino).size);
  await volume.write(ino, 0, before);
  const synced = volume.fsync(ino);
  await meanwhile(volume, ino);
  assert.ok(equal(await content(volume), newest));
  await synced;
  assert.deepEqual((await checkContainer(store, await testKeys(), { scrub: true })).findings, []);
  const left = await content(await openVolume(store, "read"));
  assert.ok(equal(await content(volume), newest));
  const { blocks } = volume.attributes(ino);
  await volume.end();
  assert.ok(equal(await content(await openVolume(store, "read")), newest));
  assert.equal((await openVolume(store, "read")).attributes(ino).blocks, blocks);
  assert.deepEqual((await checkContainer(store, await testKeys(), { scrub: true })).findings, []);
  return left;
}

/** A copy with other bytes from a place on; longer if they go beyond the end. */
function changed(bytes: Uint8Array, at: number, data: Uint8Array): Uint8Array {
  const copy = new Uint8Array(Math.max(bytes.length, at + data.length));
  copy.set(bytes);
  copy.set(data, at);
  return copy;
}

Deno.test("fsync() keeps what was written before it, though all of it is written again meanwhile", async () => {
  const before = pattern(3 * BLOCK + 700), after = pattern(3 * BLOCK + 700, 2);
  const left = await crashAfterFsync(before, (volume, ino) => volume.write(ino, 0, after), after);
  assert.ok(equal(left, before) || equal(left, after));
});

Deno.test("fsync() keeps the size of what was written before it, though more is appended meanwhile", async () => {
  const before = pattern(BLOCK + 700), more = pattern(9000, 2), after = changed(before, before.length, more);
  const left = await crashAfterFsync(before, (volume, ino) => volume.write(ino, before.length, more), after);
  assert.ok(equal(left, before) || equal(left, after));
});

Deno.test("a commit holds no data beyond the size that it records, though a gap is filled while it is made", async () => {
  const before = changed(new Uint8Array(0), 10 * BLOCK, pattern(500)), gap = pattern(BLOCK, 2);
  const store = await ramContainer();
  const volume = await openVolume(store), ino = volume.create(ROOT, name("f"), FILE);
  await volume.write(ino, 10 * BLOCK, pattern(500));
  const synced = volume.fsync(ino);
  await volume.write(ino, 2 * BLOCK, gap);
  await synced;
  assert.deepEqual((await checkContainer(store, await testKeys(), { scrub: true })).findings, []);
  const reader = await openVolume(store, "read");
  const left = await reader.read(ino, 0, reader.attributes(ino).size);
  assert.ok(equal(left, before) || equal(left, changed(before, 2 * BLOCK, gap)));
  await volume.end();
});

Deno.test("what is cut off while it is flushed does not come back when the file grows", async () => {
  const before = pattern(3 * BLOCK), after = changed(before.slice(0, BLOCK + 100), 2 * BLOCK, pattern(10, 2));
  const left = await crashAfterFsync(before, async (volume, ino) => {
    volume.setAttributes(ino, { size: BLOCK + 100 });
    await volume.write(ino, 2 * BLOCK, pattern(10, 2));
  }, after);
  const cut = before.slice(0, BLOCK + 100);
  assert.ok(left.length <= after.length);
  assert.ok(equal(left.subarray(0, BLOCK), before.subarray(0, BLOCK)) || left.length < BLOCK);
  const rest = changed(cut, after.length - 1, new Uint8Array(1)).subarray(0, left.length);
  assert.ok(equal(left, rest) || equal(left, after.subarray(0, left.length)));
});

Deno.test("a hole that is punched while the file is flushed stays a hole", async () => {
  const before = pattern(4 * BLOCK), after = changed(before, BLOCK, new Uint8Array(2 * BLOCK));
  const left = await crashAfterFsync(
    before,
    (volume, ino) => volume.allocate(ino, BLOCK, 2 * BLOCK, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE),
    after,
  );
  assert.ok(equal(left, before) || equal(left, after));
});

Deno.test("sync() keeps a size that was set before it, though the last page is written meanwhile", async () => {
  const before = changed(pattern(5000), 12 * BLOCK + 1000, new Uint8Array(1)), more = pattern(3000, 2);
  const after = changed(before, 12 * BLOCK + 500, more), store = new RamStore();
  await makeContainer(store);
  const volume = await openVolume(store), ino = volume.create(ROOT, name("f"), FILE);
  await volume.write(ino, 0, pattern(5000));
  volume.setAttributes(ino, { size: before.length });
  const synced = volume.sync();
  await volume.write(ino, 12 * BLOCK + 500, more);
  await synced;
  const reader = await openVolume(store, "read");
  const left = await reader.read(ino, 0, reader.attributes(ino).size);
  assert.ok(equal(left, before) || equal(left, after));
  await volume.end();
});

/** A store that takes runs of 16 blocks and says of some that they are written only when it is told to. */
class HoldingStore extends StoreDecorator {
  /** Which runs are held, by how many came before. */
  readonly #held: (earlier: number) => boolean;
  readonly #release = Promise.withResolvers<void>();
  #runs = 0;

  constructor(base: RamStore, held: (earlier: number) => boolean) {
    super(base);
    this.#held = held;
  }

  override get traits(): StoreTraits {
    return { ...super.traits, runBlocks: 16 };
  }

  release(): void {
    this.#release.resolve();
  }

  override async write(position: number, bytes: Uint8Array): Promise<void> {
    await super.write(position, bytes);
    if (bytes.length === 16 * SEALED && this.#held(this.#runs++)) await this.#release.promise;
  }
}

/** Opens a volume on a store that holds runs, with one file of many pages whose writing has begun. */
async function whileWriting(held: (earlier: number) => boolean, at = 0) {
  const base = await ramContainer();
  const store = new HoldingStore(base, held), volume = await openVolume(store);
  const many = volume.create(ROOT, name("many"), FILE), other = volume.create(ROOT, name("other"), FILE);
  await volume.write(many, at, pattern(MANY * BLOCK));
  /** What a crash leaves of the file, after a commit that is not about it. */
  const left = async () => {
    await volume.write(other, 0, pattern(100));
    await volume.fsync(other);
    assert.deepEqual((await checkContainer(base, await testKeys(), { scrub: true })).findings, []);
    const reader = await openVolume(base, "read");
    return await reader.read(many, 0, reader.attributes(many).size);
  };
  return { store, volume, many, left };
}

Deno.test("runs that are written before an earlier one are not in a commit without it", async () => {
  const { store, volume, left } = await whileWriting((earlier) => earlier === 1);
  for (let round = 0; round < 20; round++) {
    const bytes = await left();
    assert.ok(bytes.length < MANY * BLOCK, "a run is held, and yet all of the file is there");
    assert.ok(equal(bytes, pattern(MANY * BLOCK).subarray(0, bytes.length)));
  }
  store.release();
  await volume.end();
});

Deno.test("a gap that is filled while a flush is under way does not hide what is written behind it", async () => {
  const { store, volume, many, left } = await whileWriting((earlier) => earlier >= 40, BLOCK);
  const { extents } = volume.container.tables;
  while (extents.blocksOf(many) === 0) await breathe();
  const written = extents.endOf(many);
  await volume.write(many, 0, pattern(BLOCK, 2));
  const bytes = await left();
  assert.ok(bytes.length >= written);
  assert.ok(equal(bytes.subarray(BLOCK), pattern(MANY * BLOCK).subarray(0, bytes.length - BLOCK)));
  store.release();
  await volume.end();
});

Deno.test("a page that comes while a flush is under way is not in a commit without an earlier one", async () => {
  const { store, volume, many, left } = await whileWriting((earlier) => earlier < 6);
  await left();
  volume.setAttributes(many, { size: 0 });
  await volume.write(many, BLOCK, pattern(BLOCK, 2));
  await volume.write(many, 1000 * BLOCK, pattern(BLOCK, 3));
  const whole = new Uint8Array(1001 * BLOCK);
  whole.set(pattern(BLOCK, 2), BLOCK);
  whole.set(pattern(BLOCK, 3), 1000 * BLOCK);
  store.release();
  for (let round = 0; round < 20; round++) {
    const bytes = await left();
    assert.ok(bytes.length <= BLOCK || equal(bytes, whole.subarray(0, bytes.length)));
  }
  await volume.end();
});

Deno.test("a file is made durable while data of another one is on its way, though a sync waits for that", async () => {
  const { store, volume, left } = await whileWriting((earlier) => earlier === 1);
  let synced = false;
  const syncing = volume.sync().then(() => synced = true);
  await left();
  assert.equal(synced, false);
  store.release();
  await syncing;
  await volume.end();
});

Deno.test("what is written while other data is on its way is committed too, though nobody asks for it", async () => {
  const base = new RamStore(), held = Promise.withResolvers<void>();
  await makeContainer(base);
  const store = new HoldingStore(base, (earlier) => earlier === 0 && (held.resolve(), true));
  let committed = Promise.withResolvers<void>();
  const onDurable = () => committed.resolve();
  const volume = await openVolume(store, "write", { commitInterval: 0.01, onDurable });
  const first = volume.create(ROOT, name("first"), FILE), second = volume.create(ROOT, name("second"), FILE);
  await volume.write(first, 0, pattern(20 * BLOCK));
  await held.promise;
  committed = Promise.withResolvers();
  await volume.write(second, 0, pattern(100));
  await committed.promise; // the interval has passed once more, with the first file's data on its way
  committed = Promise.withResolvers();
  store.release();
  while (volume.container.tables.extents.blocksOf(second) === 0) {
    await committed.promise;
    committed = Promise.withResolvers();
  }
  await volume.end();
});
