/** Room in a container while the store is asked for more: what else happens meanwhile. */
import assert from "node:assert/strict";
import { StoreDecorator } from "../../fs/block/decorator.ts";
import { breathe } from "../../fs/clock.ts";
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
