/** The short ones of the programs that people use, on a mounted container; `deno task programs` runs all of them. */
import assert from "node:assert/strict";
import { checkContainer } from "../../fs/fsck.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { ROOT } from "../../fs/types.ts";
import { makeContainer, openVolume, testKeys } from "../fs/fixture.ts";
import { PROGRAMS, runProgram, SHORT } from "../programs/programs.ts";
import { strict, testMount } from "./mounts.ts";

for (const [, one] of Object.entries(PROGRAMS).filter(([, { short }]) => short)) {
  Deno.test(`on a mounted container, ${one.claim}`, strict, async () => {
    const store = new RamStore(), outside = await Deno.makeTempDir({ prefix: "coverfs-test-" });
    try {
      await makeContainer(store);
      await using volume = await openVolume(store);
      volume.setAttributes(ROOT, { uid: Deno.uid()!, gid: Deno.gid()! });
      await using test = await testMount(volume);
      assert.equal(await runProgram(one, test.directory, { outside, rounds: SHORT }), undefined);
      await test.mounted.unmount();
      assert.deepEqual(test.logged, []);
      await volume.end();
      const { findings, verifiedBlocks, dataBlocks } = await checkContainer(store, await testKeys(), {
        scrub: true,
      });
      assert.deepEqual(findings, []);
      assert.equal(verifiedBlocks, dataBlocks);
    } finally {
      await Deno.remove(outside, { recursive: true });
    }
  });
}
