/** Looks for bytes in the memory of a process; only root may. */
import { Buffer } from "node:buffer";
import { type FileHandle, open, readFile } from "node:fs/promises";

/** Bytes of a page, bytes that are looked at at once, and by how much such pieces overlap: no needle is longer. */
const PAGE = 4096, PIECE = 4 << 20, OVERLAP = PAGE;

/** How often each of these byte strings lies in a process' memory. */
export async function countInMemory<Name extends string>(
  pid: number,
  needles: Readonly<Record<Name, Uint8Array>>,
): Promise<Record<Name, number>> {
  const names = Object.keys(needles) as Name[];
  const texts = Object.fromEntries(
    names.map((name) => [name, Buffer.from(needles[name]).toString("latin1")]),
  ) as Record<Name, string>;
  const counts = Object.fromEntries(names.map((name) => [name, 0])) as Record<Name, number>;
  await using memory = await open(`/proc/${pid}/mem`);
  await using pages = await open(`/proc/${pid}/pagemap`);
  const buffer = Buffer.alloc(PIECE + OVERLAP);
  for (const line of (await readFile(`/proc/${pid}/maps`, "latin1")).split("\n")) {
    const range = /^([0-9a-f]+)-([0-9a-f]+) r/.exec(line);
    if (range === null || /\[(vvar|vsyscall|vdso)/.test(line)) continue;
    const end = Number(`0x${range[2]}`);
    for (let at = Number(`0x${range[1]}`); at < end; at += PIECE) {
      const wanted = Math.min(buffer.length, end - at);
      if (!await isThere(pages, at, wanted)) continue; // the runtime reserves far more than there is
      // A mapping may have gone since, or be one that cannot be read.
      const read = await memory.read(buffer, 0, wanted, at).then(({ bytesRead }) => bytesRead, () => 0);
      const piece = buffer.toString("latin1", 0, read); // strings are searched far faster than bytes
      for (const name of names) {
        for (let i = -1; (i = piece.indexOf(texts[name], i + 1)) >= 0;) if (i < PIECE) counts[name]++;
      }
    }
  }
  return counts;
}

/** Tells whether any page of a range is in memory or swapped out (proc_pid_pagemap(5)). */
async function isThere(pages: FileHandle, at: number, length: number): Promise<boolean> {
  const entries = new Uint8Array(Math.ceil(length / PAGE) * 8);
  const { bytesRead } = await pages.read(entries, 0, entries.length, at / PAGE * 8).catch(() => ({
    bytesRead: 0,
  }));
  for (let i = 7; i < bytesRead; i += 8) if ((entries[i]! & 0xc0) !== 0) return true;
  return false;
}
