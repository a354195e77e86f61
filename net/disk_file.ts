/** A file that is read and written at positions: on this thread where that is quick, elsewhere where it is not. */
import * as fs from "node:fs";
import { WIRE_BLOCK } from "./protocol.ts";

/** Bytes up to which a read or a write is tried on this thread: 4-8 µs, against 40-120 elsewhere. */
const SMALL = 16 * WIRE_BLOCK;
/** One that took so long was not served from memory (ms); as many as that go elsewhere then. */
const SLOW = 0.3, ELSEWHERE = 64;
/**
 * Where the last sync took less than this (ms), as on a disk in memory or one with a safe cache, the next small one is
 * done on this thread: 1-20 µs, against 50-120 elsewhere.
 */
const QUICK_SYNC = 0.25;
/** Bytes written since the last sync up to which one is small. */
const SMALL_SYNC = 1 << 20;

type Callback = (error: NodeJS.ErrnoException | null, value?: number) => void;

/** Whether to do small work on this thread, as far as the last of its kind tell. */
class Pulse {
  #elsewhere = 0;

  /** Runs `work` here, and remembers how long it took. */
  here<T>(work: () => T): T {
    const start = performance.now();
    const result = work();
    if (performance.now() - start > SLOW) this.#elsewhere = ELSEWHERE;
    return result;
  }

  /** Tells whether work on so many bytes is to be done here. */
  quick(bytes: number): boolean {
    if (this.#elsewhere > 0) this.#elsewhere--;
    else return bytes <= SMALL;
    return false;
  }
}

/** An open file. Offsets and lengths in bytes; calls may overlap; what fails throws or rejects with a system error. */
export class DiskFile {
  readonly fd: number;
  readonly #reads = new Pulse();
  readonly #writes = new Pulse();
  /** Bytes written since the last sync began, and how long that took, in ms. */
  #unsynced = 0;
  #lastSync = Infinity;
  /** Calls that still use the descriptor. */
  #running = 0;
  #idle: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  /** @param fd is closed with it */
  constructor(fd: number) {
    this.fd = fd;
  }

  /** Runs what uses the descriptor elsewhere; closing waits for it, as the number may soon be another file's. */
  async #run(start: (done: Callback) => void): Promise<number> {
    if (this.#closing) throw new Error("The file is closed");
    this.#running++;
    try {
      return await new Promise((resolve, reject) =>
        start((error, value) => error ? reject(error) : resolve(value ?? 0))
      );
    } finally {
      if (--this.#running === 0) this.#idle?.();
    }
  }

  /** Reads into all of `into`; @returns how many bytes there were, fewer only at the end */
  read(offset: number, into: Uint8Array): number | Promise<number> {
    if (this.#closing || !this.#reads.quick(into.length)) return this.#readElsewhere(offset, into);
    return this.#reads.here(() => this.readHere(offset, into));
  }

  /** As {@linkcode read}, on this thread. */
  readHere(offset: number, into: Uint8Array): number {
    let have = 0;
    for (let count = 1; have < into.length && count > 0; have += count) {
      count = fs.readSync(this.fd, into, have, into.length - have, offset + have);
    }
    return have;
  }

  async #readElsewhere(offset: number, into: Uint8Array): Promise<number> {
    let have = 0;
    for (let count = 1; have < into.length && count > 0; have += count) {
      count = await this.#run((done) =>
        fs.read(this.fd, into, have, into.length - have, offset + have, done as never)
      );
    }
    return have;
  }

  /** Writes all of `bytes`. */
  write(offset: number, bytes: Uint8Array): void | Promise<void> {
    if (this.#closing || !this.#writes.quick(bytes.length)) return this.#writeElsewhere(offset, bytes);
    this.#writes.here(() => this.writeHere(offset, bytes));
  }

  /** As {@linkcode write}, on this thread: the bytes are copied into the page cache. */
  writeHere(offset: number, bytes: Uint8Array): void {
    this.#unsynced += bytes.length;
    for (let at = 0; at < bytes.length;) {
      at += fs.writeSync(this.fd, bytes, at, bytes.length - at, offset + at);
    }
  }

  async #writeElsewhere(offset: number, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      at += await this.#run((done) =>
        fs.write(this.fd, bytes, at, bytes.length - at, offset + at, done as never)
      );
    }
    this.#unsynced += bytes.length;
  }

  /** Resolves when what was written before is durable. */
  async sync(): Promise<void> {
    const start = performance.now();
    const here = !this.#closing && this.#lastSync < QUICK_SYNC && this.#unsynced <= SMALL_SYNC;
    this.#unsynced = 0;
    if (here) fs.fdatasyncSync(this.fd);
    else await this.#run((done) => fs.fdatasync(this.fd, done));
    this.#lastSync = performance.now() - start;
  }

  /** Cuts or extends it. */
  async truncate(length: number): Promise<void> {
    await this.#run((done) => fs.ftruncate(this.fd, length, done));
  }

  /** Length in bytes. @throws once it is closed */
  size(): number {
    if (this.#closing) throw new Error("The file is closed"); // the number may be another file's by now
    return fs.fstatSync(this.fd).size;
  }

  /** Waits for what is under way and closes the descriptor. May be called twice. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    if (this.#running > 0) await new Promise<void>((resolve) => this.#idle = resolve);
    fs.closeSync(this.fd);
  }
}
