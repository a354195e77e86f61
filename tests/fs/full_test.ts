/** Containers that are full: what must go on working. */
import assert from "node:assert/strict";
import { Medium, MediumStore } from "../../fs/block/medium.ts";
import { blocksIn } from "../../fs/block/byte_layout.ts";
import { FsError } from "../../fs/errors.ts";
import { checkContainer } from "../../fs/fsck.ts";
import { ROOT } from "../../fs/types.ts";
import type { Volume } from "../../fs/volume.ts";
import { FILE, makeContainer, name, openVolume, pattern, testKeys } from "./fixture.ts";

/** Fills a container with files of five blocks each. @returns the volume and the files' names */
async function fill(medium: Medium, quota: number) {
  await makeContainer(new MediumStore(medium));
  const volume = await openVolume(new MediumStore(medium, { quota })), files: string[] = [];
  const write = async () => {
    for (let i = 0; i < 1000; i++) {
      const ino = volume.create(ROOT, name(`f${i}`), FILE);
      files.push(`f${i}`);
      await volume.write(ino, 0, pattern(20_000, i + 1));
    }
  };
  await assert.rejects(write(), (error) => error instanceof FsError && error.code === "ENOSPC");
  await volume.sync();
  assert.ok(blocksIn(medium.length) <= quota);
  return { volume, files };
}

/** Deletes files, ends, and finds nothing in the container that is wrong. */
async function deleteAll(volume: Volume, files: readonly string[], medium: Medium): Promise<void> {
  for (const file of files) volume.unlink(ROOT, name(file));
  await volume.sync();
  await volume.end();
  const report = await checkContainer(new MediumStore(medium), await testKeys(), { scrub: true });
  assert.deepEqual(report.findings, []);
}

Deno.test("a full container opens to write and lets its files be deleted, however often its writers crashed", async () => {
  const medium = new Medium(), quota = 1200, { volume, files } = await fill(medium, quota);
  await volume.end();
  let crashed = medium;
  for (let crash = 0; crash < 100; crash++) {
    // What the writer does after the fork is lost: it goes away without an end, and its chunk of journal stays.
    const own = crashed.fork(), writer = await openVolume(new MediumStore(own, { quota }));
    writer.setAttributes(ROOT, { mode: 0o700 + crash % 8 });
    await writer.fsync(ROOT);
    crashed = own.fork();
    await writer.end();
  }
  await deleteAll(await openVolume(new MediumStore(crashed, { quota })), files, crashed);
});

Deno.test("a full container goes on committing, and lets its files be deleted, however much is committed", async () => {
  const medium = new Medium(), { volume, files } = await fill(medium, 1200);
  for (let i = 0; i < 3000; i++) {
    await volume.admit();
    volume.setAttributes(ROOT, { mode: 0o700 + i % 8 });
    await volume.fsync(ROOT);
  }
  await deleteAll(volume, files, medium);
});

Deno.test("a container that fills up with single blocks free all over keeps runs for its journal", async () => {
  const medium = new Medium(), quota = 6000, store = () => new MediumStore(medium, { quota });
  await makeContainer(new MediumStore(medium));
  const volume = await openVolume(store()), files: string[] = [];
  for (let i = 0; i < 3000; i++) {
    await volume.admit();
    files.push(`f${i}`);
    await volume.write(volume.create(ROOT, name(`f${i}`), FILE), 0, pattern(100, i + 1));
  }
  await volume.sync();
  for (let i = 0; i < 3000; i += 2) volume.unlink(ROOT, name(`f${i}`));
  await volume.sync();
  const large = volume.create(ROOT, name("large"), FILE);
  const grow = async () => {
    for (let at = 0;; at += 20_480) {
      await volume.admit();
      await volume.write(large, at, pattern(20_480, at));
      await volume.fsync(large);
    }
  };
  await assert.rejects(grow(), (error) => error instanceof FsError && error.code === "ENOSPC");
  for (let i = 0; i < 1000; i++) {
    await volume.admit();
    volume.setAttributes(ROOT, { mode: 0o700 + i % 8 });
    await volume.fsync(ROOT);
  }
  await volume.end();
  const left = ["large", ...files.filter((_, i) => i % 2 === 1)];
  await deleteAll(await openVolume(store()), left, medium);
});
