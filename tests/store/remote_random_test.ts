/**
 * A remote store, used at random, while its connection is cut, the server's disk fails to sync, and the server's machine
 * loses what was not synced: what a flush has acknowledged is on the disk from then on, and what is read is what was
 * written last.
 */
import assert from "node:assert/strict";
import { type BackingStore, blockOffset } from "../../net/backing.ts";
import type { BackingRoot } from "../../net/root.ts";
import { randomNumbers, SEED } from "../fs/fixture.ts";
import {
  BLOCK_BYTES,
  makeWriter,
  openOn,
  Relay,
  same,
  startServer,
  temporaryFolder,
} from "../net/servers.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
/** Blocks that are used, rounds, bytes behind which a flush is sent unasked, and bytes that are written whole. */
const BLOCKS = 700, ROUNDS = 250, FLUSH_BYTES = 1 << 20, SECTOR = 512;

/** Bytes of a file. */
class Content {
  readonly bytes = new Uint8Array(blockOffset(BLOCKS + 600));
  length = 0;

  put(at: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, at);
    this.length = Math.max(this.length, at + bytes.length);
  }

  cut(length: number): void {
    this.bytes.fill(0, length);
    this.length = length;
  }

  copy(): Content {
    const copy = new Content();
    copy.put(0, this.bytes.subarray(0, this.length));
    return copy;
  }
}

/** A disk that forgets what was not synced when the power goes; of each write since some sectors may be there. */
class Disk implements BackingStore {
  readonly #random: (n: number) => number;
  #now = new Content();
  readonly #durable = new Content();
  /** Writes, and cuts without bytes, since the last sync. */
  readonly #pending: { readonly at: number; readonly bytes?: Uint8Array }[] = [];
  off = false;
  /** So many of the next syncs fail. */
  failing = 0;

  constructor(random: (n: number) => number) {
    this.#random = random;
  }

  #powered(): void {
    if (this.off) throw new Error("no power");
  }

  // deno-lint-ignore require-await
  async read(offset: number, into: Uint8Array): Promise<number> {
    this.#powered();
    const count = Math.max(0, Math.min(into.length, this.#now.length - offset));
    into.set(this.#now.bytes.subarray(offset, offset + count));
    return count;
  }

  // deno-lint-ignore require-await
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    this.#powered();
    this.#pending.push({ at: offset, bytes: bytes.slice() });
    this.#now.put(offset, bytes);
  }

  // deno-lint-ignore require-await
  async truncate(length: number): Promise<void> {
    this.#powered();
    this.#pending.push({ at: length });
    this.#now.cut(length);
  }

  /** Takes a moment, in which more may be written. What a failed one was to cover is covered by no later one. */
  async sync(): Promise<void> {
    this.#powered();
    const covered = this.#pending.splice(0);
    await new Promise<void>((resolve) => setTimeout(resolve, this.#random(4)));
    this.#powered();
    if (this.failing > 0) {
      this.failing--;
      throw Object.assign(new Error("the disk failed"), { code: "EIO" });
    }
    for (const { at, bytes } of covered) bytes ? this.#durable.put(at, bytes) : this.#durable.cut(at);
  }

  /** What is there when the power comes back. */
  loseUnsynced(): void {
    for (const { at, bytes } of this.#pending.splice(0)) {
      if (bytes === undefined) {
        if (this.#random(2) === 0) this.#durable.cut(at);
        continue;
      }
      for (let i = 0; i < bytes.length; i += SECTOR) {
        if (this.#random(3) === 0) this.#durable.put(at + i, bytes.subarray(i, i + SECTOR));
      }
    }
    this.#now = this.#durable.copy();
  }

  durableBlock(position: number): Uint8Array {
    return this.#durable.bytes.subarray(blockOffset(position), blockOffset(position + 1));
  }

  size(): Promise<number> {
    this.#powered();
    return Promise.resolve(this.#now.length);
  }

  free(): Promise<number> {
    return Promise.resolve(2 ** 40);
  }

  async close(): Promise<void> {}
}

Deno.test(
  `a remote store loses nothing that was flushed, whatever happens (seed ${SEED})`,
  strict,
  async () => {
    const random = randomNumbers(SEED), disk = new Disk(random);
    await using folder = await temporaryFolder();
    const decorate = (root: BackingRoot): BackingRoot => ({
      create: (name, record) => root.create(name, record),
      open: async (name) => {
        await (await root.open(name)).close();
        return disk;
      },
      record: (name) => root.record(name),
      saveRecord: (name, record) => root.saveRecord(name, record),
      list: () => root.list(),
      remove: (name) => root.remove(name),
      close: () => root.close(),
    });
    const start = () => startServer({ root: folder.path, decorate });
    let server = await start();
    const { fingerprint, firstToken } = server;
    await using relay = new Relay(server.port);
    try {
      await using store = await openOn({ port: relay.port, fingerprint, firstToken }, {
        ...{ mode: "create", flushBytes: FLUSH_BYTES, ...await makeWriter() },
      });
      // The first bytes of each block say which write it is of; the rest follows from that.
      const current = new Uint32Array(BLOCKS), discarded = new Set<number>();
      const written: number[][] = Array.from(current, () => []);
      let number = 0;
      const content = (n: number, position: number) => {
        const block = new Uint8Array(BLOCK_BYTES);
        if (n > 0) block.fill(1 + (n * 7 + position) % 255), new DataView(block.buffer).setUint32(0, n);
        return block;
      };
      /** The disk has a block as it was written with this number or later; of later writes, sectors. */
      const held = (position: number, least: number) => {
        const block = disk.durableBlock(position);
        const possible = written[position]!.filter((n) => n >= least).map((n) => content(n, position));
        if (least === 0 || possible.some((one) => same(one, block))) return;
        const there = block.every((byte, i) => possible.some((one) => one[i] === byte));
        assert.ok(there && possible.length > 1, `block ${position} is not of write ${least} or later`);
      };
      const failures: unknown[] = [];
      const flushes = new Set<Promise<void>>();
      for (let round = 0; round < ROUNDS; round++) {
        const what = random(100),
          position = random(BLOCKS - 200),
          count = 1 + random([3, 70, 200][random(3)]!);
        if (what < 55) {
          const bytes = new Uint8Array(count * BLOCK_BYTES), n = ++number;
          for (let i = 0; i < count; i++) {
            bytes.set(content(n, position + i), i * BLOCK_BYTES);
            current[position + i] = n;
            written[position + i]!.push(n);
            discarded.delete(position + i);
          }
          await store.write(position, bytes);
          bytes.fill(0xee); // it is the caller's again
        } else if (what < 70) {
          const bytes = await store.read(position, count);
          for (let i = 0; i < count; i++) {
            const block = bytes.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES);
            if (discarded.has(position + i)) continue;
            assert.ok(same(block, content(current[position + i]!, position + i)), `read of ${position + i}`);
          }
        } else if (what < 85) {
          const then = current.slice(), flush = store.flush();
          const known = flush.then(() => {
            for (let at = 0; at < BLOCKS; at++) if (!discarded.has(at)) held(at, then[at]!);
          }).catch((error) => void failures.push(error)).finally(() => flushes.delete(known));
          flushes.add(known);
          if (random(2) === 0) await Promise.all(flushes);
        } else if (what < 88) {
          for (let i = 0; i < 3; i++) discarded.add(position + i);
          store.discard(position, 3);
        } else if (what < 90) await store.reserve(BLOCKS + random(500));
        else if (what < 91) await store.truncate(BLOCKS);
        else if (what < 95) relay.cut();
        else if (what < 98) disk.failing = 1;
        else {
          disk.off = true;
          relay.cut();
          await server.shutdown().catch(() => {});
          disk.loseUnsynced();
          disk.off = false;
          server = await start();
          relay.target = server.port;
        }
      }
      await Promise.all(flushes);
      disk.failing = 0;
      await store.flush();
      await Promise.all(flushes);
      assert.deepEqual(failures, []);
      for (let at = 0; at < BLOCKS; at++) if (!discarded.has(at)) held(at, current[at]!);
    } finally {
      await server.shutdown().catch(() => {});
    }
  },
);
