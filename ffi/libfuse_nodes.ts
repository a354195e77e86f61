import { FsError } from "../fs/errors.ts";
import type { Filesystem } from "../fs/filesystem.ts";
import { latin1 } from "../fs/layout/changes.ts";
import { type Ino, ROOT, S_IFMT, S_IFREG } from "../fs/types.ts";

/** The kernel's number for the root (`FUSE_ROOT_ID`). */
export const ROOT_NODE = 1;

/** Stand for the inode of a node that the kernel knows and the filesystem no longer has, and for one with data lost. */
const GONE = -2, LOST = -3;
/** Absent names of the root that are remembered at most. */
const ABSENT_MOST = 4096;

/**
 * The numbers under which the kernel knows inodes (more than one after {@linkcode Nodes.renewFiles}), with its counts of
 * lookups and open handles. An inode is held ({@linkcode Filesystem.hold}) once while the kernel has looked it up and
 * once for each handle; so its id is not used again meanwhile and says all. A node id is used again only after the kernel forgot it, with a new generation.
 */
export class Nodes {
  readonly #filesystem: Filesystem;
  /** The number that is told for an inode. */
  readonly #byIno = new Map<Ino, number>([[ROOT, ROOT_NODE]]);
  /** By node id; -1 where it is free. */
  readonly #ino: Ino[] = [-1, ROOT];
  readonly #lookups: number[] = [0, 0];
  readonly #handles: number[] = [0, 0];
  readonly #generation: number[] = [0, 0];
  /** What tells an inode from a later one of the same id. */
  readonly #identity: number[] = [0, 0];
  /** Names of which the kernel was told that the root has not got them. */
  readonly #absent = new Map<string, Uint8Array>();
  readonly #free: number[] = [];
  #opened = 0;

  constructor(filesystem: Filesystem) {
    this.#filesystem = filesystem;
    filesystem.hold(ROOT);
  }

  /** How many nodes the kernel knows, the root included. */
  get size(): number {
    return this.known().length;
  }

  /** How many files and directories are open. */
  get opened(): number {
    return this.#opened;
  }

  /** @throws {FsError} ESTALE if the kernel does not know such a node, or its inode is gone: it looks it up anew then */
  ino(node: number | bigint): Ino {
    const ino = this.#ino[Number(node)];
    if (ino === undefined || ino < 0) throw new FsError("ESTALE");
    return ino;
  }

  /** As {@linkcode ino}, to tell whether an open file's data is durable. @throws {FsError} EIO if it was lost */
  written(node: number | bigint): Ino {
    if (this.#ino[Number(node)] === LOST) throw new FsError("EIO");
    return this.ino(node);
  }

  /** All nodes that the kernel knows, with their inodes; of one inode the newest is the last. */
  known(): [Ino, number][] {
    const nodes: [Ino, number][] = [];
    for (const [node, ino] of this.#ino.entries()) {
      if (ino >= 0 && !this.#isCurrent(node)) nodes.push([ino, node]);
    }
    return [...nodes, ...this.#byIno];
  }

  #isCurrent(node: number): boolean {
    return this.#byIno.get(this.#ino[node]!) === node;
  }

  /** The next lookup of a file gives it another number, so that the kernel takes all from there: who has it open stays. */
  renewFiles(): void {
    for (const ino of [...this.#byIno.keys()]) {
      if ((this.#filesystem.attributes(ino).mode & S_IFMT) === S_IFREG) this.#byIno.delete(ino);
    }
  }

  /** Counts a name that the root has not got. @returns whether the kernel may remember it: only a bounded number */
  absent(name: Uint8Array): boolean {
    const key = latin1(name);
    if (this.#absent.size >= ABSENT_MOST && !this.#absent.has(key)) return false;
    this.#absent.set(key, name.slice());
    return true;
  }

  /** The names that were counted since this was asked last. */
  takeAbsent(): Uint8Array[] {
    const names = [...this.#absent.values()];
    this.#absent.clear();
    return names;
  }

  /** When it was made, to the nanosecond within some weeks, and what it is. */
  #identityOf(ino: Ino): number {
    const { mode, btime: { seconds, nanoseconds } } = this.#filesystem.attributes(ino);
    return ((seconds % 2 ** 19) * 2 ** 30 + nanoseconds) * 16 + ((mode & S_IFMT) >> 12);
  }

  /**
   * The filesystem is in another state: nodes whose inode is not there, or is another file by now, are gone.
   *
   * @param lost files with data that was not durable
   */
  reconcile(lost?: ReadonlySet<Ino>): void {
    for (const [ino, node] of this.known()) {
      if (node === ROOT_NODE) continue;
      try {
        if (this.#identityOf(ino) === this.#identity[node]) continue;
      } catch (error) {
        if (!(error instanceof FsError)) throw error;
      }
      if (this.#isCurrent(node)) this.#byIno.delete(ino);
      this.#ino[node] = lost?.has(ino) ? LOST : GONE;
    }
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
      this.#identity[node] = this.#identityOf(ino);
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
    if (ino === undefined || ino === -1 || node === ROOT_NODE) return;
    this.#lookups[node]! -= count;
    if (this.#lookups[node]! > 0) return;
    // The kernel forgets no node that is open.
    if (this.#isCurrent(node)) this.#byIno.delete(ino);
    this.#ino[node] = -1;
    this.#free.push(node);
    if (ino < 0) return;
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
    const ino = this.#ino[Number(node)]!;
    if (ino !== GONE && ino !== LOST) this.#filesystem.drop(this.ino(node));
    this.#handles[Number(node)]! -= 1;
    this.#opened--;
  }

  /** Gives back every reference, at the end of a mount: the kernel does not forget one by one then. */
  clear(): void {
    for (const [ino, node] of this.known()) this.#filesystem.drop(ino, 1 + this.#handles[node]!);
    this.#byIno.clear();
    this.#ino.length = 0;
  }
}
