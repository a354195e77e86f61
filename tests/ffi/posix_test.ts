import assert from "node:assert/strict";
import type { MountOptions } from "../../ffi/mod.ts";
import type { Filesystem } from "../../fs/filesystem.ts";
import { checkContainer } from "../../fs/fsck.ts";
import { makeContainer, openVolume, testKeys } from "../fs/fixture.ts";
import { delayed } from "../model/delayed_filesystem.ts";
import { MemoryFilesystem } from "../model/memory_filesystem.ts";
import { checksFor, runCheck } from "../mounted/posix_checks.ts";
import { STORE_BEDS } from "../store/beds.ts";
import { strict, testMount } from "./mounts.ts";

/** How many checks run at a time: they come from different processes, as requests do in life. */
const AT_ONCE = 4;

async function checkAll(
  filesystem: Filesystem,
  options: MountOptions,
  can: { holes?: boolean; mapping?: boolean },
) {
  const root = Deno.uid() === 0;
  await using test = await testMount(filesystem, { allowOther: root, ...options });
  if (root) await Deno.chmod(test.directory, 0o755);
  const checks = checksFor({
    root,
    holes: can.holes ?? true,
    mapping: can.mapping ?? true,
  });
  const failures: string[] = [];
  const next = checks[Symbol.iterator]();
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    for (const [name, check] of next) {
      await runCheck(check, test.directory).catch((error) => failures.push(`${name}: ${error.message}`));
    }
  }));
  assert.deepEqual(failures, []);
  assert.deepEqual(test.logged, []);
}

async function checkMemory(
  options: MountOptions,
  can: { holes?: boolean; mapping?: boolean; late?: boolean } = {},
) {
  const filesystem = new MemoryFilesystem();
  await checkAll(can.late ? delayed(filesystem) : filesystem, options, can);
  assert.deepEqual(filesystem.held, { inodes: 0, references: 0 }, "references are left behind");
  assert.equal(filesystem.inodeCount, 1, "inodes are left behind");
}

Deno.test("a mount does what programs expect of a filesystem", strict, () => checkMemory({}));

Deno.test(
  "a mount does so when the kernel remembers nothing and answers come late",
  strict,
  () => checkMemory({ entryTimeout: 0, attrTimeout: 0 }, { late: true }),
);

Deno.test(
  "a mount does so with the kernel's write-back cache",
  strict,
  () => checkMemory({ writebackCache: true }, { holes: false }),
);

Deno.test(
  "a mount does so without the kernel's page cache",
  strict,
  () => checkMemory({ directIo: true }, { mapping: false }),
);

for (
  const [kind, suite, writebackCache] of [
    ["RAM", "aes-256-cbc-hmac-sha256", false],
    ["file", "aes-256-gcm", true],
    ["server", "aes-256-cbc-hmac-sha256", true],
    ["server", "aes-256-gcm", false],
  ] as const
) {
  const how = `${kind}, ${suite}, ${writebackCache ? "with" : "without"} write-back cache`;
  Deno.test(`a mounted container does so (${how})`, strict, async () => {
    await using bed = await STORE_BEDS[kind]({});
    const empty = await bed.open("create");
    await makeContainer(empty, suite);
    await empty.close();
    {
      await using volume = await openVolume(await bed.open("write"), "write", { suite });
      await checkAll(volume, { writebackCache }, { holes: !writebackCache });
      await volume.end();
    }
    await using store = await bed.open("read");
    const { findings, files } = await checkContainer(store, await testKeys(suite), { scrub: true });
    assert.deepEqual(findings, []);
    assert.equal(files, 1, "inodes are left behind");
  });
}
