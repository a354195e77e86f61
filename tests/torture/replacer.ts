/** Files that are replaced as programs save them: a temporary one, fsync, rename over the old one. */
import assert from "node:assert/strict";
import { readdir, readFile, rename } from "node:fs/promises";
import type { Load, LoadOptions } from "./load.ts";
import { syncDirectory } from "./random_writer.ts";

/** Files of one writer. */
const FILES = 4;
/** Longest content, in bytes. */
const LONGEST = 200_000;

/** What is known of one file: versions from 1 on; 0 is none. */
interface Versions {
  /** The newest one that is certainly durable. */
  durable: number;
  /** The newest one whose rename was begun. */
  renamed: number;
  /** The newest one that was begun. */
  begun: number;
}

/** A program that saves its files over and over. Each is at all times whole, and none older than was acknowledged. */
export class Replacer implements Load {
  readonly name: string;
  acknowledged = 0;
  readonly #files: Versions[] = Array.from({ length: FILES }, () => ({ durable: 0, renamed: 0, begun: 0 }));

  /** @param number tells it from others */
  constructor(number: number) {
    this.name = `replacer ${number}`;
  }

  async prepare(): Promise<void> {}

  async run({ directory, random, signal }: LoadOptions): Promise<void> {
    while (!signal.aborted) {
      const number = random(FILES), file = this.#files[number]!, version = ++file.begun;
      const temporary = `${directory}/${number}.new`;
      {
        using handle = await Deno.create(temporary);
        const bytes = content(`${this.name} ${number}`, version);
        for (let at = 0; at < bytes.length;) at += await handle.write(bytes.subarray(at));
        await handle.sync();
      }
      file.renamed = version;
      await rename(temporary, `${directory}/${number}`);
      if (random(2) === 0) continue; // then the rename may be lost, and the old content is there
      await syncDirectory(directory);
      // The directory has been synced with all of its entries.
      for (const other of this.#files) other.durable = Math.max(other.durable, other.renamed);
      this.acknowledged++;
    }
  }

  async verify(directory: string): Promise<void> {
    const names = await readdir(directory);
    for (const [number, file] of this.#files.entries()) {
      const owner = `${this.name} ${number}`;
      const found = names.includes(`${number}`) ? await readFile(`${directory}/${number}`) : undefined;
      const version = found === undefined ? 0 : versionOf(found);
      assert(version >= file.durable, `${owner}: version ${version}, though ${file.durable} was synced`);
      assert(version <= file.renamed, `${owner}: version ${version} before it was renamed`);
      if (found) assert(found.equals(content(owner, version)), `${owner}: version ${version} is not whole`);
      if (names.includes(`${number}.new`)) {
        const rest = await readFile(`${directory}/${number}.new`);
        // Also that of an older version, if neither its rename nor its being cut for the next one was durable.
        let of = file.begun;
        while (of >= file.durable && !rest.equals(content(owner, of).subarray(0, rest.length))) of--;
        assert(
          of >= file.durable,
          `${owner}: its temporary file of ${rest.length} bytes is the beginning of none`,
        );
      }
      file.durable = file.renamed = version; // a rename that was under way is not going to come
    }
  }
}

/** What a version of a file holds; its length differs from one to the next. */
function content(owner: string, version: number): Uint8Array {
  const head = new TextEncoder().encode(`${version} ${owner}\n`);
  const bytes = new Uint8Array(head.length + (version * 48_271) % LONGEST);
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 31 + version * 17 + (i >> 8)) & 255;
  bytes.set(head);
  return bytes;
}

function versionOf(bytes: Uint8Array): number {
  return Number(/^(\d+) /.exec(new TextDecoder().decode(bytes.subarray(0, 64)))?.[1] ?? NaN);
}
