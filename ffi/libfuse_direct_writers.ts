const O_ACCMODE = 0o3, O_RDONLY = 0;
const O_DIRECT = Deno.build.arch === "aarch64" ? 0o200000 : 0o40000;

/** Handle numbers of files: what `release` must know of the handle. */
const ORDINARY = 0, DIRECT_WRITER = 1;

/**
 * Knows which files are written past the kernel's page cache (`O_DIRECT`). The kernel drops the pages of a range before
 * it sends such a write, and behind an asynchronous one (`fuse_aio_complete`) not again: what others have read
 * meanwhile stays, though it is old. So the next one who opens the file begins with an empty cache.
 */
export class DirectWriters {
  /** Handles that are open, by node. */
  readonly #handles = new Map<number, number>();
  readonly #written = new Set<number>();

  /** A file is opened with these flags. @returns the handle's number, and whether the file's pages can be kept. */
  opened(node: number, flags: number): { handle: number; keepCache: boolean } {
    const keepCache = !this.#written.has(node), writes = (flags & O_ACCMODE) !== O_RDONLY;
    if (!this.#handles.has(node)) this.#written.delete(node);
    if ((flags & O_DIRECT) === 0 || !writes) return { handle: ORDINARY, keepCache };
    this.#handles.set(node, (this.#handles.get(node) ?? 0) + 1);
    this.#written.add(node);
    return { handle: DIRECT_WRITER, keepCache };
  }

  /** A handle that {@linkcode opened} has numbered is closed. */
  released(node: number, handle: number): void {
    if (handle !== DIRECT_WRITER) return;
    const left = this.#handles.get(node)! - 1;
    if (left > 0) this.#handles.set(node, left);
    else this.#handles.delete(node);
  }
}
