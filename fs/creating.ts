/** Making a container. */
import { SEALED } from "../crypto/sealer.ts";
import type { BlockStore } from "./block/store.ts";
import { writeCheckpoint } from "./layout/checkpoint.ts";
import { type CheckpointPointer, encodeSuperblock } from "./layout/superblock.ts";
import { Tables } from "./layout/tables.ts";
import { type ContainerKeys, superIdentity } from "./loading.ts";
import { ROOT, S_IFDIR } from "./types.ts";

/** Where a new container has its second checkpoint: the first one takes two blocks, and no sector has parts of both. */
const TWIN_AT = 3;

/**
 * Makes an empty filesystem in an empty store that was opened to create. The caller writes the encryption block
 * afterwards: until that is there, it is not a container.
 *
 * @param root owner and permission bits of the root directory
 */
export async function createContainer(
  store: BlockStore,
  keys: ContainerKeys,
  root: { readonly uid: number; readonly gid: number; readonly mode: number },
): Promise<void> {
  const tables = new Tables(), now = Date.now(), { inodes } = tables;
  inodes.insert(ROOT);
  inodes.mode[ROOT] = S_IFDIR | root.mode;
  inodes.uid[ROOT] = root.uid;
  inodes.gid[ROOT] = root.gid;
  inodes.nlink[ROOT] = 2;
  for (const column of [inodes.atimeS, inodes.mtimeS, inodes.ctimeS, inodes.btimeS]) {
    column[ROOT] = Math.floor(now / 1000);
  }
  const session = { id: crypto.getRandomValues(new Uint8Array(16)), generation: keys.generation };
  const pointers: CheckpointPointer[] = [];
  for (const first of [0, TWIN_AT]) {
    let next = first;
    const allocate = (count: number) => {
      const run = { position: next, count };
      next += count;
      return Promise.resolve([run]);
    };
    const { pointer } = await writeCheckpoint(store, keys.sealer, tables, {
      session,
      start: 0,
      hash: new Uint8Array(32),
      sessions: [],
      chunks: [],
      head: undefined,
      birth: () => 1,
      allocate,
      sizeOf: (ino) => inodes.size[ino]!,
      pause: () => Promise.resolve(),
    });
    pointers.push(pointer);
  }
  await store.flush();
  const plain = encodeSuperblock({
    containerId: keys.containerId,
    sequence: 1,
    keySequence: keys.keySequence,
    clean: true,
    current: pointers[0]!,
    previous: pointers[1],
    sessions: [],
  });
  for (const copy of [0, 1] as const) {
    const sealed = new Uint8Array(SEALED);
    await keys.sealer.seal(superIdentity(keys.generation, copy), plain, sealed);
    await store.writeHeader("super", copy, sealed);
  }
  await store.flush();
}
