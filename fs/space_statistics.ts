/** How full a container is, as statfs(2) tells it. */
import type { Container } from "./container.ts";
import type { FilesystemStatistics } from "./filesystem.ts";

/** Inode ids that a filesystem tells it can have. */
const FILES_MAX = 0x7fff_ffff;

/** What is told at once, from what the store said when it was asked last. */
export class SpaceStatistics {
  /** Blocks that the store can still add, as of the last {@linkcode refresh}. */
  #outside = Infinity;
  /** Readers, which have no table of free space: blocks of the container, and those in use, as of then. */
  #inside = { size: 0, used: 0 };

  of(container: Container): FilesystemStatistics {
    const room = this.#outside === Infinity ? 2 ** 40 : this.#outside;
    const files = { files: FILES_MAX, filesFree: FILES_MAX - container.tables.inodes.count };
    if (container.readOnly) {
      const { size, used } = this.#inside, free = Math.max(0, size - used) + room;
      return { blocks: size + room, free, available: free, ...files };
    }
    const { space } = container.session, free = Math.max(0, space.freeBlocks);
    return {
      blocks: space.capacity + room,
      free: free + room,
      available: Math.max(0, space.available) + room,
      ...files,
    };
  }

  /** Asks the store how much room it has. */
  async refresh(container: Container): Promise<void> {
    this.#outside = (await container.store.space()).free;
    if (!container.readOnly) return;
    const size = await container.store.size(), { inodes, extents } = container.tables;
    let used = container.checkpointBlocks + container.journalBlocks;
    for (let ino = 0; ino < inodes.end; ino++) used += extents.blocksOf(ino);
    this.#inside = { size, used };
  }
}
