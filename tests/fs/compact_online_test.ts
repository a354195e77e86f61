/** Compacting of a container that is in use: blocks are moved while files are read, written, cut and removed. */
import assert from "node:assert/strict";
import { StoreDecorator } from "../../fs/block/decorator.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { breathe } from "../../fs/clock.ts";
import { Container } from "../../fs/container.ts";
import { FileData } from "../../fs/file_data.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../../fs/filesystem.ts";
import { Mover } from "../../fs/mover.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { type Ino, ROOT, S_IFMT, S_IFREG } from "../../fs/types.ts";
import type { Volume } from "../../fs/volume.ts";
import { VolumeState } from "../../fs/volume_state.ts";
import { MemoryFilesystem } from "../model/memory_filesystem.ts";
import { check } from "./damaged_containers.ts";
import {
  equal,
  FILE,
  inoOf,
  makeContainer,
  name,
  openVolume,
  pattern,
  picture,
  randomNumbers,
  SEED,
  testKeys,
  walk,
} from "./fixture.ts";
import { draw, outcome } from "./random_operations.ts";

/** A store on which reads and writes of blocks can be held. */
class HeldStore extends StoreDecorator {
  /** Asked before a read is done, and after a write: the answer waits for it. */
  hold: (what: "read" | "write") => Promise<void> | undefined = () => undefined;

  override read(position: number, count: number, into?: Uint8Array): Uint8Array | Promise<Uint8Array> {
    const held = this.hold("read");
    return held ? held.then(() => super.read(position, count, into)) : super.read(position, count, into);
  }

  override write(position: number, bytes: Uint8Array): void | Promise<void> {
    const written = super.write(position, bytes), held = this.hold("write");
    return held ? held.then(() => written) : written;
  }
}

/** Holds the first read or write from now on. @returns resolves when it has come, with what lets it go on */
function holdNext(store: HeldStore, wanted: "read" | "write"): Promise<() => void> {
  const came = Promise.withResolvers<() => void>(), { promise, resolve } = Promise.withResolvers<void>();
  store.hold = (what) => {
    if (what !== wanted) return undefined;
    store.hold = () => undefined;
    came.resolve(resolve);
    return promise;
  };
  return came.promise;
}

const BYTES = 40_000;

/** A volume whose only file lies behind free blocks: compacting moves it in one go. */
async function oneToMove(): Promise<{ store: HeldStore; ram: RamStore; volume: Volume; file: Ino }> {
  const ram = new RamStore(), store = new HeldStore(ram);
  await makeContainer(ram);
  const volume = await openVolume(store, "write", { commitInterval: 1000 });
  const first = volume.create(ROOT, name("first"), FILE);
  await volume.write(first, 0, pattern(4 << 20));
  await volume.sync();
  const file = volume.create(ROOT, name("file"), FILE);
  await volume.write(file, 0, pattern(BYTES, 2));
  await volume.sync();
  volume.unlink(ROOT, name("first"));
  await volume.sync();
  return { store, ram, volume, file };
}

async function put(volume: Volume, file: Ino, at: number, bytes: Uint8Array): Promise<void> {
  await volume.admit();
  await volume.write(file, at, bytes);
}

/** Takes all free blocks and writes to them, so that what was freed too early is overwritten. */
async function reuse(volume: Volume): Promise<void> {
  const other = volume.lookup(ROOT, name("other")) ?? volume.create(ROOT, name("other"), FILE);
  await put(volume, other, 0, pattern(5 << 20, 99));
  await volume.sync();
}

const CHANGES: Readonly<Record<string, (volume: Volume, file: Ino, content: Uint8Array) => unknown>> = {
  "overwritten": async (volume, file, content) => {
    const bytes = pattern(9000, 3);
    content.set(bytes, 5000);
    await put(volume, file, 5000, bytes);
  },
  "cut down and up": (volume, file, content) => {
    volume.setAttributes(file, { size: 10_000 });
    volume.setAttributes(file, { size: BYTES });
    content.fill(0, 10_000);
  },
  "punched": async (volume, file, content) => {
    content.fill(0, 4096, 20_000);
    await volume.allocate(file, 4096, 20_000 - 4096, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
  },
  "read": async (volume, file, content) =>
    assert.ok(equal(await volume.read(file, 0, content.length), content)),
};

for (const what of ["read", "write"] as const) {
  for (const [change, work] of Object.entries(CHANGES)) {
    Deno.test(`a file that is ${change} while its blocks are moved (at the ${what}) has what it should`, async () => {
      const { store, ram, volume, file } = await oneToMove(), content = pattern(BYTES, 2);
      const come = holdNext(store, what), compacting = volume.compact(), release = await come;
      await work(volume, file, content);
      await volume.sync();
      await reuse(volume);
      release();
      assert.ok((await compacting).moved > 0);
      await reuse(volume);
      assert.ok(equal(await volume.read(file, 0, BYTES), content));
      await volume.end();
      assert.deepEqual(await check(ram), []);
      const reader = await openVolume(ram, "read");
      assert.ok(equal(await reader.read(file, 0, BYTES), content), "after it was opened again");
    });
  }

  Deno.test(`a file that is removed while its blocks are moved (at the ${what}) stays removed`, async () => {
    const { store, ram, volume, file } = await oneToMove();
    const come = holdNext(store, what), compacting = volume.compact(), release = await come;
    volume.unlink(ROOT, name("file"));
    await volume.sync();
    // The inode id is another file's now.
    volume.create(ROOT, name("before"), FILE);
    const next = volume.create(ROOT, name("next"), FILE);
    assert.equal(next, file);
    await put(volume, next, 0, pattern(BYTES, 5));
    await volume.sync();
    await reuse(volume);
    release();
    await compacting;
    assert.ok(equal(await volume.read(next, 0, BYTES), pattern(BYTES, 5)));
    await volume.end();
    assert.deepEqual(await check(ram), []);
  });

  Deno.test(`the session ends in order while blocks are moved (at the ${what})`, async () => {
    const { store, ram, volume, file } = await oneToMove();
    const come = holdNext(store, what), compacting = volume.compact(), release = await come;
    const refused = assert.rejects(compacting, { code: "EIO", message: /being closed/ });
    const ending = volume.end();
    release();
    await Promise.all([refused, ending]);
    assert.deepEqual(await check(ram), []);
    const reader = await openVolume(ram, "read");
    assert.ok(equal(await reader.read(file, 0, BYTES), pattern(BYTES, 2)));
  });
}

Deno.test("a read whose blocks are moved and used again meanwhile gets what the file has", async () => {
  const { store, volume, file } = await oneToMove();
  const come = holdNext(store, "read"), reading = volume.read(file, 0, BYTES), release = await come;
  assert.ok((await volume.compact()).moved > 0);
  await reuse(volume);
  release();
  assert.ok(equal(await reading, pattern(BYTES, 2)));
  await volume.end();
});

Deno.test("compacting is done once at a time, and ends when it is asked to", async () => {
  const { store, volume } = await oneToMove(), controller = new AbortController();
  const come = holdNext(store, "read");
  const compacting = volume.compact({ signal: controller.signal }), release = await come;
  await assert.rejects(volume.compact(), { kind: "busy" });
  const reason = new Error("enough");
  controller.abort(reason);
  release();
  await assert.rejects(compacting, reason);
  assert.ok((await volume.compact()).after < (4 << 20) / 4096);
  await volume.end();
});

Deno.test("a read that fails while blocks are moved ends that, and no block is lost by it", async () => {
  const { store, volume, file } = await oneToMove();
  const before = volume.container.session.space.freeBlocks;
  store.hold = (what) => what === "read" ? Promise.reject(new Error("away")) : undefined;
  await assert.rejects(volume.compact(), /away/);
  store.hold = () => undefined;
  volume.setAttributes(file, { mode: 0o600 });
  await volume.sync();
  await volume.sync();
  assert.equal(volume.container.session.space.freeBlocks, before);
  await volume.end();
});

Deno.test("a file that grows while its blocks are moved keeps what was added to its last block", async () => {
  const { store, ram, volume, file } = await oneToMove(), content = pattern(BYTES + 10_000, 7);
  await put(volume, file, 0, content.subarray(0, 5000)); // two extents
  await put(volume, file, 5000, content.subarray(5000, BYTES));
  await volume.end();
  const session = crypto.getRandomValues(new Uint8Array(16));
  const container = await Container.open(store, await testKeys(), { mode: "write", session });
  const state = new VolumeState(container, { dirtyBytes: 1 << 20, relatime: false }), { space } = state;
  const data = new FileData(state), mover = new Mover(state);
  await data.write(file, 4096, content.subarray(4096, 8192));
  await state.commit({ all: true });
  // Everything is to be moved: also what is added while the first part is on its way.
  const come = holdNext(store, "read"),
    moving = mover.pass({
      wants: (run) => run,
      take: async (blocks) => {
        await space.ensure(blocks);
        space.promise(blocks);
        return space.take(blocks);
      },
    });
  const release = await come;
  await data.write(file, BYTES, content.subarray(BYTES));
  await state.commit({ all: true });
  release();
  await moving;
  assert.ok(equal(await data.read(file, 0, content.length), content));
  await state.committer.end();
  await container.session.end();
  assert.deepEqual(await check(ram), []);
  assert.ok(equal(await (await openVolume(ram, "read")).read(file, 0, content.length), content));
});

/** A store whose answers come late and in another order than was asked, as the seed says. */
function late(base: BlockStore, seed: number): HeldStore {
  const store = new HeldStore(base), random = randomNumbers(seed);
  store.hold = () => {
    const turns = random(4);
    return turns === 0 ? undefined : (async () => {
      for (let i = 0; i < turns; i++) await breathe();
    })();
  };
  return store;
}

Deno.test(`random operations give what the plain model gives while blocks are moved (seed ${SEED})`, async () => {
  const random = randomNumbers(SEED), ram = new RamStore(), model = new MemoryFilesystem();
  await makeContainer(ram);
  model.setAttributes(ROOT, { mode: 0o755, uid: 0, gid: 0 });
  const open = () => openVolume(late(ram, 1 + random(1e9)), "write", { dirtyBytes: 64 << 10 });
  let volume = await open(), compacting: Promise<void> | undefined, moved = 0;
  /** Files that are open and have no name any more, in both. */
  const orphans: { ino: Ino; modelIno: Ino }[] = [];
  /** A file without a name, that leaves a hole behind when it is closed. */
  let ballast: Ino | undefined;
  for (let step = 0; step < 1200; step++) {
    const paths = walk(model),
      [text, work] = draw(random, paths),
      where = `seed ${SEED}, step ${step}: ${text}`;
    compacting ??= volume.compact().then((done) => {
      moved += done.moved;
      compacting = undefined;
    });
    await volume.admit();
    assert.deepEqual(await outcome(() => work(volume)), await outcome(() => work(model)), where);
    const then = random(100);
    if (then >= 90) {
      if (ballast !== undefined) volume.drop(ballast);
      volume.hold(ballast = volume.createUnnamed(FILE));
      await volume.write(ballast, 0, pattern(100_000));
      await volume.sync();
    }
    if (then < 30) { for (let i = random(20); i > 0; i--) await breathe(); }
    if (then < 5) await volume.sync();
    if (then === 5) await volume.checkpoint();
    if (then === 6 && orphans.length === 0) {
      const stopped = compacting?.catch(() => {});
      await volume.end();
      await stopped;
      compacting = ballast = undefined;
      volume = await open();
    }
    const file = paths.find(({ path, ino }) => {
      if (model.lookup(ROOT, name(path.slice(1))) !== ino) return false;
      return (model.attributes(ino).mode & S_IFMT) === S_IFREG;
    });
    if (then === 7 && file && orphans.length < 3) {
      const ino = inoOf(volume, file.path), last = name(file.path.slice(1));
      volume.hold(ino), model.hold(file.ino);
      volume.unlink(ROOT, last), model.unlink(ROOT, last);
      orphans.push({ ino, modelIno: file.ino });
    }
    if (then === 8 && orphans.length > 0) {
      const { ino, modelIno } = orphans.shift()!;
      volume.drop(ino), model.drop(modelIno);
    }
    if (then >= 10) continue;
    assert.deepEqual(await picture(volume), await picture(model), where);
    for (const { ino, modelIno } of orphans) {
      const { size } = model.attributes(modelIno);
      assert.ok(equal(await volume.read(ino, 0, size), model.read(modelIno, 0, size)), where);
    }
  }
  const stopped = compacting?.catch(() => {});
  await volume.end();
  await stopped;
  assert.ok(moved > 100, `only ${moved} blocks were moved`);
  assert.deepEqual(await picture(await openVolume(ram, "read")), await picture(model));
  assert.deepEqual(await check(ram), []);
});
