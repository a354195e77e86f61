/** A client's connection to a server: requests in flight by id, notifications, keep-alive. */
import { CoverError } from "../crypto/errors.ts";
import { buildFrame, type ByteStream, FrameReader, FrameWriter } from "./frames.ts";
import { formatAddress } from "./locator.ts";
import { proofMessage, type Prover } from "./proof.ts";
import {
  type Access,
  Direction,
  MAX_BODY,
  MAX_BODY_GREETING,
  Op,
  PROTOCOL_VERSION,
  ProtocolError,
  Role,
  type RoleName,
  Status,
  statusError,
} from "./protocol.ts";
import { fromBase64Url32 } from "./text.ts";
import {
  closeQuietly,
  dial,
  type Dialled,
  noConnection,
  type ServerAddress,
  type ServerIdentity,
} from "./trust.ts";
import { FieldReader, FieldWriter } from "./wire.ts";

/** How to connect. */
export interface ConnectOptions {
  readonly address: ServerAddress;
  readonly identity: ServerIdentity;
  /** Secret, base64url. */
  readonly token: string;
  /** Ends the attempt; afterwards it has no effect. */
  readonly signal: AbortSignal;
  /** PING when there was nothing else to say for so long; dead after three times as long without a frame. */
  readonly pingSeconds?: number;
}

/** A container in a server's listing. */
export interface RemoteContainer {
  readonly name: string;
  readonly blocks: number;
}

/** What a connection needs of the one below. */
type Stream = ByteStream & { close(): void };
/** A server that is connected, and the SHA-256 of the certificate that it has shown. */
type DialledStream = Omit<Dialled, "conn"> & { readonly conn: Stream };

interface Waiting {
  /** When the request was handed over, in ms of `performance.now()`. */
  readonly since: number;
  readonly resolve: (body: Uint8Array<ArrayBuffer>) => void;
  readonly reject: (error: unknown) => void;
}

const NOTHING = new Uint8Array(0);

/** A greeted connection. Requests may overlap; replies come in any order. */
export class Connection {
  readonly address: ServerAddress;
  readonly role: RoleName;
  /** Bytes of ordered requests that may be without reply. */
  readonly window: number;
  readonly maxRequests: number;
  /** Called for each notification, with its kind (`Notice`). */
  onNotice: ((kind: number) => void) | undefined;
  /** Resolves with the reason when the connection has ended; never rejects. */
  readonly ended: Promise<CoverError>;
  readonly #conn: Stream;
  readonly #reader: FrameReader;
  readonly #writer: FrameWriter;
  readonly #waiting = new Map<number, Waiting>();
  readonly #nonces: { readonly client: Uint8Array; readonly server: Uint8Array };
  readonly #certificateHash: Uint8Array;
  readonly #resolveEnded: (reason: CoverError) => void;
  readonly #reading: Promise<void>;
  readonly #timer: ReturnType<typeof setInterval>;
  #nextId = 2;
  #reason: CoverError | undefined;
  #spoke = performance.now();
  #roundTrip = Infinity;

  private constructor(
    options: Omit<ConnectOptions, "identity">,
    dialled: DialledStream,
    greeting: Greeting,
    reader: FrameReader,
  ) {
    this.address = options.address;
    this.role = greeting.role;
    this.window = greeting.window;
    this.maxRequests = greeting.maxRequests;
    this.#nonces = greeting.nonces;
    this.#certificateHash = dialled.certificateHash;
    this.#conn = dialled.conn;
    this.#reader = reader;
    const { promise, resolve } = Promise.withResolvers<CoverError>();
    this.ended = promise;
    this.#resolveEnded = resolve;
    this.#writer = new FrameWriter(dialled.conn, (error) => this.#end(noConnection(this.address, error)));
    this.#writer.framesSent = 1;
    const pingSeconds = options.pingSeconds ?? 10;
    this.#timer = setInterval(() => this.#keepAlive(pingSeconds * 1000), pingSeconds * 500);
    this.#reading = this.#read();
  }

  /**
   * Connects to a server and greets it.
   *
   * @throws {CoverError} "no-connection" (also of a server that breaks the protocol), "identity", "refused" (token),
   * "unsupported" (version)
   */
  static async connect(options: ConnectOptions): Promise<Connection> {
    if (fromBase64Url32(options.token) === undefined) {
      throw new CoverError("usage", "Cannot use the token: it is damaged");
    }
    return await this.greet(await dial(options.address, options.identity, options.signal), options);
  }

  /** Greets a server that is connected already. @throws as {@linkcode connect} */
  static async greet(dialled: DialledStream, options: Omit<ConnectOptions, "identity">): Promise<Connection> {
    const { conn } = dialled, token = fromBase64Url32(options.token)!;
    const abort = () => closeQuietly(conn);
    options.signal.addEventListener("abort", abort, { once: true });
    try {
      const reader = new FrameReader(conn, MAX_BODY_GREETING);
      const greeting = await greet(conn, reader, token);
      options.signal.throwIfAborted();
      reader.maxBody = MAX_BODY;
      return new Connection(options, dialled, greeting, reader);
    } catch (error) {
      closeQuietly(conn);
      throw error instanceof CoverError ? error : noConnection(options.address, error);
    } finally {
      options.signal.removeEventListener("abort", abort);
    }
  }

  /** Frames sent on this connection so far, HELLO and every PING included. */
  get framesSent(): number {
    return this.#writer.framesSent;
  }

  /** Bytes that have come so far, of frames that are not complete too. */
  get bytesRead(): number {
    return this.#reader.bytesRead;
  }

  /** Bytes that were sent so far. */
  get bytesWritten(): number {
    return this.#writer.bytesWritten;
  }

  /** The shortest time between a request and its reply so far, in ms; Infinity if there was none. */
  get roundTrip(): number {
    return this.#roundTrip;
  }

  /** Whether it has ended. */
  get isEnded(): boolean {
    return this.#reason !== undefined;
  }

  /**
   * Sends a request.
   *
   * @param fields the body, or its beginning
   * @param options `payload`: the rest of the body, which must stay as it is until the reply; `bulk`: let urgent
   * requests overtake
   * @returns the body of the reply, owned by the caller
   * @throws {StatusError} if the server refuses; {CoverError} why the connection ended ("no-connection", ...)
   */
  request(
    operation: Op,
    fields: Uint8Array = NOTHING,
    options: { readonly payload?: Uint8Array | undefined; readonly bulk?: boolean } = {},
  ): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#reason !== undefined) return Promise.reject(this.#reason);
    const id = this.#nextId;
    this.#nextId = id === 0xffff_ffff ? 1 : id + 1;
    const { payload } = options;
    const head = { operation, direction: Direction.request, status: 0, id };
    const frame = buildFrame(head, fields, payload?.length);
    const since = this.#spoke = performance.now();
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { since, resolve, reject });
      this.#writer.send(payload === undefined ? [frame] : [frame, payload], { urgent: !options.bulk });
    });
  }

  /** The containers on the server. */
  async list(): Promise<RemoteContainer[]> {
    const body = new FieldReader(await this.request(Op.list));
    const found: RemoteContainer[] = [];
    for (let left = body.u32(); left > 0; left--) found.push({ name: body.name(), blocks: body.u64() });
    body.end();
    return found;
  }

  /** Signs a proof for this connection (docs/protocol.md, section 6). */
  prove(
    prover: Prover,
    claim: { containerId: Uint8Array; session: Uint8Array; access: Access; name: string },
  ): Promise<Uint8Array> {
    return prover.sign(proofMessage({
      ...claim,
      version: PROTOCOL_VERSION,
      certificateHash: this.#certificateHash,
      clientNonce: this.#nonces.client,
      serverNonce: this.#nonces.server,
    }));
  }

  /** Ends the connection; requests without reply reject. Resolves when nothing of it is left. May be called twice. */
  async close(): Promise<void> {
    this.#end(new CoverError("no-connection", `Connection to ${formatAddress(this.address)} was closed`));
    await this.#reading;
    await this.#writer.idle();
  }

  #end(reason: CoverError): void {
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    clearInterval(this.#timer);
    this.#writer.stop();
    closeQuietly(this.#conn);
    for (const { reject } of this.#waiting.values()) reject(reason);
    this.#waiting.clear();
    this.#resolveEnded(reason);
  }

  async #read(): Promise<void> {
    try {
      for (;;) {
        const frame = await this.#reader.next();
        if (frame === undefined) throw new Error("the server closed the connection");
        if (frame.direction === Direction.notification) {
          if (frame.operation !== Op.notify || frame.body.length !== 1) {
            throw new ProtocolError("Malformed notification");
          }
          this.onNotice?.(frame.body[0]!);
          continue;
        }
        const waiting = this.#waiting.get(frame.id);
        if (frame.direction !== Direction.reply || waiting === undefined) {
          throw new ProtocolError("Server answers what was not asked");
        }
        this.#waiting.delete(frame.id);
        this.#roundTrip = Math.min(this.#roundTrip, performance.now() - waiting.since);
        if (frame.status === Status.ok) waiting.resolve(frame.body);
        else waiting.reject(statusError(frame.status, frame.body));
      }
    } catch (error) {
      this.#end(error instanceof CoverError ? error : noConnection(this.address, error));
    }
  }

  #keepAlive(period: number): void {
    const now = performance.now(), heard = this.#reader.heardAt;
    if (now - heard > 3 * period) {
      this.#end(noConnection(this.address, new Error("the server is silent")));
    } else if (now - Math.min(this.#spoke, heard) >= period / 2) {
      this.request(Op.ping).catch(() => {}); // why the connection ended is told to those who wait
    }
  }
}

interface Greeting {
  readonly role: RoleName;
  readonly window: number;
  readonly maxRequests: number;
  readonly nonces: { readonly client: Uint8Array; readonly server: Uint8Array };
}

async function greet(conn: Stream, reader: FrameReader, token: Uint8Array): Promise<Greeting> {
  const client = crypto.getRandomValues(new Uint8Array(32));
  const fields =
    new FieldWriter(72).raw(new TextEncoder().encode("CVFS")).u16(PROTOCOL_VERSION).u16(PROTOCOL_VERSION)
      .raw(client).raw(token).bytes;
  const hello = buildFrame({ operation: Op.hello, direction: Direction.request, status: 0, id: 1 }, fields);
  for (let at = 0; at < hello.length;) at += await conn.write(hello.subarray(at));
  const frame = await reader.next();
  if (frame === undefined) throw new Error("the server closed the connection");
  if (frame.direction !== Direction.reply || frame.id !== 1) {
    throw new ProtocolError("Server does not answer HELLO");
  }
  if (frame.status !== Status.ok) throw statusError(frame.status, frame.body);
  const body = new FieldReader(frame.body);
  const version = body.u16();
  const roleNumber = body.u8();
  body.u8();
  const window = body.u32();
  const maxRequests = body.u32();
  const server = body.raw(32);
  body.end();
  const role = (Object.keys(Role) as RoleName[]).find((name) => Role[name] === roleNumber);
  if (version !== PROTOCOL_VERSION || role === undefined || window < 1 || maxRequests < 1) {
    throw new ProtocolError("Server answers HELLO with values out of bounds");
  }
  return { role, window, maxRequests, nonces: { client, server } };
}
