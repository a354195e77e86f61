/**
 * Random operations on a volume and on the plain in-memory model: both must answer alike, always. The volume is
 * committed, checkpointed and opened anew in between. `COVERFS_SEED` replays one run.
 */
import assert from "node:assert/strict";
import { checkContainer } from "../../fs/fsck.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { ROOT } from "../../fs/types.ts";
import { MemoryFilesystem } from "../model/memory_filesystem.ts";
import {
  makeContainer,
  openVolume,
  picture,
  randomNumbers,
  SEED,
  SUITES,
  testKeys,
  walk,
} from "./fixture.ts";
import { draw, outcome } from "./random_operations.ts";

for (const suite of SUITES) {
  Deno.test(`${suite}: random operations give what the plain model gives (seed ${SEED})`, async () => {
    const random = randomNumbers(SEED), store = new RamStore(), model = new MemoryFilesystem();
    await makeContainer(store, suite);
    model.setAttributes(ROOT, { mode: 0o755, uid: 0, gid: 0 });
    let volume = await openVolume(store, "write", { suite, dirtyBytes: 256 << 10 });
    for (let step = 0; step < 1500; step++) {
      const [text, work] = draw(random, walk(model)), where = `seed ${SEED}, step ${step}: ${text}`;
      await volume.admit();
      assert.deepEqual(await outcome(() => work(volume)), await outcome(() => work(model)), where);
      const then = random(100);
      if (then < 5) await volume.sync();
      if (then === 5) await volume.checkpoint();
      if (then === 6) {
        await volume.end();
        volume = await openVolume(store, "write", { suite, dirtyBytes: 256 << 10 });
      }
      if (then < 10) assert.deepEqual(await picture(volume), await picture(model), where);
    }
    await volume.end();
    const reader = await openVolume(store, "read", { suite });
    assert.deepEqual(await picture(reader), await picture(model));
    const report = await checkContainer(store, await testKeys(suite), { scrub: true });
    assert.deepEqual(report.findings, []);
  });
}
