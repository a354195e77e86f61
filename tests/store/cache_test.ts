import assert from "node:assert/strict";
import fc from "fast-check";
import { CachedStore } from "../../fs/block/cache.ts";
import { StoreDecorator } from "../../fs/block/decorator.ts";
import { breathe } from "../../fs/clock.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { FILE, makeContainer, name, openVolume, pattern } from "../fs/fixture.ts";
import { sealedBlocks, storeSuite } from "./conformance.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const SEALED = 4128;

storeSuite("cache over RAM", ({ quota }) => {
  const store = new CachedStore(new RamStore(quota === undefined ? {} : { quota }));
  return Promise.resolve({ open: () => Promise.resolve(store), [Symbol.asyncDispose]: () => store.close() });
}, { persistent: false });

/** Counts reads, and answers them when it is told to. */
class SlowStore extends StoreDecorator {
  readonly reads: [number, number][] = [];
  #held: (() => void)[] | undefined;
  readonly #failing = new Map<number, () => void>();

  /** From now on reads wait for {@linkcode release}. */
  hold(): void {
    this.#held = [];
  }

  release(): void {
    for (const go of this.#held?.splice(0) ?? []) go();
    this.#held = undefined;
  }

  /** A read from this position that waits fails. */
  fail(position: number): void {
    this.#failing.get(position)?.();
  }

  override async read(position: number, count: number): Promise<Uint8Array> {
    this.reads.push([position, count]);
    const bytes = await super.read(position, count);
    const held = this.#held;
    if (held) {
      await new Promise<void>((resolve, reject) => {
        held.push(resolve);
        this.#failing.set(position, () => reject(new Error("no answer")));
      });
    }
    return bytes;
  }
}

/** A clock that stands still unless it is set. */
class FakeTime implements Disposable {
  readonly #real = performance.now;
  now = 0;

  constructor() {
    performance.now = () => this.now;
  }

  [Symbol.dispose](): void {
    performance.now = this.#real;
  }
}

async function slow(blocks: number): Promise<{ base: RamStore; below: SlowStore }> {
  const base = new RamStore();
  await base.write(0, sealedBlocks(blocks, 1));
  return { base, below: new SlowStore(base) };
}

function same(actual: Uint8Array, expected: Uint8Array): void {
  assert.ok(actual.length === expected.length && actual.every((byte, i) => byte === expected[i]));
}

Deno.test("blocks that were read are not asked for again", strict, async () => {
  const { base, below } = await slow(20), cache = new CachedStore(below);
  same(await cache.read(3, 5), base.read(3, 5));
  same(await cache.read(4, 2), base.read(4, 2));
  same(await cache.read(2, 8), base.read(2, 8));
  assert.deepEqual(below.reads, [[3, 5], [2, 1], [8, 2]]);
});

Deno.test(
  "blocks that were written a few at a time are not asked for, unless they were cut off",
  strict,
  async () => {
    const { base, below } = await slow(20), cache = new CachedStore(below);
    await cache.write(3, sealedBlocks(4, 9));
    await cache.write(100, sealedBlocks(200, 9));
    await cache.truncate(5);
    await cache.reserve(300);
    same(await cache.read(2, 4), await base.read(2, 4));
    same(await cache.read(100, 1), await base.read(100, 1));
    assert.deepEqual(below.reads, [[2, 1], [5, 1], [100, 1]]);
  },
);

Deno.test("who reads anew does not find what was written and has not arrived", strict, async () => {
  const { base } = await slow(20), cache = new CachedStore(base);
  base.refresh = () => Promise.resolve(false);
  const write = base.write;
  base.write = () => {}; // another writer was granted
  await cache.write(3, sealedBlocks(1, 9));
  base.write = write;
  same((await cache.read(3, 1)).slice(), sealedBlocks(1, 9));
  assert.equal(await cache.refresh(), false);
  same(await cache.read(3, 1), await base.read(3, 1));
});

Deno.test(
  "a write that is refused is not kept: a writer that was replaced reads what the other one wrote",
  strict,
  async () => {
    const { base } = await slow(20), cache = new CachedStore(base);
    base.write = () => Promise.reject(new Error("another writer was granted"));
    await assert.rejects(async () => await cache.write(3, sealedBlocks(2, 9)), /granted/);
    same(await cache.read(2, 4), await base.read(2, 4));
  },
);

Deno.test("what is fetched ahead is asked for once, also while it is on its way", strict, async () => {
  const { base, below } = await slow(600), cache = new CachedStore(below);
  below.hold();
  cache.prefetch(10, 500);
  cache.prefetch(300, 250);
  const early = cache.read(100, 300);
  below.release();
  same(await early, base.read(100, 300));
  same(await cache.read(10, 90), base.read(10, 90));
  same(await cache.read(399, 151), base.read(399, 151)); // the last block of a long read is kept
  assert.deepEqual(below.reads, [[10, 256], [266, 244], [510, 40]]);
});

Deno.test(
  "what is fetched ahead makes room for more only when nobody wants it for a while",
  strict,
  async () => {
    using time = new FakeTime();
    const { base, below } = await slow(600), cache = new CachedStore(below, { bytes: 64 * SEALED });
    await cache.read(0, 4);
    for (let at = 100; at < 284; at += 16) {
      cache.prefetch(at, 16);
      same(await cache.read(at, 16), base.read(at, 16));
    }
    const ahead = async (at: number) => {
      cache.prefetch(at, 16);
      await breathe(); // it comes
      assert.ok(cache.bytes <= 64 * SEALED);
    };
    for (const at of [300, 316, 332]) await ahead(at);
    assert.deepEqual(below.reads.slice(-2), [[300, 16], [316, 16]], "there is no room for more");
    time.now += 2000;
    await ahead(332);
    below.reads.length = 0;
    await cache.read(0, 4);
    same(await cache.read(316, 32), base.read(316, 32));
    assert.deepEqual(below.reads, []);
    await cache.read(300, 1);
    assert.deepEqual(below.reads, [[300, 1]]);
  },
);

Deno.test("of what was fetched ahead, blocks that are read a few at a time are kept", strict, async () => {
  const { base, below } = await slow(100), cache = new CachedStore(below);
  for (const late of [true, false]) { // read while it is on its way, and when it has come
    const first = late ? 0 : 50;
    if (late) below.hold();
    cache.prefetch(first, 40);
    if (!late) await breathe();
    const reading = [cache.read(first + 3, 2), cache.read(first + 4, 3)];
    if (late) below.release();
    same(await reading[0]!, base.read(first + 3, 2));
    same(await reading[1]!, base.read(first + 4, 3));
    same(await cache.read(first + 3, 4), base.read(first + 3, 4));
  }
  assert.deepEqual(below.reads, [[0, 40], [50, 40]]);
});

Deno.test("a read that fails in one part leaves the caller's buffer alone from then on", strict, async () => {
  const { base, below } = await slow(300), cache = new CachedStore(below);
  await cache.read(100, 1); // in between, so that a read of more has parts
  below.hold();
  const into = new Uint8Array(200 * SEALED), reading = cache.read(50, 200, into);
  let ended = false;
  const failed = assert.rejects(Promise.resolve(reading), /no answer/).then(() => ended = true);
  await breathe(); // both parts are asked for
  below.fail(50);
  for (let i = 0; i < 10; i++) await breathe();
  assert.ok(!ended, "a part is still on its way into the buffer");
  below.release();
  await failed;
  same(into.subarray(51 * SEALED), base.read(101, 149));
});

for (const way of ["fetched ahead", "read", "fetched ahead and read"]) {
  Deno.test(
    `a block that is written while it is ${way} is never shown as it was afterwards`,
    strict,
    async () => {
      const { base, below } = await slow(20), cache = new CachedStore(below);
      below.hold();
      if (way.includes("ahead")) cache.prefetch(0, 10);
      const reading = way.includes("read") ? cache.read(0, way === "read" ? 10 : 8) : undefined;
      await cache.write(5, sealedBlocks(1, 9));
      below.release();
      await reading;
      same(await cache.read(4, 3), base.read(4, 3));
      same((await cache.read(5, 1)).slice(), sealedBlocks(1, 9));
    },
  );
}

Deno.test("a fetch that fails is told to who asks, and is not remembered", strict, async () => {
  const { base, below } = await slow(20), cache = new CachedStore(below);
  const read = below.read;
  below.read = () => Promise.reject(new Error("away"));
  cache.prefetch(0, 4);
  await assert.rejects(async () => await cache.read(1, 1), /away/);
  below.read = read;
  same(await cache.read(1, 1), base.read(1, 1));
});

Deno.test("what does not verify is asked for again", strict, async () => {
  const { base, below } = await slow(20), cache = new CachedStore(below);
  await cache.read(0, 4);
  cache.doubt(1, 2);
  same(await cache.read(0, 4), base.read(0, 4));
  assert.deepEqual(below.reads, [[0, 4], [1, 2]]);
});

Deno.test("when the store says that it has changed, everything is asked for anew", strict, async () => {
  const { base, below } = await slow(20), cache = new CachedStore(below);
  await cache.read(0, 4);
  await base.write(1, sealedBlocks(1, 9));
  assert.equal(await cache.refresh(), true);
  same(await cache.read(0, 4), base.read(0, 4));
});

Deno.test(
  "a cache stays below its limit, and whatever is done to it shows what the store has",
  strict,
  async () => {
    const position = fc.nat(59), count = fc.integer({ min: 1, max: 20 });
    const step = fc.oneof(
      fc.record({ kind: fc.constant("read" as const), position, count }),
      fc.record({ kind: fc.constant("prefetch" as const), position, count }),
      fc.record({ kind: fc.constant("write" as const), position, count }),
      fc.record({ kind: fc.constant("discard" as const), position, count }),
      fc.record({ kind: fc.constant("truncate" as const), position, count }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const { base, below } = await slow(80);
        const cache: BlockStore & { bytes: number } = new CachedStore(below, { bytes: 24 * SEALED });
        for (const [i, { kind, position, count }] of steps.entries()) {
          if (kind === "read") same(await cache.read(position, count), base.read(position, count));
          else if (kind === "prefetch") cache.prefetch!(position, count);
          else if (kind === "write") await cache.write(position, sealedBlocks(count, 100 + i));
          else if (kind === "discard") cache.discard(position, count);
          else await cache.truncate(position + count);
          assert.ok(cache.bytes <= 24 * SEALED);
        }
        await cache.close();
      }),
    );
  },
);

Deno.test("what is kept of a container is what its store has, sealed, and nothing else", strict, async () => {
  const base = new RamStore(), below = new SlowStore(base), content = pattern(40 * 4096);
  await makeContainer(base);
  const writer = await openVolume(base), ino = writer.create(0, name("file"), FILE);
  await writer.write(ino, 0, content);
  await writer.end();
  const cache = new CachedStore(below), reader = await openVolume(cache, "read");
  same(await reader.read(ino, 0, content.length), content);
  assert(cache.bytes > 40 * SEALED);
  below.reads.length = 0;
  let kept = 0;
  for (let position = 0; position < await base.size(); position++) {
    const asked = below.reads.length, sealed = await cache.read(position, 1);
    if (below.reads.length > asked) continue; // it was not kept
    kept++;
    same(sealed, await base.read(position, 1));
  }
  assert(kept >= 40, `${kept}`);
});
