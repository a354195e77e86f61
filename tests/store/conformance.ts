/** What every store must do (fs/block/store.ts); runs over each of them. */
import assert from "node:assert/strict";
import { SEALED } from "../../crypto/sealer.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { FsError } from "../../fs/errors.ts";

/** Opens an empty store, with that many blocks of quota if it is given. */
export type MakeStore = (quota?: number) => Promise<BlockStore>;

function blocks(count: number, seed: number): Uint8Array {
  return Uint8Array.from({ length: count * SEALED }, (_, i) => (i * 31 + seed * 97 + (i >> 8)) & 0xff);
}

/** Registers the suite's tests for one kind of store. */
export function storeSuite(name: string, makeStore: MakeStore): void {
  const test = (sentence: string, work: (store: BlockStore) => Promise<void>, quota?: number) =>
    Deno.test(`${name}: ${sentence}`, async () => {
      await using store = await makeStore(quota);
      await work(store);
    });

  test("a read sees writes that are not flushed, and flush keeps them", async (store) => {
    await store.write(3, blocks(5, 1));
    assert.deepEqual(await store.read(3, 5), blocks(5, 1));
    assert.deepEqual(await store.read(5, 1), blocks(5, 1).slice(2 * SEALED, 3 * SEALED));
    await store.flush();
    assert.deepEqual(await store.read(3, 5), blocks(5, 1));
  });

  test("a later write wins over an earlier one", async (store) => {
    await store.write(0, blocks(4, 1));
    await store.write(1, blocks(2, 2));
    await store.flush();
    assert.deepEqual((await store.read(1, 2)).slice(), blocks(2, 2));
    assert.deepEqual((await store.read(0, 1)).slice(), blocks(1, 1).slice(0, SEALED));
  });

  test("a read past the end is no error and has its full length", async (store) => {
    await store.write(0, blocks(1, 1));
    assert.equal((await store.read(0, 10)).length, 10 * SEALED);
    assert.equal((await store.read(1000, 3)).length, 3 * SEALED);
  });

  test("both copies of both header regions are kept apart", async (store) => {
    const regions = [["key", 4096], ["super", SEALED]] as const;
    for (const [region, length] of regions) {
      for (const copy of [0, 1] as const) {
        await store.writeHeader(region, copy, new Uint8Array(length).fill(length % 7 + copy + 1));
      }
    }
    await store.write(0, blocks(2, 3));
    await store.flush();
    for (const [region, length] of regions) {
      for (const copy of [0, 1] as const) {
        assert.deepEqual(
          (await store.readHeader(region, copy)).slice(),
          new Uint8Array(length).fill(length % 7 + copy + 1),
        );
      }
    }
    assert.deepEqual(await store.read(0, 2), blocks(2, 3));
  });

  test("a header that was never written reads as zeros", async (store) => {
    assert.deepEqual((await store.readHeader("super", 1)).slice(), new Uint8Array(SEALED));
  });

  test("reserve makes room that size() counts, and truncate gives it back", async (store) => {
    await store.reserve(300);
    assert.ok(await store.size() >= 300);
    await store.write(299, blocks(1, 1));
    await store.truncate(10);
    await store.flush();
    assert.equal(await store.size(), 10);
    await store.reserve(5);
    assert.equal(await store.size(), 10);
  });

  test("a store that is full says so and stays usable", async (store) => {
    await store.reserve(40);
    await assert.rejects(
      store.reserve(100),
      (error) => error instanceof FsError && ["ENOSPC", "EDQUOT"].includes(error.code),
    );
    await store.write(39, blocks(1, 1));
    await store.flush();
    assert.deepEqual(await store.read(39, 1), blocks(1, 1));
  }, 50);

  test("discard may come at any time and leaves neighbours alone", async (store) => {
    await store.write(0, blocks(3, 1));
    await store.flush();
    store.discard(1, 1);
    await store.flush();
    assert.deepEqual((await store.read(0, 1)).slice(), blocks(3, 1).slice(0, SEALED));
    assert.deepEqual((await store.read(2, 1)).slice(), blocks(3, 1).slice(2 * SEALED));
  });

  test("close may be called twice", async (store) => {
    await store.close();
    await store.close();
  });
}
