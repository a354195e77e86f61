import assert from "node:assert/strict";
import {
  type CrashImage,
  crashImage,
  crashImages,
  type CrashMode,
  EXHAUSTIVE,
} from "../../fs/block/crash.ts";
import { RecordingStore } from "../../fs/block/recording.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { sealedBlocks, storeSuite } from "./conformance.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };

storeSuite("recording", ({ quota }) => {
  const base = new RamStore(quota === undefined ? {} : { quota });
  const store = new RecordingStore(base, { scribble: true });
  return Promise.resolve({ open: () => Promise.resolve(store), [Symbol.asyncDispose]: () => store.close() });
}, { persistent: false, runs: 10 });

const BLOCK0 = 131072, SEALED = 4128;
const bytesOf = ({ medium }: CrashImage) => medium.toBytes();
const blockOf = (image: CrashImage, position: number) =>
  bytesOf(image).subarray(BLOCK0 + position * SEALED, BLOCK0 + (position + 1) * SEALED);
const same = (a: Uint8Array, b: Uint8Array) => a.length === b.length && a.every((byte, i) => byte === b[i]);

Deno.test("everything is recorded in the order of the calls, with copies of the bytes", strict, async () => {
  const store = new RecordingStore(new RamStore()), block = sealedBlocks(1, 1);
  await store.reserve(4);
  await store.write(2, block);
  await store.writeHeader("super", 1, new Uint8Array(4128).fill(5));
  const flushed = store.flush();
  await store.write(3, block);
  await flushed;
  store.discard(2, 1);
  await store.truncate(3);
  block.fill(0);
  const write = store.events.find((event) => event.kind === "write");
  assert.deepEqual(write?.bytes, sealedBlocks(1, 1));
  assert.deepEqual(
    store.events.map((event) => "bytes" in event ? { ...event, bytes: event.bytes.length } : event),
    [
      { kind: "reserve", blocks: 4 },
      { kind: "write", position: 2, bytes: 4128 },
      { kind: "header", region: "super", copy: 1, bytes: 4128 },
      { kind: "flush-begin", flush: 1 },
      { kind: "write", position: 3, bytes: 4128 },
      { kind: "flush-acknowledged", flush: 1 },
      { kind: "discard", position: 2, count: 1 },
      { kind: "truncate", blocks: 3 },
    ],
  );
});

Deno.test("discarded blocks become garbage after the next flush, unless written again", strict, async () => {
  const store = new RecordingStore(new RamStore(), { scribble: true });
  await store.write(0, sealedBlocks(3, 1));
  store.discard(0, 2);
  await store.write(1, sealedBlocks(1, 2));
  assert(same(await store.read(0, 1), sealedBlocks(1, 1)), "not before the flush");
  await store.flush();
  assert(!same(await store.read(0, 1), sealedBlocks(1, 1)));
  assert(same(await store.read(1, 1), sealedBlocks(1, 2)));
  assert(same(await store.read(2, 1), sealedBlocks(3, 1).subarray(2 * SEALED)));
});

/** Two commits: data, flush, header, flush; the second one over neighbours of the first. */
async function recordCommits(): Promise<RecordingStore> {
  const store = new RecordingStore(new RamStore());
  await store.write(0, sealedBlocks(4, 1));
  await store.flush();
  await store.writeHeader("super", 0, new Uint8Array(4128).fill(1));
  await store.flush();
  await store.write(4, sealedBlocks(4, 2));
  await store.write(9, sealedBlocks(2, 3));
  await store.flush();
  await store.writeHeader("super", 1, new Uint8Array(4128).fill(2));
  await store.flush();
  return store;
}

Deno.test("a kept image is what the store held at that moment, of every moment", strict, async () => {
  const recording = await recordCommits();
  const again = new RamStore(), images = [...crashImages(recording, { modes: ["kept"] })];
  let at = 0;
  for (const image of images) {
    for (; at < image.events; at++) {
      const event = recording.events[at]!;
      if (event.kind === "write") await again.write(event.position, event.bytes);
      if (event.kind === "header") await again.writeHeader(event.region, event.copy, event.bytes);
    }
    const blocks = again.toBytes();
    assert(same(bytesOf(image), blocks.subarray(0, image.medium.length)), `after ${image.events} events`);
  }
  assert.equal(at, recording.events.length);
});

Deno.test("what an acknowledged flush covers is in every image", strict, async () => {
  const recording = await recordCommits();
  const acknowledged = (count: number, flush: number) =>
    recording.events.slice(0, count)
      .some((event) => event.kind === "flush-acknowledged" && event.flush === flush);
  const modes = new Map<CrashMode, number>();
  for (const image of crashImages(recording, { variants: 6, seed: 3 })) {
    modes.set(image.mode, (modes.get(image.mode) ?? 0) + 1);
    if (acknowledged(image.events, 1)) {
      for (let i = 0; i < 4; i++) {
        assert(
          same(blockOf(image, i), sealedBlocks(4, 1).subarray(i * SEALED, (i + 1) * SEALED)),
          `block ${i}`,
        );
      }
    }
    if (acknowledged(image.events, 2)) assert.equal(bytesOf(image)[4096 + 4127], 1);
    if (acknowledged(image.events, 3)) {
      assert(same(blockOf(image, 9), sealedBlocks(2, 3).subarray(0, SEALED)));
    }
    if (acknowledged(image.events, 4)) assert.equal(bytesOf(image)[69632], 2);
  }
  // "dropped" is what "kept" was when the flush was acknowledged.
  for (const mode of ["kept", "torn", "reordered"] as const) {
    assert((modes.get(mode) ?? 0) > 2, `${mode}: ${modes.get(mode)}`);
  }
});

Deno.test("a write during a flush is not covered by it", strict, async () => {
  const store = new RecordingStore(new RamStore());
  await store.write(0, sealedBlocks(1, 1));
  const flushed = store.flush();
  await store.write(1, sealedBlocks(1, 2));
  await flushed;
  const images = [...crashImages(store, { from: store.events.length, modes: ["dropped"] })];
  assert.equal(images.length, 1);
  assert.equal(images[0]!.medium.length, BLOCK0 + SEALED);
});

Deno.test("the same numbers make the same image again", strict, async () => {
  const recording = await recordCommits();
  const images = [...crashImages(recording, { variants: 3, seed: 9, garbage: ["none", "own", "sector"] })];
  for (const image of images) {
    const { medium, ...point } = image, again = crashImage(recording, point);
    assert(same(bytesOf(again), bytesOf(image)), JSON.stringify(point));
    assert.equal(again.medium.hash(), medium.hash());
  }
  const others = [...crashImages(recording, { variants: 3, seed: 10 })];
  assert(others.some((image, i) => images[i] && !same(bytesOf(image), bytesOf(images[i]))));
});

for (const sector of [512, 4096] as const) {
  Deno.test(`a torn write is cut at multiples of ${sector} bytes of the container`, strict, async () => {
    const initial = new RamStore();
    await initial.write(0, sealedBlocks(12, 1));
    const recording = new RecordingStore(initial, { initial: initial.toBytes() });
    await recording.write(3, sealedBlocks(5, 2));
    const before = recording.initial, after = initial.toBytes();
    const cuts = new Set<number>();
    const options = { sectors: [sector], garbage: ["none" as const], variants: 40, from: 1 };
    for (const image of crashImages(recording, { ...options, modes: ["torn"] })) {
      const bytes = bytesOf(image);
      let cut = BLOCK0 + 3 * SEALED;
      while (bytes[cut] === after[cut] && cut < BLOCK0 + 8 * SEALED) cut++;
      // The next byte may be the same before and after, by chance.
      while (cut % sector !== 0 && before[cut - 1] === after[cut - 1]) cut--;
      assert(cut % sector === 0 || cut === BLOCK0 + 3 * SEALED, `cut at ${cut}`);
      assert(same(bytes.subarray(cut), before.subarray(cut)), "old behind the cut");
      cuts.add(cut);
    }
    assert(cuts.size > 2, `${cuts.size} different cuts`);
    let mixed = false;
    for (const image of crashImages(recording, { ...options, modes: ["reordered"] })) {
      const changed: boolean[] = [], bytes = bytesOf(image);
      for (let at = Math.floor((BLOCK0 + 3 * SEALED) / sector); at * sector < BLOCK0 + 8 * SEALED; at++) {
        const part = (bytes: Uint8Array) => bytes.subarray(at * sector, (at + 1) * sector);
        const isNew = same(part(bytes), part(after));
        assert(isNew || same(part(bytes), part(before)), "each sector is old or new");
        changed.push(isNew);
      }
      mixed ||= changed.indexOf(false) >= 0 && changed.lastIndexOf(true) > changed.indexOf(false);
    }
    assert(mixed, "later sectors may be there though earlier ones are not");
  });
}

Deno.test("garbage spares the neighbours, unless it is to hit the sector", strict, async () => {
  const initial = new RamStore();
  await initial.write(0, sealedBlocks(5, 1));
  const recording = new RecordingStore(initial, { initial: initial.toBytes() });
  await recording.write(2, sealedBlocks(1, 2));
  for (const garbage of ["own", "sector"] as const) {
    let own = 0, neighbours = 0;
    for (const image of crashImages(recording, { garbage: [garbage], variants: 40, modes: ["torn"] })) {
      const block = blockOf(image, 2);
      const old = recording.initial.subarray(BLOCK0 + 2 * SEALED, BLOCK0 + 3 * SEALED);
      if (block.some((byte, i) => byte !== old[i] && byte !== sealedBlocks(1, 2)[i])) own++;
      for (const position of [1, 3]) {
        const offset = BLOCK0 + position * SEALED;
        if (!same(blockOf(image, position), recording.initial.subarray(offset, offset + SEALED))) {
          neighbours++;
        }
      }
    }
    assert(own > 10);
    assert.equal(neighbours > 0, garbage === "sector");
  }
});

Deno.test("room that was made and what was cut off may be there or not", strict, async () => {
  const store = new RecordingStore(new RamStore());
  await store.write(0, sealedBlocks(4, 1));
  await store.flush();
  await store.reserve(10);
  await store.truncate(2);
  const lengths = new Set<number>();
  for (const image of crashImages(store, { from: store.events.length, variants: 30 })) {
    lengths.add((image.medium.length - BLOCK0) / SEALED);
  }
  assert.deepEqual([...lengths].sort((a, b) => a - b), [2, 4, 10]);
});

Deno.test(
  "every subset of what is pending is made once, and again when a flush is about to be acknowledged",
  strict,
  async () => {
    const store = new RecordingStore(new RamStore());
    for (let position = 0; position < 5; position++) await store.write(position, sealedBlocks(1, position));
    await store.flush();
    const seen = new Map<string, number>(),
      flush = store.events.findIndex(({ kind }) => kind === "flush-begin");
    for (const image of crashImages(store, { modes: ["subset"], to: flush })) {
      const there = [0, 1, 2, 3, 4].filter((position) => {
        const block = blockOf(image, position);
        if (block.every((byte) => byte === 0)) return false;
        assert(same(block, sealedBlocks(1, position)));
        return true;
      });
      seen.set(there.join(), (seen.get(there.join()) ?? 0) + 1);
    }
    assert.equal(seen.size, 2 ** 5);
    // Those without the last write were possible before it, and still are.
    assert.deepEqual([...seen].filter(([there, times]) => times !== (there.includes("4") ? 1 : 2)), []);
  },
);

Deno.test("subsets of many changes are drawn, and all of them are reached", strict, async () => {
  const store = new RecordingStore(new RamStore()), changes = EXHAUSTIVE + 30;
  for (let position = 0; position < changes; position++) {
    await store.write(position, sealedBlocks(1, position));
  }
  const there = new Set<number>(), missing = new Set<number>(), hashes = new Set<number>();
  for (const image of crashImages(store, { modes: ["subset"], from: changes, variants: 20 })) {
    hashes.add(image.medium.hash());
    for (let i = 0; i < changes; i++) (same(blockOf(image, i), sealedBlocks(1, i)) ? there : missing).add(i);
  }
  assert.deepEqual([hashes.size, there.size, missing.size], [20, changes, changes]);
});
