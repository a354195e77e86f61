import { FsError } from "../fs/errors.ts";
import type { Attributes, Filesystem } from "../fs/filesystem.ts";
import type { Ino } from "../fs/types.ts";
import type { Nodes } from "./libfuse_nodes.ts";
import { REQUEST_BYTES } from "./libfuse_receive.ts";
import type { Replies, Request } from "./libfuse_requests.ts";

/** Offsets that the kernel sees: 1 behind `.`, 2 behind `..`, and cookies of the filesystem moved up by this. */
const FIRST = 2;

interface Entry {
  readonly name: Uint8Array;
  readonly ino: Ino;
  /** Where to go on behind it. */
  readonly offset: number;
}

/** An open directory: where its reader is, so that going on costs nothing. */
class Listing {
  readonly ino: Ino;
  readonly #filesystem: Filesystem;
  #iterator: ReturnType<Filesystem["list"]> | undefined;
  /** The offset that {@linkcode next} goes on from. */
  #offset = 0;
  /** The newest entry when it was opened or rewound: who renames what he lists would else list without end. */
  #newest: number;
  #pending: Entry | undefined;

  constructor(filesystem: Filesystem, ino: Ino) {
    this.#filesystem = filesystem;
    this.ino = ino;
    this.#newest = filesystem.newest(ino);
  }

  /** Goes to an offset that was given with an entry, or to the start. */
  seek(offset: number): void {
    if (offset === this.#offset && offset !== 0) return;
    this.#iterator = undefined;
    this.#pending = undefined;
    this.#offset = offset;
    if (offset === 0) this.#newest = this.#filesystem.newest(this.ino);
  }

  /** The entry at the reader; it stays there until {@linkcode taken}. */
  next(): Entry | undefined {
    if (this.#pending) return this.#pending;
    if (this.#offset === 0) this.#pending = { name: DOT, ino: this.ino, offset: 1 };
    else if (this.#offset === 1) {
      this.#pending = { name: DOT_DOT, ino: this.#filesystem.parent(this.ino), offset: FIRST };
    } else {
      this.#iterator ??= this.#filesystem.list(this.ino, this.#offset - FIRST);
      const { done, value } = this.#iterator.next();
      if (done || value.cookie > this.#newest) return undefined;
      this.#pending = { name: value.name, ino: value.ino, offset: value.cookie + FIRST };
    }
    return this.#pending;
  }

  taken(): void {
    this.#offset = this.#pending!.offset;
    this.#pending = undefined;
  }
}

const DOT = new Uint8Array([46]);
const DOT_DOT = new Uint8Array([46, 46]);

/** The open directories of a mount, by handle number. */
export class Directories {
  readonly #filesystem: Filesystem;
  readonly #nodes: Nodes;
  readonly #replies: Replies;
  readonly #open = new Map<number, Listing>();
  readonly #bytes = new Uint8Array(REQUEST_BYTES);
  readonly #name = new Uint8Array(256);
  #lastHandle = 0;

  constructor(options: { filesystem: Filesystem; nodes: Nodes; replies: Replies }) {
    this.#filesystem = options.filesystem;
    this.#nodes = options.nodes;
    this.#replies = options.replies;
  }

  /** @returns the handle's number */
  open(request: Request, node: bigint): number {
    const handle = ++this.#lastHandle;
    this.#open.set(handle, new Listing(this.#filesystem, this.#nodes.ino(node)));
    if (!this.#replies.openedDirectory(request, node, handle)) this.#open.delete(handle);
    return handle;
  }

  close(request: Request, node: bigint, handle: number): void {
    this.#open.delete(handle);
    this.#nodes.close(node);
    this.#replies.success(request);
  }

  /** Answers with the entries from `offset` on that fit in `size` bytes; with `plus`, with their inodes, too. */
  read(request: Request, handle: number, options: { size: number; offset: number; plus: boolean }): void {
    const listing = this.#open.get(handle);
    if (!listing) throw new FsError("EBADF");
    const { plus } = options;
    const size = Math.min(options.size, this.#bytes.length);
    const looked: number[] = [];
    let used = 0;
    listing.seek(options.offset);
    try {
      for (let entry = listing.next(); entry; entry = listing.next()) {
        const attributes = this.#filesystem.attributes(entry.ino);
        const node = plus && entry.offset > FIRST ? this.#nodes.look(entry.ino) : 0;
        if (node > 0) looked.push(node);
        const needed = this.#add(
          request,
          { entry, attributes, node, plus },
          this.#bytes.subarray(used, size),
        );
        if (used + needed > size) {
          if (node > 0) this.#nodes.forget(looked.pop()!, 1);
          break;
        }
        used += needed;
        listing.taken();
      }
    } catch (error) {
      // What is ready goes out; the error comes back with the next request, at the entry that caused it.
      if (used === 0) throw error;
    }
    if (used === 0 && listing.next()) throw new FsError("EINVAL");
    if (!this.#replies.entries(request, this.#bytes.subarray(0, used))) {
      for (const node of looked) this.#nodes.forget(node, 1);
    }
  }

  #add(
    request: Request,
    what: { entry: Entry; attributes: Attributes; node: number; plus: boolean },
    buffer: Uint8Array<ArrayBuffer>,
  ): number {
    const { entry, attributes, node, plus } = what;
    this.#name.set(entry.name);
    this.#name[entry.name.length] = 0;
    return this.#replies.addEntry(
      request,
      { name: this.#name, attributes, node, offset: entry.offset, plus },
      buffer,
    );
  }
}
