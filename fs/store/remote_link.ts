/** The link of a remote store: a connection with the container open, made again when it is cut. */
import { CoverError } from "../../crypto/errors.ts";
import {
  Access,
  AwakeTimer,
  Connection,
  FieldReader,
  FieldWriter,
  formatAddress,
  LeaseFlag,
  limited,
  Notice,
  Op,
  type Prover,
  type ServerAddress,
  type ServerIdentity,
  StatusError,
} from "../../net/mod.ts";

/** Who writes: proven anew on each connection. */
export interface WriterClaim {
  readonly prover: Prover;
  /** By the master key before, while a container is re-keyed: the server may not have been told of the new one. */
  readonly previous?: Prover | undefined;
  /** The container's id from its own encryption block, 16 bytes. */
  readonly containerId: Uint8Array;
  /** The writer session's id, 16 bytes. */
  readonly session: Uint8Array;
}

/** What a link needs to know. */
export interface LinkOptions {
  readonly address: ServerAddress;
  readonly identity: ServerIdentity;
  readonly token: string;
  readonly container: string;
  readonly connectSeconds: number;
  readonly pingSeconds: number;
}

/** What the server says of a container. */
export interface ContainerState {
  readonly blocks: number;
  readonly quota: number;
  readonly changes: number;
}

/** Whom a link tells. */
export interface LinkEvents {
  /** A new connection is there; with the lease, if there is a claim. */
  up(connection: Connection, state: ContainerState): void;
  /** The connection was cut; a new one is being tried. */
  down(reason: CoverError): void;
  /** Another writer was granted: the claim is gone, the link goes on for reading. */
  fenced(cause: unknown): void;
  /** Something answers, but not as the server that is meant, or it refuses: told once, and it is tried again. */
  refused(reason: CoverError): void;
  /** There will be no connection any more. */
  failed(error: CoverError): void;
  notice(kind: number): void;
}

/** Kinds of errors that another attempt would only meet again. */
const FINAL: ReadonlySet<string> = new Set(["usage", "no-container", "rollback"]);
/**
 * Kinds of errors that say that the server is not to be had though something answers at its address. They may pass: a
 * network that one has to log in to answers for every host, and a server may be put right. Nothing but what finds that
 * out is sent.
 */
const REFUSING: ReadonlySet<string> = new Set(["identity", "refused", "unsupported"]);
/** Longest pause between two attempts, in milliseconds. */
const LONGEST_PAUSE = 5000;
/** How long the end waits for the server to take the lease back, in seconds. */
const RELEASE_SECONDS = 2;

/** A container on a server, reachable as long as the server is. */
export class RemoteLink {
  readonly #options: LinkOptions;
  readonly #events: LinkEvents;
  readonly #stop = new AbortController();
  readonly #waiting = new Set<(connection: Connection | CoverError) => void>();
  #connection: Connection | undefined;
  /** The lease is held by the present connection. */
  #granted = false;
  /** Each new connection takes the lease back with it. */
  #claim: WriterClaim | undefined;
  /** The lease is on record for this claim, as far as is known: to be given back at the end. */
  #held: WriterClaim | undefined;
  #containerId: string | undefined;
  #failure: CoverError | undefined;
  #lastError: unknown;
  /** Why the server was last said to refuse, since there was a connection. */
  #refusal: string | undefined;
  #reconnecting: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;
  #framesBefore = 0;

  constructor(options: LinkOptions, events: LinkEvents) {
    this.#options = options;
    this.#events = events;
  }

  /** The connection, if there is one with the container open. */
  get connection(): Connection | undefined {
    return this.#connection;
  }

  /** Why there is none. */
  get reason(): CoverError {
    return this.#unreachable();
  }

  /** Frames sent on all connections of this link. */
  get framesSent(): number {
    return this.#framesBefore + (this.#connection?.framesSent ?? 0);
  }

  /** Makes the first connection; rejects where later ones would be tried again. */
  async open(creation?: WriterClaim): Promise<Connection> {
    const made = await this.#establish(creation);
    this.#claim = this.#held = creation;
    this.#adopt(made);
    return made.connection;
  }

  /**
   * Takes the lease on the present connection; from then on each new one takes it back.
   *
   * @throws {CoverError} "busy", "refused", "no-connection"
   */
  async claim(claim: WriterClaim, takeover: boolean): Promise<ContainerState> {
    const connection = this.#connection;
    if (connection === undefined) throw this.#unreachable();
    const state = await limited(this.#options.connectSeconds, this.#stop.signal, async (signal) => {
      const abort = () => void connection.close();
      signal.addEventListener("abort", abort, { once: true });
      try {
        return await this.#lease(connection, claim, takeover ? LeaseFlag.takeover : 0);
      } catch (error) {
        if (!(error instanceof StatusError && error.status === "busy")) throw error;
        throw new CoverError("busy", error.message, {
          hint: "Unmount or end it there, read only (--read-only), or take it over (--takeover)",
          cause: error,
        });
      } finally {
        signal.removeEventListener("abort", abort);
      }
    });
    this.#held = claim;
    if (this.#connection !== connection) throw this.#unreachable();
    this.#claim = claim;
    this.#granted = true;
    return state;
  }

  /** Writes no more: later connections are made for reading. The lease is given back at the end. */
  disclaim(): void {
    this.#claim = undefined;
  }

  /** The lease is gone: another writer was granted, or there is no container any more. */
  forfeit(): void {
    this.#claim = this.#held = undefined;
    this.#granted = false;
  }

  /**
   * Runs a request on a connection that holds the lease, taking it back first where the connection was made anew.
   *
   * @throws {CoverError} "no-connection" after `seconds`; {StatusError} "fenced" if another writer was granted since
   */
  async whileHolding<T>(seconds: number, request: (connection: Connection) => Promise<T>): Promise<T> {
    return await limited(seconds, this.#stop.signal, async (signal) => {
      for (;;) {
        const connection = await this.ready(seconds * 1000), held = this.#held;
        if (held === undefined) throw new CoverError("busy", "The lease is not held");
        const abort = () => void connection.close();
        signal.addEventListener("abort", abort, { once: true });
        try {
          if (!this.#granted) await this.#lease(connection, held, LeaseFlag.resume);
          return await request(connection);
        } catch (error) {
          if (!connection.isEnded || signal.aborted) throw error;
          await connection.ended; // cut: the next one is waited for
        } finally {
          signal.removeEventListener("abort", abort);
        }
      }
    });
  }

  /**
   * Has the server replace the key of the container's writers, durably. The claim proves either from here on, and the new
   * one alone once that is done. May be repeated.
   *
   * @throws {CoverError} as {@linkcode whileHolding}
   */
  async replaceKey(seconds: number, next: Prover): Promise<void> {
    const held = this.#held;
    if (held === undefined) throw new CoverError("busy", "The lease is not held");
    const { containerId, session, prover, previous } = held;
    const both = { containerId, session, prover: next, previous: previous ?? prover };
    this.#claim = this.#held = both;
    await this.whileHolding(seconds, async (connection) => {
      const name = this.#options.container;
      const proof = await connection.prove(next, { ...both, access: Access.newKey, name });
      const fields = new FieldWriter(32 + 64).raw(next.publicKey).raw(proof);
      await connection.request(Op.newKey, fields.bytes, { bulk: true });
    });
    this.#claim = this.#held = { containerId, session, prover: next };
  }

  /** Ends this connection as if it had been cut. */
  drop(connection: Connection): void {
    void connection.close();
  }

  /** Waits up to `milliseconds` for a connection. @throws {CoverError} "no-connection", or why there is none any more */
  ready(milliseconds: number): Promise<Connection> {
    if (this.#connection !== undefined) return Promise.resolve(this.#connection);
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      const done = (result: Connection | CoverError) => {
        timer[Symbol.dispose]();
        this.#waiting.delete(done);
        if (result instanceof Connection) resolve(result);
        else reject(result);
      };
      const timer = new AwakeTimer(milliseconds, () => done(this.#unreachable()));
      this.#waiting.add(done);
    });
  }

  #unreachable(): CoverError {
    if (this.#failure !== undefined) return this.#failure;
    const where = formatAddress(this.#options.address), error = this.#lastError;
    if (error instanceof CoverError && REFUSING.has(error.kind)) return error;
    return new CoverError("no-connection", `No connection to ${where}`, { cause: error });
  }

  /**
   * Gives the lease back, where it is held, and ends everything. Also after the connection was cut: then a new one is
   * waited for, for a moment. May be called twice.
   */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    this.#claim = undefined; // from here on no connection is made to write
    if (this.#failure === undefined && this.#held !== undefined) {
      await this.whileHolding(
        RELEASE_SECONDS,
        (connection) => connection.request(Op.release, undefined, { bulk: true }),
      ).catch(() => {}); // the server then waits for this session's silence
    }
    this.#failure ??= new CoverError("no-connection", "The store is closed");
    this.#stop.abort(this.#failure);
    for (const done of [...this.#waiting]) done(this.#failure);
    await this.#connection?.close();
    await this.#reconnecting;
  }

  #adopt(made: { connection: Connection; state: ContainerState }): void {
    const { connection, state } = made;
    this.#connection = connection;
    this.#refusal = undefined;
    this.#granted = this.#claim !== undefined;
    connection.onNotice = (kind) => {
      if (kind === Notice.fenced) this.#loseClaim(new CoverError("busy", "Another writer was granted"));
      else this.#events.notice(kind);
    };
    void connection.ended.then((reason) => this.#cut(connection, reason));
    this.#events.up(connection, state);
    for (const done of [...this.#waiting]) done(connection);
  }

  #cut(connection: Connection, reason: CoverError): void {
    if (this.#connection !== connection) return;
    this.#framesBefore += connection.framesSent;
    this.#connection = undefined;
    this.#granted = false;
    this.#lastError = reason;
    if (this.#failure !== undefined) return;
    this.#events.down(reason);
    this.#reconnecting = this.#reconnect();
  }

  #loseClaim(cause: unknown): void {
    if (this.#held === undefined) return;
    this.forfeit();
    this.#events.fenced(cause);
  }

  async #reconnect(): Promise<void> {
    for (let pause = 50;; pause = Math.min(LONGEST_PAUSE, pause * 2)) {
      await sleep(pause * (0.5 + Math.random() / 2), this.#stop.signal);
      if (this.#failure !== undefined) return;
      const claim = this.#claim;
      try {
        const made = await this.#establish();
        if (this.#failure !== undefined || claim !== this.#claim) await made.connection.close();
        else return this.#adopt(made);
      } catch (error) {
        this.#lastError = error;
        if (this.#failure !== undefined) return;
        if (error instanceof StatusError && error.status === "fenced") {
          this.#loseClaim(error);
          pause = 10; // the server is there
        } else if (error instanceof CoverError && FINAL.has(error.kind)) return this.#fail(error);
        else if (error instanceof CoverError && REFUSING.has(error.kind) && error.message !== this.#refusal) {
          this.#refusal = error.message;
          this.#events.refused(error);
        }
      }
    }
  }

  #fail(error: CoverError): void {
    this.#failure = error;
    this.#events.failed(error);
    for (const done of [...this.#waiting]) done(error);
  }

  /** Connects, opens (or creates) the container, and takes the lease back if there is a claim. */
  async #establish(creation?: WriterClaim): Promise<{ connection: Connection; state: ContainerState }> {
    return await limited(this.#options.connectSeconds, this.#stop.signal, async (signal) => {
      const connection = await Connection.connect({ ...this.#options, signal });
      const abort = () => void connection.close();
      signal.addEventListener("abort", abort, { once: true });
      try {
        if (creation !== undefined) return { connection, state: await this.#create(connection, creation) };
        const name = this.#options.container;
        const body = new FieldReader(
          await connection.request(Op.open, new FieldWriter(1 + name.length).name(name).bytes),
        );
        const id = body.raw(16).toHex();
        let state: ContainerState = { blocks: body.u64(), quota: body.u64(), changes: body.u64() };
        body.end();
        this.#containerId ??= id;
        if (id !== this.#containerId) {
          throw new CoverError("rollback", `Container "${name}" was replaced by another one on the server`);
        }
        if (this.#claim !== undefined) state = await this.#lease(connection, this.#claim, LeaseFlag.resume);
        return { connection, state };
      } catch (error) {
        await connection.close();
        throw error;
      } finally {
        signal.removeEventListener("abort", abort);
      }
    });
  }

  /** By the key of the claim or, where the server knows only that, by the one before. */
  async #lease(connection: Connection, claim: WriterClaim, flags: number): Promise<ContainerState> {
    const { prover, previous } = claim;
    try {
      return await this.#leaseBy(prover, connection, claim, flags);
    } catch (error) {
      if (!previous || !(error instanceof StatusError) || error.status !== "proof") throw error;
      return await this.#leaseBy(previous, connection, claim, flags);
    }
  }

  async #leaseBy(
    prover: Prover,
    connection: Connection,
    claim: WriterClaim,
    flags: number,
  ): Promise<ContainerState> {
    const proof = await connection.prove(prover, {
      ...claim,
      access: Access.write,
      name: this.#options.container,
    });
    const fields = new FieldWriter(1 + 16 + 16 + 64).u8(flags).raw(claim.containerId).raw(claim.session).raw(
      proof,
    );
    return readGrant(await connection.request(Op.lease, fields.bytes));
  }

  async #create(connection: Connection, claim: WriterClaim): Promise<ContainerState> {
    const name = this.#options.container;
    const proof = await connection.prove(claim.prover, { ...claim, access: Access.create, name });
    const fields = new FieldWriter(1 + name.length + 16 + 32 + 16 + 64).name(name).raw(claim.containerId)
      .raw(claim.prover.publicKey).raw(claim.session).raw(proof);
    const state = readGrant(await connection.request(Op.create, fields.bytes));
    this.#containerId = claim.containerId.toHex();
    return state;
  }
}

function readGrant(bytes: Uint8Array): ContainerState {
  const body = new FieldReader(bytes);
  body.u64(); // the fencing number: the server compares it, the client has no use for it
  const state = { blocks: body.u64(), quota: body.u64(), changes: body.u64() };
  body.end();
  return state;
}

/** Resolves after a time or when the signal fires; never rejects. */
function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", done, { once: true });
  });
}
