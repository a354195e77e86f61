/** One container at the server: its bytes, the order of operations on it, and the lease of its writer. */
import { type BackingStore, blockOffset, blocksIn, HEADER_AT } from "./backing.ts";
import { NO_QUOTA, StatusError, WIRE_BLOCK } from "./protocol.ts";
import type { BackingRoot, ContainerRecord } from "./root.ts";

/** Bytes of zeros that RESERVE writes at a time. */
const ZEROS = new Uint8Array(256 * WIRE_BLOCK);

/** The region of the encryption block. */
const KEY_REGION = 0;

/** A connection as its container sees it. */
export interface Party {
  /** When a frame came last, as `performance.now()`. */
  readonly lastHeard: number;
  /** Asks the holder to commit and release soon. */
  leaseWanted(): void;
  /** Says that another flush is durable. */
  changed(): void;
  /** Another writer was granted: end. */
  fenced(): void;
}

/** A wish for the lease whose proof was verified. */
export interface LeaseRequest {
  readonly party: Party;
  /** 32 hexadecimal digits. */
  readonly session: string;
  readonly resume: boolean;
  readonly takeover: boolean;
}

/** Times and sizes of a container at the server. */
export interface ContainerLimits {
  /** Silence after which another writer may take over, in seconds. */
  readonly takeoverSeconds: number;
  /** How long a holder may take to commit when the lease is wanted, in seconds. */
  readonly graceSeconds: number;
  /** Blocks at most; {@linkcode NO_QUOTA}: no limit. */
  readonly quota: number;
  /** When the server started, as `performance.now()`: a holder of before counts as heard then. */
  readonly startedAt: number;
}

/** A container that connections share. Made once per name and server run; its file is open while there are users. */
export class ServedContainer {
  readonly name: string;
  readonly #root: BackingRoot;
  readonly #limits: ContainerLimits;
  readonly #parties = new Set<Party>();
  #record: ContainerRecord | undefined;
  #backing: BackingStore | undefined;
  /** The number that is compared when an operation runs; ahead of the record while a grant is under way. */
  #fence = 0;
  /** The grant on which an operation has failed: nothing more of it is executed. */
  #broken = 0;
  #holder: Party | undefined;
  /** When the holder was heard of last, for the time after its connection has ended. */
  #holderHeard: number;
  #released: (() => void) | undefined;
  #tail: Promise<unknown> = Promise.resolve();
  #granting: Promise<unknown> = Promise.resolve();
  /** Counts flushes, from a random start. */
  #changes = Math.floor(Math.random() * 2 ** 40);

  constructor(name: string, root: BackingRoot, limits: ContainerLimits) {
    this.name = name;
    this.#root = root;
    this.#limits = limits;
    this.#holderHeard = limits.startedAt;
  }

  get quota(): number {
    return this.#limits.quota;
  }
  /** Counts successful flushes. */
  get changes(): number {
    return this.#changes;
  }
  /** The record; undefined for a container that was put here without one: it can be read only. */
  get record(): ContainerRecord | undefined {
    return this.#record;
  }

  /** Whether nothing would be lost if this object were made anew. */
  get forgettable(): boolean {
    return this.#parties.size === 0 && this.#backing === undefined && this.#fence === 0;
  }

  /** Begins to use the container. @throws {StatusError} "noContainer" */
  join(party: Party): Promise<void> {
    return this.#exclusively(async () => {
      if (this.#backing === undefined) {
        const backing = await this.#root.open(this.name);
        try {
          this.#record = await this.#root.record(this.name);
        } catch (error) {
          await backing.close();
          throw error;
        }
        this.#backing = backing;
        this.#fence = Math.max(this.#fence, this.#record?.fence ?? 0);
      }
      this.#parties.add(party);
    });
  }

  /**
   * Makes the container, and begins to use it. What was begun by that name and never became a container is in nobody's
   * way: it is removed, unless its maker may still come back.
   *
   * @throws {StatusError} "exists", "busy"
   */
  async create(party: Party, record: ContainerRecord): Promise<void> {
    await this.#exclusively(async () => {
      await this.#removeBegun();
      await this.#root.create(this.name, record);
      const gone = this.#backing; // of a file that was deleted behind the server's back
      this.#backing = undefined;
      await gone?.close();
    });
    await this.join(party);
  }

  async #removeBegun(): Promise<void> {
    const record = await this.#root.record(this.name);
    if (!record?.begun) return;
    const silent = performance.now() - (this.#holder?.lastHeard ?? this.#holderHeard);
    if (!record.released && silent < this.#limits.takeoverSeconds * 1000) {
      const wait = Math.ceil(this.#limits.takeoverSeconds);
      throw new StatusError(
        "busy",
        `Container "${this.name}" is being made, or was until a moment ago: wait ${wait} s`,
      );
    }
    // The record may be of another file than the one that was put there since.
    const found = this.#backing ?? await this.#root.open(this.name).catch(() => undefined);
    const isContainer = found !== undefined && await hasEncryptionBlock(found);
    if (found !== this.#backing) await found?.close();
    if (isContainer) return;
    this.#fence = Math.max(this.#fence, record.fence) + 1; // nothing more of its maker is executed
    this.#holder = undefined;
    for (const other of this.#parties) other.fenced();
    await this.#tail;
    if (!(await this.#root.record(this.name))?.begun) return;
    const backing = this.#backing;
    this.#backing = undefined;
    await backing?.close();
    await this.#root.remove(this.name);
  }

  /** Ends the use by this connection; its lease stays on record, so that it may come back. May be called twice. */
  async leave(party: Party): Promise<void> {
    if (!this.#parties.delete(party)) return;
    if (this.#holder === party) {
      this.#holderHeard = party.lastHeard;
      this.#holder = undefined;
      this.#fence++; // what it still has queued is not executed
      this.#released?.();
    }
    await this.#exclusively(() => this.#closeIfUnused());
  }

  async #closeIfUnused(): Promise<void> {
    if (this.#parties.size > 0 || this.#backing === undefined) return;
    await this.#tail;
    const backing = this.#backing;
    this.#backing = undefined;
    await backing.close();
  }

  /** Finishes what has arrived, syncs, and closes the file: for the end of the server. */
  async shutdown(): Promise<void> {
    await this.#tail;
    try {
      await this.#backing?.sync();
    } finally {
      const backing = this.#backing;
      this.#backing = undefined;
      await backing?.close();
    }
  }

  #open(): BackingStore {
    if (this.#backing === undefined) throw new StatusError("shutdown", "The server is going down");
    return this.#backing;
  }

  /** One change of lease, existence or file handle at a time. */
  #exclusively<T>(operation: () => Promise<T>): Promise<T> {
    const result = this.#granting.then(operation);
    this.#granting = result.catch(() => {});
    return result;
  }

  // ---- the lease ----

  /**
   * Grants the lease.
   *
   * @returns the fencing number of this grant, durable
   * @throws {StatusError} "busy" or "fenced"
   */
  grant(request: LeaseRequest): Promise<number> {
    return this.#exclusively(async () => {
      const record = this.#record;
      if (record === undefined) {
        throw new StatusError("refused", `Container "${this.name}" has no writer key here`);
      }
      const same = record.session === request.session;
      if (request.resume && !same) {
        throw new StatusError("fenced", "Another writer has taken the container over");
      }
      if (!same && !record.released && record.fence > 0) await this.#waitForHolder(request);
      const old = this.#holder;
      if (!this.#parties.has(request.party)) throw new StatusError("state", "The connection has ended");
      const fence = Math.max(this.#fence, record.fence) + 1;
      this.#fence = fence; // from here on no older operation begins
      this.#holder = undefined;
      if (old !== request.party) old?.fenced();
      await this.#tail; // and none is under way
      await this.#saveRecord({ ...this.#record!, fence, session: request.session, released: false });
      if (!this.#parties.has(request.party)) throw new StatusError("state", "The connection has ended");
      this.#holder = request.party;
      return fence;
    });
  }

  async #waitForHolder(request: LeaseRequest): Promise<void> {
    const holder = this.#holder;
    const silent = performance.now() - (holder?.lastHeard ?? this.#holderHeard);
    if (silent >= this.#limits.takeoverSeconds * 1000) return;
    if (!request.takeover) {
      throw new StatusError("busy", `Another writer has container "${this.name}" open`, {
        hint: "Close it there, or ask for a takeover",
      });
    }
    if (holder === undefined) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const answered = new Promise<void>((resolve) => {
      this.#released = resolve;
      timer = setTimeout(resolve, this.#limits.graceSeconds * 1000);
    });
    holder.leaseWanted();
    await answered;
    clearTimeout(timer);
    this.#released = undefined;
  }

  async #saveRecord(record: ContainerRecord): Promise<void> {
    await this.#root.saveRecord(this.name, record);
    this.#record = record;
  }

  /** Gives the lease back, after every operation before it. @throws {StatusError} "fenced" */
  async release(fence: number): Promise<void> {
    await this.ordered(fence, async () => {
      this.#fence++;
      this.#holder = undefined;
      if (this.#record !== undefined) await this.#saveRecord({ ...this.#record, released: true });
    }, { evenBroken: true });
    this.#released?.();
  }

  /** Has writers prove another key from now on, durably, after every operation before it. @throws {StatusError} "fenced" */
  async replaceKey(fence: number, publicKey: string): Promise<void> {
    await this.ordered(fence, async () => {
      if (this.#record !== undefined) await this.#saveRecord({ ...this.#record, publicKey });
    });
  }

  /** Deletes the container; all others that use it are ended. @throws {StatusError} "fenced" */
  remove(fence: number, party: Party): Promise<void> {
    return this.#exclusively(() =>
      this.ordered(fence, async () => {
        this.#fence++;
        this.#holder = undefined;
        for (const other of this.#parties) if (other !== party) other.fenced();
        const backing = this.#open();
        this.#backing = undefined;
        await backing.close();
        await this.#root.remove(this.name);
      }, { evenBroken: true })
    );
  }

  // ---- operations ----

  /**
   * Runs an ordered operation when all before it are through, if `fence` is then still the newest number. When it
   * fails, every later one of this grant is refused.
   *
   * @param options `spared`: its failure does not count; `evenBroken`: it runs though an earlier one has failed
   *
   * @throws {StatusError} "fenced", "broken"
   */
  ordered<T>(
    fence: number,
    operation: (backing: BackingStore) => Promise<T>,
    options: { readonly spared?: boolean; readonly evenBroken?: boolean } = {},
  ): Promise<T> {
    const result = this.#tail.then(async () => {
      if (fence !== this.#fence) {
        throw new StatusError("fenced", "Another writer has taken the container over");
      }
      if (fence === this.#broken && !options.evenBroken) {
        throw new StatusError("broken", "An earlier operation of this connection failed");
      }
      try {
        return await operation(this.#open());
      } catch (error) {
        if (!options.spared) this.#broken = fence;
        throw error;
      }
    });
    this.#tail = result.catch(() => {});
    return result;
  }

  /** Reads up to `into.length` bytes of blocks from `position`; @returns how many there were */
  read(position: number, into: Uint8Array): Promise<number> {
    return this.#open().read(blockOffset(position), into);
  }

  /** Reads one header copy; @returns the bytes there were */
  async readHeader(region: number, copy: number): Promise<Uint8Array> {
    const { copies, bytes } = HEADER_AT[region]!;
    const into = new Uint8Array(bytes);
    return into.subarray(0, await this.#open().read(copies[copy as 0 | 1], into));
  }

  /** Blocks that the container holds. */
  async blocks(): Promise<number> {
    return blocksIn(await this.#open().size());
  }

  /** Blocks that the medium has left. */
  async freeBlocks(): Promise<number> {
    return Math.min(NO_QUOTA, Math.floor(await this.#open().free() / WIRE_BLOCK));
  }

  /** A quota that was lowered below what the container has bounds its growth alone. @throws {StatusError} "quota" */
  write(fence: number, position: number, bytes: Uint8Array): Promise<void> {
    return this.ordered(fence, async (backing) => {
      const end = position + bytes.length / WIRE_BLOCK;
      if (end > this.quota && blockOffset(end) > await backing.size()) throw this.#overQuota();
      await backing.write(blockOffset(position), bytes);
    });
  }

  writeHeader(fence: number, target: { region: number; copy: number }, bytes: Uint8Array): Promise<void> {
    return this.ordered(fence, async (backing) => {
      // Before it is a container, and durably: one is never taken for something that was only begun.
      if (target.region === KEY_REGION && this.#record?.begun) {
        await this.#saveRecord({ ...this.#record, begun: false });
      }
      await backing.write(HEADER_AT[target.region]!.copies[target.copy as 0 | 1], bytes);
    });
  }

  truncate(fence: number, blocks: number): Promise<void> {
    return this.ordered(fence, async (backing) => {
      if (blockOffset(blocks) < await backing.size()) await backing.truncate(blockOffset(blocks));
    });
  }

  /** Fills up to `blocks` with zeros, or changes nothing. @throws {StatusError} "quota", "noSpace" */
  reserve(fence: number, blocks: number): Promise<void> {
    return this.ordered(fence, async (backing) => {
      const before = await backing.size();
      const end = blockOffset(blocks);
      if (end <= before) return; // also beyond a quota that was lowered since
      if (blocks > this.quota) throw this.#overQuota();
      if (end - before > await backing.free()) throw new StatusError("noSpace", "The server's disk is full");
      try {
        for (let at = before; at < end && fence === this.#fence; at += ZEROS.length) {
          await backing.write(at, ZEROS.subarray(0, Math.min(ZEROS.length, end - at)));
        }
      } catch (error) {
        await backing.truncate(before);
        throw error;
      }
    }, { spared: true });
  }

  async flush(fence: number, party: Party): Promise<void> {
    await this.ordered(fence, (backing) => backing.sync());
    this.#changes++;
    for (const other of this.#parties) if (other !== party) other.changed();
  }

  #overQuota(): StatusError {
    return new StatusError("quota", `Container "${this.name}" may hold ${this.quota} blocks at most`);
  }
}

/** Tells whether one of the encryption block's copies has anything in it. */
async function hasEncryptionBlock(backing: BackingStore): Promise<boolean> {
  const { copies, bytes } = HEADER_AT[KEY_REGION]!, into = new Uint8Array(bytes);
  for (const at of copies) {
    const count = await backing.read(at, into);
    if (into.subarray(0, count).some((byte) => byte !== 0)) return true;
  }
  return false;
}
