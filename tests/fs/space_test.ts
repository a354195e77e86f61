/** Room in a container while the store is asked for more: what else happens meanwhile. */
import assert from "node:assert/strict";
import { StoreDecorator } from "../../fs/block/decorator.ts";
import { breathe } from "../../fs/clock.ts";
import { FsError } from "../../fs/errors.ts";
import { FreeSpace } from "../../fs/layout/free_space.ts";
import type { Run } from "../../fs/layout/superblock.ts";
import { Space } from "../../fs/space.ts";
import { RamStore } from "../../fs/store/ram.ts";

/** Makes room at once and says so when it is let. */
class SlowToAnswer extends StoreDecorator {
  readonly answers: (() => void)[] = [];

  override async reserve(blocks: number): Promise<void> {
    await super.reserve(blocks);
    await new Promise<void>((resolve) => this.answers.push(resolve));
  }
}

async function spaceOf(used: Iterable<Run>, blocks: number) {
  const base = new RamStore(), store = new SlowToAnswer(base), free = new FreeSpace();
  await base.reserve(blocks);
  free.build(used);
  return { base, store, space: new Space(store, free, blocks) };
}

Deno.test("a run for the journal and room for data can be asked for at the same time", async () => {
  const everyOther = Array.from({ length: 2000 }, (_, i) => ({ position: 2 * i, count: 1 }));
  const { store, space } = await spaceOf(everyOther, 4000);
  const data = space.ensure(3000), journal = space.takeMetadata(32, 1);
  await breathe();
  store.answers.shift()!();
  await data;
  space.promise(3000);
  space.take(3000);
  await breathe();
  store.answers.shift()?.();
  const [run] = await journal;
  assert.equal(run?.count, 32);
});

Deno.test("what is being made room for is not given back", async () => {
  const { base, store, space } = await spaceOf([{ position: 0, count: 10 }], 4000);
  const data = space.ensure(5000);
  await breathe();
  await space.shrink({ ended: false });
  store.answers.shift()!();
  await data;
  assert.ok(await base.size() >= space.capacity);
});

Deno.test("a container that is made shorter while it grows has all the room that is counted on", async () => {
  let held = Promise.resolve();
  const store = new class extends StoreDecorator {
    override async reserve(blocks: number): Promise<void> {
      await super.reserve(blocks);
      await held;
    }
  }(new RamStore());
  const space = new Space(store, new FreeSpace(), 0), { promise, resolve } = Promise.withResolvers<void>();
  await space.ensure(3000);
  held = promise;
  const growing = space.ensure(6000);
  const shrinking = space.shrink({ ended: true });
  resolve();
  await growing;
  await shrinking;
  assert.equal(await store.size(), space.capacity);
});

Deno.test("who writes on and on does not wait for the container to grow, nor is anyone told that it cannot yet", async () => {
  let most = Infinity;
  const { base, store, space } = await spaceOf([], 0), { answers } = store;
  const reserve = base.reserve.bind(base);
  base.reserve = (blocks) => blocks > most ? Promise.reject(new FsError("ENOSPC")) : reserve(blocks);
  const grow = async (blocks: number) => {
    const grown = space.ensure(blocks);
    await breathe();
    const asked = performance.now();
    while (performance.now() - asked < 20) await breathe(); // as behind a slow link
    answers.shift()!();
    await grown;
    space.promise(space.available);
  };
  await grow(256);
  await grow(256);
  await grow(256);
  await breathe();
  assert.equal(answers.length, 1, "it grows already");
  answers.shift()!();
  await breathe();
  const ahead = space.available;
  assert.ok(ahead > 256);
  most = space.capacity;
  space.promise(ahead);
  await breathe();
  assert.equal(space.full, false, "nobody has asked for more");
  await assert.rejects(async () => await space.ensure(1), { code: "ENOSPC" });
  assert.equal(space.full, true);
});
