/** `coverfs serve`: listens, admits, limits, and ends in order. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { base64url } from "../crypto/bytes.ts";
import { CoverError } from "../crypto/errors.ts";
import type { AccessEvent } from "./access_event.ts";
import { Admission, type AdmissionLimits } from "./admission.ts";
import { errorCode, readTextIfThere, writeFileAtomic } from "./atomic_file.ts";
import { blocksIn } from "./backing.ts";
import { SharedBudget } from "./budget.ts";
import { certificateHash, type CertificatePair, makeCertificate } from "./certificate.ts";
import { formatLink } from "./locator.ts";
import { DEFAULT_CONTAINER, DEFAULT_PORT, isContainerName, NO_QUOTA, StatusError } from "./protocol.ts";
import { type BackingRoot, FolderRoot, RamRoot } from "./root.ts";
import { ServedContainer } from "./served_container.ts";
import { ServerConnection } from "./server_connection.ts";
import type { ServerState } from "./server_session.ts";
import { SpareBodies } from "./spare_bodies.ts";
import {
  listenTls,
  type TlsIdentity,
  type TlsListener,
  type TlsPeer,
  type TlsStream,
} from "./tls_listener.ts";
import { Tokens } from "./tokens.ts";
import { Turns } from "./turns.ts";

/** Limits of a server (docs/protocol.md, section 9). */
export interface ServerLimits extends AdmissionLimits {
  /** Time for TLS and HELLO, in seconds. */
  readonly handshakeSeconds: number;
  /** Time without a byte, or with a piece of a reply that the client does not take, in seconds. */
  readonly idleSeconds: number;
  /** Credit window of a connection, in bytes. */
  readonly window: number;
  readonly requests: number;
  /** Bytes in flight of one connection. */
  readonly connectionBytes: number;
  /** Bytes in flight of all connections. */
  readonly totalBytes: number;
  /** Silence of a lease's holder after which another writer is granted, in seconds. */
  readonly takeoverSeconds: number;
  /** Time that a holder has to commit when its lease is wanted, in seconds. */
  readonly graceSeconds: number;
}

/** The limits unless told otherwise. */
export const DEFAULT_LIMITS: ServerLimits = {
  connections: 256,
  addressConnections: 64,
  handshakesPerSecond: 40, // each takes 0.44 ms of the processor at 1200 a second, 1.2 ms at a few (Deno 2.9.6)
  handshakesAtOnce: 200,
  addressHandshakesPerSecond: 20,
  addressHandshakesAtOnce: 40,
  handshakeSeconds: 10,
  idleSeconds: 90,
  window: 16 << 20,
  requests: 1024,
  connectionBytes: 32 << 20,
  totalBytes: 256 << 20,
  takeoverSeconds: 30,
  graceSeconds: 5,
};

/** How often within the idle time a client hears that its long frame is being received: 5 s, of 90 s. */
const REASSURANCES = 18;

/** How to serve. */
export interface ServeOptions {
  /** Folder of the containers; absent: everything in RAM, the certificate and the tokens too. */
  readonly root?: string;
  /** Address to listen on; every one by default. */
  readonly hostname?: string;
  /** Default 62000; 0 takes a free one. */
  readonly port?: number;
  /** A certificate of one's own and its key, as paths of PEM files. */
  readonly certificateFiles?: { readonly certificate: string; readonly key: string };
  /** Longest container, in bytes. */
  readonly maxContainerBytes?: number;
  readonly limits?: Partial<ServerLimits>;
  /** Takes lines for the operator's log; they hold no secret. */
  readonly log?: (message: string) => void;
  /** Takes what clients do, for an access log. */
  readonly access?: (event: AccessEvent) => void;
  /** Stands between the server and its containers: a decorator, as for faults in tests. */
  readonly decorate?: (root: BackingRoot) => BackingRoot;
}

/** A running server. */
export class Server implements AsyncDisposable {
  #fingerprint: string;
  /** Whether the certificate is the server's own: it is then pinned, and links carry its fingerprint. */
  readonly ownCertificate: boolean;
  /** The token with role `create` that the first start made, base64url; undefined at later starts. */
  readonly firstToken: string | undefined;
  readonly tokens: Tokens;
  #listener: TlsListener | undefined;
  readonly #root: BackingRoot;
  readonly #limits: ServerLimits;
  readonly #state: ServerState;
  readonly #log: (message: string) => void;
  readonly #access: (event: AccessEvent) => void;
  readonly #admission: Admission;
  readonly #readIdentity: () => Promise<TlsIdentity>;
  #accepted = 0;
  #checkingTokens = false;
  readonly #containers = new Map<string, ServedContainer>();
  readonly #connections = new Map<ServerConnection, Promise<void>>();
  readonly #sweeper: ReturnType<typeof setInterval>;
  #ending: Promise<void> | undefined;

  /** Use {@linkcode serve}. */
  constructor(parts: {
    root: BackingRoot;
    tokens: Tokens;
    firstToken: string | undefined;
    identity: TlsIdentity;
    /** Reads the certificate anew, which may have been replaced. */
    readIdentity: () => Promise<TlsIdentity>;
    options: ServeOptions;
  }) {
    const { options } = parts;
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    const quota = options.maxContainerBytes === undefined ? NO_QUOTA : blocksIn(options.maxContainerBytes);
    this.#fingerprint = base64url(parts.identity.hash);
    this.#readIdentity = parts.readIdentity;
    this.#admission = new Admission(limits);
    this.ownCertificate = options.certificateFiles === undefined;
    this.firstToken = parts.firstToken;
    this.tokens = parts.tokens;
    this.#root = parts.root;
    this.#limits = limits;
    this.#log = options.log ?? (() => {});
    this.#access = options.access ?? (() => {});
    const containerLimits = { ...limits, quota, startedAt: performance.now() };
    this.#state = {
      tokens: parts.tokens,
      root: parts.root,
      window: limits.window,
      maxRequests: limits.requests,
      connectionBytes: limits.connectionBytes,
      reassureSeconds: limits.idleSeconds / REASSURANCES,
      budget: new SharedBudget(limits.totalBytes, limits.connections),
      container: (name) => {
        if (!isContainerName(name)) throw new StatusError("name", "Not a container name");
        let container = this.#containers.get(name);
        if (container === undefined) {
          container = new ServedContainer(name, parts.root, containerLimits);
          this.#containers.set(name, container);
        }
        return container;
      },
      forget: (container) => {
        if (container.forgettable) this.#containers.delete(container.name);
      },
      bodies: new SpareBodies(),
      turns: new Turns(),
      blame: (address) => this.#admission.blame(address),
      looked: (address) => this.#admission.looked(address),
      greeted: (address) => this.#admission.greeted(address),
      log: this.#log,
      access: this.#access,
    };
    const shortest = Math.min(limits.handshakeSeconds, limits.idleSeconds, 4);
    this.#sweeper = setInterval(() => this.#sweep(), shortest * 250);
  }

  /** SHA-256 of its certificate, base64url. */
  get fingerprint(): string {
    return this.#fingerprint;
  }

  /** How many connections there are. */
  get connections(): number {
    return this.#connections.size;
  }

  /**
   * A link for clients: a locator with token and fingerprint. As secret as the token.
   *
   * @param token base64url
   * @param options `host` by which clients reach the server; `name` of the container
   */
  link(token: string, options: { readonly host: string; readonly name?: string }): string {
    const { host, name = DEFAULT_CONTAINER } = options;
    const pin = this.ownCertificate ? { fingerprint: this.fingerprint } : {};
    return formatLink({ host, port: this.port, name, token, ...pin });
  }

  /** Begins to listen; called once, by {@linkcode serve}. */
  async listen(identity: TlsIdentity, address: { hostname: string; port: number }): Promise<void> {
    const { handshakeSeconds } = this.#limits;
    const accept = (stream: TlsStream, peer: TlsPeer) => {
      if (this.#ending !== undefined) return stream.close();
      const connection = new ServerConnection(stream, this.#state, { ...peer, number: ++this.#accepted });
      this.#connections.set(connection, connection.run().finally(() => this.#connections.delete(connection)));
    };
    const admit = (from: string) => this.#admission.enter(from);
    const failed = (from: string) => this.#admission.blame(from);
    this.#listener = await listenTls({ ...address, identity, admit, handshakeSeconds, failed, accept });
  }

  /**
   * Reads the certificate again: who connects from now on is shown the new one. Tokens need no such call.
   *
   * @throws {CoverError} if it cannot be used; the one before stays
   */
  async reload(): Promise<void> {
    const identity = await this.#readIdentity();
    this.#listener?.use(identity);
    this.#fingerprint = base64url(identity.hash);
  }

  /** Address it listens on. */
  get hostname(): string {
    return this.#listener?.hostname ?? "";
  }
  /** Port it listens on. */
  get port(): number {
    return this.#listener?.port ?? 0;
  }

  /** Ends connections that took too long. */
  #sweep(): void {
    const now = performance.now();
    const { handshakeSeconds, idleSeconds } = this.#limits;
    for (const connection of this.#connections.keys()) {
      const late = connection.token === undefined && now - connection.openedAt > handshakeSeconds * 1000;
      const idle = now - connection.lastHeard > idleSeconds * 1000;
      const stuck = now - (connection.stuckSince ?? now) > idleSeconds * 1000;
      if (late || idle || stuck) connection.end();
      else connection.reassure();
    }
    for (const [address, count] of this.#admission.sweep()) {
      this.#access({ event: "refused", address, count });
    }
    if (!this.#checkingTokens) void this.#checkTokens();
  }

  /** Ends the connections whose token was taken back. */
  async #checkTokens(): Promise<void> {
    this.#checkingTokens = true;
    try {
      const hashes = new Set((await this.tokens.list()).map(({ hash }) => hash));
      for (const connection of this.#connections.keys()) {
        if (connection.token === undefined || hashes.has(connection.token.hash)) continue;
        connection.tell("revoked");
        connection.end();
      }
    } catch (error) {
      this.#log((error as Error).message); // who is here stays, nobody else comes in
    } finally {
      this.#checkingTokens = false;
    }
  }

  /** Accepts nothing more, finishes what has arrived, syncs, ends the connections. May be called twice. */
  shutdown(): Promise<void> {
    this.#ending ??= this.#shutdown();
    return this.#ending;
  }

  async #shutdown(): Promise<void> {
    this.#listener?.stop();
    const running = [...this.#connections];
    let timer: ReturnType<typeof setTimeout> | undefined;
    const limit = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, Math.max(1, this.#limits.graceSeconds) * 1000);
    });
    await Promise.race([limit, Promise.all(running.map(([connection]) => connection.drain()))]);
    clearTimeout(timer);
    for (const [connection] of running) connection.end();
    await Promise.all(running.map(([, run]) => run));
    await this.#listener?.end();
    clearInterval(this.#sweeper);
    for (const container of this.#containers.values()) {
      try {
        await container.shutdown();
      } catch (error) {
        this.#log(`Cannot sync container "${container.name}": ${(error as Error).message}`);
      }
    }
    await this.#root.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }
}

/**
 * Starts a server. The first start makes its certificate and a token labelled `first` with the role `create`.
 *
 * @throws {CoverError} "busy" if another server has the folder or the port, "usage" if a certificate file is unfit
 */
export async function serve(options: ServeOptions = {}): Promise<Server> {
  const folder = options.root === undefined ? undefined : await FolderRoot.open(options.root);
  try {
    const made = folder === undefined ? await makeCertificate() : undefined;
    const readIdentity = async (): Promise<TlsIdentity> => {
      const pair = options.certificateFiles !== undefined
        ? await readPair(options.certificateFiles)
        : made ?? await ownPair(folder!);
      checkPair(pair);
      return { pair, hash: await certificateHash(pair.certificate) };
    };
    const identity = await readIdentity();
    const tokens = new Tokens(folder?.ownPath("tokens.json"));
    const firstToken = (await tokens.list()).length === 0 ? await tokens.add("first", "create") : undefined;
    const root = folder ?? new RamRoot();
    const server = new Server({
      root: options.decorate?.(root) ?? root,
      tokens,
      firstToken,
      identity,
      readIdentity,
      options,
    });
    await listen(server, identity, options);
    return server;
  } catch (error) {
    await folder?.close();
    throw error;
  }
}

async function listen(server: Server, identity: TlsIdentity, options: ServeOptions): Promise<void> {
  const { hostname = "0.0.0.0", port = DEFAULT_PORT } = options;
  try {
    await server.listen(identity, { hostname, port });
  } catch (cause) {
    await server.shutdown();
    const why = errorCode(cause) === "EADDRINUSE" ? "it is in use" : (cause as Error).message;
    const kind = errorCode(cause) === "EADDRINUSE" ? "busy" : "usage";
    throw new CoverError(kind, `Cannot listen on ${hostname} port ${port}: ${why}`, { cause });
  }
}

async function readPair(files: { certificate: string; key: string }): Promise<CertificatePair> {
  try {
    return { certificate: await readFile(files.certificate, "utf8"), key: await readFile(files.key, "utf8") };
  } catch (cause) {
    throw new CoverError("usage", `Cannot read the certificate or its key: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/** Holds a key to be the certificate's: otherwise each handshake would fail, and nobody would be told. */
function checkPair({ certificate, key }: CertificatePair): void {
  let fits: boolean;
  try {
    fits = new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key));
  } catch (cause) {
    throw new CoverError("usage", `Cannot use the certificate or its key: ${(cause as Error).message}`, {
      cause,
    });
  }
  if (!fits) throw new CoverError("usage", "Cannot use the certificate: the key is that of another one");
}

/** The server's own certificate: made at the first start, kept from then on. Key first, so that both or none count. */
async function ownPair(folder: FolderRoot): Promise<CertificatePair> {
  const certificatePath = folder.ownPath("certificate.pem");
  const keyPath = folder.ownPath("key.pem");
  const certificate = await readTextIfThere(certificatePath);
  const key = await readTextIfThere(keyPath);
  if (certificate !== undefined) {
    if (key !== undefined) return { certificate, key };
    throw new CoverError("failure", `Cannot serve: "${keyPath}" is missing beside the certificate`, {
      hint:
        "Put it back, or delete the certificate too: a new identity is then made, which clients must be told of",
    });
  }
  const pair = await makeCertificate();
  await writeFileAtomic(keyPath, pair.key);
  await writeFileAtomic(certificatePath, pair.certificate);
  return pair;
}
