/** The contract of `BlockStore`, as tests that run over every store. */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { BlockStore, HeaderRegion, StoreMode } from "../../fs/block/store.ts";
import { HEADER_BYTES } from "../../fs/block/store.ts";
import { Broken, FsError } from "../../fs/errors.ts";

const SEALED = 4128;
const REGIONS = ["key", "super"] as const, COPIES = [0, 1] as const;

/** A place for one container, made anew for each test. */
export interface StoreBed extends AsyncDisposable {
  /**
   * Opens it: once to create, and if {@linkcode StoreSuiteOptions.persistent} again to read or write.
   *
   * @param options.takeover though the place may think that it has a writer still
   */
  open(mode: StoreMode, options?: { takeover?: boolean }): Promise<BlockStore>;
}

/** Makes a place, for `quota` blocks at most where that is given. */
export type MakeBed = (options: { quota?: number }) => Promise<StoreBed>;

/** What the suite may ask of a store. */
export interface StoreSuiteOptions {
  /** It can be opened anew, and keeps what was flushed. */
  readonly persistent: boolean;
  /** Runs of the property; default 40. */
  readonly runs?: number;
}

/** `count` blocks that differ from each other and by their seed. */
export function sealedBlocks(count: number, seed: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(count * SEALED), words = new Uint32Array(bytes.buffer);
  for (let i = 0; i < words.length; i++) words[i] = Math.imul(seed + 1, 2654435761) ^ Math.imul(i, 40503);
  return bytes;
}

function assertSame(actual: Uint8Array, expected: Uint8Array, message?: string): void {
  // Many times faster than deepEqual, and its message would be megabytes.
  assert.equal(actual.length, expected.length, message);
  const at = actual.findIndex((byte, i) => byte !== expected[i]);
  assert.equal(at, -1, `${message ?? "bytes"}: differ from byte ${at} on`);
}

/** Calls that change a store. */
function changes(
  store: BlockStore,
): Record<"write" | "writeHeader" | "truncate" | "reserve" | "flush", () => unknown> {
  return {
    write: () => store.write(0, sealedBlocks(1, 1)),
    writeHeader: () => store.writeHeader("super", 0, new Uint8Array(HEADER_BYTES.super)),
    truncate: () => store.truncate(0),
    reserve: () => store.reserve(2),
    flush: () => store.flush(),
  };
}

/** Asserts that every change rejects so, and a flush too, unless it has nothing to do in a store that only reads. */
export async function assertRefuses(
  store: BlockStore,
  expected: (error: unknown) => boolean,
  options: { flush?: boolean } = {},
): Promise<void> {
  for (const [name, change] of Object.entries(changes(store))) {
    if (name !== "flush" || options.flush !== false) {
      await assert.rejects(async () => await change(), expected, name);
    }
  }
}

function isRoom(error: unknown): boolean {
  return error instanceof FsError && (error.code === "ENOSPC" || error.code === "EDQUOT");
}

/** Registers the tests of the contract for one kind of store. */
export function storeSuite(name: string, makeBed: MakeBed, options: StoreSuiteOptions): void {
  const test = (title: string, work: (store: BlockStore, bed: StoreBed) => Promise<void>, quota?: number) =>
    Deno.test(`${name}: ${title}`, { sanitizeOps: true, sanitizeResources: true }, async () => {
      await using bed = await makeBed(quota === undefined ? {} : { quota });
      await using store = await bed.open("create");
      await work(store, bed);
    });

  test("an empty store has no blocks, and all of it reads as zeros", async (store) => {
    assert.equal(await store.size(), 0);
    assertSame(await store.read(0, 3), new Uint8Array(3 * SEALED));
    for (const region of REGIONS) {
      for (const copy of COPIES) {
        assertSame(await store.readHeader(region, copy), new Uint8Array(HEADER_BYTES[region]));
      }
    }
    await store.flush();
  });

  test("writes are seen before they are flushed, the later one over the earlier", async (store) => {
    await store.write(0, sealedBlocks(6, 1));
    store.write(2, sealedBlocks(3, 2));
    const expected = sealedBlocks(6, 1);
    expected.set(sealedBlocks(3, 2), 2 * SEALED);
    assertSame(await store.read(0, 6), expected);
    await store.flush();
    assertSame(await store.read(0, 6), expected);
    assertSame(await store.read(3, 2), expected.subarray(3 * SEALED, 5 * SEALED));
    assert.equal(await store.size(), 6);
  });

  test("what was read belongs to the reader", async (store) => {
    await store.write(0, sealedBlocks(2, 1));
    const first = await store.read(0, 2);
    await store.write(0, sealedBlocks(2, 2));
    await store.flush();
    assertSame(first, sealedBlocks(2, 1), "a later write does not reach it");
    first.fill(0);
    assertSame(await store.read(0, 2), sealedBlocks(2, 2), "and it does not reach the store");
  });

  test("a written buffer may be used again once the write has answered", async (store) => {
    const block = sealedBlocks(1, 1), header = new Uint8Array(HEADER_BYTES.key).fill(1);
    await store.write(5, block);
    await store.writeHeader("key", 1, header);
    block.fill(0xff);
    header.fill(0xff);
    await store.flush();
    assertSame(await store.read(5, 1), sealedBlocks(1, 1));
    assertSame(await store.readHeader("key", 1), new Uint8Array(HEADER_BYTES.key).fill(1));
  });

  test("the four header copies and the blocks do not touch each other", async (store) => {
    await store.write(0, sealedBlocks(2, 9));
    const places: [HeaderRegion, 0 | 1, number][] = [
      ["key", 0, 1],
      ["super", 0, 2],
      ["key", 1, 3],
      ["super", 1, 4],
    ];
    const content = (region: HeaderRegion, fill: number) => new Uint8Array(HEADER_BYTES[region]).fill(fill);
    for (const [region, copy, fill] of places) {
      await store.writeHeader(region, copy, content(region, fill));
    }
    const check = async () => {
      for (const [region, copy, fill] of places) {
        assertSame(await store.readHeader(region, copy), content(region, fill), `${region} ${copy}`);
      }
      assertSame(await store.read(0, 2), sealedBlocks(2, 9));
    };
    await check();
    await store.flush();
    await check();
    const read = await store.readHeader("super", 1);
    read.fill(0);
    await check();
    await store.truncate(0);
    assertSame(await store.readHeader("super", 1), content("super", 4), "truncate leaves headers alone");
  });

  test("a header of the wrong length and part of a block are refused", async (store) => {
    await assert.rejects(async () => await store.writeHeader("key", 0, new Uint8Array(4128)), RangeError);
    await assert.rejects(async () => await store.write(0, new Uint8Array(4096)), RangeError);
    await store.flush();
    assert.equal(await store.size(), 0);
  });

  test("what lies between written blocks reads as zeros, and reading past the end is no error", async (store) => {
    await store.write(1000, sealedBlocks(1, 1));
    assert.equal(await store.size(), 1001);
    const read = await store.read(998, 5);
    assertSame(read.subarray(0, 2 * SEALED), new Uint8Array(2 * SEALED));
    assertSame(read.subarray(2 * SEALED, 3 * SEALED), sealedBlocks(1, 1));
    assert.equal(read.length, 5 * SEALED);
    assert.equal((await store.read(5_000_000, 2)).length, 2 * SEALED);
    assert.equal((await store.read(2 ** 40, 1)).length, SEALED);
  });

  test("a run of 700 blocks arrives whole", async (store) => {
    await store.write(3, sealedBlocks(700, 4));
    assertSame(await store.read(3, 700), sealedBlocks(700, 4));
    await store.flush();
    assertSame(await store.read(3, 700), sealedBlocks(700, 4));
  });

  test("truncate is ordered among the writes", async (store) => {
    const order = [
      store.write(0, sealedBlocks(8, 1)),
      store.truncate(4),
      store.write(6, sealedBlocks(1, 2)),
    ];
    await Promise.all(order);
    await store.flush();
    assert.equal(await store.size(), 7);
    assertSame(await store.read(0, 4), sealedBlocks(8, 1).subarray(0, 4 * SEALED));
    assertSame(await store.read(4, 2), new Uint8Array(2 * SEALED), "what was cut off stays away");
    assertSame(await store.read(6, 1), sealedBlocks(1, 2));
    await store.truncate(100);
    assert.equal(await store.size(), 7, "truncate does not grow");
  });

  test("reserve grows the store and leaves what is there alone", async (store) => {
    await store.write(0, sealedBlocks(2, 1));
    await store.reserve(300);
    assert.equal(await store.size(), 300);
    assertSame(await store.read(0, 2), sealedBlocks(2, 1));
    assertSame(await store.read(298, 2), new Uint8Array(2 * SEALED));
    await store.reserve(10);
    assert.equal(await store.size(), 300, "a smaller reservation gives nothing back");
    await store.write(299, sealedBlocks(1, 2));
    await store.truncate(299);
    await store.reserve(301);
    assertSame(await store.read(299, 2), new Uint8Array(2 * SEALED));
    await store.flush();
    assert.equal(await store.size(), 301);
  });

  test("a block that is written after its discard holds what was written", async (store) => {
    await store.write(0, sealedBlocks(3, 1));
    await store.flush();
    store.discard(0, 3);
    await store.write(1, sealedBlocks(1, 2));
    await store.flush();
    await store.flush();
    assertSame(await store.read(1, 1), sealedBlocks(1, 2));
    assert.equal(await store.size(), 3);
  });

  test("a discard leaves its neighbours alone", async (store) => {
    await store.write(0, sealedBlocks(3, 1));
    await store.flush();
    store.discard(1, 1);
    await store.flush();
    await store.flush();
    assertSame(await store.read(0, 1), sealedBlocks(3, 1).subarray(0, SEALED));
    assertSame(await store.read(2, 1), sealedBlocks(3, 1).subarray(2 * SEALED));
  });

  test("flushes may overlap each other and the writes", async (store) => {
    const flushes: Promise<void>[] = [];
    for (let i = 0; i < 5; i++) {
      await store.write(i, sealedBlocks(1, i));
      flushes.push(store.flush());
    }
    await Promise.all([...flushes, store.flush()]);
    for (let i = 0; i < 5; i++) assertSame(await store.read(i, 1), sealedBlocks(1, i));
  });

  test("a reservation that is refused changes nothing", async (store) => {
    await store.write(0, sealedBlocks(4, 1));
    await assert.rejects(store.reserve(21), isRoom);
    assert.equal(await store.size(), 4);
    await store.write(4, sealedBlocks(1, 2));
    await store.reserve(20);
    await store.flush();
    assert.equal(await store.size(), 20);
    assertSame(await store.read(4, 1), sealedBlocks(1, 2));
    assert.equal((await store.space()).free, 0);
  }, 20);

  test("after a write that failed all changes are refused, and reading goes on", async (store) => {
    await store.write(0, sealedBlocks(1, 1));
    await store.flush();
    await assert.rejects(
      async () => {
        await store.write(8, sealedBlocks(1, 2));
        await store.flush();
      },
      (error) => error instanceof Broken && isRoom(error.cause),
    );
    await assertRefuses(store, (error) => error instanceof Broken);
    store.discard(0, 1);
    assertSame(await store.read(0, 1), sealedBlocks(1, 1));
    assert.equal((await store.readHeader("key", 0)).length, HEADER_BYTES.key);
  }, 8);

  test("closing twice is closing once", async (store) => {
    await store.write(0, sealedBlocks(1, 1));
    await Promise.all([store.close(), store.close()]);
    await store.close();
  });

  test("any mix of calls leaves what a plain array would hold", async () => {
    const position = fc.nat(40), count = fc.integer({ min: 1, max: 12 }), seed = fc.nat(99);
    const step = fc.oneof(
      fc.record({ call: fc.constant("write" as const), position, count, seed }),
      fc.record({ call: fc.constant("truncate" as const), position }),
      fc.record({ call: fc.constant("reserve" as const), position }),
      fc.record({ call: fc.constant("read" as const), position, count }),
      fc.record({ call: fc.constant("flush" as const) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
        await using bed = await makeBed({});
        await using store = await bed.open("create");
        let size = 0;
        const model = new Uint8Array(64 * SEALED);
        for (const one of steps) {
          if (one.call === "write") {
            const bytes = sealedBlocks(one.count, one.seed);
            await store.write(one.position, bytes);
            model.set(bytes, one.position * SEALED);
            size = Math.max(size, one.position + one.count);
          } else if (one.call === "truncate") {
            await store.truncate(one.position);
            model.fill(0, one.position * SEALED);
            size = Math.min(size, one.position);
          } else if (one.call === "reserve") {
            await store.reserve(one.position);
            size = Math.max(size, one.position);
          } else if (one.call === "flush") await store.flush();
          else {
            const expected = model.subarray(one.position * SEALED, (one.position + one.count) * SEALED);
            assertSame(await store.read(one.position, one.count), expected);
          }
          assert.equal(await store.size(), size);
        }
        assertSame(await store.read(0, 64), model);
      }),
      { numRuns: options.runs ?? 40 },
    );
  });

  if (!options.persistent) return;

  test("what was flushed is there after opening anew", async (store, bed) => {
    await store.write(2, sealedBlocks(3, 1));
    await store.writeHeader("super", 1, new Uint8Array(HEADER_BYTES.super).fill(7));
    await store.flush();
    await store.close();
    for (const mode of ["read", "write"] as const) {
      await using again = await bed.open(mode);
      assert.equal(await again.size(), 5);
      assertSame(await again.read(2, 3), sealedBlocks(3, 1));
      assertSame(await again.readHeader("super", 1), new Uint8Array(HEADER_BYTES.super).fill(7));
    }
    await using again = await bed.open("write");
    await again.write(0, sealedBlocks(1, 2));
    await again.flush();
    assertSame(await again.read(0, 1), sealedBlocks(1, 2));
  });

  test("a reader sees what a writer has flushed, and changes nothing", async (store, bed) => {
    await store.write(0, sealedBlocks(1, 1));
    await store.flush();
    await using reader = await bed.open("read");
    assertSame(await reader.read(0, 1), sealedBlocks(1, 1));
    await store.write(1, sealedBlocks(1, 2));
    await store.flush();
    await reader.refresh();
    assertSame(await reader.read(1, 1), sealedBlocks(1, 2));
    const isReadOnly = (error: unknown) => error instanceof FsError && error.code === "EROFS";
    await assertRefuses(reader, isReadOnly, { flush: false });
    assertSame(await store.read(0, 1), sealedBlocks(1, 1));
  });

  test("a store that broke works again after opening anew", async (store, bed) => {
    await store.write(0, sealedBlocks(1, 1));
    await store.flush();
    await assert.rejects(async () => {
      await store.write(8, sealedBlocks(1, 2));
      await store.flush();
    }, Broken);
    await store.close();
    await using again = await bed.open("write", { takeover: true });
    assertSame(await again.read(0, 1), sealedBlocks(1, 1));
    await again.write(1, sealedBlocks(1, 3));
    await again.flush();
    assert.equal(await again.size(), 2);
  }, 8);

  test("a second writer is refused while the first is open", async (store, bed) => {
    await store.flush();
    await assert.rejects(
      bed.open("write"),
      (error) => (error as { kind?: string }).kind === "busy",
    );
    await store.close();
    await using second = await bed.open("write");
    await second.flush();
  });
}
