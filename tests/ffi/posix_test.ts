import assert from "node:assert/strict";
import type { MountOptions } from "../../ffi/mod.ts";
import type { Filesystem } from "../../fs/filesystem.ts";
import { checkContainer } from "../../fs/fsck.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { makeContainer, openVolume, testKeys } from "../fs/fixture.ts";
import { delayed } from "../model/delayed_filesystem.ts";
import { MemoryFilesystem } from "../model/memory_filesystem.ts";
import { checksFor, runCheck } from "../mounted/posix_checks.ts";
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
  const [suite, writebackCache] of [["aes-256-cbc-hmac-sha256", false], ["aes-256-gcm", true]] as const
) {
  const cache = writebackCache ? "with" : "without";
  Deno.test(`a mounted container does so (${suite}, ${cache} write-back cache)`, strict, async () => {
    const store = new RamStore();
    await makeContainer(store, suite);
    const volume = await openVolume(store, "write", { suite });
    await checkAll(volume, { writebackCache }, { holes: !writebackCache });
    await volume.end();
    const { findings, files } = await checkContainer(store, await testKeys(suite), { scrub: true });
    assert.deepEqual(findings, []);
    assert.equal(files, 1, "inodes are left behind");
  });
}
