/** Having the kernel hand over what programs have written and it still keeps: pages of mappings, and its write-back cache. */
import { cString, type Libfuse } from "./libfuse_symbols.ts";

const O_DIRECTORY = Deno.build.arch === "aarch64" ? 0o40000 : 0o200000, O_CLOEXEC = 0o2000000;
const AT_FDCWD = -100, OPEN_TREE_CLONE = 1;

/** Tells whether this is a thread of this process. */
function isOwnThread(thread: number): boolean {
  try {
    return Deno.statSync(`/proc/self/task/${thread}`).isDirectory;
  } catch {
    return false;
  }
}

/**
 * Has the kernel send as WRITE requests what it keeps of a mount.
 *
 * syncfs(2) alone is not enough: of a FUSE filesystem it has the requests queued, and waits for none of them. But those
 * of a queue come in order, and the release of a directory goes into the same one: when the release of the root that
 * syncfs was called by has come, so have all writes. All calls are made on other threads, as the kernel waits in them
 * for answers from here.
 */
export class WriteOut {
  readonly #library: Libfuse;
  readonly #mountpoint: string;
  /** Writes of whole pages by the kernel that have come and are not answered. */
  readonly #writes = new Set<Promise<void>>();
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  /** The root is being opened; under this handle number, once it is. */
  #opening = false;
  #handle: number | undefined;
  #released: (() => void) | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  /** No more is begun. */
  #closed = false;
  /** No request comes any more. */
  #ended = false;
  #failure: unknown;

  constructor(library: Libfuse, mountpoint: string) {
    this.#library = library;
    this.#mountpoint = mountpoint;
  }

  /**
   * Resolves when all that programs have written before this call has come and is answered; at once when the session has
   * ended, or the mount is not at its mountpoint any more. What could not be written is told to those who wrote it
   * (`fsync`, `close`), and by {@linkcode takeFailure}. Never rejects.
   */
  request(): Promise<void> {
    if (this.#closed) return Promise.resolve();
    // One that is under way may have passed by what was written since it began.
    if (this.#running !== undefined) {
      return this.#next ??= this.#running.then(() => {
        this.#next = undefined;
        return this.request();
      });
    }
    return this.#running = this.#pass().catch(() => {}).finally(() => this.#running = undefined);
  }

  /** Does so again and again, where `due` says that there may be something. @param seconds between the beginnings */
  repeat(seconds: number, due: () => boolean): void {
    this.#timer = setInterval(() => {
      if (this.#running === undefined && due()) void this.request();
    }, seconds * 1000);
  }

  /** Resolves when none is under way. */
  async idle(): Promise<void> {
    await (this.#next ?? this.#running);
  }

  /** The last one: those that are asked for later do nothing, so that the session can end. */
  async last(): Promise<void> {
    while (this.#running !== undefined) await this.idle();
    const last = this.request();
    this.#closed = true;
    clearInterval(this.#timer);
    await last;
  }

  /** No request comes any more. */
  end(): void {
    this.#closed = this.#ended = true;
    clearInterval(this.#timer);
    this.#released?.();
  }

  /** The kernel writes pages of its cache, and is answered when this settles. */
  writing(answered: Promise<void>): void {
    const settled: Promise<void> = answered.catch(() => {}).then(() => void this.#writes.delete(settled));
    this.#writes.add(settled);
  }

  /** Pages of its cache could not be written. */
  failed(error: unknown): void {
    this.#failure ??= error;
  }

  /** What could not be written since this was asked last. */
  takeFailure(): unknown {
    const failure = this.#failure;
    this.#failure = undefined;
    return failure;
  }

  /** The root was opened by this thread. */
  opened(handle: number, thread: number): void {
    if (this.#opening && this.#handle === undefined && isOwnThread(thread)) this.#handle = handle;
  }

  /** A directory was released. */
  released(handle: number): void {
    if (handle === this.#handle) this.#released?.();
  }

  async #pass(): Promise<void> {
    const { libc } = this.#library, { promise: released, resolve } = Promise.withResolvers<void>();
    this.#handle = undefined;
    this.#released = resolve;
    this.#opening = true;
    const root = await this.#openRoot().finally(() => this.#opening = false);
    if (root < 0) return;
    const isOurs = this.#handle !== undefined;
    if (isOurs) await libc.syncfs(root); // what it says is told to others, too: see `request`
    await libc.close_mounted(root);
    if (isOurs && !this.#ended) await released;
    await Promise.all(this.#writes);
  }

  /**
   * Opens the root: on a copy of the mount where that is allowed (to root), as an open file would keep umount(8) from
   * unmounting.
   *
   * @returns the descriptor, or a negative number
   */
  async #openRoot(): Promise<number> {
    const { libc } = this.#library, path = cString(this.#mountpoint), flags = O_DIRECTORY | O_CLOEXEC;
    const copy = await libc.open_tree?.(AT_FDCWD, path, OPEN_TREE_CLONE | O_CLOEXEC) ?? -1;
    if (copy < 0) return await libc.openat(AT_FDCWD, path, flags);
    try {
      return await libc.openat(copy, cString("."), flags);
    } finally {
      await libc.close_mounted(copy);
    }
  }
}
