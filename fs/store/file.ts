/** A store in a local file. Byte layout: docs/format.md, "The container as bytes". */
import { Buffer } from "node:buffer";
import {
  closeSync,
  fdatasync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  statfsSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { CoverError } from "../../crypto/errors.ts";
import { SEALED } from "../../crypto/sealer.ts";
import {
  type BlockStore,
  HEADER_BYTES,
  type HeaderRegion,
  type StoreMode,
  type StoreSpace,
  type StoreTraits,
} from "../block/store.ts";
import { Broken, FsError } from "../errors.ts";
import type { Position } from "../types.ts";

/** Where the blocks begin, and where the header copies lie, in bytes. */
const BLOCKS_AT = 131072;
const HEADER_AT: Readonly<Record<HeaderRegion, readonly [number, number]>> = {
  key: [0, 65536],
  super: [4096, 69632],
};
/** Zeros that one write of {@linkcode BlockStore.reserve} carries, in bytes. */
const ZEROS = 1 << 20;

/** Options of {@linkcode openFileStore}. */
export interface FileStoreOptions {
  /** Bytes that the file may have at most. */
  readonly maxBytes?: number;
}

function codeOf(error: unknown): string | undefined {
  return (error as { code?: string } | null)?.code;
}

function explain(error: unknown, path: string): CoverError {
  const options = { cause: error };
  switch (codeOf(error)) {
    case "ENOENT":
    case "ENOTDIR":
      return new CoverError(
        "no-container",
        `Cannot open container "${path}": there is no such file`,
        options,
      );
    case "EEXIST":
      return new CoverError(
        "failure",
        `Cannot create container "${path}": it exists, and init never overwrites`,
        options,
      );
    case "EISDIR":
      return new CoverError("damaged", `Cannot open container "${path}": it is a directory`, options);
    case "ENOSPC":
    case "EDQUOT":
      return new CoverError("no-space", `Cannot write container "${path}": no space left`, options);
    default:
      return new CoverError("failure", `Cannot open container "${path}": ${codeOf(error) ?? error}`, options);
  }
}

/**
 * Opens a container file. A writer holds an exclusive lock on it; readers take none.
 *
 * @throws {CoverError} "no-container", "busy" (another writer on this machine), "damaged" (a directory), "failure"
 */
export async function openFileStore(
  path: string,
  mode: StoreMode,
  options: FileStoreOptions = {},
): Promise<FileStore> {
  let descriptor: number;
  try {
    descriptor = openSync(path, mode === "read" ? "r" : mode === "write" ? "r+" : "wx+", 0o600);
  } catch (error) {
    throw explain(error, path);
  }
  try {
    const status = fstatSync(descriptor);
    if (status.isDirectory()) throw explain({ code: "EISDIR" }, path);
    if (!status.isFile()) {
      throw new CoverError("damaged", `Cannot open container "${path}": it is not a file`);
    }
    const lock = mode === "read" ? undefined : await lockFile(path);
    if (mode === "create") syncFolder(path);
    return new FileStore(path, descriptor, lock, options);
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}

async function lockFile(path: string): Promise<Deno.FsFile> {
  const file = await Deno.open(path, { read: true, write: true });
  try {
    if (await file.tryLock(true)) return file;
  } catch (error) {
    file.close();
    throw explain(error, path);
  }
  file.close();
  throw new CoverError("busy", `Cannot open container "${path}": another process has it open for writing`, {
    hint: "unmount it there, or wait until that command has ended; reading is possible meanwhile",
  });
}

/** Makes the name of a new file durable; Windows does so by itself. */
function syncFolder(path: string): void {
  if (Deno.build.os === "windows") return;
  const folder = openSync(dirname(path), "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

/** A container file; made by {@linkcode openFileStore}. */
export class FileStore implements BlockStore {
  readonly traits: StoreTraits = { atomicFlush: false, preallocates: true, runBlocks: 256, commitSeconds: 5 };
  readonly #path: string;
  readonly #descriptor: number;
  readonly #lock: Deno.FsFile | undefined;
  readonly #maxBytes: number;
  #failure: Broken | undefined;
  #closed = false;
  #flushing: Promise<void> = Promise.resolve();

  /** For {@linkcode openFileStore} alone. */
  constructor(path: string, descriptor: number, lock: Deno.FsFile | undefined, options: FileStoreOptions) {
    this.#path = path;
    this.#descriptor = descriptor;
    this.#lock = lock;
    this.#maxBytes = options.maxBytes ?? Infinity;
  }

  #read(at: number, length: number): Uint8Array {
    if (this.#closed) throw new Broken(`Cannot read container "${this.#path}": it is closed`);
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const got = readSync(this.#descriptor, bytes, done, length - done, at + done);
      if (got === 0) break;
      done += got;
    }
    return bytes;
  }

  read(position: Position, count: number): Uint8Array {
    return this.#read(BLOCKS_AT + position * SEALED, count * SEALED);
  }

  /** Does what changes the file; after a failure all that follows is refused. */
  #change<T>(what: string, work: () => T): T {
    if (this.#failure) throw this.#failure;
    if (this.#closed || !this.#lock) {
      throw new Broken(`Cannot ${what} container "${this.#path}": it is not open for writing`);
    }
    try {
      return work();
    } catch (cause) {
      this.#failure = new Broken(`Cannot ${what} container "${this.#path}": ${codeOf(cause) ?? cause}`, {
        cause,
      });
      throw this.#failure;
    }
  }

  #write(at: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length;) {
      done += writeSync(this.#descriptor, bytes, done, bytes.length - done, at + done);
    }
  }

  write(position: Position, bytes: Uint8Array): void {
    this.#change("write", () => this.#write(BLOCKS_AT + position * SEALED, bytes));
  }

  discard(_position: Position, _count: number): void {
    // The room stays allocated: it was reserved, and is used again.
  }

  flush(): Promise<void> {
    const flushing = this.#flushing.then(() => this.#sync());
    this.#flushing = flushing.catch(() => {});
    return flushing;
  }

  async #sync(): Promise<void> {
    this.#change("flush", () => {});
    const error = await new Promise<unknown>((resolve) => fdatasync(this.#descriptor, resolve));
    if (error) {
      this.#change("flush", () => {
        throw error;
      });
    }
  }

  // deno-lint-ignore require-await -- rejects instead of throwing
  async reserve(blocks: number): Promise<void> {
    const before = fstatSync(this.#descriptor).size, end = BLOCKS_AT + blocks * SEALED;
    if (end <= before) return;
    if (end > this.#maxBytes) {
      throw new FsError("EDQUOT", `Container "${this.#path}" has reached its largest size`);
    }
    if (this.#failure) throw this.#failure;
    try {
      // Only what was written once is sure to have room: a longer sparse file is not.
      const zeros = Buffer.alloc(Math.min(ZEROS, end - before));
      for (let at = before; at < end; at += zeros.length) {
        this.#write(at, zeros.subarray(0, Math.min(zeros.length, end - at)));
      }
    } catch (error) {
      const code = codeOf(error);
      if (code !== "ENOSPC" && code !== "EDQUOT" && code !== "EFBIG") {
        this.#failure = new Broken(`Cannot grow container "${this.#path}": ${code ?? error}`, {
          cause: error,
        });
        throw this.#failure;
      }
      ftruncateSync(this.#descriptor, before);
      throw new FsError(
        code === "EDQUOT" ? "EDQUOT" : "ENOSPC",
        `No space left for container "${this.#path}"`,
        {
          cause: error,
        },
      );
    }
  }

  size(): Promise<number> {
    const bytes = fstatSync(this.#descriptor).size - BLOCKS_AT;
    return Promise.resolve(Math.max(0, Math.floor(bytes / SEALED)));
  }

  space(): Promise<StoreSpace> {
    const { bavail, bsize } = statfsSync(dirname(this.#path));
    const size = fstatSync(this.#descriptor).size;
    const free = Math.min(bavail * bsize, this.#maxBytes - size);
    const quota = this.#maxBytes === Infinity ? Infinity : Math.floor((this.#maxBytes - BLOCKS_AT) / SEALED);
    return Promise.resolve({ free: Math.max(0, Math.floor(free / SEALED)), quota });
  }

  // deno-lint-ignore require-await -- rejects instead of throwing
  async truncate(blocks: number): Promise<void> {
    this.#change("truncate", () => ftruncateSync(this.#descriptor, BLOCKS_AT + blocks * SEALED));
  }

  // deno-lint-ignore require-await -- rejects instead of throwing
  async readHeader(region: HeaderRegion, copy: 0 | 1): Promise<Uint8Array> {
    return this.#read(HEADER_AT[region][copy], HEADER_BYTES[region]);
  }

  writeHeader(region: HeaderRegion, copy: 0 | 1, bytes: Uint8Array): void {
    this.#change("write", () => this.#write(HEADER_AT[region][copy], bytes));
  }

  refresh(): Promise<boolean> {
    return Promise.resolve(true);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#flushing;
    closeSync(this.#descriptor);
    this.#lock?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
