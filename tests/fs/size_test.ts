/** How large a container is, against what it holds. */
import assert from "node:assert/strict";
import { SEALED } from "../../crypto/sealer.ts";
import { blockOffset } from "../../fs/block/byte_layout.ts";
import { type Ino, ROOT } from "../../fs/types.ts";
import type { Volume } from "../../fs/volume.ts";
import { FILE, FOLDER, name, openVolume, pattern, ramContainer, randomNumbers, SEED } from "./fixture.ts";

const FILES = 4000, FOLDERS = 100;

/** Stores a tree of small and some larger files, as people have them; @returns bytes of content */
async function storeTree(volume: Volume, seed: number): Promise<number> {
  const random = randomNumbers(seed), content = pattern(1 << 17), folders: Ino[] = [ROOT];
  let bytes = 0;
  for (let i = 0; i < FOLDERS; i++) {
    await volume.admit();
    folders.push(volume.create(folders[random(folders.length)]!, name(`folder ${i}`), FOLDER));
  }
  for (let i = 0; i < FILES; i++) {
    await volume.admit();
    const ino = volume.create(folders[random(folders.length)]!, name(`file ${i}.txt`), FILE);
    const size = Math.round(2 ** (6 + random(11_000) / 1000));
    await volume.write(ino, 0, content.subarray(0, size));
    bytes += size;
  }
  return bytes;
}

Deno.test(`a container takes 3 % more than its content, a block a file, and the reserve (seed ${SEED})`, async () => {
  const store = await ramContainer();
  const volume = await openVolume(store), bytes = await storeTree(volume, SEED);
  await volume.end();
  const size = blockOffset(await store.size());
  const limit = 1.03 * bytes + SEALED * (FILES + volume.container.session.space.reserve);
  assert.ok(size <= limit, `${size} bytes for ${bytes} in ${FILES} files, at most ${limit}`);
});
