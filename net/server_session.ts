/** What one client of a server is and may do: its token, container and lease, and what its requests ask for. */
import { verifyProof } from "../crypto/writer_key.ts";
import type { AccessEvent } from "./access_event.ts";
import { blocksIn } from "./backing.ts";
import type { SharedBudget } from "./budget.ts";
import { type Frame, FRAME_HEAD } from "./frames.ts";
import { proofMessage } from "./proof.ts";
import {
  Access,
  isContainerName,
  LeaseFlag,
  MAX_BODY,
  MAX_RUN,
  Op,
  PROTOCOL_VERSION,
  ProtocolError,
  Role,
  StatusError,
  WIRE_BLOCK,
} from "./protocol.ts";
import type { BackingRoot } from "./root.ts";
import { readHeaderTarget, readOrdered, readPosition } from "./server_requests.ts";
import type { Party, ServedContainer } from "./served_container.ts";
import type { SpareBodies } from "./spare_bodies.ts";
import type { TokenEntry, Tokens } from "./tokens.ts";
import type { Turns } from "./turns.ts";
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
  /** What requests were received in and can be again. */
  readonly bodies: SpareBodies;
  /** Whose turn it is. */
  readonly turns: Turns;
  /** Holds it against an address that it sent no token that is known, or no sense. */
  blame(address: string): void;
  /** Says that an address has shown no token at all. */
  looked(address: string): void;
  /** Says that it has shown one that is known. */
  greeted(address: string): void;
  log(message: string): void;
  /** Takes what clients do, for an access log. */
  access(event: AccessEvent): void;
}

/** The connection of a session, as that sees it. */
export interface SessionConnection extends Party {
  /** SHA-256 of the certificate that the client was shown. */
  readonly certificateHash: Uint8Array;
  /** Says for the access log what happens. */
  tell(event: AccessEvent["event"], more?: Partial<AccessEvent>): void;
  /** Takes so many of the allowance for what is needed seldom. */
  spend(count: number): void;
  /** HELLO is answered: longer frames may come. */
  greeted(): void;
}

const NOTHING = new Uint8Array(0);
/** Containers that cost as much to list as one request that is needed seldom. */
const LISTED = 4;

/** Answers the requests of one connection. */
export class ServerSession {
  readonly #connection: SessionConnection;
  readonly #server: ServerState;
  readonly #nonce = crypto.getRandomValues(new Uint8Array(32));
  #clientNonce: Uint8Array = NOTHING;
  /** The token that admitted it, as it was known then; undefined before HELLO is answered. */
  token: TokenEntry | undefined;
  #container: ServedContainer | undefined;
  /** Fencing number of the grant to this connection; 0: it is no writer. */
  #fence = 0;
  /** Who that grant is to. */
  #session: Uint8Array = NOTHING;
  #changing = false;
  /** It was told of a change, and has not asked since. */
  toldChanged = false;
  /** Another writer was granted. */
  wasFenced = false;

  constructor(connection: SessionConnection, server: ServerState) {
    this.#connection = connection;
    this.#server = server;
  }

  /** Uses its container no more. */
  async leave(): Promise<void> {
    await this.#container?.leave(this.#connection);
  }

  /** @returns the reply: room for a frame's head, then the body */
  async answer(frame: Frame): Promise<Uint8Array> {
    const body = new FieldReader(frame.body);
    if (this.token === undefined) {
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
          await container.remove(this.#writing(), this.#connection);
          this.#connection.tell("removed", { container: container.name });
          this.#fence = 0;
          return framed(NOTHING);
        });
      case Op.newKey:
        return await this.#alone(() => this.#replaceKey(body));
      case Op.size: {
        body.end();
        this.toldChanged = false;
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
        await readOrdered(frame.operation, body)(this.#opened(), this.#writing(), this.#connection);
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
      this.#connection.tell("denied", { reason: "unknown token" });
      throw new StatusError("refused", "The server does not know this token");
    }
    this.token = known;
    this.#connection.tell("greeted", { role: known.role });
    this.#connection.greeted();
    const { window, maxRequests } = this.#server;
    const reply = new FieldWriter(44).u16(PROTOCOL_VERSION).u8(Role[known.role]).u8(0).u32(window).u32(
      maxRequests,
    );
    return framed(reply.raw(this.#nonce).bytes);
  }

  async #list(): Promise<Uint8Array> {
    const room = MAX_BODY - 4;
    const found = (await this.#server.root.list()).slice(0, Math.floor(room / (1 + 64 + 8)));
    this.#connection.spend(found.length / LISTED);
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
    const container = await this.#join(name, (container) => container.join(this.#connection));
    this.#connection.tell("opened", { container: name });
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
    await this.#join(name, (container) => container.create(this.#connection, record));
    this.#connection.tell("created", { container: name });
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
    this.#connection.tell("rekeyed", { container: name });
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
      certificateHash: this.#connection.certificateHash,
      clientNonce: this.#clientNonce,
      serverNonce: this.#nonce,
    });
    if (await verifyProof(claim.publicKey, message, claim.proof)) return;
    this.#connection.tell("denied", { reason: "proof of key", container: claim.name });
    throw new StatusError("proof", "The proof of the container's key does not verify");
  }

  async #grant(wish: { session: Uint8Array; flags: number }): Promise<Uint8Array> {
    const container = this.#opened(), takeover = (wish.flags & LeaseFlag.takeover) !== 0;
    this.#fence = await container.grant({
      party: this.#connection,
      session: wish.session.toHex(),
      resume: (wish.flags & LeaseFlag.resume) !== 0,
      takeover,
    });
    this.#session = wish.session.slice();
    this.#connection.tell("granted", { container: container.name, ...(takeover && { takeover }) });
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
    if (this.token === undefined || Role[this.token.role] < Role[role]) {
      throw new StatusError("refused", `The token does not allow this: it takes one with the role "${role}"`);
    }
  }

  #opened(): ServedContainer {
    if (this.#container === undefined) throw new StatusError("state", "No container is open");
    return this.#container;
  }

  #writing(): number {
    if (this.wasFenced) throw new StatusError("fenced", "Another writer has taken the container over");
    if (this.#fence === 0) throw new StatusError("state", "This connection does not hold the lease");
    return this.#fence;
  }
}

/** A reply: room for a frame's head, then the body. */
export function framed(body: Uint8Array): Uint8Array {
  const frame = new Uint8Array(FRAME_HEAD + body.length);
  frame.set(body, FRAME_HEAD);
  return frame;
}
