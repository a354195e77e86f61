/** Files that are read and written at positions: what is done on this thread, and what happens at the end. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { DiskFile } from "../../net/disk_file.ts";

async function withFile(work: (file: DiskFile) => Promise<void>): Promise<void> {
  const folder = Deno.makeTempDirSync();
  const file = new DiskFile(fs.openSync(join(folder, "file"), "wx+"));
  try {
    await work(file);
  } finally {
    await file.close();
    Deno.removeSync(folder, { recursive: true });
  }
}

/** Runs `work` with a clock that goes on by `step` ms at each look. */
function withClock<T>(step: number, work: () => T): T {
  const { now } = performance;
  let time = 0;
  performance.now = () => time += step;
  try {
    return work();
  } finally {
    performance.now = now;
  }
}

Deno.test("what is written is read back, small and large, up to the end", () =>
  withFile(async (file) => {
    for (const [offset, length] of [[0, 10], [70_000, 300_000], [5, 4128]] as const) {
      const bytes = crypto.getRandomValues(new Uint8Array(Math.min(length, 65536))),
        into = new Uint8Array(length);
      const whole = Uint8Array.from({ length }, (_, i) => bytes[i % bytes.length]!);
      await file.write(offset, whole);
      assert.equal(await file.read(offset, into), length);
      assert.deepEqual(into, whole);
    }
    await file.sync();
    assert.equal(file.size(), 370_000);
    assert.equal(await file.read(369_990, new Uint8Array(100)), 10, "small, over the end");
    assert.equal(await file.read(369_990, new Uint8Array(100_000)), 10, "large, over the end");
    await file.truncate(7);
    assert.equal(file.size(), 7);
  }));

Deno.test("small work is done at once, unless the last of its kind was slow", () =>
  withFile(async (file) => {
    const small = new Uint8Array(4128), here = (result: unknown) => !(result instanceof Promise);
    const both = async () => {
      const results = withClock(0, () => [file.write(0, small), file.read(0, small)]);
      await Promise.all(results);
      return results.map(here);
    };
    assert.deepEqual(await both(), [true, true]);
    assert.ok(here(withClock(1, () => file.read(0, small))), "only afterwards one knows");
    for (let i = 0; i < 64; i++) assert.deepEqual(await both(), [true, false]);
    assert.ok(here(withClock(1, () => file.write(0, small))));
    for (let i = 0; i < 64; i++) assert.deepEqual(await both(), [false, true]);
    assert.deepEqual(await both(), [true, true]);
    const large = file.read(0, new Uint8Array(100_000));
    assert.ok(!here(large));
    await large;
  }));

Deno.test("closing waits for what is under way, and nothing is done afterwards", () =>
  withFile(async (file) => {
    const under = [
      file.write(0, new Uint8Array(4 << 20)),
      file.sync(),
      file.read(0, new Uint8Array(100_000)),
    ];
    const settled = Promise.allSettled(under);
    const closed = file.close();
    assert.equal(file.close(), closed);
    await closed;
    const outcome = await Promise.race([settled, new Promise((resolve) => setTimeout(resolve, 0))]);
    assert.ok(outcome, "nothing uses the descriptor any more");
    await assert.rejects(async () => await file.write(0, new Uint8Array(1)), /closed/);
    await assert.rejects(async () => await file.read(0, new Uint8Array(1)), /closed/);
    await assert.rejects(file.sync(), /closed/);
    assert.throws(() => file.size(), /closed/);
  }));
