/** `fsck --repair` and `header` on a container that lies on a server: damaged there, mended from here. */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { SEALED } from "../../crypto/sealer.ts";
import { blockOffset, BLOCKS_AT, HEADER_AT } from "../../fs/block/byte_layout.ts";
import { ServerProcess } from "./processes.ts";
import { Workplace } from "./run.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const CONTENT = new TextEncoder().encode("what must stay\n".repeat(20_000));

/** A container on a server, with one file. */
async function served() {
  const place = await Workplace.make(), server = await ServerProcess.start(place);
  const env = { COVERFS_CONTAINER: server.link }, file = place.path("served", new URL(server.link).pathname);
  const run = (...args: string[]) => place.run(args, { env });
  await writeFile(place.path("file"), CONTENT);
  for (const args of [["init", "--kdf-rounds", "210000"], ["put", "file", "/"]]) {
    const { code, error } = await run(...args);
    assert.equal(code, 0, error);
  }
  /** Changes the container's bytes at the server, which does not run meanwhile. */
  const edit = async (change: (bytes: Uint8Array) => void) => {
    await server.kill();
    const bytes = new Uint8Array(await readFile(file));
    change(bytes);
    await writeFile(file, bytes);
    await server.restart();
    return bytes;
  };
  const bytes = async () => new Uint8Array(await readFile(file));
  const dispose = async () => {
    await server.kill();
    await place[Symbol.asyncDispose]();
  };
  return { place, run, edit, bytes, [Symbol.asyncDispose]: dispose };
}

Deno.test("fsck --repair mends headers of a container on a server from their twins", strict, async () => {
  await using box = await served();
  const damaged = await box.edit((bytes) => {
    bytes.fill(0xee, HEADER_AT.key[0], HEADER_AT.key[0] + 4096);
    bytes.fill(0xee, HEADER_AT.super[1], HEADER_AT.super[1] + SEALED);
  });
  assert.equal((await box.run("fsck")).code, 4);
  const planned = await box.run("fsck", "--repair", "--dry-run");
  assert.equal(planned.code, 4, planned.error);
  assert.match(planned.out, /would be repaired/);
  assert.deepEqual(await box.bytes(), damaged, "nothing was changed so far");
  const repaired = await box.run("fsck", "--repair", "--yes");
  assert.equal(repaired.code, 1, repaired.error);
  assert.equal((await box.run("fsck", "--scrub")).code, 0);
  assert.deepEqual((await box.run("cat", "/file")).bytes, CONTENT);
  const after = await box.bytes();
  assert.deepEqual(after.slice(0, 4096), after.slice(65_536, 69_632));
});

Deno.test(
  "fsck --repair gives up damaged data of a container on a server only when told to",
  strict,
  async () => {
    await using box = await served();
    const whole = await box.bytes();
    let last = 0;
    for (let position = 0; blockOffset(position) < whole.length; position++) {
      const at = blockOffset(position);
      if (whole.subarray(at, at + SEALED).some((byte) => byte !== 0)) last = position;
    }
    // A block in the middle of the file: its blocks are most of what there is.
    await box.edit((bytes) => void (bytes[blockOffset(last - 40) + 100]! ^= 1));
    const checked = await box.run("fsck", "--scrub");
    assert.equal(checked.code, 4, checked.error);
    assert.match(checked.out, /damage: .*\(\/file\)/);
    assert.equal((await box.run("fsck", "--repair", "-y", "--scrub")).code, 4);
    const zeroed = await box.run("fsck", "--repair", "--zero-damaged", "-y");
    assert.equal(zeroed.code, 1, zeroed.error);
    assert.equal((await box.run("fsck", "--scrub")).code, 0);
    const { bytes } = await box.run("cat", "/file"),
      differs = bytes.findIndex((byte, i) => byte !== CONTENT[i]);
    assert.ok(differs >= 0 && differs % 4096 === 0);
    assert.deepEqual(bytes.slice(differs, differs + 4096), new Uint8Array(4096));
    assert.deepEqual(bytes.slice(differs + 4096), CONTENT.slice(differs + 4096));
  },
);

Deno.test("header restore puts back what the beginning of a container on a server held", strict, async () => {
  await using box = await served();
  const backup = await box.run("header", "backup", "header.bak");
  assert.equal(backup.code, 0, backup.error);
  const whole = await box.bytes();
  await box.edit((bytes) => void bytes.fill(0, 0, BLOCKS_AT));
  assert.equal((await box.run("ls")).code, 13);
  const unasked = await box.run("header", "restore", "header.bak");
  assert.equal(unasked.code, 2, unasked.out);
  const restored = await box.run("header", "restore", "header.bak", "-y");
  assert.equal(restored.code, 0, restored.error);
  assert.deepEqual(await box.bytes(), whole, "byte for byte");
  assert.equal((await box.run("fsck", "--scrub")).code, 0);
  assert.deepEqual((await box.run("cat", "/file")).bytes, CONTENT);
  // The lease was given back: the next writer need not wait.
  assert.equal((await box.run("mkdir", "/after")).code, 0);
});
