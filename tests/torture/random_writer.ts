/** One file that is written, cut and extended anywhere (as fsx does), with every acknowledged fsync kept in mind. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import type { Load, LoadOptions } from "./load.ts";

const NAME = "file";
/** Longest file, in bytes: not whole pages, so that the last one is partly used. */
const LONGEST = 300_000;
/** A page of the filesystem, in bytes: what is written as a whole. */
const PAGE = 4096;
/** Operations between two syncs at most. */
const GAP = 12;

/**
 * A random writer. It uses `Deno.FsFile`, as the file handles of node:fs write and sync on the thread that called
 * (Deno 2.9.6): one that waits for a server would keep the server from being started again. After a crash each page of the file is that of one of the file's states since the last acknowledged
 * fsync, and so is its size, or it lies between two of them (docs/testing.md, "Crashes").
 */
export class RandomWriter implements Load {
  readonly name = "random writer";
  acknowledged = 0;
  /** Contents of the file: when an fsync was acknowledged last, and after each operation since. */
  #states: Uint8Array[] = [new Uint8Array(0)];

  async prepare(directory: string): Promise<void> {
    using file = await Deno.create(`${directory}/${NAME}`);
    await file.sync();
    await syncDirectory(directory);
  }

  async run({ directory, random, signal }: LoadOptions): Promise<void> {
    using file = await Deno.open(`${directory}/${NAME}`, { read: true, write: true });
    while (!signal.aborted) {
      for (let i = random(GAP); i >= 0 && !signal.aborted; i--) await this.#change(file, random);
      await (random(2) === 0 ? file.sync() : file.syncData());
      this.#states = this.#states.slice(-1);
      this.acknowledged++;
    }
  }

  /** The state is noted before the change is begun: a crash may come in between, or in the midst of it. */
  async #change(file: Deno.FsFile, random: LoadOptions["random"]): Promise<void> {
    const before = this.#states.at(-1)!;
    if (random(8) === 0) {
      const size = random(LONGEST), after = new Uint8Array(size);
      after.set(before.subarray(0, size));
      this.#states.push(after);
      return await file.truncate(size);
    }
    const offset = random(LONGEST), length = 1 + random(Math.min(LONGEST - offset, 1 << (6 + random(12))));
    const bytes = new Uint8Array(length).map(() => random(256));
    const after = new Uint8Array(Math.max(before.length, offset + length));
    after.set(before);
    after.set(bytes, offset);
    this.#states.push(after);
    await file.seek(offset, Deno.SeekMode.Start);
    for (let at = 0; at < length;) at += await file.write(bytes.subarray(at));
  }

  async verify(directory: string): Promise<void> {
    const found = new Uint8Array(await readFile(`${directory}/${NAME}`));
    const sizes = this.#states.map((state) => state.length);
    const [least, most] = [Math.min(...sizes), Math.max(...sizes)];
    assert(found.length >= least && found.length <= most, `size ${found.length}, not ${least} to ${most}`);
    for (let at = 0; at < found.length; at += PAGE) {
      const page = found.subarray(at, at + PAGE);
      assert(
        this.#states.some((state) => isPage(page, state.subarray(at, at + page.length))),
        `the page at ${at} of ${found.length} is that of none of ${sizes.length} states`,
      );
    }
    this.#states = [found];
  }
}

/** Tells whether a page is what a state has there; what the state has not got reads as zeros. */
function isPage(page: Uint8Array, state: Uint8Array): boolean {
  return page.every((byte, i) => byte === (state[i] ?? 0));
}

/** Makes a directory's entries durable. */
export async function syncDirectory(directory: string): Promise<void> {
  using handle = await Deno.open(directory);
  await handle.sync();
}
