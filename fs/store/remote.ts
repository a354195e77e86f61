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
import {
  type BlockStore,
  HEADER_BYTES,
  type HeaderRegion,
  type StoreSpace,
  type StoreTraits,
} from "../block/store.ts";
import { Broken, Fenced, FsError } from "../errors.ts";
import { type ContainerState, RemoteLink, type WriterClaim } from "./remote_link.ts";
import type { Overlay } from "./remote_log.ts";
import { claimOf, type RemoteStoreOptions } from "./remote_options.ts";
import { PROGRESS, RemoteSender, WRITE_RUN } from "./remote_sender.ts";

export type { RemoteStoreOptions };

/** Blocks that are best written in one go. */
const RUN_BLOCKS = 256;
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
  readonly #sender: RemoteSender;
  readonly #waitMilliseconds: number;
  #closed = false;
  #blocks = 0;
  /** Nothing is left of what writers before this one may not have flushed. */
  #flushed = false;
  #changes = -1;
  #wasCut = false;

  /** Use {@linkcode openRemoteStore}. */
  constructor(
    options: RemoteStoreOptions,
    link: Omit<ConstructorParameters<typeof RemoteLink>[0], "pingSeconds">,
  ) {
    this.#options = options;
    this.#waitMilliseconds = (options.waitSeconds ?? 30) * 1000;
    this.#link = new RemoteLink({ ...link, pingSeconds: options.pingSeconds ?? 10 }, {
      up: (connection, state) => this.#up(connection, state),
      down: (reason) => this.#down(reason),
      fenced: (cause) =>
        this.#sender.fail(new Fenced("Another writer has taken the container over", { cause })),
      refused: (reason) => options.onConnection?.("refused", reason),
      failed: (error) => this.#lost(error),
      notice: (kind) => this.#notice(kind),
    });
    const { flushBytes = FLUSH_BYTES, outageSeconds = 300 } = options;
    this.#sender = new RemoteSender(this.#link, { flushBytes, outageSeconds });
  }

  /** Frames sent so far, on all connections of this store; PINGs count too. */
  get framesSent(): number {
    return this.#link.framesSent;
  }

  /** Makes the first connection: opens the container, or creates it and holds its lease. */
  async start(creation?: WriterClaim): Promise<void> {
    this.#sender.writing = creation !== undefined;
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
    if (this.#sender.writing) throw new CoverError("usage", "The store is open to write already");
    const { prover, previous, containerId, session } = claim;
    await this.#link.ready(this.#waitMilliseconds);
    const state = await this.#link.claim({ prover, previous, containerId, session }, claim.takeover === true);
    this.#sender.writing = true;
    const connection = this.#link.connection;
    if (connection !== undefined) this.#up(connection, state);
  }

  // ---- reading ----

  read(position: number, count: number): Promise<Uint8Array> {
    const overlay = this.#sender.log.overlay(position, count);
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
    const here = this.#sender.log.header(REGION[region] * 2 + copy);
    if (here !== undefined) return here;
    return padded(await this.#ask(Op.readHeader, Uint8Array.of(REGION[region], copy)), HEADER_BYTES[region]);
  }

  async size(): Promise<number> {
    if (this.#sender.active) return this.#blocks;
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
    return this.#sender.fenced;
  }

  async refresh(): Promise<boolean> {
    if (this.#sender.active) return false;
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
    const refusal = this.#sender.refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    const count = bytes.length / SEALED;
    if (!Number.isInteger(count) || count < 1) throw new RangeError("Not a whole number of sealed blocks");
    for (let at = 0; at < count; at += WRITE_RUN) {
      const run = Math.min(WRITE_RUN, count - at);
      const part = bytes.subarray(at * SEALED, (at + run) * SEALED);
      this.#sender.append(Op.write, new FieldWriter(8).u64(position + at).bytes, {
        payload: run === WRITE_RUN ? this.#sender.copy(part) : part.slice(),
        position: position + at,
        count: run,
      });
    }
    this.#blocks = Math.max(this.#blocks, position + count);
    if (this.#sender.log.unflushed >= this.#sender.flushBytes) {
      this.#sender.append(Op.flush, new Uint8Array(0));
    }
    return this.#sender.pressure(bytes.length);
  }

  writeHeader(region: HeaderRegion, copy: 0 | 1, bytes: Uint8Array): Promise<void> | void {
    const refusal = this.#sender.refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    if (bytes.length !== HEADER_BYTES[region]) {
      throw new RangeError(`Not a ${region} header: ${bytes.length} bytes`);
    }
    const position = REGION[region] * 2 + copy;
    this.#sender.append(Op.writeHeader, Uint8Array.of(REGION[region], copy), {
      payload: bytes.slice(),
      position,
    });
    return this.#sender.pressure(bytes.length);
  }

  discard(position: number, count: number): void {
    if (this.#sender.refusal() === undefined) {
      this.#sender.append(Op.discard, new FieldWriter(16).u64(position).u64(count).bytes);
    }
  }

  async truncate(blocks: number): Promise<void> {
    await this.#sender.executed(Op.truncate, new FieldWriter(8).u64(blocks).bytes, () => {
      this.#blocks = Math.min(this.#blocks, blocks);
      return { position: blocks };
    });
  }

  async reserve(blocks: number): Promise<void> {
    await this.#sender.executed(Op.reserve, new FieldWriter(8).u64(blocks).bytes);
    this.#blocks = Math.max(this.#blocks, blocks);
  }

  async flush(): Promise<void> {
    if (this.#sender.log.length === 0 && this.#flushed && this.#sender.failure === undefined) return;
    await this.#sender.executed(Op.flush, new Uint8Array(0));
    this.#flushed = true;
  }

  // ---- the connection ----

  #up(connection: Connection, state: ContainerState): void {
    if (!this.#sender.active) {
      if (this.#changes < 0) this.#changes = state.changes;
    } else {
      if (this.#sender.log.length === 0) this.#blocks = state.blocks;
      this.#sender.up(connection);
    }
    if (this.#wasCut) this.#options.onConnection?.("restored");
    this.#wasCut = false;
  }

  #down(reason: CoverError): void {
    if (this.#sender.down()) return;
    this.#wasCut = true;
    this.#options.onConnection?.("cut", reason);
  }

  #lost(error: CoverError): void {
    this.#sender.fail(new Broken(`The server is lost: ${error.message}`, { cause: error }));
    this.#options.onConnection?.("lost", error);
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
    const refusal = this.#sender.refusal();
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
    if (!this.#sender.writing) throw new FsError("EROFS", "The store is open to read");
    if (this.#sender.failure instanceof Fenced) throw this.#sender.failure;
    await this.#link.whileHolding(
      this.#waitMilliseconds / 1000,
      (connection) => connection.request(Op.remove, undefined, { bulk: true }),
    ).catch((error) => {
      // A cut came between the deed and the answer.
      if (!(error instanceof CoverError && error.kind === "no-container")) throw error;
    });
    this.#link.forfeit();
    this.#sender.fail(new Broken("The container was removed"));
  }

  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      await this.#sender.close();
    }
    await this.#link.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
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
