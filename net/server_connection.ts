/** One connection at the server: reads requests, checks their bounds and rights, answers. */
import { verifyProof } from "../crypto/writer_key.ts";
import type { AccessEvent } from "./access_event.ts";
import { Budget, type SharedBudget } from "./budget.ts";
import { blocksIn } from "./backing.ts";
import { buildFrame, type Frame, FRAME_HEAD, FrameReader, FrameWriter, putFrameHead } from "./frames.ts";
import { errorCode } from "./atomic_file.ts";
import { proofMessage } from "./proof.ts";
import {
  Access,
  Direction,
  isContainerName,
  LeaseFlag,
  MAX_BODY,
  MAX_BODY_GREETING,
  MAX_MESSAGE,
  MAX_RUN,
  Notice,
  Op,
  PROTOCOL_VERSION,
  ProtocolError,
  Role,
  Status,
  StatusError,
  type StatusName,
  WIRE_BLOCK,
} from "./protocol.ts";
import { Rate } from "./rate.ts";
import type { BackingRoot } from "./root.ts";
import { readHeaderTarget, readOrdered, readPosition } from "./server_requests.ts";
import type { Party, ServedContainer } from "./served_container.ts";
import type { TlsPeer, TlsStream } from "./tls_listener.ts";
import type { TokenEntry, Tokens } from "./tokens.ts";
import { FieldReader, FieldWriter } from "./wire.ts";

/** What connections share. */
export interface ServerState {
  readonly tokens: Tokens;
  readonly root: BackingRoot;
  /** Credit window that is granted to each connection, in bytes. */
  readonly window: number;
  readonly maxRequests: number;
  /** Bytes in flight of one connection at most. */
  readonly connectionBytes: number;
  /** How often a client is told that a long frame of its is being received, in seconds. */
  readonly reassureSeconds: number;
  /** Bytes in flight of all connections. */
  readonly budget: SharedBudget;
  /** The container of that name, which need not exist. @throws {StatusError} "name" */
  container(name: string): ServedContainer;
  /** Drops a container that nobody uses and that was never written. */
  forget(container: ServedContainer): void;
  /** How many connections there are. */
  connections(): number;
  /** Holds it against an address that it sent no token that is known, or no sense. */
  blame(address: string): void;
  log(message: string): void;
  /** Takes what clients do, for an access log. */
  access(event: AccessEvent): void;
}

const NOTHING = new Uint8Array(0);
/** Replies up to this size go before longer ones. */
const URGENT = 4096;
/** Requests of one connection after which others have their turn. */
const BURST = 16;
/** So many requests within this time (ms) are hasty; where a turn of the others takes longer than `BUSY` they wait. */
const HASTE = 4, BUSY = 1;
/** A turn that such a connection waits for so many connections that there are: who floods many others waits long. */
const OTHERS = 3;
/** Requests that a client needs seldom. Each takes one of an allowance, and so does each that is refused. */
const SELDOM: ReadonlySet<number> = new Set([
  ...[Op.ping, Op.list, Op.create, Op.open, Op.lease, Op.release, Op.remove, Op.newKey],
]);
/** That allowance: so many a second, and so many at once. Who owes some is not read from. */
const SELDOM_PER_SECOND = 20, SELDOM_AT_ONCE = 100;
/** Containers that cost as much to list as one such request. */
const LISTED = 4;
/** What a request costs besides its body, in bytes. */
const OVERHEAD = 256;
/** Serves one connection until it ends. */
export class ServerConnection implements Party {
  readonly #conn: TlsStream;
  readonly #server: ServerState;
  readonly #reader: FrameReader;
  readonly #writer: FrameWriter;
  readonly #budget: Budget;
  readonly #requests: Budget;
  readonly #peer: TlsPeer & { readonly number: number };
  readonly #nonce = crypto.getRandomValues(new Uint8Array(32));
  #clientNonce: Uint8Array = NOTHING;
  #token: TokenEntry | undefined;
  #container: ServedContainer | undefined;
  /** Fencing number of the grant to this connection; 0: it is no writer. */
  #fence = 0;
  /** Who that grant is to. */
  #session: Uint8Array = NOTHING;
  #changing = false;
  #toldChanged = false;
  #ended = false;
  #draining = false;
  #wasFenced = false;
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
    this.#reader = new FrameReader(conn, MAX_BODY_GREETING);
    this.#writer = new FrameWriter(conn, () => this.end());
    this.#budget = new Budget(server.connectionBytes);
    this.#requests = new Budget(server.maxRequests);
  }

  /** Whether HELLO was answered. */
  get greeted(): boolean {
    return this.#token !== undefined;
  }

  /** The token that admitted it, as it was known then. */
  get token(): TokenEntry | undefined {
    return this.#token;
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
      for (let count = 1, begun = performance.now();; count++) {
        if (count % BURST === 0) begun = await yieldToOthers(begun, this.#server.connections() / OTHERS);
        await this.#payBack();
        const frame = await this.#reader.next(admit);
        if (frame === undefined || this.#ended || this.#conn.gone) break;
        this.#frameAt = this.#reader.heardAt;
        if (SELDOM.has(frame.operation)) this.#spend(1);
        if (frame.direction !== Direction.request) throw new ProtocolError("A client sends requests only");
        const held = await this.#admitReply(frame, admitted);
        admitted = 0;
        const handled = this.#handle(frame, held);
        if (!this.greeted) await handled;
      }
    } catch (error) {
      // A cut is everyday life; what is not is told, without anything that the peer sent.
      if (error instanceof ProtocolError && !this.#ended) {
        if (!this.#conn.ended) this.#server.blame(this.#peer.address); // no cut
        this.#server.log(`Connection ended: ${error.message}`);
      }
    } finally {
      if (admitted > 0) this.#giveBack(admitted); // of a frame that was cut
      this.end();
      await this.#settled();
      const received = this.#reader.bytesRead, seconds = (performance.now() - this.openedAt) / 1000;
      // Who sent nothing has only looked at the certificate.
      if (received > 0) this.tell("ended", { received, sent: this.#writer.bytesWritten, seconds });
      try {
        await this.#container?.leave(this);
      } catch (error) {
        this.#server.log(`Cannot close a container: ${(error as Error).message}`);
      }
    }
  }

  /** Says for the access log what happens on this connection. */
  tell(event: AccessEvent["event"], more: Partial<AccessEvent> = {}): void {
    const { address, number: connection } = this.#peer;
    this.#server.access({ event, address, connection, token: this.#token?.label, ...more });
  }

  #spend(count: number): void {
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
    if (this.#toldChanged) return;
    this.#toldChanged = true;
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
    this.#wasFenced = true;
    this.farewell(Notice.fenced);
  }

  #notify(kind: number): void {
    if (!this.greeted) return;
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
      const reply = await this.#answer(frame);
      this.#send(frame, Status.ok, reply, held);
    } catch (error) {
      const { status, message } = this.#failure(error);
      this.#spend(1);
      if (!this.greeted || status === "protocol") this.#server.blame(this.#peer.address);
      const body = new TextEncoder().encode(message).subarray(0, MAX_MESSAGE);
      this.#send(frame, Status[status], framed(body), held);
      const fatal = status === "protocol" || status === "version" || !this.greeted;
      if (fatal) void this.#writer.idle().then(() => this.end());
    } finally {
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

  /** @returns the reply: room for a frame's head, then the body */
  async #answer(frame: Frame): Promise<Uint8Array> {
    const body = new FieldReader(frame.body);
    if (!this.greeted) {
      if (frame.operation !== Op.hello) throw new ProtocolError("The first request must be HELLO");
      return await this.#hello(body);
    }
    switch (frame.operation) {
      case Op.ping:
        body.end();
        return framed(NOTHING);
      case Op.list:
        body.end();
        return await this.#list();
      case Op.create:
        return await this.#alone(() => this.#create(body));
      case Op.open:
        return await this.#alone(() => this.#openContainer(body));
      case Op.lease:
        return await this.#alone(() => this.#lease(body));
      case Op.release:
        body.end();
        return await this.#alone(async () => {
          const container = this.#opened();
          await container.release(this.#writing());
          this.#fence = 0;
          return framed(NOTHING);
        });
      case Op.remove:
        body.end();
        return await this.#alone(async () => {
          const container = this.#opened();
          this.#demand("create");
          await container.remove(this.#writing(), this);
          this.tell("removed", { container: container.name });
          this.#fence = 0;
          return framed(NOTHING);
        });
      case Op.newKey:
        return await this.#alone(() => this.#replaceKey(body));
      case Op.size: {
        body.end();
        this.#toldChanged = false;
        const container = this.#opened();
        const changes = container.changes; // before: a flush meanwhile must not be missed
        return framed(new FieldWriter(16).u64(await container.blocks()).u64(changes).bytes);
      }
      case Op.space: {
        body.end();
        const container = this.#opened();
        return framed(new FieldWriter(16).u64(await container.freeBlocks()).u64(container.quota).bytes);
      }
      case Op.read: {
        const position = readPosition(body);
        const count = body.u32();
        body.end();
        if (count < 1 || count > MAX_RUN) throw new ProtocolError("READ of too many blocks, or none");
        const reply = new Uint8Array(FRAME_HEAD + count * WIRE_BLOCK);
        const have = await this.#opened().read(position, reply.subarray(FRAME_HEAD));
        return reply.subarray(0, FRAME_HEAD + have);
      }
      case Op.readHeader: {
        const { region, copy } = readHeaderTarget(body);
        body.end();
        return framed(await this.#opened().readHeader(region, copy));
      }
      default:
        await readOrdered(frame.operation, body)(this.#opened(), this.#writing(), this);
        return framed(NOTHING);
    }
  }

  async #hello(body: FieldReader): Promise<Uint8Array> {
    const magic = body.raw(4);
    const lowest = body.u16();
    const highest = body.u16();
    this.#clientNonce = body.raw(32).slice();
    const token = body.raw(32);
    body.end();
    if (new TextDecoder().decode(magic) !== "CVFS") throw new ProtocolError("HELLO without its magic");
    if (lowest > PROTOCOL_VERSION || highest < PROTOCOL_VERSION) {
      throw new StatusError("version", `The server speaks protocol version ${PROTOCOL_VERSION} only`);
    }
    const known = await this.#server.tokens.find(token);
    if (known === undefined) {
      this.tell("denied", { reason: "unknown token" });
      throw new StatusError("refused", "The server does not know this token");
    }
    this.#token = known;
    this.tell("greeted", { role: known.role });
    this.#reader.maxBody = MAX_BODY;
    const { window, maxRequests } = this.#server;
    const reply = new FieldWriter(44).u16(PROTOCOL_VERSION).u8(Role[known.role]).u8(0).u32(window).u32(
      maxRequests,
    );
    return framed(reply.raw(this.#nonce).bytes);
  }

  async #list(): Promise<Uint8Array> {
    const room = MAX_BODY - 4;
    const found = (await this.#server.root.list()).slice(0, Math.floor(room / (1 + 64 + 8)));
    this.#spend(found.length / LISTED);
    const length = found.reduce((sum, { name }) => sum + 1 + name.length + 8, 4);
    const reply = new FieldWriter(length).u32(found.length);
    for (const { name, bytes } of found) {
      reply.name(name).u64(blocksIn(bytes));
    }
    return framed(reply.bytes);
  }

  async #openContainer(body: FieldReader): Promise<Uint8Array> {
    const name = body.name();
    body.end();
    const container = await this.#join(name, (container) => container.join(this));
    this.tell("opened", { container: name });
    const id = Uint8Array.fromHex(container.record?.id ?? "0".repeat(32));
    const changes = container.changes;
    return framed(
      new FieldWriter(40).raw(id).u64(await container.blocks()).u64(container.quota).u64(changes).bytes,
    );
  }

  async #create(body: FieldReader): Promise<Uint8Array> {
    const name = body.name();
    const containerId = body.raw(16);
    const publicKey = body.raw(32);
    const session = body.raw(16);
    const proof = body.raw(64);
    body.end();
    this.#demand("create");
    await this.#verify({ name, containerId, session, access: Access.create, publicKey, proof });
    const record = {
      id: containerId.toHex(),
      publicKey: publicKey.toHex(),
      fence: 0,
      session: "0".repeat(32),
      released: true,
      begun: true,
    };
    await this.#join(name, (container) => container.create(this, record));
    this.tell("created", { container: name });
    return await this.#grant({ session, flags: 0 });
  }

  async #lease(body: FieldReader): Promise<Uint8Array> {
    const flags = body.u8();
    const containerId = body.raw(16);
    const session = body.raw(16);
    const proof = body.raw(64);
    body.end();
    this.#demand("rw");
    const { name, record } = this.#opened();
    if (record === undefined) {
      throw new StatusError("refused", `Container "${name}" has no writer key on this server`);
    }
    if (containerId.toHex() !== record.id) {
      throw new StatusError("proof", "The container has another id here");
    }
    const publicKey = Uint8Array.fromHex(record.publicKey);
    await this.#verify({ name, containerId, session, access: Access.write, publicKey, proof });
    return await this.#grant({ session, flags });
  }

  /** Of who holds the lease, and has therefore proved the key that is replaced. */
  async #replaceKey(body: FieldReader): Promise<Uint8Array> {
    const publicKey = body.raw(32);
    const proof = body.raw(64);
    body.end();
    const fence = this.#writing(), container = this.#opened(), { name, record } = container;
    const containerId = Uint8Array.fromHex(record!.id);
    const claim = { name, containerId, session: this.#session, access: Access.newKey, publicKey, proof };
    await this.#verify(claim);
    await container.replaceKey(fence, publicKey.toHex());
    this.tell("rekeyed", { container: name });
    return framed(NOTHING);
  }

  async #verify(
    claim: { name: string; containerId: Uint8Array; session: Uint8Array; access: Access } & {
      publicKey: Uint8Array;
      proof: Uint8Array;
    },
  ): Promise<void> {
    if (!isContainerName(claim.name)) throw new StatusError("name", "Not a container name");
    const message = proofMessage({
      ...claim,
      version: PROTOCOL_VERSION,
      certificateHash: this.#peer.certificateHash,
      clientNonce: this.#clientNonce,
      serverNonce: this.#nonce,
    });
    if (await verifyProof(claim.publicKey, message, claim.proof)) return;
    this.tell("denied", { reason: "proof of key", container: claim.name });
    throw new StatusError("proof", "The proof of the container's key does not verify");
  }

  async #grant(wish: { session: Uint8Array; flags: number }): Promise<Uint8Array> {
    const container = this.#opened(), takeover = (wish.flags & LeaseFlag.takeover) !== 0;
    this.#fence = await container.grant({
      party: this,
      session: wish.session.toHex(),
      resume: (wish.flags & LeaseFlag.resume) !== 0,
      takeover,
    });
    this.#session = wish.session.slice();
    this.tell("granted", { container: container.name, ...(takeover && { takeover }) });
    const blocks = await container.blocks();
    return framed(
      new FieldWriter(32).u64(this.#fence).u64(blocks).u64(container.quota).u64(container.changes).bytes,
    );
  }

  /** Binds the connection to a container, once. */
  async #join(name: string, use: (container: ServedContainer) => Promise<void>): Promise<ServedContainer> {
    if (this.#container !== undefined) {
      throw new StatusError("state", "This connection has a container already");
    }
    const container = this.#server.container(name);
    try {
      await use(container);
    } catch (error) {
      this.#server.forget(container);
      throw error;
    }
    this.#container = container;
    return container;
  }

  /** Changes of state come one at a time. */
  async #alone(change: () => Promise<Uint8Array>): Promise<Uint8Array> {
    if (this.#changing) throw new StatusError("state", "Another change of state is under way");
    this.#changing = true;
    try {
      return await change();
    } finally {
      this.#changing = false;
    }
  }

  #demand(role: keyof typeof Role): void {
    if (this.#token === undefined || Role[this.#token.role] < Role[role]) {
      throw new StatusError("refused", `The token does not allow this: it takes one with the role "${role}"`);
    }
  }

  #opened(): ServedContainer {
    if (this.#container === undefined) throw new StatusError("state", "No container is open");
    return this.#container;
  }

  #writing(): number {
    if (this.#wasFenced) throw new StatusError("fenced", "Another writer has taken the container over");
    if (this.#fence === 0) throw new StatusError("state", "This connection does not hold the lease");
    return this.#fence;
  }
}

function framed(body: Uint8Array): Uint8Array {
  const frame = new Uint8Array(FRAME_HEAD + body.length);
  frame.set(body, FRAME_HEAD);
  return frame;
}

/**
 * Lets others have their turn. Who sends many requests at once, while others keep the server busy, is not served as
 * often as he asks.
 *
 * @param begun when the last turn began
 * @param turns how many turns of the others he then waits
 * @returns when this one begins
 */
async function yieldToOthers(begun: number, turns: number): Promise<number> {
  const asked = performance.now();
  await new Promise<void>((resolve) => setImmediate(resolve));
  const turn = performance.now() - asked;
  if (asked - begun < HASTE && turn > BUSY) {
    await new Promise((resolve) => setTimeout(resolve, turns * turn));
  }
  return performance.now();
}
