/** Metadata in memory, at two sizes each: what grows with the number of files would show. */
import { FreeSpace } from "../../fs/layout/free_space.ts";
import { Tables } from "../../fs/layout/tables.ts";
import { randomNumbers } from "../../tests/fs/fixture.ts";

const PER_DIRECTORY = 1000;
const encoder = new TextEncoder();

for (const files of [1000, 1_000_000]) {
  const tables = new Tables(), random = randomNumbers(7), names: Uint8Array[] = [];
  for (let i = 0; i < files; i++) {
    const ino = tables.inodes.allocate(), name = encoder.encode(`file number ${i}`);
    tables.dentries.insert(Math.floor(i / PER_DIRECTORY), name, ino);
    names.push(name);
  }
  Deno.bench(`${files} files: look up`, { group: "look up", baseline: files === 1000 }, () => {
    const i = random(files);
    tables.dentries.find(Math.floor(i / PER_DIRECTORY), names[i]!);
  });
  const extra = encoder.encode("one more");
  Deno.bench(`${files} files: insert and remove`, { group: "insert", baseline: files === 1000 }, () => {
    const ino = tables.inodes.allocate();
    tables.dentries.remove(tables.dentries.insert(random(files / PER_DIRECTORY), extra, ino));
    tables.inodes.remove(ino);
    tables.inodes.release(ino);
  });
}

for (const extents of [1000, 1_000_000]) {
  const { extents: table } = new Tables(), random = randomNumbers(8), freed = () => {};
  // Every other block, so that no neighbours merge.
  for (let i = 0; i < extents; i++) table.set(1, i * 4096, 4096, i * 2, 1, freed);
  Deno.bench(`${extents} extents: look up`, { group: "extent", baseline: extents === 1000 }, () => {
    table.lookup(1, random(extents) * 4096, 4096, () => {});
  });
  Deno.bench(
    `${extents} extents: overwrite one block`,
    { group: "overwrite", baseline: extents === 1000 },
    () => {
      table.set(1, random(extents) * 4096, 4096, 4_000_000 + random(1_000_000) * 2, 2, freed);
    },
  );
}

for (const holes of [1000, 1_000_000]) {
  const space = new FreeSpace(), random = randomNumbers(9);
  space.build((function* () {
    for (let i = 0; i < holes; i++) yield { position: i * 4, count: 2 };
  })());
  Deno.bench(`${holes} holes: allocate a block and release it`, {
    group: "allocate",
    baseline: holes === 1000,
  }, () => {
    const [run] = space.allocate(1, { near: random(holes) * 4 })!;
    space.release(run!.position, 1);
  });
}
