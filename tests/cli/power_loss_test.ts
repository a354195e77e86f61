/**
 * A server whose machine loses its power: what no flush covers is gone in part, and clients come back to what is left.
 * None of them may be told of a rollback, and what was synced is there. `COVERFS_SEED` replays a run.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { ROOT } from "../../fs/types.ts";
import type { Volume } from "../../fs/volume.ts";
import { type BackingStore, RamBacking } from "../../net/backing.ts";
import type { BackingRoot } from "../../net/root.ts";
import { equal, FILE, name, pattern, randomNumbers, SEED, SUITES } from "../fs/fixture.ts";
import { Client, type Seen } from "../hostile/client.ts";
import { gate, HOST, startServer } from "../net/servers.ts";
import { Workplace } from "./run.ts";

// Libraries that a command loads stay loaded until its end.
const strict = { sanitizeOps: true, sanitizeResources: false };
const KDF = ["--kdf", "argon2id", "--kdf-memory", "19M", "--kdf-passes", "2"];
/** What a disk writes as a whole, in bytes. */
const SECTOR = 512;
/** Operations of the disk within which power is lost, most often while a session is at work. */
const OPERATIONS = 120;

type Change = { readonly offset: number; readonly bytes: Uint8Array } | { readonly length: number };

/** The disk of a server with one container: it keeps what a flush has covered, and of the rest what chance leaves. */
class Disk {
  #durable = new RamBacking();
  /** What the system shows as long as there is power. */
  #seen = new RamBacking();
  #pending: Change[] = [];
  #left = Infinity;
  #hold: (() => Promise<void>) | undefined;
  readonly #lies: boolean;

  /** @param lies it answers flushes at once and does nothing for them */
  constructor(lies = false) {
    this.#lies = lies;
  }

  /** How many changes no flush covers. */
  get pending(): number {
    return this.#pending.length;
  }

  /** Holds the next flush: tells when one has come, and lets it go on. */
  holdFlush(): { readonly come: Promise<void>; readonly release: () => void } {
    const come = gate(), go = gate();
    this.#hold = async () => {
      come.open();
      await go.opened;
    };
    return { come: come.opened, release: go.open };
  }

  /** Lets power be lost at the so manieth operation from now on. */
  failAt(operation: number): void {
    this.#left = operation;
  }

  readonly decorate = (root: BackingRoot): BackingRoot => ({
    create: (name, record) => root.create(name, record),
    open: () => Promise.resolve(this.#backing()),
    record: (name) => root.record(name),
    saveRecord: (name, record) => root.saveRecord(name, record),
    list: () => root.list(),
    remove: (name) => root.remove(name),
    close: () => root.close(),
  });

  #work(): void {
    if (--this.#left < 0) throw new Error("There is no power");
  }

  #backing(): BackingStore {
    return {
      read: (offset, into) => this.#seen.read(offset, into),
      write: async (offset, bytes) => {
        this.#work();
        this.#pending.push({ offset, bytes: bytes.slice() });
        await this.#seen.write(offset, bytes);
      },
      truncate: async (length) => {
        this.#work();
        this.#pending.push({ length });
        await this.#seen.truncate(length);
      },
      sync: async () => {
        const hold = this.#hold;
        this.#hold = undefined;
        await hold?.();
        this.#work();
        if (this.#lies) return;
        for (const change of this.#pending.splice(0)) await this.#apply(change);
      },
      size: () => this.#seen.size(),
      free: () => Promise.resolve(1 << 30),
      close: () => Promise.resolve(),
    };
  }

  async #apply(change: Change, takes: () => boolean = () => true): Promise<void> {
    if ("length" in change) return takes() ? await this.#durable.truncate(change.length) : undefined;
    const { offset, bytes } = change;
    for (let at = 0; at < bytes.length;) {
      const end = Math.min(bytes.length, at + SECTOR - (offset + at) % SECTOR);
      if (takes()) await this.#durable.write(offset + at, bytes.subarray(at, end));
      at = end;
    }
  }

  /** The machine is started again: each change that no flush covers is there, is not, or is there in some sectors. */
  async restart(random: (n: number) => number): Promise<void> {
    for (const change of this.#pending.splice(0)) {
      const fate = random(3);
      await this.#apply(change, () => fate === 0 || (fate === 1 && random(2) === 0));
    }
    this.#left = Infinity;
    const length = await this.#durable.size(), bytes = new Uint8Array(length);
    await this.#durable.read(0, bytes);
    this.#seen = new RamBacking();
    await this.#seen.write(0, bytes);
  }
}

const NOTHING = new Uint8Array(0);

/** What was synced, and what has changed since. */
interface Synced {
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly touched: Set<string>;
}

/** Changes one of a few files. @returns its path */
async function changeOne(
  volume: Volume,
  random: (n: number) => number,
  seed: number,
): Promise<[string, Uint8Array | undefined]> {
  const file = `f${random(6)}`, ino = volume.lookup(ROOT, name(file));
  if (ino !== undefined && random(4) === 0) {
    volume.unlink(ROOT, name(file));
    return [`/${file}`, undefined];
  }
  const bytes = pattern(1 + random(40_000), seed), at = ino ?? volume.create(ROOT, name(file), FILE);
  await volume.setAttributes(at, { size: 0 });
  await volume.write(at, 0, bytes);
  return [`/${file}`, bytes];
}

/** What is not as it must be of what a client sees. */
function whatIsWrong(seen: Exclude<Seen, string>, { files, touched }: Synced): string | undefined {
  for (const [path, found] of seen) if (typeof found === "string") return `${path}: ${found}`;
  for (const [path, bytes] of files) {
    if (!touched.has(path) && !equal(seen.get(path) as Uint8Array ?? NOTHING, bytes)) {
      return `${path} is lost`;
    }
  }
  return undefined;
}

/** Has clients at work while power is lost again and again. @returns what they were told when they came back */
async function losePower(
  suite: string,
  rounds: number,
  disk: Disk,
): Promise<{ told: string[]; lost: number }> {
  await using place = await Workplace.make("mine");
  const random = randomNumbers(SEED), served = { root: place.path("served"), decorate: disk.decorate };
  let server = await startServer(served);
  const locator = server.link(server.firstToken!, { host: HOST, name: "box" });
  const at = { locator };
  const writer = new Client(join(place.folder, "writer")), reader = new Client(join(place.folder, "reader"));
  const told: string[] = [];
  let synced: Synced = { files: new Map(), touched: new Set() }, lost = 0;
  try {
    const made = await place.run(["init", "--suite", suite, ...KDF, locator]);
    assert.equal(made.code, 0, made.error);
    for (let round = 0; round < rounds; round++) {
      let files = new Map(synced.files), ended = false;
      disk.failAt(1 + random(OPERATIONS));
      await writer.change(at, async (volume, { memory, name, keys }) => {
        for (let step = 0; step < 12; step++) {
          const [path, bytes] = await changeOne(volume, random, round * 100 + step);
          synced.touched.add(path);
          if (bytes === undefined) files.delete(path);
          else files.set(path, bytes);
          if (random(3) === 0) await volume.checkpoint();
          if (random(2) === 0) {
            // Somebody looks while a flush has begun and nothing of it is durable; then it may never be.
            const { come, release } = disk.holdFlush(), syncing = volume.sync();
            try {
              await Promise.race([come, syncing]);
              if (random(3) === 0) {
                await reader.look(at);
                if (random(2) === 0) disk.failAt(0);
              }
            } finally {
              release();
            }
            await syncing;
            synced = { files: new Map(files), touched: new Set() };
          }
          await memory.remember(name, keys.containerId, volume.container.durable); // as a mount does
        }
        ended = true;
      });
      if (ended && disk.pending === 0) synced = { files, touched: new Set() };
      lost += disk.pending > 0 ? 1 : 0;
      await server.shutdown();
      await disk.restart(random);
      server = await startServer({ ...served, port: server.port });
      for (const client of [reader, writer]) {
        const seen = await client.look(at);
        told.push(typeof seen === "string" ? seen : whatIsWrong(seen, synced) ?? "served");
        if (told.at(-1) !== "served") return { told, lost };
        files = new Map(seen as ReadonlyMap<string, Uint8Array>);
      }
      synced = { files, touched: new Set() };
    }
  } finally {
    await server.shutdown();
  }
  return { told, lost };
}

for (const suite of SUITES) {
  Deno.test(
    `an honest server's power loss raises no false alarm of a rollback: ${suite} (seed ${SEED})`,
    strict,
    async () => {
      const { told, lost } = await losePower(suite, 12, new Disk());
      assert.deepEqual(new Set(told), new Set(["served"]));
      assert.ok(lost >= 3, `only ${lost} times something was lost`);
    },
  );
}

Deno.test(
  `a disk that lies about its flushes is found out after a power loss (seed ${SEED})`,
  strict,
  async () => {
    const { told } = await losePower(SUITES[0], 12, new Disk(true));
    assert.ok(told.some((one) => one !== "served"), told.join());
  },
);
