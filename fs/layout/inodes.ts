/** The inodes in memory: a column for each attribute, the inode id is the row. */
import { FsError } from "../errors.ts";
import type { Ino } from "../types.ts";
import { DecodeError } from "./bytes.ts";
import { ColumnGroup, NumberSet } from "./columns.ts";

/** Ids above this do not exist (i32). */
const LAST_ID = 0x7fff_ffff;
/** How far {@linkcode InodeTable.insert} may jump: far more than can be unrecorded at once, little enough to hold. */
export const JUMP_MAX = 1 << 22;

const COLUMNS = [
  ...["live", "mode", "uid", "gid", "nlink", "rdev", "generation", "size"] as const,
  ...["atimeS", "atimeN", "mtimeS", "mtimeN", "ctimeS", "ctimeN", "btimeS", "btimeN"] as const,
] as const;

/**
 * All inodes. Columns are read and written in place (`inodes.mode[ino]`), for live ids only; {@linkcode allocate} and
 * {@linkcode insert} may replace them by larger ones, so fetch them anew after that.
 */
export class InodeTable {
  /** 1 for a live id. Not to be written by others. */
  readonly live: Uint8Array = new Uint8Array(0);
  /** Type and permission bits. */
  readonly mode: Uint32Array = new Uint32Array(0);
  readonly uid: Uint32Array = new Uint32Array(0);
  readonly gid: Uint32Array = new Uint32Array(0);
  readonly nlink: Uint32Array = new Uint32Array(0);
  readonly rdev: Uint32Array = new Uint32Array(0);
  /** Counts up each time an id is used again; stays while the id is dead. */
  readonly generation: Uint32Array = new Uint32Array(0);
  /** Bytes. */
  readonly size: Float64Array = new Float64Array(0);
  /** Times: seconds since 1970 (`S`) and nanoseconds (`N`). */
  readonly atimeS: Float64Array = new Float64Array(0);
  readonly atimeN: Uint32Array = new Uint32Array(0);
  readonly mtimeS: Float64Array = new Float64Array(0);
  readonly mtimeN: Uint32Array = new Uint32Array(0);
  readonly ctimeS: Float64Array = new Float64Array(0);
  readonly ctimeN: Uint32Array = new Uint32Array(0);
  readonly btimeS: Float64Array = new Float64Array(0);
  readonly btimeN: Uint32Array = new Uint32Array(0);
  /** Where symlinks point. The arrays are replaced, never written to. */
  readonly targets: Map<Ino, Uint8Array> = new Map();
  /** Extended attributes by the latin-1 reading of their names. Values are replaced, never written to. */
  readonly xattrs: Map<Ino, Map<string, Uint8Array>> = new Map();

  readonly #columns: ColumnGroup<typeof COLUMNS[number]> = new ColumnGroup(this, COLUMNS);
  readonly #free = new NumberSet();
  #count = 0;
  #end = 0;

  /** Live inodes. */
  get count(): number {
    return this.#count;
  }

  /** The high-water mark: all ids that ever were are below. */
  get end(): number {
    return this.#end;
  }

  has(ino: Ino): boolean {
    return this.live[ino] === 1;
  }

  /**
   * Makes an inode: the lowest id that was released, else the next one. All its columns but the generation are zero.
   *
   * @throws {FsError} ENOSPC if there are 2^31 of them
   */
  allocate(): Ino {
    let ino = this.#free.lowest();
    if (ino >= 0) {
      this.#free.delete(ino);
      this.generation[ino] = this.generation[ino]! + 1;
    } else {
      ino = this.#end;
      if (ino > LAST_ID) throw new FsError("ENOSPC", "Cannot create inode: all ids are in use");
      this.#columns.need(ino);
      this.#end = ino + 1;
    }
    this.live[ino] = 1;
    this.#count++;
    return ino;
  }

  /**
   * Makes exactly this id live, as replay needs it; does nothing if it is. Ids that it jumps over are dead.
   *
   * @throws {DecodeError} if the id is absurdly far above all others
   */
  insert(ino: Ino): void {
    if (ino >= this.#end) {
      if (!(ino - this.#end <= JUMP_MAX && ino <= LAST_ID)) throw new DecodeError("Inode id out of range");
      this.#columns.need(ino);
      this.#end = ino + 1;
    } else if (this.live[ino] === 1) return;
    else this.#free.delete(ino);
    this.live[ino] = 1;
    this.#count++;
  }

  /** Ends an inode: columns, target and extended attributes go, the generation stays. {@linkcode release} it later. */
  remove(ino: Ino): void {
    if (!this.has(ino)) return;
    this.live[ino] = 0;
    this.#count--;
    this.mode[ino] =
      this.uid[ino] =
      this.gid[ino] =
      this.nlink[ino] =
      this.rdev[ino] =
      this.size[ino] =
        0;
    this.atimeS[ino] =
      this.mtimeS[ino] =
      this.ctimeS[ino] =
      this.btimeS[ino] =
        0;
    this.atimeN[ino] =
      this.mtimeN[ino] =
      this.ctimeN[ino] =
      this.btimeN[ino] =
        0;
    this.targets.delete(ino);
    this.xattrs.delete(ino);
  }

  /** Makes a removed id allocatable, once the commit that removed it is durable. Does nothing to a live one. */
  release(ino: Ino): void {
    if (ino < this.#end && this.live[ino] === 0) this.#free.add(ino);
  }

  /** After replay: all dead ids become allocatable. */
  rebuildFreeList(): void {
    for (let ino = 0; ino < this.#end; ino++) if (this.live[ino] === 0) this.#free.add(ino);
  }
}
