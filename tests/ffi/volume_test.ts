/** A volume through its mount: what programs see of it is what they see of an ordinary directory. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { BlockStore, StoreMode } from "../../fs/block/store.ts";
import { checkContainer } from "../../fs/fsck.ts";
import { openFileStore } from "../../fs/store/file.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { ROOT } from "../../fs/types.ts";
import type { Volume } from "../../fs/volume.ts";
import { makeContainer, openVolume, SEED, SUITES, testKeys } from "../fs/fixture.ts";
import { strict, testMount } from "./mounts.ts";

const PROGRAM = fileURLToPath(new URL("../mounted/random_operations.py", import.meta.url));
const STEPS = 1500;

/** Runs the program of random operations; when it says so, the volume is committed while it goes on. */
async function randomOperations(volume: Volume, ...parameters: string[]): Promise<void> {
  const child = new Deno.Command("python3", {
    args: ["-IS", PROGRAM, ...parameters],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const said = new Response(child.stderr).text();
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    if (text.includes("checkpoint")) await volume.checkpoint();
    else await volume.sync();
  }
  const { success } = await child.status, error = await said;
  assert.ok(success, error);
}

async function assertClean(store: BlockStore, suite: string): Promise<void> {
  const keys = await testKeys(suite), report = await checkContainer(store, keys, { scrub: true });
  assert.deepEqual(report.findings, []);
  assert.equal(report.verifiedBlocks, report.dataBlocks);
}

/** Random operations, unmounting, fsck, mounting again: what is there must be what an ordinary directory has. */
async function likeADirectory(suite: string, open: (mode: StoreMode) => Promise<BlockStore>): Promise<void> {
  const other = await Deno.makeTempDir({ prefix: "coverfs-test-" });
  try {
    const empty = await open("create");
    await makeContainer(empty, suite);
    await empty.close();
    {
      const store = await open("write");
      await using volume = await openVolume(store, "write", { suite, dirtyBytes: 1 << 20 });
      volume.setAttributes(ROOT, { uid: Deno.uid()!, gid: Deno.gid()! });
      await using test = await testMount(volume);
      await randomOperations(volume, "work", test.directory, other, String(SEED), String(STEPS));
      await test.mounted.unmount();
      assert.deepEqual(test.logged, []);
    }
    const store = await open("read");
    await assertClean(store, suite);
    await using volume = await openVolume(store, "read", { suite });
    await using test = await testMount(volume);
    await randomOperations(volume, "compare", test.directory, other);
    await test.mounted.unmount();
  } finally {
    await Deno.remove(other, { recursive: true });
  }
}

Deno.test(
  `a mounted volume in memory does what an ordinary directory does (seed ${SEED})`,
  strict,
  async () => {
    const store = new RamStore();
    await likeADirectory(SUITES[1], () => Promise.resolve(store));
  },
);

Deno.test(
  `a mounted volume in a file does what an ordinary directory does (seed ${SEED})`,
  strict,
  async () => {
    const folder = await Deno.makeTempDir({ prefix: "coverfs-test-" });
    try {
      await likeADirectory(SUITES[0], (mode) => openFileStore(join(folder, "container"), mode));
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
);
