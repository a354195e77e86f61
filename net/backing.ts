/** Where a server keeps the bytes of a container: a file or RAM. The byte layout is docs/format.md, "Container". */
import * as fs from "node:fs";
import { DiskFile } from "./disk_file.ts";
import { StatusError, WIRE_BLOCK } from "./protocol.ts";

/** First byte of block 0. */
export const BLOCKS_AT = 131072;
/** First byte of each copy of the header regions, and their lengths: 0 the encryption block, 1 the superblock. */
export const HEADER_AT: readonly { readonly copies: readonly [number, number]; readonly bytes: number }[] = [
  { copies: [0, 65536], bytes: 4096 },
  { copies: [4096, 69632], bytes: 4128 },
];

/** First byte of a block. */
export function blockOffset(position: number): number {
  return BLOCKS_AT + position * WIRE_BLOCK;
}

/** How many whole blocks a container of this length holds. */
export function blocksIn(bytes: number): number {
  return Math.max(0, Math.floor((bytes - BLOCKS_AT) / WIRE_BLOCK));
}

/** The raw bytes of one container. Offsets in bytes; calls may overlap. */
export interface BackingStore {
  /** Reads into all of `into`; @returns how many bytes there were, fewer only at the end */
  read(offset: number, into: Uint8Array): Promise<number>;
  /** Writes all of `bytes`, growing the store where needed. */
  write(offset: number, bytes: Uint8Array): Promise<void>;
  truncate(length: number): Promise<void>;
  /** Resolves when every write and truncate that has resolved before is durable. */
  sync(): Promise<void>;
  /** Length in bytes. */
  size(): Promise<number>;
  /** Bytes that the medium has left. */
  free(): Promise<number>;
  /** Waits for what is under way and gives the handle back. May be called twice. */
  close(): Promise<void>;
}

/** A container in a file, opened once, read and written at positions. */
export class FileBacking implements BackingStore {
  readonly #file: DiskFile;
  readonly #path: string;

  private constructor(fd: number, path: string) {
    this.#file = new DiskFile(fd);
    this.#path = path;
  }

  /**
   * Opens the file at `path`; a link there is not followed.
   *
   * @param options `create`: make it, and fail if there is anything by that name
   * @throws a system error, or StatusError "name" if it is no regular file
   */
  static open(path: string, options: { readonly create?: boolean } = {}): FileBacking {
    const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = fs.constants;
    const create = options.create ? O_CREAT | O_EXCL : 0;
    if (!options.create && fs.lstatSync(path).isSymbolicLink()) {
      throw new StatusError("name", "Not a container: a link");
    }
    const fd = fs.openSync(path, O_RDWR | create | (O_NOFOLLOW ?? 0), 0o600);
    try {
      if (!fs.fstatSync(fd).isFile()) throw new StatusError("name", "Not a container: no regular file");
      return new FileBacking(fd, path);
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
  }

  async read(offset: number, into: Uint8Array): Promise<number> {
    return await this.#file.read(offset, into);
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    await this.#file.write(offset, bytes);
  }

  truncate(length: number): Promise<void> {
    return this.#file.truncate(length);
  }

  sync(): Promise<void> {
    return this.#file.sync();
  }

  // deno-lint-ignore require-await
  async size(): Promise<number> {
    return this.#file.size();
  }

  // deno-lint-ignore require-await
  async free(): Promise<number> {
    const { bavail, bsize } = fs.statfsSync(this.#path);
    return Number(bavail) * Number(bsize);
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

const PIECE = 1 << 20;

/** A container in memory, kept in pieces that are made when first written. */
export class RamBacking implements BackingStore {
  readonly #pieces = new Map<number, Uint8Array>();
  #length = 0;

  // deno-lint-ignore require-await
  async read(offset: number, into: Uint8Array): Promise<number> {
    const length = Math.max(0, Math.min(into.length, this.#length - offset));
    for (let at = 0; at < length;) {
      const within = (offset + at) % PIECE;
      const count = Math.min(length - at, PIECE - within);
      const piece = this.#pieces.get(Math.floor((offset + at) / PIECE));
      if (piece === undefined) into.fill(0, at, at + count);
      else into.set(piece.subarray(within, within + count), at);
      at += count;
    }
    return length;
  }

  // deno-lint-ignore require-await
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const index = Math.floor((offset + at) / PIECE);
      const within = (offset + at) % PIECE;
      const count = Math.min(bytes.length - at, PIECE - within);
      let piece = this.#pieces.get(index);
      if (piece === undefined) this.#pieces.set(index, piece = new Uint8Array(PIECE));
      piece.set(bytes.subarray(at, at + count), within);
      at += count;
    }
    this.#length = Math.max(this.#length, offset + bytes.length);
  }

  // deno-lint-ignore require-await
  async truncate(length: number): Promise<void> {
    for (const [index, piece] of this.#pieces) {
      if (index * PIECE >= length) this.#pieces.delete(index);
      else if ((index + 1) * PIECE > length) piece.fill(0, length - index * PIECE);
    }
    this.#length = length;
  }

  async sync(): Promise<void> {}

  size(): Promise<number> {
    return Promise.resolve(this.#length);
  }

  free(): Promise<number> {
    return Promise.resolve(Number.MAX_SAFE_INTEGER);
  }

  async close(): Promise<void> {}
}
