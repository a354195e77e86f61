const O_ACCMODE = 0o3, O_RDONLY = 0;
const O_DIRECT = Deno.build.arch === "aarch64" ? 0o200000 : 0o40000;

/** Handle numbers of files: what `release` must know of the handle. */
const READER = 0, WRITER = 1, DIRECT_WRITER = 2;

/**
 * Knows how many handles can write, and which files are written past the kernel's page cache (`O_DIRECT`). The kernel
 * drops the pages of a range before it sends such a write, and behind an asynchronous one (`fuse_aio_complete`) not
 * again: what others have read meanwhile stays, though it is old. So the next one who opens the file begins with an
 * empty cache.
 */
export class Writers {
  /** Handles that are open for writing: what a program has written and the kernel keeps has one of them. */
  open = 0;
  /** Handles for direct writing that are open, by node. */
  readonly #handles = new Map<number, number>();
  readonly #written = new Set<number>();

  /** A file is opened with these flags. @returns the handle's number, and whether the file's pages can be kept. */
  opened(node: number, flags: number): { handle: number; keepCache: boolean } {
    const keepCache = !this.#written.has(node), writes = (flags & O_ACCMODE) !== O_RDONLY;
    if (!this.#handles.has(node)) this.#written.delete(node);
    if (!writes) return { handle: READER, keepCache };
    this.open++;
    if ((flags & O_DIRECT) === 0) return { handle: WRITER, keepCache };
    this.#handles.set(node, (this.#handles.get(node) ?? 0) + 1);
    this.#written.add(node);
    return { handle: DIRECT_WRITER, keepCache };
  }

  /** A handle that {@linkcode opened} has numbered is closed. */
  released(node: number, handle: number): void {
    if (handle !== READER) this.open--;
    if (handle !== DIRECT_WRITER) return;
    const left = this.#handles.get(node)! - 1;
    if (left > 0) this.#handles.set(node, left);
    else this.#handles.delete(node);
  }
}
