/**
 * Listening with TLS. Over node:net and node:tls rather than `Deno.listenTls`: there, closing a connection whose
 * handshake is not complete leaves the socket open for as long as the peer likes (tried with Deno 2.9.6), so that
 * no limit of time or number could be held against one who only connects.
 */
import { type AddressInfo, createServer, type Server as NetServer, type Socket } from "node:net";
import { createSecureContext, TLSSocket } from "node:tls";
import type { CertificatePair } from "./certificate.ts";
import type { ByteStream } from "./frames.ts";

/** Received bytes that are kept before the peer is made to wait. */
const BUFFERED = 256 * 1024;

/**
 * What reads from a socket. Pausing a TLSSocket of a server stops nothing in Deno 2.9.6: it goes on reading, and keeps
 * all that comes, whether anybody takes it or not (350 MB within seconds, tried). Its handle can be stopped.
 */
function handleOf(socket: Socket): { readStop(): void; readStart(): void } | undefined {
  return (socket as unknown as { _handle?: { readStop(): void; readStart(): void } })._handle;
}

/** An accepted connection whose handshake is complete. */
export class TlsStream implements ByteStream {
  readonly #socket: TLSSocket;
  readonly #raw: Socket;
  readonly #chunks: Uint8Array[] = [];
  #buffered = 0;
  #ended = false;
  #wasGone = false;
  #error: Error | undefined;
  #wake: (() => void) | undefined;
  #closed = false;

  constructor(socket: TLSSocket, raw: Socket) {
    this.#socket = socket;
    this.#raw = raw;
    socket.on("data", (chunk: Uint8Array) => {
      this.#chunks.push(chunk);
      this.#buffered += chunk.length;
      if (this.#buffered >= BUFFERED) handleOf(raw)?.readStop();
      this.#wake?.();
    });
    socket.on("end", () => this.#end());
    socket.on("close", () => this.#gone());
    socket.on("error", (error: Error) => this.#end(error));
    raw.on("error", (error: Error) => this.#end(error));
    raw.on("close", () => this.#gone());
  }

  /** Nobody is there any more to be answered: what has arrived is not read. */
  #gone(): void {
    this.#wasGone = true;
    this.#chunks.length = 0;
    this.#end();
  }

  /** Whether nobody can be answered any more. */
  get gone(): boolean {
    return this.#wasGone;
  }

  /** Whether it was cut or closed, at whichever end. */
  get ended(): boolean {
    return this.#ended;
  }

  #end(error?: Error): void {
    this.#error ??= error;
    this.#ended = true;
    this.#wake?.();
  }

  /** Reads at least one byte into `into`; null at the end. One caller at a time. */
  async read(into: Uint8Array): Promise<number | null> {
    while (this.#chunks.length === 0) {
      if (this.#error !== undefined) throw this.#error;
      if (this.#ended) return null;
      await new Promise<void>((resolve) => this.#wake = resolve);
      this.#wake = undefined;
    }
    let have = 0;
    for (let chunk = this.#chunks[0]; chunk !== undefined && have < into.length; chunk = this.#chunks[0]) {
      const count = Math.min(chunk.length, into.length - have);
      into.set(chunk.subarray(0, count), have);
      have += count;
      if (count === chunk.length) this.#chunks.shift();
      else this.#chunks[0] = chunk.subarray(count);
    }
    const before = this.#buffered;
    this.#buffered -= have;
    if (before >= BUFFERED && this.#buffered < BUFFERED && !this.#ended) handleOf(this.#raw)?.readStart();
    return have;
  }

  /** Writes all of `bytes`; resolves when the next may follow. */
  write(bytes: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) => {
      if (this.#ended) return reject(this.#error ?? new Error("the connection has ended"));
      const broken = () => reject(this.#error ?? new Error("the connection has ended"));
      this.#socket.once("close", broken);
      this.#socket.write(bytes, (error) => {
        this.#socket.off("close", broken);
        if (error) reject(error);
        else resolve(bytes.length);
      });
    });
  }

  /** Closes at once, whatever the peer does. May be called twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#gone();
    this.#socket.destroy();
    this.#raw.destroy();
  }
}

/** Who the server is: a certificate with its key, and the SHA-256 of the certificate. */
export interface TlsIdentity {
  readonly pair: CertificatePair;
  readonly hash: Uint8Array;
}

/** The other end of a connection, and the certificate that it was shown. */
export interface TlsPeer {
  readonly address: string;
  readonly certificateHash: Uint8Array;
}

/** How to listen. */
export interface TlsListenOptions {
  readonly hostname: string;
  readonly port: number;
  readonly identity: TlsIdentity;
  /** Asked for each connection before anything else: what is to be called at its end, or undefined to refuse it. */
  readonly admit: (address: string) => (() => void) | undefined;
  /** Time for the TLS handshake, in seconds. */
  readonly handshakeSeconds: number;
  /** Told of each connection whose handshake did not become complete. */
  readonly failed?: (address: string) => void;
  /** Takes each connection whose handshake is complete. */
  readonly accept: (stream: TlsStream, peer: TlsPeer) => void;
}

/** Listens on an address; made by {@linkcode listenTls}. */
export class TlsListener {
  readonly #server: NetServer;
  readonly #sockets: Map<Socket, Promise<void>>;
  readonly #use: (identity: TlsIdentity) => void;
  #stopped: Promise<void> | undefined;
  /** Where it listens. */
  readonly hostname: string;
  readonly port: number;

  constructor(
    server: NetServer,
    sockets: Map<Socket, Promise<void>>,
    use: (identity: TlsIdentity) => void,
  ) {
    this.#server = server;
    this.#sockets = sockets;
    this.#use = use;
    const { address, port } = server.address() as AddressInfo;
    this.hostname = address;
    this.port = port;
  }

  /** Shows another certificate to those who connect from now on. */
  use(identity: TlsIdentity): void {
    this.#use(identity);
  }

  /** Accepts nothing more. May be called twice. */
  stop(): void {
    this.#stopped ??= new Promise((resolve) => this.#server.close(() => resolve()));
  }

  /** Closes every connection that is left, and resolves when nothing remains. */
  async end(): Promise<void> {
    this.stop();
    const closed = [...this.#sockets.values()];
    for (const socket of this.#sockets.keys()) socket.destroy();
    await Promise.all([this.#stopped, ...closed]);
  }
}

/** Begins to listen. @throws a system error, or one of the certificate */
export async function listenTls(options: TlsListenOptions): Promise<TlsListener> {
  let shown = contextOf(options.identity);
  const sockets = new Map<Socket, Promise<void>>();
  // Paused: nothing is begun for who is refused.
  const server = createServer({ pauseOnConnect: true }, (raw) => {
    if (!server.listening) return void raw.destroy(); // it was on its way when the server stopped
    const address = raw.remoteAddress ?? "", leave = options.admit(address);
    if (leave === undefined) return void raw.destroy();
    raw.setNoDelay(true); // not for who is refused: there may be thousands a second
    const { secureContext, hash: certificateHash } = shown;
    const timer = setTimeout(() => raw.destroy(), options.handshakeSeconds * 1000);
    let secure = false;
    const closed = new Promise<void>((resolve) =>
      raw.once("close", () => {
        clearTimeout(timer);
        sockets.delete(raw);
        if (!secure) options.failed?.(address);
        leave();
        resolve();
      })
    );
    sockets.set(raw, closed);
    raw.on("error", () => raw.destroy());
    const socket = new TLSSocket(raw, { isServer: true, secureContext });
    socket.on("error", () => raw.destroy());
    socket.once("close", () => raw.destroy());
    socket.once("secure", () => {
      clearTimeout(timer);
      secure = true;
      options.accept(new TlsStream(socket, raw), { address, certificateHash });
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, options.hostname, () => {
      server.off("error", reject);
      resolve();
    });
  });
  return new TlsListener(server, sockets, (identity) => shown = contextOf(identity));
}

function contextOf({ pair: { certificate, key }, hash }: TlsIdentity) {
  return { secureContext: createSecureContext({ cert: certificate, key }), hash };
}
