/** One connection at the server: reads requests, checks their bounds and rights, answers. */
import type { AccessEvent } from "./access_event.ts";
import { Budget } from "./budget.ts";
import { buildFrame, type Frame, FRAME_HEAD, FrameReader, FrameWriter, putFrameHead } from "./frames.ts";
import { errorCode } from "./atomic_file.ts";
import {
  Direction,
  MAX_BODY,
  MAX_BODY_GREETING,
  MAX_MESSAGE,
  MAX_RUN,
  Notice,
  Op,
  ProtocolError,
  Status,
  StatusError,
  type StatusName,
  WIRE_BLOCK,
} from "./protocol.ts";
import { Rate } from "./rate.ts";
import { framed, ServerSession, type ServerState, type SessionConnection } from "./server_session.ts";
import type { TlsPeer, TlsStream } from "./tls_listener.ts";
import type { TokenEntry } from "./tokens.ts";

/** Replies up to this size go before longer ones. */
const URGENT = 4096;
/** Requests of one connection after which others have their turn. */
const BURST = 16;
/**
 * How many bytes, of it and of its reply, a request is as much work as: in any case 8 to 17 µs where nobody else asks
 * and 40 beside others, and 30 more where it did not come together with the one before. A mebibyte is 0.6 ms (Deno
 * 2.9.6; `SIZE` and `READ`, 1 to 64 at once; docs/server.md, "Load").
 */
const WORK = 72 * 1024, ALONE = 48 * 1024;
/** Requests that a client needs seldom. Each takes one of an allowance, and so does each that is refused. */
const SELDOM: ReadonlySet<number> = new Set([
  ...[Op.ping, Op.list, Op.create, Op.open, Op.lease, Op.release, Op.remove, Op.newKey],
]);
/** That allowance: so many a second, and so many at once. Who owes some is not read from. */
const SELDOM_PER_SECOND = 20, SELDOM_AT_ONCE = 100;
/** What a request costs besides its body, in bytes. */
const OVERHEAD = 256;

/** Serves one connection until it ends. */
export class ServerConnection implements SessionConnection {
  readonly #conn: TlsStream;
  readonly #server: ServerState;
  readonly #reader: FrameReader;
  readonly #writer: FrameWriter;
  readonly #budget: Budget;
  readonly #requests: Budget;
  readonly #peer: TlsPeer & { readonly number: number };
  readonly #session: ServerSession;
  #ended = false;
  #draining = false;
  #blamed = false;
  #running = 0;
  readonly #allowance = new Rate(SELDOM_PER_SECOND, performance.now(), SELDOM_AT_ONCE);
  /** Ends a pause. */
  #resume = () => {};
  #quiet: (() => void)[] = [];
  readonly openedAt = performance.now();
  /** When it was last told that a long frame is on its way. */
  #reassuredAt = this.openedAt;
  /** When the last frame was complete. */
  #frameAt = this.openedAt;

  /** @param peer `number` tells connections apart in the access log */
  constructor(conn: TlsStream, server: ServerState, peer: TlsPeer & { readonly number: number }) {
    this.#conn = conn;
    this.#peer = peer;
    this.#server = server;
    this.#reader = new FrameReader(conn, MAX_BODY_GREETING, server.bodies);
    this.#writer = new FrameWriter(conn, () => this.end());
    this.#budget = new Budget(server.connectionBytes);
    this.#requests = new Budget(server.maxRequests);
    this.#session = new ServerSession(this, server);
  }

  get certificateHash(): Uint8Array {
    return this.#peer.certificateHash;
  }

  greeted(): void {
    this.#reader.maxBody = MAX_BODY;
    this.#server.greeted(this.#peer.address);
  }

  /** The token that admitted it, as it was known then; undefined before HELLO is answered. */
  get token(): TokenEntry | undefined {
    return this.#session.token;
  }

  /** When bytes came last, be they part of a frame only, as `performance.now()`. */
  get lastHeard(): number {
    return this.#reader.heardAt;
  }

  /** Since when a reply could not be sent, as `performance.now()`; undefined if none waits. */
  get stuckSince(): number | undefined {
    return this.#writer.busySince;
  }

  /** Reads and answers requests until the connection ends; never rejects. */
  async run(): Promise<void> {
    let admitted = 0; // bytes of the budgets that no request answers for yet
    const admit = async (length: number) => {
      await this.#admit(length);
      admitted = length + OVERHEAD;
    };
    try {
      for (let count = 1;; count++) {
        if (count % BURST === 0 || this.#server.turns.ahead(this)) await this.#server.turns.take(this);
        await this.#payBack();
        const { bytesRead } = this.#reader;
        const frame = await this.#reader.next(admit);
        if (frame === undefined || this.#ended || this.#conn.gone) break;
        this.#frameAt = this.#reader.heardAt;
        if (SELDOM.has(frame.operation)) this.spend(1);
        if (frame.direction !== Direction.request) throw new ProtocolError("A client sends requests only");
        const held = await this.#admitReply(frame, admitted);
        const alone = this.#reader.bytesRead > bytesRead ? ALONE : 0;
        this.#server.turns.spend(this, WORK + alone + held);
        admitted = 0;
        const handled = this.#handle(frame, held);
        if (this.token === undefined) await handled;
      }
    } catch (error) {
      // A cut is everyday life; what is not is told, without anything that the peer sent.
      if (error instanceof ProtocolError && !this.#ended) {
        if (!this.#conn.ended) this.#blame(); // no cut
        this.#server.log(`Connection ended: ${error.message}`);
      }
    } finally {
      if (admitted > 0) this.#giveBack(admitted); // of a frame that was cut
      this.end();
      await this.#settled();
      const received = this.#reader.bytesRead, seconds = (performance.now() - this.openedAt) / 1000;
      if (this.token === undefined && !this.#blamed) this.#server.looked(this.#peer.address);
      // Who sent nothing has only looked at the certificate.
      if (received > 0) this.tell("ended", { received, sent: this.#writer.bytesWritten, seconds });
      try {
        await this.#session.leave();
      } catch (error) {
        this.#server.log(`Cannot close a container: ${(error as Error).message}`);
      }
    }
  }

  /** Says for the access log what happens on this connection. */
  tell(event: AccessEvent["event"], more: Partial<AccessEvent> = {}): void {
    const { address, number: connection } = this.#peer;
    this.#server.access({ event, address, connection, token: this.token?.label, ...more });
  }

  #blame(): void {
    this.#blamed = true;
    this.#server.blame(this.#peer.address);
  }

  spend(count: number): void {
    this.#allowance.spend(count, performance.now());
  }

  /** Waits, for some seconds at most, until nothing of the allowance is owed. */
  async #payBack(): Promise<void> {
    const owed = this.#allowance.owed(performance.now());
    if (owed === 0 || this.#ended) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve) => timer = setTimeout(this.#resume = resolve, owed));
    clearTimeout(timer);
  }

  /** Resolves when no request runs. */
  #settled(): Promise<void> {
    return this.#running === 0 ? Promise.resolve() : new Promise((resolve) => this.#quiet.push(resolve));
  }

  /** Ends the connection at once. May be called twice. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#resume();
    this.#writer.stop();
    this.#conn.close();
  }

  /** Finishes the requests that have arrived, refuses later ones, and ends the connection. */
  async drain(): Promise<void> {
    this.#draining = true;
    await this.#settled();
    this.farewell(Notice.shutdown);
    await this.#writer.idle();
  }

  /** Sends a notification and ends the connection when it and the replies before it are out. */
  farewell(kind: number): void {
    this.#notify(kind);
    void this.#writer.idle().then(() => this.end());
  }

  leaseWanted(): void {
    this.#notify(Notice.leaseWanted);
  }

  changed(): void {
    if (this.#session.toldChanged) return;
    this.#session.toldChanged = true;
    this.#notify(Notice.changed);
  }

  /**
   * Tells a client whose long frame takes its time that it is being received: over a slow link nothing else is said
   * meanwhile, and the client would take the connection for dead.
   */
  reassure(): void {
    const { heardAt } = this.#reader;
    const silent = heardAt - Math.max(this.#frameAt, this.#reassuredAt);
    if (heardAt <= this.#frameAt || silent < this.#server.reassureSeconds * 1000) return;
    this.#reassuredAt = heardAt;
    this.#notify(Notice.receiving);
  }

  fenced(): void {
    this.#session.wasFenced = true;
    this.farewell(Notice.fenced);
  }

  #notify(kind: number): void {
    if (this.token === undefined) return;
    const head = { operation: Op.notify, direction: Direction.notification, status: 0, id: 0 };
    this.#writer.send([buildFrame(head, Uint8Array.of(kind))], { urgent: true });
  }

  async #admit(length: number): Promise<void> {
    const bytes = length + OVERHEAD;
    await this.#requests.take(1);
    await this.#budget.take(bytes);
    await this.#server.budget.take(this, bytes);
  }

  /**
   * Takes the room of a long reply. Waited for before the next frame is read, never by a request that runs: so what
   * runs always ends, and nobody waits in a circle. The room of its request is given back before, and taken with it: a
   * reply that needs all that there is would wait for that for good.
   *
   * @param admitted bytes of the budgets that the request has taken. @returns those of both
   */
  async #admitReply(frame: Frame, admitted: number): Promise<number> {
    if (frame.operation !== Op.read || frame.body.length !== 12) return admitted;
    const blocks = Math.min(new DataView(frame.body.buffer).getUint32(8, true), MAX_RUN);
    const bytes = admitted + blocks * WIRE_BLOCK;
    this.#giveBack(admitted);
    await this.#budget.take(bytes);
    await this.#server.budget.take(this, bytes);
    return bytes;
  }

  #giveBack(bytes: number): void {
    this.#budget.give(bytes);
    this.#server.budget.give(this, bytes);
  }

  /** Runs one request and answers it; `held` bytes of the budgets are given back when the answer is sent. */
  async #handle(frame: Frame, held: number): Promise<void> {
    this.#running++;
    try {
      if (this.#draining) throw new StatusError("shutdown", "The server is going down");
      const reply = await this.#session.answer(frame);
      this.#send(frame, Status.ok, reply, held);
    } catch (error) {
      const { status, message } = this.#failure(error);
      this.spend(1);
      if (this.token === undefined || status === "protocol") this.#blame();
      const body = new TextEncoder().encode(message).subarray(0, MAX_MESSAGE);
      this.#send(frame, Status[status], framed(body), held);
      const fatal = status === "protocol" || status === "version" || this.token === undefined;
      if (fatal) void this.#writer.idle().then(() => this.end());
    } finally {
      this.#server.bodies.give(frame.body);
      if (--this.#running === 0) { for (const resolve of this.#quiet.splice(0)) resolve(); }
    }
  }

  #send(frame: Frame, status: number, reply: Uint8Array, held: number): void {
    putFrameHead(reply, { ...frame, direction: Direction.reply, status }, reply.length - FRAME_HEAD);
    const written = () => {
      this.#giveBack(held);
      this.#requests.give(1);
    };
    this.#writer.send([reply], { urgent: reply.length <= URGENT, written });
  }

  #failure(error: unknown): { status: StatusName; message: string } {
    if (error instanceof StatusError) return { status: error.status, message: error.message };
    if (error instanceof ProtocolError) {
      this.#server.log(`Request refused: ${error.message}`);
      return { status: "protocol", message: error.message };
    }
    const code = errorCode(error);
    if (code === "ENOSPC") return { status: "noSpace", message: "The server's disk is full" };
    if (code === "EDQUOT" || code === "EFBIG") {
      return { status: "quota", message: "The server's own quota is used up" };
    }
    this.#server.log(`Operation failed: ${error instanceof Error ? error.message : String(error)}`);
    return { status: "failure", message: "The operation failed at the server" };
  }
}
