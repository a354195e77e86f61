/** Header backups: what the beginning of a container held is put back, and the rest is there still. */
import assert from "node:assert/strict";
import { SEALED } from "../../crypto/sealer.ts";
import { BLOCKS_AT } from "../../fs/block/byte_layout.ts";
import { headerOf, readHeaderBackup, tryHeader } from "../../fs/header_backup.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { ROOT } from "../../fs/types.ts";
import { check, codesOf, repair, spoil } from "./damaged_containers.ts";
import { equal, FILE, name, openVolume, pattern, ramContainer, testKeys } from "./fixture.ts";

const MEGABYTE = 1 << 20;

Deno.test("the first megabyte is gone: with a header backup everything else is there, and fsck names what is not", async () => {
  const store = await ramContainer();
  const volume = await openVolume(store);
  for (let i = 0; i < 6; i++) {
    await volume.write(volume.create(ROOT, name(`f${i}`), FILE), 0, pattern(MEGABYTE, i + 1));
    await volume.sync();
    if (i >= 4) await volume.checkpoint();
  }
  await volume.end();
  const backup = await readHeaderBackup(store), bytes = store.toBytes().fill(0, 0, MEGABYTE);
  assert.deepEqual([backup.length, equal(backup, store.toBytes().subarray(0, BLOCKS_AT))], [BLOCKS_AT, true]);
  const cut = RamStore.fromBytes(bytes), keys = await testKeys();
  assert.equal((await tryHeader(cut, keys, backup)).superblocks, "backup");
  await assert.rejects(check(cut), /neither superblock verifies/, "trying changes nothing");
  for (const copy of [0, 1] as const) await cut.writeHeader("super", copy, headerOf(backup, "super", copy));
  // The checkpoints lie a mebibyte apart: one of them is whole.
  assert.deepEqual(codesOf(await check(cut)), ["checkpoint", "data"]);
  const { after } = await repair(cut, { damaged: "zero" });
  assert.deepEqual(after.findings, []);
  const restored = await openVolume(cut, "read");
  let lost = 0;
  for (let i = 0; i < 6; i++) {
    const read = await restored.read(restored.lookup(ROOT, name(`f${i}`))!, 0, 2 * MEGABYTE),
      was = pattern(MEGABYTE, i + 1);
    assert.equal(read.length, MEGABYTE);
    for (let at = 0; at < MEGABYTE; at += 4096) {
      const page = read.subarray(at, at + 4096);
      if (!equal(page, was.subarray(at, at + 4096))) lost++, assert.ok(page.every((byte) => byte === 0));
    }
  }
  assert.ok(lost > 0 && lost <= (MEGABYTE - BLOCKS_AT) / SEALED + 1, `${lost} blocks`);
});

Deno.test("one damaged block of a container that was never checkpointed costs nothing but data", async () => {
  for (const position of [0, 1, 3, 4]) {
    const store = await ramContainer();
    const volume = await openVolume(store);
    await volume.write(volume.create(ROOT, name("f"), FILE), 0, pattern(5000));
    await volume.end();
    await spoil(store, position);
    assert.deepEqual(codesOf(await check(store)), ["checkpoint"], `block ${position}`);
    assert.deepEqual((await repair(store)).after.findings, []);
    const reader = await openVolume(store, "read");
    assert.ok(equal(await reader.read(reader.lookup(ROOT, name("f"))!, 0, 9000), pattern(5000)));
  }
});
