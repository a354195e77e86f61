/** The named checks of a filesystem, over the plain model and over containers on every store with every cipher suite. */
import assert from "node:assert/strict";
import type { Attributes, Filesystem } from "../../fs/filesystem.ts";
import { checkContainer } from "../../fs/fsck.ts";
import { ROOT } from "../../fs/types.ts";
import { MemoryFilesystem } from "../model/memory_filesystem.ts";
import { STORE_BEDS } from "../store/beds.ts";
import { FOLDER, makeContainer, name, openVolume, picture, SUITES, testKeys, walk } from "./fixture.ts";
import { VOLUME_CHECKS } from "./volume_checks.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };

/** Makes all checks, each in a directory of its own, as steps of a test. */
async function checkAll(on: Filesystem, test: Deno.TestContext): Promise<void> {
  for (const [claim, check] of Object.entries(VOLUME_CHECKS)) {
    await test.step(claim, async () => {
      await on.admit();
      await check(on, on.create(ROOT, name(claim), FOLDER));
    });
  }
}

/** Names, contents and attributes, times included: access times have moved by the reading before. */
async function everything(on: Filesystem): Promise<[unknown[], Attributes[]]> {
  const seen = await picture(on);
  return [seen, walk(on).map(({ ino }) => on.attributes(ino))];
}

Deno.test("the plain model does what POSIX says of a filesystem", strict, async (test) => {
  const model = new MemoryFilesystem();
  await checkAll(model, test);
  assert.deepEqual(model.held, { inodes: 0, references: 0 });
});

for (const [kind, makeBed] of Object.entries(STORE_BEDS)) {
  for (const suite of SUITES) {
    Deno.test(`${kind}, ${suite}: a volume does what POSIX says of a filesystem`, strict, async (test) => {
      await using bed = await makeBed({});
      const empty = await bed.open("create");
      await makeContainer(empty, suite);
      await empty.close();
      let before: unknown;
      {
        await using volume = await openVolume(await bed.open("write"), "write", { suite });
        await checkAll(volume, test);
        before = await everything(volume);
        await volume.end();
      }
      await test.step("all that was left behind is there after opening again, and clean", async () => {
        const store = await bed.open("read");
        const { findings } = await checkContainer(store, await testKeys(suite), { scrub: true });
        assert.deepEqual(findings, []);
        await using volume = await openVolume(store, "read", { suite });
        assert.deepEqual(await everything(volume), before);
      });
    });
  }
}
