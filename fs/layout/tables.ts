/** The filesystem's metadata in memory. */
import { DentryTable } from "./dentries.ts";
import { blocksFor } from "./extent_tree.ts";
import { ExtentTable } from "./extents.ts";
import { InodeTable } from "./inodes.ts";
import type { Run } from "./superblock.ts";

/** Runs of blocks as two columns; `length` of their rows are used. */
export interface RunColumns {
  readonly positions: Float64Array;
  readonly counts: Float64Array;
  readonly length: number;
}

/** Inodes, directory entries and extents of one container. */
export class Tables {
  readonly inodes: InodeTable = new InodeTable();
  readonly dentries: DentryTable = new DentryTable();
  readonly extents: ExtentTable = new ExtentTable();

  /** The blocks that files lie in, a run for each extent, file after file. */
  usedRunColumns(): RunColumns {
    let positions = new Float64Array(1024), counts = new Float64Array(1024), length = 0;
    this.extents.everyExtent((_ino, _offset, bytes, position) => {
      if (length === positions.length) {
        positions = doubled(positions);
        counts = doubled(counts);
      }
      positions[length] = position;
      counts[length++] = blocksFor(bytes);
    });
    return { positions, counts, length };
  }

  /** {@linkcode usedRunColumns} one after the other. */
  *usedRuns(): Generator<Run> {
    const { positions, counts, length } = this.usedRunColumns();
    for (let i = 0; i < length; i++) yield { position: positions[i]!, count: counts[i]! };
  }
}

function doubled(column: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(column.length * 2);
  larger.set(column);
  return larger;
}
