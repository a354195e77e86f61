/** Containers that earlier versions wrote, one for each suite: every later version must open them. */
import assert from "node:assert/strict";
import { gunzipSync } from "node:zlib";
import { createSealer, newestEncryptionBlock, unlockEncryptionBlock } from "../../crypto/mod.ts";
import { SEALED } from "../../crypto/sealer.ts";
import { blockOffset, blocksIn, HEADER_AT } from "../../fs/block/byte_layout.ts";
import { HEADER_BYTES } from "../../fs/block/store.ts";
import { Container } from "../../fs/container.ts";
import { checkContainer } from "../../fs/fsck.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { ROOT } from "../../fs/types.ts";
import { Volume } from "../../fs/volume.ts";
import { name, SUITES } from "./fixture.ts";

for (const suite of SUITES) {
  Deno.test(`a container of format version 2 and ${suite} opens, and is clean`, async () => {
    const packed = Deno.readFileSync(new URL(`../data/v2-${suite}.cfs.gz`, import.meta.url));
    const bytes = new Uint8Array(gunzipSync(packed)), store = new RamStore();
    for (const region of ["key", "super"] as const) {
      for (const copy of [0, 1] as const) {
        const at = HEADER_AT[region][copy];
        await store.writeHeader(region, copy, bytes.slice(at, at + HEADER_BYTES[region]));
      }
    }
    const blocks = blocksIn(bytes.length);
    await store.write(0, bytes.slice(blockOffset(0), blockOffset(0) + blocks * SEALED));
    const { header } = await newestEncryptionBlock(
      await store.readHeader("key", 0),
      await store.readHeader("key", 1),
    );
    assert.equal(header.suite, suite);
    using unlocked = await unlockEncryptionBlock(header, { kind: "passphrase", text: "format version 2" });
    const { containerId, generation, sequence } = header;
    const sealer = await createSealer({ suite, containerId, keys: unlocked.masterKeys });
    const keys = { containerId, sealer, generation, keySequence: sequence };
    assert.deepEqual((await checkContainer(store, keys, { scrub: true })).findings, []);
    await using volume = new Volume(await Container.open(store, keys, { mode: "read" }));
    const source = volume.lookup(ROOT, name("src"))!, hard = volume.lookup(source, name("hard"))!;
    const folder = volume.lookup(source, name("folder"))!, file = volume.lookup(folder, name("file"))!;
    assert.equal(file, hard);
    const { size, nlink, mode } = volume.attributes(file);
    assert.deepEqual([size, nlink, mode], [10000, 2, 0o100640]);
    assert.ok((await volume.read(file, 0, size)).every((byte) => byte === 0x78));
    assert.deepEqual(volume.readlink(volume.lookup(folder, name("link"))!), name("file"));
  });
}
