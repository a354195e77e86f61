/** The store in a local file. Its byte layout is docs/format.md, "Container". */
import * as fs from "node:fs";
import { dirname, resolve } from "node:path";
import { CoverError } from "../../crypto/errors.ts";
import { SEALED } from "../../crypto/sealer.ts";
import { blockOffset, blocksIn, blocksOf, HEADER_AT } from "../block/byte_layout.ts";
import {
  type BlockStore,
  HEADER_BYTES,
  type HeaderRegion,
  type StoreMode,
  type StoreSpace,
  type StoreTraits,
} from "../block/store.ts";
import { breathe } from "../clock.ts";
import { DiskFile } from "../../net/disk_file.ts";
import { Broken, Errno, type ErrnoName, FsError } from "../errors.ts";
import type { Position } from "../types.ts";
import { lockContainer, type LockOptions } from "./file_lock.ts";

/** How to open a store in a file. */
export interface FileStoreOptions extends LockOptions {
  /** Bytes that the file may have at most; beyond is EDQUOT. */
  readonly maxBytes?: number | undefined;
  /**
   * Makes room in the file behind the descriptor, as fallocate(2) with mode 0 does; throws an error with an errno name
   * as `code`. Without it, or where the filesystem cannot do it, zeros are written. So they are for small growth: a
   * sync of what was only allocated costs ext4 twice the time, which a stream does not notice, but small commits do.
   */
  readonly fallocate?: ((fd: number, offset: number, length: number) => void) | undefined;
}

/** Growth from which on room is allocated rather than written, in bytes. */
const ALLOCATE_LEAST = 2 << 20;
/** Bytes of zeros written at a time to make room. */
const STEP = 1 << 20;

/**
 * Opens a container in a file: "create" makes an empty one (0600), "write" takes the lock that only one writer of
 * this machine has, "read" needs no more than the right to read.
 *
 * @throws {CoverError} "no-container", "busy" (another writer), "damaged" (a directory or device),
 * "failure" (anything there for "create", no permission)
 */
// deno-lint-ignore require-await
export async function openFileStore(
  path: string,
  mode: StoreMode,
  options: FileStoreOptions = {},
): Promise<FileStore> {
  const fd = mode === "create" ? createFile(path) : openFile(path, mode);
  try {
    const lock = mode === "read" ? undefined : lockContainer(path, options);
    if (mode === "create") syncDirectory(dirname(path));
    return new FileStore(fd, { path, lock, ...options });
  } catch (error) {
    fs.closeSync(fd);
    if (mode === "create") fs.rmSync(path, { force: true });
    throw error;
  }
}

function createFile(path: string): number {
  try {
    return fs.openSync(path, "wx+", 0o600);
  } catch (cause) {
    if (codeOf(cause) === "EEXIST" || codeOf(cause) === "EISDIR") {
      throw new CoverError("failure", `Cannot create container "${path}": there is something by that name`, {
        hint: "Only `coverfs init` creates, and it never overwrites: choose another name",
        cause,
      });
    }
    throw cannot("create", path, cause);
  }
}

function openFile(path: string, mode: "read" | "write"): number {
  try {
    // Asked before opening, as opening a pipe would wait for its other end.
    if (!fs.statSync(path).isFile()) {
      throw new CoverError("damaged", `Cannot open container "${path}": it is not a file`);
    }
    return fs.openSync(path, mode === "read" ? "r" : "r+");
  } catch (error) {
    throw error instanceof CoverError ? error : cannot("open", path, error);
  }
}

function cannot(what: "open" | "create", path: string, cause: unknown): CoverError {
  const start = `Cannot ${what} container "${path}": `;
  switch (codeOf(cause)) {
    case "ENOENT":
    case "ENOTDIR":
      return what === "open"
        ? new CoverError("no-container", `${start}there is no such file`, {
          hint: "Only `coverfs init` creates a container",
          cause,
        })
        : new CoverError("no-such-path", `${start}the folder is not there`, { cause });
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return new CoverError("failure", `${start}permission denied`, {
        hint: what === "open" ? "Where reading is allowed, --read-only works" : "Choose another folder",
        cause,
      });
    case "ENOSPC":
    case "EDQUOT":
      return new CoverError("no-space", `${start}no space left`, { cause });
  }
  return new CoverError("failure", `${start}${codeOf(cause) ?? "the system refuses"}`, { cause });
}

/** The name of a file is durable only when its directory is. Windows cannot do that, and has no need. */
function syncDirectory(path: string): void {
  if (Deno.build.os === "windows") return;
  const fd = fs.openSync(path, "r");
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

function codeOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === "string" ? code : undefined;
}

/** What a disk answers now and then, in words. */
const WORDS: Readonly<Record<string, string>> = {
  ENOSPC: "no space left on the disk",
  EDQUOT: "the quota on that disk is used up",
  EIO: "the disk failed (EIO)",
};

/** A system error as errno; EIO where it has a name that the filesystem does not know. */
function asFsError(error: unknown, message: string): FsError {
  if (error instanceof FsError) return error;
  const code = codeOf(error) ?? "EIO", words = WORDS[code] ?? code;
  return new FsError(code in Errno ? code as ErrnoName : "EIO", `${message}: ${words}`, { cause: error });
}

function isRoomError(error: FsError): boolean {
  return error.code === "ENOSPC" || error.code === "EDQUOT" || error.code === "EFBIG";
}

/** A container in a local file. Made by {@linkcode openFileStore}. */
export class FileStore implements BlockStore {
  readonly traits: StoreTraits = {
    atomicFlush: false,
    preallocates: true,
    runBlocks: 256,
    commitSeconds: 5,
  };
  readonly #file: DiskFile;
  readonly #path: string;
  /** Absent where the store only reads. */
  readonly #lock: Disposable | undefined;
  readonly #maxBytes: number;
  #fallocate: FileStoreOptions["fallocate"];
  /** Length of the file; only a writer knows it without asking. */
  #length: number;
  /** End of what was written and not only reserved. */
  #written: number;
  #failure: Broken | undefined;
  /** Changes so far, those of processes before this one as one, and how many of them are durable. */
  #changes = 1;
  #durable = 0;
  #syncing: { readonly covers: number; readonly done: Promise<void> } | undefined;
  #nextSync: Promise<void> | undefined;
  #reserving: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;

  /** Use {@linkcode openFileStore}. */
  constructor(fd: number, options: FileStoreOptions & { path: string; lock: Disposable | undefined }) {
    this.#file = new DiskFile(fd);
    this.#path = resolve(options.path); // a mount in the background moves to another working directory
    this.#lock = options.lock;
    this.#maxBytes = options.maxBytes ?? Infinity;
    this.#fallocate = options.fallocate;
    this.#length = this.#written = this.#file.size();
  }

  // ---- reading ----

  read(position: Position, count: number, into?: Uint8Array): Uint8Array | Promise<Uint8Array> {
    if (this.#closing) return Promise.reject(new FsError("EIO", "The store is closed"));
    const out = into?.subarray(0, count * SEALED) ?? new Uint8Array(count * SEALED);
    const offset = blockOffset(position);
    if (offset > Number.MAX_SAFE_INTEGER) return out.fill(0);
    try {
      const read = this.#file.read(offset, out);
      return typeof read === "number"
        ? out
        : read.then(() => out, (error) => Promise.reject(this.#unread(error)));
    } catch (error) {
      return Promise.reject(this.#unread(error));
    }
  }

  #unread(error: unknown): FsError {
    return asFsError(error, `Cannot read container "${this.#path}"`);
  }

  // deno-lint-ignore require-await
  async readHeader(region: HeaderRegion, copy: 0 | 1): Promise<Uint8Array> {
    if (this.#closing) throw new FsError("EIO", "The store is closed");
    const out = new Uint8Array(HEADER_BYTES[region]);
    try {
      this.#file.readHere(HEADER_AT[region][copy], out);
      return out;
    } catch (error) {
      throw this.#unread(error);
    }
  }

  // deno-lint-ignore require-await
  async size(): Promise<number> {
    return blocksIn(this.#lock || this.#closing ? this.#length : this.#file.size());
  }

  /** What other processes write to the file is seen at once; a reader cannot tell whether they did. */
  refresh(): Promise<boolean> {
    return Promise.resolve(this.#lock === undefined);
  }

  // ---- writing ----

  #refusal(): Error | undefined {
    return this.#failure ?? (this.#lock ? undefined : new FsError("EROFS", "The store is open to read"));
  }

  /** From now on nothing is written. A flush is never repeated: the kernel forgets the pages of a failed one. */
  #break(what: string, error: unknown): Broken {
    const cause = asFsError(error, `Cannot ${what} container "${this.#path}"`);
    return this.#failure ??= new Broken(cause.message, { cause });
  }

  #put(offset: number, bytes: Uint8Array): void | Promise<void> {
    const refusal = this.#refusal(), end = offset + bytes.length;
    if (refusal) return Promise.reject(refusal);
    try {
      if (end > this.#maxBytes) throw new FsError("EDQUOT", `Container "${this.#path}" reached its quota`);
      this.#file.writeHere(offset, bytes);
    } catch (error) {
      return Promise.reject(this.#break("write", error));
    }
    this.#changes++;
    this.#length = Math.max(this.#length, end);
    this.#written = Math.max(this.#written, end);
  }

  /** At once: the bytes are copied into the page cache. */
  write(position: Position, bytes: Uint8Array): void | Promise<void> {
    blocksOf(bytes);
    if (!Number.isSafeInteger(blockOffset(position)) || position < 0) {
      throw new RangeError(`Not a position: ${position}`);
    }
    return this.#put(blockOffset(position), bytes);
  }

  writeHeader(region: HeaderRegion, copy: 0 | 1, bytes: Uint8Array): void | Promise<void> {
    if (bytes.length !== HEADER_BYTES[region]) {
      throw new RangeError(`Not a ${region} header: ${bytes.length} bytes`);
    }
    return this.#put(HEADER_AT[region][copy], bytes);
  }

  /** Nothing: free blocks inside the file keep their room. */
  discard(_position: Position, _count: number): void {}

  // deno-lint-ignore require-await
  async truncate(blocks: number): Promise<void> {
    const refusal = this.#refusal(), end = blockOffset(blocks);
    if (refusal) throw refusal;
    if (end >= this.#length) return;
    try {
      fs.ftruncateSync(this.#file.fd, end);
    } catch (error) {
      throw this.#break("truncate", error);
    }
    this.#changes++;
    this.#length = end;
    this.#written = Math.min(this.#written, end);
  }

  /**
   * One fdatasync at a time, as only one of several at once is told of a failure. What is asked for while one runs
   * shares the next.
   */
  flush(): Promise<void> {
    const refusal = this.#refusal();
    if (refusal) return Promise.reject(refusal);
    if (this.#nextSync) return this.#nextSync;
    if (this.#changes === this.#durable) return Promise.resolve();
    if (this.#syncing === undefined) return this.#sync();
    if (this.#syncing.covers === this.#changes) return this.#syncing.done;
    return this.#nextSync = this.#syncing.done.then(() => {
      this.#nextSync = undefined;
      return this.#sync();
    });
  }

  #sync(): Promise<void> {
    const covers = this.#changes;
    const done = this.#file.sync().then(() => {
      this.#durable = covers;
      this.#syncing = undefined;
    }, (error) => {
      this.#syncing = undefined;
      throw this.#break("flush", error);
    });
    this.#syncing = { covers, done };
    return done;
  }

  // ---- room ----

  async reserve(blocks: number): Promise<void> {
    const before = this.#reserving;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#reserving = promise;
    await before;
    try {
      await this.#reserve(blockOffset(blocks));
    } finally {
      resolve();
    }
  }

  async #reserve(end: number): Promise<void> {
    const refusal = this.#refusal();
    if (refusal) throw refusal;
    const before = this.#length;
    if (end <= before) return;
    if (end > this.#maxBytes) {
      throw new FsError("EDQUOT", `Container "${this.#path}" may have ${this.#maxBytes} bytes at most`);
    }
    // Asked first, so that other programs do not run out of space while this one finds that there is too little.
    if (end - before > await this.#diskFree()) {
      throw new FsError("ENOSPC", `Cannot grow container "${this.#path}": no space left`);
    }
    try {
      this.#allocate(end);
      while (this.#length < end && !this.#refusal()) {
        this.#extend(Math.min(STEP, end - this.#length));
        if (this.#length < end) await breathe();
      }
    } catch (error) {
      const failure = asFsError(error, `Cannot grow container "${this.#path}"`);
      if (!isRoomError(failure)) throw this.#break("grow", error);
      this.#giveBack(before);
      throw failure.code === "EFBIG" ? new FsError("ENOSPC", failure.message, { cause: failure }) : failure;
    }
    const broken = this.#refusal();
    if (broken) throw broken;
  }

  /** Lets the system make the room, where it can. */
  #allocate(end: number): void {
    if (this.#fallocate === undefined || end - this.#length < ALLOCATE_LEAST) return;
    try {
      this.#fallocate(this.#file.fd, this.#length, end - this.#length);
      this.#changes++;
      this.#length = end;
    } catch (error) {
      if (isRoomError(asFsError(error, ""))) throw error;
      this.#fallocate = undefined;
    }
  }

  /** Writes zeros behind the end. In one go, so that no write comes between finding the end and moving it. */
  #extend(bytes: number): void {
    const zeros = new Uint8Array(bytes);
    for (let at = 0; at < bytes;) {
      const count = fs.writeSync(this.#file.fd, zeros, at, bytes - at, this.#length);
      at += count;
      this.#changes++;
      this.#length += count;
    }
  }

  /** Takes back what a failed reservation added, but nothing that was written meanwhile. */
  #giveBack(before: number): void {
    this.#length = this.#file.size();
    const end = Math.max(before, this.#written);
    if (end >= this.#length) return;
    try {
      fs.ftruncateSync(this.#file.fd, end);
      this.#changes++;
      this.#length = end;
    } catch {
      // The room is not given back then: nothing is wrong with the container.
    }
  }

  /** Bytes that the filesystem has left; Infinity where it does not tell. */
  async #diskFree(): Promise<number> {
    try {
      const { bavail, bsize, blocks } = await fs.promises.statfs(this.#path);
      return Number(blocks) === 0 ? Infinity : Number(bavail) * Number(bsize);
    } catch {
      return Infinity;
    }
  }

  async space(): Promise<StoreSpace> {
    const disk = await this.#diskFree();
    const size = await this.size(), quota = blocksIn(this.#maxBytes);
    const room = Math.floor(disk / SEALED);
    return { free: Math.max(0, Math.min(room, quota - size)), quota };
  }

  // ---- the end ----

  /**
   * Deletes the file, for a container that could not be made whole; also after a write or a flush has failed. Nothing
   * can be written afterwards. A file that has taken its name meanwhile stays.
   */
  // deno-lint-ignore require-await
  async remove(): Promise<void> {
    if (this.#lock === undefined) throw new FsError("EROFS", "The store is open to read");
    if (this.#closing) throw new Broken("The store is closed");
    this.#failure ??= new Broken("The container was removed");
    const { dev, ino } = fs.fstatSync(this.#file.fd), there = fs.lstatSync(this.#path);
    if (there.dev === dev && there.ino === ino) fs.unlinkSync(this.#path);
  }

  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    this.#failure ??= new Broken("The store is closed");
    await this.#reserving;
    await this.#file.close();
    this.#lock?.[Symbol.dispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
