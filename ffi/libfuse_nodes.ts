import { FsError } from "../fs/errors.ts";
import type { Filesystem } from "../fs/filesystem.ts";
import { type Ino, ROOT } from "../fs/types.ts";

/** The kernel's number for the root (`FUSE_ROOT_ID`). */
export const ROOT_NODE = 1;

/**
 * The numbers under which the kernel knows inodes, with its counts of lookups and open handles. An inode is held
 * ({@linkcode Filesystem.hold}) once while the kernel has looked it up and once for each handle; so its id is not
 * used again meanwhile and says all. A node id is used again only after the kernel forgot it, with a new generation.
 */
export class Nodes {
  readonly #filesystem: Filesystem;
  readonly #byIno = new Map<Ino, number>([[ROOT, ROOT_NODE]]);
  /** By node id; -1 where it is free. */
  readonly #ino: Ino[] = [-1, ROOT];
  readonly #lookups: number[] = [0, 0];
  readonly #handles: number[] = [0, 0];
  readonly #generation: number[] = [0, 0];
  readonly #free: number[] = [];
  #opened = 0;

  constructor(filesystem: Filesystem) {
    this.#filesystem = filesystem;
    filesystem.hold(ROOT);
  }

  /** How many nodes the kernel knows, the root included. */
  get size(): number {
    return this.#byIno.size;
  }

  /** How many files and directories are open. */
  get opened(): number {
    return this.#opened;
  }

  /** @throws {FsError} ESTALE if the kernel does not know such a node. */
  ino(node: number | bigint): Ino {
    const ino = this.#ino[Number(node)];
    if (ino === undefined || ino < 0) throw new FsError("ESTALE");
    return ino;
  }

  generation(node: number): number {
    return this.#generation[node] ?? 0;
  }

  /** Counts a lookup that the kernel is told of. @returns the node id. */
  look(ino: Ino): number {
    let node = this.#byIno.get(ino);
    if (node === undefined) {
      this.#filesystem.hold(ino);
      node = this.#free.pop() ?? this.#ino.length;
      this.#byIno.set(ino, node);
      this.#ino[node] = ino;
      this.#lookups[node] = 0;
      this.#handles[node] = 0;
      this.#generation[node] = (this.#generation[node] ?? -1) + 1;
    }
    this.#lookups[node]! += 1;
    return node;
  }

  /** Takes back `count` lookups. */
  forget(node: number, count: number): void {
    const ino = this.#ino[node];
    if (ino === undefined || ino < 0 || node === ROOT_NODE) return;
    this.#lookups[node]! -= count;
    if (this.#lookups[node]! > 0) return;
    // The kernel forgets no node that is open.
    this.#byIno.delete(ino);
    this.#ino[node] = -1;
    this.#free.push(node);
    this.#filesystem.drop(ino, 1 + this.#handles[node]!);
  }

  /** Counts a handle that is opened. */
  open(node: number | bigint): void {
    this.#filesystem.hold(this.ino(node));
    this.#handles[Number(node)]! += 1;
    this.#opened++;
  }

  /** Counts a handle that is released. */
  close(node: number | bigint): void {
    const ino = this.ino(node);
    this.#handles[Number(node)]! -= 1;
    this.#opened--;
    this.#filesystem.drop(ino);
  }

  /** Gives back every reference, at the end of a mount: the kernel does not forget one by one then. */
  clear(): void {
    for (const [ino, node] of this.#byIno) this.#filesystem.drop(ino, 1 + this.#handles[node]!);
    this.#byIno.clear();
    this.#ino.length = 0;
  }
}
