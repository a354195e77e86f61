import assert from "node:assert/strict";
import { blockOffset, BLOCKS_AT, blocksIn, HEADER_AT } from "../../fs/block/byte_layout.ts";
import { RamStore } from "../../fs/store/ram.ts";
import * as served from "../../net/backing.ts";
import { STORE_BEDS } from "./beds.ts";
import { sealedBlocks, storeSuite } from "./conformance.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };

storeSuite("RAM", STORE_BEDS.RAM, { persistent: false });

Deno.test("a store in RAM becomes a file's bytes and comes back", strict, async () => {
  const store = new RamStore();
  await store.write(0, sealedBlocks(3, 1));
  await store.writeHeader("key", 0, new Uint8Array(4096).fill(1));
  await store.writeHeader("super", 1, new Uint8Array(4128).fill(2));
  await store.reserve(5);
  const image = store.toBytes();
  assert.equal(image.length, 131072 + 5 * 4128);
  assert.equal(image[0], 1);
  assert.equal(image[69632 + 4127], 2);
  const again = RamStore.fromBytes(image);
  assert.equal(await again.size(), 5);
  assert.deepEqual(again.toBytes(), image);
});

Deno.test("bytes that are cut off within a block read as zeros from there on", strict, async () => {
  const store = new RamStore();
  await store.write(0, sealedBlocks(2, 1));
  const cut = RamStore.fromBytes(store.toBytes().subarray(0, 131072 + 4128 + 100));
  assert.equal(await cut.size(), 1);
  const expected = sealedBlocks(2, 1).fill(0, 4128 + 100);
  assert.deepEqual(cut.read(0, 2), expected);
  assert.equal(await RamStore.fromBytes(new Uint8Array(5000).fill(3)).size(), 0);
});

Deno.test("a store in RAM keeps what it holds when it is closed", strict, async () => {
  const store = new RamStore();
  await store.write(0, sealedBlocks(1, 1));
  await store.close();
  assert.deepEqual(store.read(0, 1), sealedBlocks(1, 1));
});

Deno.test("containers in files and on servers have one layout of bytes", strict, () => {
  assert.equal(served.BLOCKS_AT, BLOCKS_AT);
  assert.deepEqual(served.HEADER_AT.map(({ copies }) => copies), [HEADER_AT.key, HEADER_AT.super]);
  for (const position of [0, 1, 7, 1e9]) assert.equal(served.blockOffset(position), blockOffset(position));
  for (const bytes of [0, 131072, 135199, 135200, 1e9]) assert.equal(served.blocksIn(bytes), blocksIn(bytes));
});
