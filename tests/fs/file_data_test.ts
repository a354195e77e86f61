/** Contents of files: writing behind, the limit of dirty data, buffers that are used over and over. */
import assert from "node:assert/strict";
import { SEALED } from "../../crypto/sealer.ts";
import { BufferPool } from "../../fs/block/buffers.ts";
import { StoreDecorator } from "../../fs/block/decorator.ts";
import { RecordingStore } from "../../fs/block/recording.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { breathe } from "../../fs/clock.ts";
import { Container } from "../../fs/container.ts";
import { FsError } from "../../fs/errors.ts";
import { FileData } from "../../fs/file_data.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../../fs/filesystem.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { ROOT } from "../../fs/types.ts";
import { VolumeState } from "../../fs/volume_state.ts";
import { equal, FILE, name, openVolume, pattern, ramContainer, randomNumbers, testKeys } from "./fixture.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const MIB = 1 << 20;

async function fresh<T extends BlockStore>(
  wrap: (base: RamStore) => T,
): Promise<{ base: RamStore; store: T }> {
  const base = await ramContainer();
  return { base, store: wrap(base) };
}

Deno.test("much data of a file is written before anybody asks for it", strict, async () => {
  const { store } = await fresh((base) => new RecordingStore(base)), volume = await openVolume(store);
  const file = volume.create(ROOT, name("f"), FILE), before = store.events.length;
  for (let at = 0; at < 8 * MIB; at += MIB / 4) await volume.write(file, at, pattern(MIB / 4, at + 1));
  // Sealing is asynchronous here: wait until something arrives, and never for a commit, which takes seconds.
  await until(() => store.events.slice(before).some(({ kind }) => kind === "write"));
  assert.ok(!store.events.slice(before).some(({ kind }) => kind === "flush-begin"));
  await volume.end();
});

Deno.test("writers wait at the limit of dirty data, and all of it arrives", strict, async () => {
  const { base } = await fresh((base) => base), keys = await testKeys();
  const container = await Container.open(base, keys, { mode: "write", session: new Uint8Array(16).fill(4) });
  const state = new VolumeState(container, { dirtyBytes: MIB, relatime: false }),
    data = new FileData(state);
  const ino = container.tables.inodes.allocate();
  container.tables.inodes.mode[ino] = FILE.mode;
  container.tables.inodes.nlink[ino] = 1;
  const bytes = pattern(6 * MIB + 777, 3);
  for (let at = 0; at < bytes.length; at += 100_000) {
    await data.write(ino, at, bytes.subarray(at, at + 100_000));
    assert.ok(state.dirty.pages * 4096 <= MIB, `${state.dirty.pages} dirty pages`);
  }
  await data.write(ino, bytes.length, new Uint8Array(2 * MIB)); // larger than the limit, and alone it is let in
  await state.commit({ ino });
  assert.ok(equal(await data.read(ino, 0, bytes.length), bytes));
  await state.committer.end();
});

/** Holds back the writes of data behind so many. */
class HeldStore extends StoreDecorator {
  /** Long runs that were to be written so far. */
  runs = 0;
  #most = Infinity;
  #gate = Promise.withResolvers<void>();

  /** So many may be written in all. */
  admit(most: number): void {
    this.#most = most;
    this.#gate.resolve();
    this.#gate = Promise.withResolvers();
  }

  override write(position: number, bytes: Uint8Array): Promise<void> | void {
    if (bytes.length < MIB) return super.write(position, bytes);
    return this.#writeInTurn(++this.runs, position, bytes);
  }

  async #writeInTurn(run: number, position: number, bytes: Uint8Array): Promise<void> {
    while (run > this.#most) await this.#gate.promise;
    await super.write(position, bytes);
  }
}

/** Waits for something that is not told. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

Deno.test("fsync() covers the pages behind one that goes while it runs", strict, async () => {
  const { base, store } = await fresh((base) => new HeldStore(base)), volume = await openVolume(store);
  const file = volume.create(ROOT, name("f"), FILE), bytes = pattern(14 * MIB, 5), hole = 12 * MIB;
  store.admit(2);
  for (let at = 0; at < bytes.length; at += MIB) await volume.write(file, at, bytes.subarray(at, at + MIB));
  const syncing = volume.fsync(file);
  await until(() => store.runs > 2); // the first ones are written behind
  store.admit(7);
  await until(() => store.runs > 7); // by fsync(), which has not come to the last ones
  await volume.allocate(file, hole, 4096, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
  store.admit(Infinity);
  await syncing;
  const reader = await openVolume(RamStore.fromBytes(base.toBytes()), "read");
  const seen = await reader.read(reader.lookup(ROOT, name("f"))!, 0, bytes.length);
  assert.equal(seen.length, bytes.length);
  assert.ok(equal(seen.subarray(0, hole), bytes.subarray(0, hole)));
  assert.ok(equal(seen.subarray(hole + 4096), bytes.subarray(hole + 4096)));
  await volume.end();
});

Deno.test("a run that cannot be begun does not leave the one before it alone", strict, async () => {
  const written = Promise.withResolvers<void>();
  let asked = false;
  class NeverWritten extends StoreDecorator {
    override write(position: number, bytes: Uint8Array): Promise<void> | void {
      if (bytes.length !== 2 * SEALED) return super.write(position, bytes);
      asked = true;
      return written.promise;
    }
  }
  const { store } = await fresh((base) => new NeverWritten(base)), volume = await openVolume(store);
  const { session: { space }, keys: { sealer } } = volume.container,
    file = volume.create(ROOT, name("f"), FILE);
  await volume.write(file, 0, pattern(5 * 4096));
  const take = space.take.bind(space), seal = sealer.seal.bind(sealer);
  // There is room in two pieces; the first one waits for the store, the second cannot be sealed.
  space.take = (blocks) =>
    take(blocks).flatMap(({ position }) => [{ position, count: 2 }, { position: position + 2, count: 3 }]);
  sealer.seal = (run, plain, sealed) => {
    if (plain.length === 3 * 4096) throw new Error("no sealing");
    return seal(run, plain, sealed);
  };
  let ended = false;
  const syncing = assert.rejects(volume.fsync(file), (error) => error instanceof FsError).then(() =>
    ended = true
  );
  await until(() => asked);
  for (let i = 0; i < 10; i++) await breathe();
  assert.ok(!ended, "a run is still on its way");
  written.reject(new Error("not written either"));
  await syncing;
  await assert.rejects(volume.end());
});

Deno.test("what is appended while the end of a file is punched out is kept", strict, async () => {
  const { base } = await fresh((base) => base), before = await openVolume(base);
  const file = before.create(ROOT, name("f"), FILE);
  await before.write(file, 0, pattern(10_000));
  await before.end();
  const volume = await openVolume(base), more = pattern(100, 2);
  await volume.write(file, 9_999, name("x")); // the last block is in memory, the first one is not
  const punching = volume.allocate(file, 100, 9_900, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
  await volume.write(file, 10_000, more);
  await punching;
  assert.deepEqual(await volume.read(file, 9_990, 200), new Uint8Array([...new Uint8Array(10), ...more]));
  await volume.end();
});

Deno.test(
  "the session ends only when what is on its way has arrived, though its file is gone",
  strict,
  async () => {
    const { store } = await fresh((base) => new HeldStore(base)), volume = await openVolume(store);
    const file = volume.create(ROOT, name("f"), FILE);
    store.admit(0);
    await volume.write(file, 0, pattern(5 * MIB));
    volume.unlink(ROOT, name("f"));
    let ended = false;
    const ending = volume.end().then(() => ended = true);
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setTimeout(resolve, 1));
    assert.equal(ended, false);
    store.admit(Infinity);
    await ending;
  },
);

Deno.test("hundreds of short runs at once do not take a large buffer each", () => {
  const pool = new BufferPool(MIB, { shared: true }),
    sum = (all: Uint8Array[]) => all.reduce((bytes, { length }) => bytes + length, 0);
  const short = Array.from({ length: 500 }, () => pool.take(4096));
  assert.ok(short.every(({ length }) => length >= 4096) && sum(short) < 16 * MIB);
  assert.equal(pool.take(MIB / 2).length, MIB, "longer runs are worked on by other threads");
  for (const buffer of short) pool.give(buffer);
  assert.equal(pool.take(4096).length, MIB, "what is there is used again");
});

Deno.test("buffers are used again until they are dropped", () => {
  const pool = new BufferPool(MIB, { shared: false }), first = pool.take();
  pool.give(first);
  const second = pool.take();
  assert.equal(second, first);
  pool.give(second);
  pool.drop();
  assert.notEqual(pool.take(), first);
});

Deno.test("a buffer that was used before shows nothing of what was in it", strict, async () => {
  const { base } = await fresh((base) => base), volume = await openVolume(base), random = randomNumbers(11);
  const file = volume.create(ROOT, name("f"), FILE), model = new Uint8Array(400_000);
  volume.setAttributes(file, { size: model.length });
  for (let i = 0; i < 150; i++) {
    const at = random(model.length), bytes = pattern(1 + random(Math.min(20_000, model.length - at)), i + 1);
    if (random(4) === 0) {
      await volume.allocate(file, at, bytes.length, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
      model.fill(0, at, at + bytes.length);
    } else {
      await volume.write(file, at, bytes);
      model.set(bytes, at);
    }
    if (random(5) === 0) await volume.fsync(file);
    const from = random(model.length),
      length = 1 + random(100_000),
      into = new Uint8Array(100_001).fill(0xaa);
    const seen = await volume.read(file, from, length, into);
    assert.ok(equal(seen, model.subarray(from, from + length)), `step ${i}`);
  }
  await volume.end();
});
