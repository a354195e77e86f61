/** The store on a server: what `net/` carries, as a {@linkcode BlockStore}. */
import { CoverError } from "../../crypto/errors.ts";
import { SEALED } from "../../crypto/sealer.ts";
import {
  AwakeTimer,
  CONNECT_SECONDS,
  type Connection,
  FieldReader,
  FieldWriter,
  MAX_RUN,
  meetServer,
  NO_QUOTA,
  Notice,
  Op,
  ProtocolError,
  type Prover,
  rememberServer,
  StatusError,
} from "../../net/mod.ts";
import { BufferPool } from "../block/buffers.ts";
import {
  type BlockStore,
  HEADER_BYTES,
  type HeaderRegion,
  type StoreSpace,
  type StoreTraits,
} from "../block/store.ts";
import { Broken, Fenced, FsError } from "../errors.ts";
import { type ContainerState, RemoteLink, type WriterClaim } from "./remote_link.ts";
import { Pace } from "./pace.ts";
import { claimOf, type RemoteStoreOptions } from "./remote_options.ts";
import { entryBytes, type LogEntry, type Overlay, UnflushedLog } from "./remote_log.ts";

export type { RemoteStoreOptions };

/** How often in a row the server may fail an operation before the store is broken. */
const MAX_FAULTS = 5;
/** Bytes within a second or so that make a read wait on: more than replies to PING, less than a slow link brings. */
const PROGRESS = 1024;
/** Blocks that are best written in one go, and those of one request: so few that urgent requests find gaps. */
const RUN_BLOCKS = 256, WRITE_RUN = 64;
/**
 * Bytes of writes behind which a flush is sent unasked: what it covers need not be kept to be sent again. Twice as many
 * are kept at most, however long a flush takes.
 */
const FLUSH_BYTES = 32 << 20;
const REGION: Readonly<Record<HeaderRegion, 0 | 1>> = { key: 0, super: 1 };

/**
 * Opens a container on a server.
 *
 * @throws {CoverError} "no-connection", "identity", "refused" (token or proof), "no-container", "busy" (another
 * writer), "usage" (name, or "create" of a container that exists), "unsupported"
 */
export async function openRemoteStore(options: RemoteStoreOptions): Promise<RemoteStore> {
  const { host, port, mode, container } = options;
  const server = await meetServer({ host, port }, options);
  const connectSeconds = options.connectSeconds ?? CONNECT_SECONDS;
  const store = new RemoteStore(options, { ...server, container, connectSeconds });
  try {
    await store.start(mode === "create" ? claimOf(options) : undefined);
    await rememberServer(server, options);
    if (mode === "write") await store.upgrade({ ...claimOf(options), takeover: options.takeover });
    return store;
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** A container on a server. Made by {@linkcode openRemoteStore}. */
export class RemoteStore implements BlockStore {
  readonly traits: StoreTraits = {
    atomicFlush: false,
    preallocates: true,
    runBlocks: RUN_BLOCKS,
    commitSeconds: 5,
  };
  readonly #options: RemoteStoreOptions;
  readonly #link: RemoteLink;
  readonly #log = new UnflushedLog();
  /** What long writes are kept in until a flush covers them. */
  readonly #buffers: BufferPool;
  readonly #waitMilliseconds: number;
  readonly #flushBytes: number;
  /** The connection that holds the lease; undefined while there is none. */
  #writer: Connection | undefined;
  #writing = false;
  /** Why nothing can be written any more. */
  #failure: CoverError | undefined;
  #closed = false;
  /** What was sent on the present connection and not answered, in order, and its bytes. */
  #inFlight: { bytes: number; entries: LogEntry[] } = { bytes: 0, entries: [] };
  #pace = new Pace(0);
  #blocks = 0;
  /** Nothing is left of what writers before this one may not have flushed. */
  #flushed = false;
  #changes = -1;
  /** Failures of the server since the last flush that succeeded. */
  #faults = 0;
  #wasCut = false;
  /** This store itself ends its connection, which is nothing to tell a person. */
  #cutting = false;
  #outage: AwakeTimer | undefined;
  readonly #fenced = Promise.withResolvers<Fenced>();
  #pressed: { resolve: () => void; reject: (error: unknown) => void }[] = [];

  /** Use {@linkcode openRemoteStore}. */
  constructor(
    options: RemoteStoreOptions,
    link: Omit<ConstructorParameters<typeof RemoteLink>[0], "pingSeconds">,
  ) {
    this.#options = options;
    this.#waitMilliseconds = (options.waitSeconds ?? 30) * 1000;
    this.#flushBytes = options.flushBytes ?? FLUSH_BYTES;
    const bytes = WRITE_RUN * SEALED, kept = Math.ceil(this.#flushBytes / bytes);
    this.#buffers = new BufferPool(bytes, { shared: false, kept });
    this.#link = new RemoteLink({ ...link, pingSeconds: options.pingSeconds ?? 10 }, {
      up: (connection, state) => this.#up(connection, state),
      down: (reason) => this.#down(reason),
      fenced: (cause) => this.#fail(new Fenced("Another writer has taken the container over", { cause })),
      refused: (reason) => options.onConnection?.("refused", reason),
      failed: (error) => this.#lost(error),
      notice: (kind) => this.#notice(kind),
    });
  }

  /** Frames sent so far, on all connections of this store; PINGs count too. */
  get framesSent(): number {
    return this.#link.framesSent;
  }

  /** Makes the first connection: opens the container, or creates it and holds its lease. */
  async start(creation?: WriterClaim): Promise<void> {
    this.#writing = creation !== undefined;
    await this.#link.open(creation);
  }

  /**
   * Turns a store that was opened to read into one that writes: takes the lease with the proof of the container's
   * key. What was read before may be out of date then.
   *
   * @throws {CoverError} "busy" if another writer has the lease, "refused" if token or proof are not admitted; the
   * store can go on reading
   */
  async upgrade(claim: WriterClaim & { readonly takeover?: boolean | undefined }): Promise<void> {
    if (this.#writing) throw new CoverError("usage", "The store is open to write already");
    const { prover, previous, containerId, session } = claim;
    await this.#link.ready(this.#waitMilliseconds);
    const state = await this.#link.claim({ prover, previous, containerId, session }, claim.takeover === true);
    this.#writing = true;
    const connection = this.#link.connection;
    if (connection !== undefined) this.#up(connection, state);
  }

  // ---- reading ----

  read(position: number, count: number): Promise<Uint8Array> {
    const overlay = this.#log.overlay(position, count);
    return overlay === undefined ? this.#readRemote(position, count) : this.#readAround(overlay, position);
  }

  async #readAround(overlay: Overlay, position: number): Promise<Uint8Array> {
    const missing = overlay.missing();
    if (missing !== undefined) {
      overlay.fill(
        missing.first,
        await this.#readRemote(position + missing.first, missing.end - missing.first),
      );
    }
    return overlay.bytes;
  }

  async #readRemote(position: number, count: number): Promise<Uint8Array> {
    if (count <= MAX_RUN) return await this.#readRun(position, count);
    const bytes = new Uint8Array(count * SEALED);
    const parts: Promise<void>[] = [];
    for (let at = 0; at < count; at += MAX_RUN) {
      parts.push(
        this.#readRun(position + at, Math.min(MAX_RUN, count - at)).then((run) =>
          bytes.set(run, at * SEALED)
        ),
      );
    }
    await Promise.all(parts);
    return bytes;
  }

  async #readRun(position: number, count: number): Promise<Uint8Array> {
    return padded(
      await this.#ask(Op.read, new FieldWriter(12).u64(position).u32(count).bytes),
      count * SEALED,
    );
  }

  async readHeader(region: HeaderRegion, copy: 0 | 1): Promise<Uint8Array> {
    const here = this.#log.header(REGION[region] * 2 + copy);
    if (here !== undefined) return here;
    return padded(await this.#ask(Op.readHeader, Uint8Array.of(REGION[region], copy)), HEADER_BYTES[region]);
  }

  async size(): Promise<number> {
    if (this.#writing && this.#failure === undefined) return this.#blocks;
    const body = new FieldReader(await this.#ask(Op.size));
    return body.u64();
  }

  async space(): Promise<StoreSpace> {
    const body = new FieldReader(await this.#ask(Op.space));
    const disk = body.u64();
    const quota = body.u64();
    const size = await this.size();
    const free = Math.min(disk, Math.max(0, quota - size));
    return {
      free: disk === NO_QUOTA && quota === NO_QUOTA ? Infinity : free,
      quota: quota === NO_QUOTA ? Infinity : quota,
    };
  }

  get fenced(): Promise<Fenced> {
    return this.#fenced.promise;
  }

  async refresh(): Promise<boolean> {
    if (this.#writing && this.#failure === undefined) return false;
    const body = new FieldReader(await this.#ask(Op.size));
    body.u64();
    const before = this.#changes;
    this.#changes = body.u64();
    return this.#changes !== before;
  }

  /** Asks the server, on as many connections as it takes, for a bounded time. */
  async #ask(operation: Op, fields?: Uint8Array): Promise<Uint8Array> {
    const { promise: late, reject } = Promise.withResolvers<never>();
    late.catch(() => {}); // it may come when nobody waits any more
    const arrived = () => this.#link.connection?.bytesRead ?? 0;
    let before = arrived();
    using timer = new AwakeTimer(
      this.#waitMilliseconds,
      () => reject(new CoverError("no-connection", "The server does not answer")),
      () => {
        const now = arrived(), progress = now - before >= PROGRESS;
        if (progress || now < before) before = now;
        return progress;
      },
    );
    for (;;) {
      const connection = this.#link.connection ?? await this.#link.ready(timer.left);
      try {
        return await Promise.race([connection.request(operation, fields), late]);
      } catch (error) {
        if (error instanceof StatusError && error.status !== "shutdown") {
          throw new FsError("EIO", `Cannot read from the server: ${error.message}`, { cause: error });
        }
        if (timer.left === 0 || this.#closed) throw error;
        this.#link.drop(connection); // it is going down, if it has not ended already
        await connection.ended;
      }
    }
  }

  // ---- writing ----

  write(position: number, bytes: Uint8Array): Promise<void> | void {
    const refusal = this.#refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    const count = bytes.length / SEALED;
    if (!Number.isInteger(count) || count < 1) throw new RangeError("Not a whole number of sealed blocks");
    for (let at = 0; at < count; at += WRITE_RUN) {
      const run = Math.min(WRITE_RUN, count - at);
      const part = bytes.subarray(at * SEALED, (at + run) * SEALED);
      this.#append(Op.write, new FieldWriter(8).u64(position + at).bytes, {
        payload: run === WRITE_RUN ? this.#copy(part) : part.slice(),
        position: position + at,
        count: run,
      });
    }
    this.#blocks = Math.max(this.#blocks, position + count);
    if (this.#log.unflushed >= this.#flushBytes) this.#append(Op.flush, new Uint8Array(0));
    return this.#pressure(bytes.length);
  }

  #copy(bytes: Uint8Array): Uint8Array {
    const buffer = this.#buffers.take();
    buffer.set(bytes);
    return buffer;
  }

  writeHeader(region: HeaderRegion, copy: 0 | 1, bytes: Uint8Array): Promise<void> | void {
    const refusal = this.#refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    if (bytes.length !== HEADER_BYTES[region]) {
      throw new RangeError(`Not a ${region} header: ${bytes.length} bytes`);
    }
    const position = REGION[region] * 2 + copy;
    this.#append(Op.writeHeader, Uint8Array.of(REGION[region], copy), { payload: bytes.slice(), position });
    return this.#pressure(bytes.length);
  }

  discard(position: number, count: number): void {
    if (this.#refusal() === undefined) {
      this.#append(Op.discard, new FieldWriter(16).u64(position).u64(count).bytes);
    }
  }

  async truncate(blocks: number): Promise<void> {
    await this.#executed(Op.truncate, new FieldWriter(8).u64(blocks).bytes, () => {
      this.#blocks = Math.min(this.#blocks, blocks);
      return { position: blocks };
    });
  }

  async reserve(blocks: number): Promise<void> {
    await this.#executed(Op.reserve, new FieldWriter(8).u64(blocks).bytes);
    this.#blocks = Math.max(this.#blocks, blocks);
  }

  async flush(): Promise<void> {
    if (this.#log.length === 0 && this.#flushed && this.#failure === undefined) return;
    await this.#executed(Op.flush, new Uint8Array(0));
    this.#flushed = true;
  }

  /** Appends an operation and waits until the server has executed it. */
  #executed(operation: Op, fields: Uint8Array, before?: () => Partial<LogEntry>): Promise<void> {
    const refusal = this.#refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    return new Promise((resolve, reject) => {
      this.#append(operation, fields, { ...before?.(), settle: { resolve, reject } });
    });
  }

  #refusal(): Error | undefined {
    if (this.#failure !== undefined) return this.#failure;
    return this.#writing ? undefined : new FsError("EROFS", "The store is open to read");
  }

  #append(operation: Op, fields: Uint8Array, rest: Partial<LogEntry> = {}): void {
    this.#log.append({ position: 0, count: 0, ...rest, operation, fields, answered: false });
    this.#startOutage();
    this.#pump();
  }

  /**
   * A promise while twice as much waits to be answered as may be on its way, four times as much for who writes little, or
   * more is kept than should be.
   */
  #pressure(bytes: number): Promise<void> | void {
    const times = bytes > WRITE_RUN * SEALED ? 2 : 4;
    if (this.#log.unanswered <= times * this.#pace.limit && this.#log.bytes <= 2 * this.#flushBytes) return;
    return new Promise((resolve, reject) => this.#pressed.push({ resolve, reject }));
  }

  /** Sends what the credit allows. */
  #pump(): void {
    const connection = this.#writer;
    if (connection === undefined || this.#failure !== undefined) return;
    for (let entry = this.#log.peek(); entry !== undefined; entry = this.#log.peek()) {
      const { bytes, entries: { length: requests } } = this.#inFlight;
      const full = bytes + entryBytes(entry) > this.#pace.limit;
      if (requests > 0 && (full || requests >= connection.maxRequests / 2)) return this.#pace.holds(true);
      this.#log.sent();
      this.#send(connection, entry);
    }
    this.#pace.holds(false);
  }

  #send(connection: Connection, entry: LogEntry): void {
    const flight = this.#inFlight;
    flight.bytes += entryBytes(entry);
    flight.entries.push(entry);
    connection.request(entry.operation, entry.fields, { payload: entry.payload, bulk: true }).then(() => {
      if (connection !== this.#writer) return;
      this.#pace.answered(entryBytes(entry), connection.roundTrip);
      this.#answered(connection, entry);
    }, (error) => {
      if (connection === this.#writer) this.#refused(connection, entry, error);
    });
  }

  #answered(connection: Connection, entry: LogEntry): void {
    if (entry !== this.#inFlight.entries[0]) {
      // Believed, a FLUSH would cover what nobody says was executed.
      const cause = new ProtocolError("Server acknowledges an operation before those ahead of it");
      return this.#faulty(connection, new Broken(`The server cannot write: ${cause.message}`, { cause }));
    }
    this.#takeOff(entry);
    this.#log.answered(entry);
    this.#outage?.[Symbol.dispose](); // only now: a server that takes connections and drops them is away as well
    this.#outage = undefined;
    if (this.#inFlight.entries.length > 0 || this.#log.peek() !== undefined) this.#startOutage();
    if (entry.operation === Op.flush) {
      this.#faults = 0;
      for (const { payload } of this.#log.cover(entry)) if (payload) this.#buffers.give(payload);
    }
    settle(entry);
    if (this.#log.unanswered <= this.#pace.limit && this.#log.bytes <= 2 * this.#flushBytes) {
      for (const { resolve } of this.#pressed.splice(0)) resolve();
    }
    this.#pump();
  }

  #refused(connection: Connection, entry: LogEntry, error: unknown): void {
    if (!(error instanceof StatusError)) return; // the connection has ended; the link tells
    this.#takeOff(entry);
    const room = error.status === "noSpace" || error.status === "quota";
    if (room && entry.operation === Op.reserve && entry.settle !== undefined) {
      this.#log.remove(entry);
      settle(entry, roomError(error));
      return this.#pump();
    }
    const failure = new Broken(`The server cannot write: ${error.message}`, {
      cause: room ? roomError(error) : error,
    });
    switch (error.status) {
      case "fenced":
        this.#link.forfeit();
        return this.#fail(new Fenced("Another writer has taken the container over", { cause: error }));
      case "failure":
        return this.#faulty(connection, failure);
      case "broken":
      case "shutdown":
        return this.#link.drop(connection);
    }
    this.#fail(failure);
  }

  #takeOff(entry: LogEntry): void {
    const { entries } = this.#inFlight;
    entries.splice(entries.indexOf(entry), 1);
    this.#inFlight.bytes -= entryBytes(entry);
  }

  /** The server has failed: all that no flush covers is sent again on another connection, a few times in a row. */
  #faulty(connection: Connection, failure: Broken): void {
    if (++this.#faults > MAX_FAULTS) this.#fail(failure);
    else {
      this.#writer = undefined; // what else it answers does not count
      this.#link.drop(connection);
    }
  }

  // ---- the connection ----

  #up(connection: Connection, state: ContainerState): void {
    this.#pace = new Pace(connection.window);
    if (!this.#writing || this.#failure !== undefined) {
      if (this.#changes < 0) this.#changes = state.changes;
    } else {
      this.#writer = connection;
      this.#inFlight = { bytes: 0, entries: [] };
      if (this.#log.length === 0) this.#blocks = state.blocks;
      this.#log.rewind();
      this.#pump();
    }
    if (this.#wasCut) this.#options.onConnection?.("restored");
    this.#wasCut = false;
  }

  #down(reason: CoverError): void {
    this.#writer = undefined;
    if (this.#log.length > 0) this.#startOutage();
    this.#wasCut ||= !this.#cutting;
    if (!this.#cutting) this.#options.onConnection?.("cut", reason);
    this.#cutting = false;
  }

  /**
   * From now on the server has a bounded time to answer before what was written is given up, be it that it is away or
   * that it is there and does not answer. What a slow link is still taking away counts as an answer.
   */
  #startOutage(): void {
    if (this.#outage !== undefined || this.#failure !== undefined || !this.#writing || this.#closed) return;
    const seconds = this.#options.outageSeconds ?? 300, sent = () => this.#writer?.bytesWritten ?? 0;
    let before = sent();
    this.#outage = new AwakeTimer(seconds * 1000, () => {
      const { reason: cause } = this.#link;
      this.#fail(
        new Broken(`The server was away for ${seconds} s: what was not flushed is lost`, { cause }),
      );
    }, () => {
      const progress = sent() - before >= PROGRESS;
      before = sent();
      return progress;
    });
  }

  #lost(error: CoverError): void {
    this.#fail(new Broken(`The server is lost: ${error.message}`, { cause: error }));
    this.#options.onConnection?.("lost", error);
  }

  /** Nothing is written any more; reading goes on. */
  #fail(failure: CoverError): void {
    if (this.#failure !== undefined || !this.#writing) return;
    this.#failure = failure;
    if (failure instanceof Fenced) this.#fenced.resolve(failure);
    // What is said to be lost must not arrive after all.
    if (this.#writer !== undefined && this.#inFlight.entries.length > 0) {
      this.#cutting = !this.#writer.isEnded;
      this.#link.drop(this.#writer);
    }
    this.#writer = undefined;
    this.#link.disclaim();
    this.#outage?.[Symbol.dispose]();
    this.#giveUp(failure);
  }

  #giveUp(reason: CoverError): void {
    for (const entry of this.#log.clear()) settle(entry, reason);
    for (const { reject } of this.#pressed.splice(0)) reject(reason);
  }

  #notice(kind: number): void {
    if (kind === Notice.leaseWanted) this.#options.onLeaseWanted?.();
    else if (kind === Notice.changed) this.#options.onChanged?.();
  }

  /**
   * Has the server replace the key that writers prove, durably, by one whose encryption block was flushed before. May be
   * repeated, also after a failure.
   *
   * @throws {CoverError} "refused" if the proof does not verify, "no-connection"; {Fenced}
   */
  async replaceKey(next: Prover): Promise<void> {
    const refusal = this.#refusal();
    if (refusal !== undefined) throw refusal;
    await this.#link.replaceKey(this.#waitMilliseconds / 1000, next);
  }

  /**
   * Deletes the container from the server, if this store holds its lease and its token has the role `create`; also
   * after a write or a flush has failed. Nothing can be written afterwards.
   *
   * @throws {CoverError} "refused", "no-connection"; {Fenced}
   */
  async remove(): Promise<void> {
    if (!this.#writing) throw new FsError("EROFS", "The store is open to read");
    if (this.#failure instanceof Fenced) throw this.#failure;
    await this.#link.whileHolding(
      this.#waitMilliseconds / 1000,
      (connection) => connection.request(Op.remove, undefined, { bulk: true }),
    ).catch((error) => {
      // A cut came between the deed and the answer.
      if (!(error instanceof CoverError && error.kind === "no-container")) throw error;
    });
    this.#link.forfeit();
    this.#fail(new Broken("The container was removed"));
  }

  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.#outage?.[Symbol.dispose]();
      this.#failure ??= new Broken("The store is closed");
      await this.#link.close();
      this.#writer = undefined;
      this.#giveUp(this.#failure);
    }
    await this.#link.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function settle(entry: LogEntry, error?: unknown): void {
  const waiting = entry.settle;
  entry.settle = undefined;
  if (error === undefined) waiting?.resolve();
  else waiting?.reject(error);
}

function roomError(error: StatusError): FsError {
  return new FsError(error.status === "quota" ? "EDQUOT" : "ENOSPC", error.message, { cause: error });
}

/** What the server left out at the end reads as zeros; what it sent too much is a fault. */
function padded(bytes: Uint8Array, length: number): Uint8Array {
  if (bytes.length === length) return bytes;
  if (bytes.length > length) {
    const cause = new ProtocolError("Server answers more than was asked");
    throw new FsError("EIO", "Cannot read from the server: it answers more than was asked", { cause });
  }
  const whole = new Uint8Array(length);
  whole.set(bytes);
  return whole;
}
