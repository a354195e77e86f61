/** What a remote store writes, on its way to the server: in order, as much at once as suits, and again after a cut. */
import type { CoverError } from "../../crypto/errors.ts";
import { SEALED } from "../../crypto/sealer.ts";
import { AwakeTimer, type Connection, Op, ProtocolError, StatusError } from "../../net/mod.ts";
import { BufferPool } from "../block/buffers.ts";
import { Broken, Fenced, FsError } from "../errors.ts";
import { Pace } from "./pace.ts";
import type { RemoteLink } from "./remote_link.ts";
import { entryBytes, type LogEntry, UnflushedLog } from "./remote_log.ts";

/** How often in a row the server may fail an operation before the store is broken. */
const MAX_FAULTS = 5;
/** Bytes within a second or so that make one wait on: more than replies to PING, less than a slow link brings. */
export const PROGRESS = 1024;
/** Blocks of one request to write: so few that urgent requests find gaps. */
export const WRITE_RUN = 64;

/** Sends the ordered operations of a store, and keeps them until a flush covers them. */
export class RemoteSender {
  readonly log = new UnflushedLog();
  /** Bytes of writes behind which a flush is to be sent unasked. Twice as many are kept at most. */
  readonly flushBytes: number;
  /** The store was opened to write: the lease is held, or was. */
  writing = false;
  readonly #link: RemoteLink;
  readonly #outageSeconds: number;
  /** What long writes are kept in until a flush covers them. */
  readonly #buffers: BufferPool;
  /** The connection that holds the lease; undefined while there is none. */
  #writer: Connection | undefined;
  #failure: CoverError | undefined;
  /** What was sent on the present connection and not answered, in order, and its bytes. */
  #inFlight: { bytes: number; entries: LogEntry[] } = { bytes: 0, entries: [] };
  #pace = new Pace(0);
  /** Failures of the server since the last flush that succeeded. */
  #faults = 0;
  /** The connection is ended from here, which is nothing to tell a person. */
  #cutting = false;
  #outage: AwakeTimer | undefined;
  readonly #fenced = Promise.withResolvers<Fenced>();
  #pressed: { resolve: () => void; reject: (error: unknown) => void }[] = [];

  constructor(link: RemoteLink, options: { readonly flushBytes: number; readonly outageSeconds: number }) {
    this.#link = link;
    this.flushBytes = options.flushBytes;
    this.#outageSeconds = options.outageSeconds;
    const bytes = WRITE_RUN * SEALED, kept = Math.ceil(this.flushBytes / bytes);
    this.#buffers = new BufferPool(bytes, { shared: false, kept });
  }

  /** Why nothing can be written any more. */
  get failure(): CoverError | undefined {
    return this.#failure;
  }

  /** Resolves when another writer has taken over. */
  get fenced(): Promise<Fenced> {
    return this.#fenced.promise;
  }

  /** Tells whether operations are taken. */
  get active(): boolean {
    return this.writing && this.#failure === undefined;
  }

  /** A copy of a long write, which is kept until a flush covers it. */
  copy(bytes: Uint8Array): Uint8Array {
    const buffer = this.#buffers.take();
    buffer.set(bytes);
    return buffer;
  }

  /** Appends an operation and waits until the server has executed it. */
  executed(operation: Op, fields: Uint8Array, before?: () => Partial<LogEntry>): Promise<void> {
    const refusal = this.refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    return new Promise((resolve, reject) => {
      this.append(operation, fields, { ...before?.(), settle: { resolve, reject } });
    });
  }

  /** Why nothing is taken; undefined if it is. */
  refusal(): Error | undefined {
    if (this.#failure !== undefined) return this.#failure;
    return this.writing ? undefined : new FsError("EROFS", "The store is open to read");
  }

  /** Appends an operation. */
  append(operation: Op, fields: Uint8Array, rest: Partial<LogEntry> = {}): void {
    this.log.append({ position: 0, count: 0, ...rest, operation, fields, answered: false });
    this.#startOutage();
    this.#pump();
  }

  /**
   * A promise while twice as much waits to be answered as may be on its way, four times as much for who writes little, or
   * more is kept than should be.
   */
  pressure(bytes: number): Promise<void> | void {
    const times = bytes > WRITE_RUN * SEALED ? 2 : 4;
    if (this.log.unanswered <= times * this.#pace.limit && this.log.bytes <= 2 * this.flushBytes) return;
    return new Promise((resolve, reject) => this.#pressed.push({ resolve, reject }));
  }

  /** Sends what the credit allows. */
  #pump(): void {
    const connection = this.#writer;
    if (connection === undefined || this.#failure !== undefined) return;
    for (let entry = this.log.peek(); entry !== undefined; entry = this.log.peek()) {
      const { bytes, entries: { length: requests } } = this.#inFlight;
      const full = bytes + entryBytes(entry) > this.#pace.limit;
      if (requests > 0 && (full || requests >= connection.maxRequests / 2)) return this.#pace.holds(true);
      this.log.sent();
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
    this.log.answered(entry);
    this.#heard();
    if (entry.operation === Op.flush) {
      this.#faults = 0;
      for (const { payload } of this.log.cover(entry)) if (payload) this.#buffers.give(payload);
      if (this.log.length === 0) this.#buffers.drop();
    }
    settle(entry);
    if (this.log.unanswered <= this.#pace.limit && this.log.bytes <= 2 * this.flushBytes) {
      for (const { resolve } of this.#pressed.splice(0)) resolve();
    }
    this.#pump();
  }

  #refused(connection: Connection, entry: LogEntry, error: unknown): void {
    if (!(error instanceof StatusError)) return; // the connection has ended; the link tells
    this.#takeOff(entry);
    const room = error.status === "noSpace" || error.status === "quota";
    if (room && entry.operation === Op.reserve) {
      // Granted before, and lost by the server since: whether that room is there now, a write into it tells.
      if (entry.settle === undefined) this.log.answered(entry);
      else this.log.remove(entry);
      this.#heard();
      settle(entry, roomError(error));
      return this.#pump();
    }
    const failure = new Broken(`The server cannot write: ${error.message}`, {
      cause: room ? roomError(error) : error,
    });
    switch (error.status) {
      case "fenced":
        this.#link.forfeit();
        return this.fail(new Fenced("Another writer has taken the container over", { cause: error }));
      case "failure":
        return this.#faulty(connection, failure);
      case "broken":
      case "shutdown":
        return this.#link.drop(connection);
    }
    this.fail(failure);
  }

  /** Something was executed or refused: no less is an answer, as a server that drops its connections is away as well. */
  #heard(): void {
    this.#endOutage();
    if (this.#inFlight.entries.length > 0 || this.log.peek() !== undefined) this.#startOutage();
  }

  #takeOff(entry: LogEntry): void {
    const { entries } = this.#inFlight;
    entries.splice(entries.indexOf(entry), 1);
    this.#inFlight.bytes -= entryBytes(entry);
  }

  /** The server has failed: all that no flush covers is sent again on another connection, a few times in a row. */
  #faulty(connection: Connection, failure: Broken): void {
    if (++this.#faults > MAX_FAULTS) this.fail(failure);
    else {
      this.#writer = undefined; // what else it answers does not count
      this.#link.drop(connection);
    }
  }

  /** A connection with the lease is there: what no flush covers is sent on it. */
  up(connection: Connection): void {
    this.#pace = new Pace(connection.window);
    this.#writer = connection;
    this.#inFlight = { bytes: 0, entries: [] };
    this.log.rewind();
    this.#pump();
  }

  /** The connection has ended. @returns whether that came from here */
  down(): boolean {
    this.#writer = undefined;
    if (this.log.matters) this.#startOutage();
    else this.#endOutage();
    const own = this.#cutting;
    this.#cutting = false;
    return own;
  }

  /**
   * From now on the server has a bounded time to answer before what was written is given up, be it that it is away or
   * that it is there and does not answer. What a slow link is still taking away counts as an answer.
   */
  #startOutage(): void {
    if (this.#outage !== undefined || !this.active) return;
    const seconds = this.#outageSeconds, sent = () => this.#writer?.bytesWritten ?? 0;
    let before = sent();
    this.#outage = new AwakeTimer(seconds * 1000, () => {
      const { reason: cause } = this.#link;
      this.fail(
        new Broken(`The server was away for ${seconds} s: what was not flushed is lost`, { cause }),
      );
    }, () => {
      const progress = sent() - before >= PROGRESS;
      before = sent();
      return progress;
    });
  }

  #endOutage(): void {
    this.#outage?.[Symbol.dispose]();
    this.#outage = undefined;
  }

  /** Nothing is written any more; reading goes on. */
  fail(failure: CoverError): void {
    if (!this.active) return;
    this.#failure = failure;
    if (failure instanceof Fenced) this.#fenced.resolve(failure);
    // What is said to be lost must not arrive after all.
    if (this.#writer !== undefined && this.#inFlight.entries.length > 0) {
      this.#cutting = !this.#writer.isEnded;
      this.#link.drop(this.#writer);
    }
    this.#writer = undefined;
    this.#link.disclaim();
    this.#endOutage();
    this.#giveUp(failure);
  }

  #giveUp(reason: CoverError): void {
    for (const entry of this.log.clear()) settle(entry, reason);
    for (const { reject } of this.#pressed.splice(0)) reject(reason);
  }

  /** Ends the link too. Call once. */
  async close(): Promise<void> {
    this.#endOutage();
    this.#failure ??= new Broken("The store is closed");
    await this.#link.close();
    this.#writer = undefined;
    this.#giveUp(this.#failure);
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
