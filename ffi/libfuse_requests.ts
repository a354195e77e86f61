import { FsError } from "../fs/errors.ts";
import type { Attributes, Filesystem, FilesystemStatistics } from "../fs/filesystem.ts";
import type { Ino } from "../fs/types.ts";
import type { Nodes } from "./libfuse_nodes.ts";
import {
  CTX,
  entryParamLayout,
  FILE_INFO,
  FILE_INFO_DIRECT_IO,
  FILE_INFO_KEEP_CACHE,
  FILE_INFO_NO_FLUSH,
  setU64,
  STAT,
  STATVFS,
  writeStat,
  writeStatvfs,
} from "./libfuse_structs.ts";
import type { Libfuse } from "./libfuse_symbols.ts";

/** One request of the kernel, which is answered exactly once. */
export class Request {
  readonly #pointer: Deno.PointerValue;
  #answered = false;
  /** It was answered with EINTR, and what comes of the work on it goes nowhere. */
  interrupted = false;

  constructor(pointer: Deno.PointerValue) {
    this.#pointer = pointer;
  }

  /** Tells it from others that are not answered yet. */
  get address(): bigint {
    return Deno.UnsafePointer.value(this.#pointer);
  }

  get answered(): boolean {
    return this.#answered;
  }

  /** For questions about a request that is not answered yet. */
  get pointer(): Deno.PointerValue {
    if (this.#answered) throw new Error("the request has been answered");
    return this.#pointer;
  }

  /** The pointer for the one call that answers; libfuse frees the request then. */
  take(): Deno.PointerValue {
    const pointer = this.pointer;
    this.#answered = true;
    return pointer;
  }
}

/** What a reply call returns when the caller was interrupted and the answer reached nobody. */
const INTERRUPTED = -2;

/** Who asks. */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
}

/** How long the kernel may trust what it is told, in seconds, and how files are to be opened. */
export interface ReplySettings {
  readonly entryTimeout: number;
  readonly attrTimeout: number;
  readonly directIo: boolean;
}

/**
 * The answers, each by one `fuse_reply_*` call. Structures are built in scratch buffers that are used over and over:
 * libfuse copies or sends them before the call returns.
 */
export class Replies {
  readonly #fuse: Libfuse["fuse"];
  readonly #filesystem: Filesystem;
  readonly #nodes: Nodes;
  #settings: ReplySettings;
  readonly #statLayout = STAT[Deno.build.arch];
  readonly #entryLayout = entryParamLayout(this.#statLayout);
  readonly #stat = new Uint8Array(this.#statLayout.size);
  readonly #statView = new DataView(this.#stat.buffer);
  readonly #entry = new Uint8Array(this.#entryLayout.size);
  readonly #entryView = new DataView(this.#entry.buffer);
  readonly #info: Uint8Array<ArrayBuffer>;
  readonly #infoView: DataView;
  readonly #infoLayout: typeof FILE_INFO[3] | typeof FILE_INFO[4];
  readonly #statvfs = new Uint8Array(STATVFS.size);
  readonly #path = new Uint8Array(4097);

  constructor(library: Libfuse, options: { filesystem: Filesystem; nodes: Nodes; settings: ReplySettings }) {
    this.#fuse = library.fuse;
    this.#filesystem = options.filesystem;
    this.#nodes = options.nodes;
    this.#settings = options.settings;
    this.#infoLayout = FILE_INFO[library.abi];
    this.#info = new Uint8Array(this.#infoLayout.size);
    this.#infoView = new DataView(this.#info.buffer);
    this.trust(options.settings);
  }

  /** From now on the kernel may trust what it is told for so long. */
  trust(timeouts: Pick<ReplySettings, "entryTimeout" | "attrTimeout">): void {
    this.#settings = { ...this.#settings, ...timeouts };
    this.#entryView.setFloat64(this.#entryLayout.attr_timeout, timeouts.attrTimeout, true);
    this.#entryView.setFloat64(this.#entryLayout.entry_timeout, timeouts.entryTimeout, true);
  }

  /** User and group of who asks. */
  caller(request: Request): Caller {
    const context = new Deno.UnsafePointerView(this.#fuse.fuse_req_ctx(request.pointer)!);
    return { uid: context.getUint32(CTX.uid), gid: context.getUint32(CTX.gid) };
  }

  error(request: Request, errno: number): void {
    this.#fuse.fuse_reply_err(request.take(), errno);
  }

  success(request: Request): void {
    this.#fuse.fuse_reply_err(request.take(), 0);
  }

  none(request: Request): void {
    this.#fuse.fuse_reply_none(request.take());
  }

  #fillEntry(node: number, attributes: Attributes): void {
    setU64(this.#entryView, this.#entryLayout.ino, node);
    setU64(this.#entryView, this.#entryLayout.generation, this.#nodes.generation(node));
    writeStat(this.#entryView, this.#entryLayout.attr, { layout: this.#statLayout, attributes });
  }

  /** Answers with an inode, and counts the lookup. */
  entry(request: Request, ino: Ino): void {
    const attributes = this.#filesystem.attributes(ino);
    const node = this.#nodes.look(ino);
    this.#fillEntry(node, attributes);
    if (this.#fuse.fuse_reply_entry(request.take(), this.#entry) === INTERRUPTED) this.#nodes.forget(node, 1);
  }

  /** Answers that there is no such name, in a way that the kernel remembers. */
  noEntry(request: Request, options: { remembered: boolean }): void {
    if (this.#settings.entryTimeout === 0 || !options.remembered) return this.error(request, 2);
    setU64(this.#entryView, this.#entryLayout.ino, 0);
    this.#fuse.fuse_reply_entry(request.take(), this.#entry);
  }

  #fillInfo(handle: number, options: { keepCache: boolean; flush: boolean }): void {
    const { keepCache, flush } = options;
    const bits = this.#settings.directIo ? FILE_INFO_DIRECT_IO : keepCache ? FILE_INFO_KEEP_CACHE : 0;
    this.#infoView.setUint32(this.#infoLayout.bits, flush ? bits : bits | FILE_INFO_NO_FLUSH, true);
    setU64(this.#infoView, this.#infoLayout.fh, handle);
  }

  /**
   * Answers with a new file that is open under this handle number; the lookup is counted by the caller, the handle here.
   *
   * @returns false if nobody will release it; the lookup is taken back, too
   */
  created(request: Request, file: { ino: Ino; node: number; handle: number }): boolean {
    const { ino, node, handle } = file;
    const attributes = this.#filesystem.attributes(ino);
    this.#nodes.open(node);
    this.#fillEntry(node, attributes);
    this.#fillInfo(handle, { keepCache: true, flush: true });
    if (this.#fuse.fuse_reply_create(request.take(), this.#entry, this.#info) !== INTERRUPTED) return true;
    this.#nodes.close(node);
    this.#nodes.forget(node, 1);
    return false;
  }

  /**
   * Answers that a file is open under this handle number; counts the handle.
   *
   * @param options `keepCache`: the kernel may go on with the pages that it has of the file; `flush`: it is to say when
   * the file is closed
   * @returns false if nobody will release it
   */
  opened(
    request: Request,
    node: bigint,
    options: { handle: number; keepCache: boolean; flush: boolean },
  ): boolean {
    this.#nodes.open(node);
    this.#fillInfo(options.handle, options);
    if (this.#fuse.fuse_reply_open(request.take(), this.#info) !== INTERRUPTED) return true;
    this.#nodes.close(node);
    return false;
  }

  /** Answers that a directory is open under this handle number. @returns false if nobody will release it. */
  openedDirectory(request: Request, node: number | bigint, handle: number): boolean {
    this.#nodes.open(node);
    this.#infoView.setUint32(this.#infoLayout.bits, 0, true);
    setU64(this.#infoView, this.#infoLayout.fh, handle);
    if (this.#fuse.fuse_reply_open(request.take(), this.#info) !== INTERRUPTED) return true;
    this.#nodes.close(node);
    return false;
  }

  attributes(request: Request, attributes: Attributes): void {
    writeStat(this.#statView, 0, { layout: this.#statLayout, attributes });
    this.#fuse.fuse_reply_attr(request.take(), this.#stat, this.#settings.attrTimeout);
  }

  bytes(request: Request, bytes: Uint8Array): void {
    const length = BigInt(bytes.length);
    this.#fuse.fuse_reply_buf(request.take(), bytes as Uint8Array<ArrayBuffer>, length);
  }

  written(request: Request, count: number): void {
    this.#fuse.fuse_reply_write(request.take(), BigInt(count));
  }

  target(request: Request, target: Uint8Array): void {
    if (target.length >= this.#path.length) throw new FsError("ENAMETOOLONG");
    this.#path.set(target);
    this.#path[target.length] = 0;
    this.#fuse.fuse_reply_readlink(request.take(), this.#path);
  }

  statistics(request: Request, statistics: FilesystemStatistics): void {
    writeStatvfs(new DataView(this.#statvfs.buffer), statistics);
    this.#fuse.fuse_reply_statfs(request.take(), this.#statvfs);
  }

  /** Answers an extended attribute's value or list: its length where `size` is 0, else the bytes if they fit. */
  xattr(request: Request, value: Uint8Array, size: number): void {
    if (size === 0) this.#fuse.fuse_reply_xattr(request.take(), BigInt(value.length));
    else if (value.length > size) throw new FsError("ERANGE");
    else this.bytes(request, value);
  }

  position(request: Request, offset: number): void {
    this.#fuse.fuse_reply_lseek(request.take(), BigInt(offset));
  }

  /**
   * Adds a directory entry to `buffer` from `at` on. `name` ends in NUL. With `plus`, tells the kernel all about the
   * inode, for which the lookup is counted by the caller under `node`; 0 tells nothing.
   *
   * @returns the bytes that it needs; it was added only if they fit.
   */
  addEntry(
    request: Request,
    entry: {
      name: Uint8Array<ArrayBuffer>;
      attributes: Attributes;
      node: number;
      offset: number;
      plus: boolean;
    },
    buffer: Uint8Array<ArrayBuffer>,
  ): number {
    const { name, attributes, node, offset, plus } = entry;
    const room = BigInt(buffer.length);
    if (plus) {
      this.#fillEntry(node, attributes);
      return Number(
        this.#fuse.fuse_add_direntry_plus(request.pointer, buffer, room, name, this.#entry, BigInt(offset)),
      );
    }
    writeStat(this.#statView, 0, { layout: this.#statLayout, attributes });
    return Number(
      this.#fuse.fuse_add_direntry(request.pointer, buffer, room, name, this.#stat, BigInt(offset)),
    );
  }

  /** Answers with directory entries. @returns false if they reached nobody. */
  entries(request: Request, bytes: Uint8Array<ArrayBuffer>): boolean {
    return this.#fuse.fuse_reply_buf(request.take(), bytes, BigInt(bytes.length)) !== INTERRUPTED;
  }
}
