import { setImmediate } from "node:timers";
import { IntegrityError } from "../crypto/errors.ts";
import { FsError } from "../fs/errors.ts";
import { inodeNumber } from "../fs/types.ts";
import { Interrupts } from "./libfuse_interrupts.ts";
import { answerInit } from "./libfuse_init.ts";
import type { Nodes } from "./libfuse_nodes.ts";
import { type ConnectionSettings, errnoOf, negotiate, type Operation } from "./libfuse_operations.ts";
import type { Receiver } from "./libfuse_receive.ts";
import { type Replies, Request } from "./libfuse_requests.ts";
import { FuseMessage, operationCount, type OperationName, OPERATIONS, POLLFD } from "./libfuse_structs.ts";
import type { Libfuse } from "./libfuse_symbols.ts";
import type { MountEnd } from "./mount.ts";
import { SpareMemory } from "./spare_memory.ts";

const EINTR = 4, EAGAIN = 11;
const F_GETFL = 3, F_SETFL = 4, O_NONBLOCK = 0o4000;
const EFD_CLOEXEC = 0o2000000, EFD_NONBLOCK = 0o4000;
const POLLIN = 1;

/** How long requests may be answered one after another before the event loop has its turn, in milliseconds. */
const SLICE = 1;
/** The same while answers are awaited: what they wait for must get on. */
const BUSY_SLICE = 0.25;
/** Bounds of the time spent looking for the next request before a thread waits for it, in milliseconds. */
const SPIN_MIN = 0.01, SPIN_MAX = 0.2;
/** How long a thread waits for a request at a time, in milliseconds. */
const POLL_TIMEOUT = 60_000;

/** Operations that nobody needs a permission for who has the file open; the kernel asks for some on its own account. */
const UNCHECKED: ReadonlySet<string> = new Set<OperationName>([
  ...["forget", "forget_multi", "getattr", "read", "write", "flush", "release", "fsync", "fsyncdir"] as const,
  ...["readdir", "readdirplus", "releasedir", "statfs", "fallocate", "lseek", "copy_file_range"] as const,
]);

/** One turn of the event loop: timers, sockets and promises get on. 1.2 µs, where a timer takes 2 ms. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** What a session is made of. */
export interface SessionParts {
  readonly library: Libfuse;
  readonly operations: Partial<Record<OperationName, Operation>>;
  readonly nodes: Nodes;
  readonly receiver: Receiver;
  readonly replies: Replies;
  readonly settings: ConnectionSettings;
  /** Called when no request comes any more; some may not be answered yet. */
  readonly onSilence: () => void;
  readonly log: (message: string, cause?: unknown) => void;
}

/**
 * Receives the kernel's requests and hands them to the operations, all on this thread. libfuse decodes a request and
 * calls back in place, within `fuse_session_process_buf`.
 */
export class Session {
  readonly #parts: SessionParts;
  readonly #callbacks: { close(): void }[] = [];
  readonly #interrupts: Interrupts;
  /** `struct fuse_lowlevel_ops`. */
  readonly operationTable: BigUint64Array<ArrayBuffer>;
  readonly #ready = Promise.withResolvers<void>();
  readonly #wakeup: number;
  readonly #spareMemory: SpareMemory;
  readonly #polled = new Uint8Array(2 * POLLFD.size);
  #pointer: Deno.PointerValue = null;
  #requests = 0;
  #unanswered = 0;
  #drained: (() => void) | undefined;
  #stopping = false;
  #detached = false;
  #spin = SPIN_MAX;

  constructor(parts: SessionParts) {
    this.#parts = parts;
    this.#spareMemory = new SpareMemory(parts.library.libc.malloc_trim);
    this.#interrupts = new Interrupts(parts.library, parts.replies);
    this.#callbacks.push(this.#interrupts);
    this.operationTable = new BigUint64Array(operationCount(parts.library.version));
    this.#register("init", ["pointer", "pointer"], (_userdata: unknown, connection: Deno.PointerValue) => {
      this.#guard("init", () => this.#init(connection));
    });
    for (const [name, operation] of Object.entries(parts.operations)) {
      this.#register(
        name as OperationName,
        ["pointer", ...operation.parameters],
        (pointer: Deno.PointerValue, ...parameters: unknown[]) =>
          this.#answer(name, operation, new Request(pointer), parameters),
      );
    }
    this.#wakeup = parts.library.libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  }

  #register(
    name: OperationName,
    parameters: Deno.NativeType[],
    work: (...parameters: never[]) => void,
  ): void {
    const index = OPERATIONS.indexOf(name);
    if (index >= this.operationTable.length) return;
    const callback = new Deno.UnsafeCallback({ parameters, result: "void" }, work as () => void);
    this.#callbacks.push(callback);
    this.operationTable[index] = Deno.UnsafePointer.value(callback.pointer);
  }

  /** How many requests came so far. */
  get requests(): number {
    return this.#requests;
  }

  /** Resolves once the kernel and this side have agreed on how to talk. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  #init(connection: Deno.PointerValue): void {
    negotiate(connection, this.#parts.settings);
    this.#ready.resolve();
  }

  #log(message: string, cause?: unknown): void {
    try {
      this.#parts.log(message, cause);
    } catch {
      // A log that fails must not reach C.
    }
  }

  #guard(name: string, work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#log(`Cannot answer ${name}`, error);
    }
  }

  /** The one catch-all: a callback that threw would return to C as if all were well. */
  #answer(name: string, operation: Operation, request: Request, parameters: unknown[]): void {
    this.#requests++;
    this.#spareMemory.touch();
    try {
      if (this.#foreign(name)) throw new FsError("EACCES");
      const later = operation.handle(request, ...parameters);
      if (later) {
        this.#unanswered++;
        if (operation.interruptible && !request.answered) this.#interrupts.watch(request);
        later.then(undefined, (error) => this.#fail(name, request, { parameters, error })).then(() => {
          if (!request.answered) {
            this.#fail(name, request, { parameters, error: new Error("no answer was given") });
          }
          this.#interrupts.settled(request);
          if (--this.#unanswered === 0) this.#drained?.();
        });
      } else if (!request.answered) throw new Error("no answer was given");
    } catch (error) {
      this.#fail(name, request, { parameters, error });
    }
  }

  /** Tells whether root acts for another user, whose permissions nobody checks (`rootAlone` in `mountpoint.ts`). */
  #foreign(name: string): boolean {
    const { settings, receiver } = this.#parts;
    return settings.rootAlone && receiver.u32(FuseMessage.uid) !== 0 && !UNCHECKED.has(name);
  }

  #fail(name: string, request: Request, failure: { parameters: unknown[]; error: unknown }): void {
    this.#guard(name, () => {
      const { errno, ordinary } = errnoOf(failure.error);
      if (!ordinary || (request.answered && !request.interrupted)) {
        const { error } = failure, what = this.#describe(name, failure.parameters);
        // Which check failed is told to nobody; of others the message is there already, and their cause counts.
        const cause = error instanceof IntegrityError ? undefined : (error as Error | undefined)?.cause;
        this.#log(`Cannot ${what}: ${this.#text(error)}`, cause);
      }
      if (request.answered) return;
      if (name.startsWith("forget")) this.#parts.replies.none(request);
      else this.#parts.replies.error(request, errno);
    });
  }

  #text(error: unknown): string {
    if (error instanceof IntegrityError) return "a block does not verify";
    return error instanceof Error ? error.message : String(error);
  }

  /** Names an operation by inode and offset, never by a file's name. */
  #describe(name: string, parameters: unknown[]): string {
    let inode = "";
    try {
      if (name !== "symlink") {
        inode = ` inode ${inodeNumber(this.#parts.nodes.ino(parameters[0] as bigint))}`;
      }
    } catch {
      // The node is not known: then without.
    }
    const offset = name === "read" ? parameters[2] : name === "write" ? parameters[3] : undefined;
    return `${name}${inode}${offset === undefined ? "" : ` at offset ${offset}`}`;
  }

  /** Takes over a `struct fuse_session`, to destroy it in the end. */
  adopt(session: Deno.PointerValue): void {
    this.#pointer = session;
  }

  /** Answers requests until the filesystem is unmounted or {@linkcode stop} is called. Never rejects. */
  async run(): Promise<MountEnd> {
    const end = await this.#serve(this.#pointer).catch((error): MountEnd => ({ reason: "failed", error }));
    if (end.error !== undefined) this.#log("The connection to the kernel failed", end.error);
    this.#ready.reject(end.error ?? new Error("the mount ended before it began"));
    this.#ready.promise.catch(() => {});
    this.#parts.onSilence();
    if (this.#unanswered > 0) await new Promise<void>((resolve) => this.#drained = resolve);
    return end;
  }

  async #serve(session: Deno.PointerValue): Promise<MountEnd> {
    const { library, receiver } = this.#parts, { fuse, libc } = library, { buf } = receiver;
    const fd = fuse.fuse_session_fd(session);
    libc.fcntl(fd, F_SETFL, libc.fcntl(fd, F_GETFL, 0) | O_NONBLOCK);
    const polled = new DataView(this.#polled.buffer);
    for (const [i, watched] of [fd, this.#wakeup].entries()) {
      polled.setInt32(i * POLLFD.size + POLLFD.fd, watched, true);
      polled.setInt16(i * POLLFD.size + POLLFD.events, POLLIN, true);
    }
    let sliceStart = performance.now();
    while (!this.#stopping) {
      let received = fuse.fuse_session_receive_buf(session, buf);
      if (received === -EAGAIN) {
        received = await this.#wait(session);
        sliceStart = performance.now();
      }
      if (received > 0) {
        if (receiver.u32(FuseMessage.opcode) === FuseMessage.init) {
          answerInit(library, fd, receiver.message, () => fuse.fuse_session_process_buf(session, buf));
        } else fuse.fuse_session_process_buf(session, buf);
        if (performance.now() - sliceStart > (this.#unanswered > 0 ? BUSY_SLICE : SLICE)) {
          await turn();
          sliceStart = performance.now();
        }
      } else if (received === 0) return { reason: "unmounted" };
      else if (received !== -EINTR && received !== -EAGAIN) {
        return { reason: "failed", error: new Error(`receiving failed with errno ${-received}`) };
      }
    }
    return { reason: "stopped" };
  }

  /**
   * Waits for a request: first, for a time that follows how soon requests come, by looking again at each turn of the
   * event loop, which is cheaper than the 20 to 70 µs of a thread that waits. @returns as `fuse_session_receive_buf`.
   */
  async #wait(session: Deno.PointerValue): Promise<number> {
    const { library: { fuse, libc }, receiver: { buf } } = this.#parts;
    const start = performance.now();
    while (!this.#stopping) {
      await turn();
      const received = fuse.fuse_session_receive_buf(session, buf);
      const waited = performance.now() - start;
      if (received !== -EAGAIN) {
        this.#spin = Math.min(SPIN_MAX, Math.max(this.#spin, 4 * waited));
        return received;
      }
      if (waited >= this.#spin) break;
    }
    this.#spin = Math.max(SPIN_MIN, this.#spin / 2);
    if (this.#stopping) return -EAGAIN;
    await libc.poll(this.#polled, 2n, POLL_TIMEOUT);
    return -EAGAIN;
  }

  /**
   * Has the kernel ask again for a node's attributes. This notification alone may go out while a request is worked on:
   * it takes no lock that the kernel holds meanwhile.
   */
  forgetAttributes(node: bigint): void {
    this.#parts.library.fuse.fuse_lowlevel_notify_inval_inode(this.#pointer, node, -1n, 0n);
  }

  /**
   * Has the kernel forget what it knows of these entries, of what lies below those that are directories, and of the
   * contents and attributes of these nodes.
   */
  async forget(
    what: { entries: readonly [node: number, name: Uint8Array][]; nodes: readonly number[] },
  ): Promise<void> {
    const { library: { fuse } } = this.#parts;
    this.#unanswered++; // the session stays until this is done
    try {
      for (const [node, name] of what.entries) {
        if (this.#stopping) return;
        const bytes = Uint8Array.from([...name, 0]);
        await fuse.fuse_lowlevel_notify_inval_entry(this.#pointer, BigInt(node), bytes, BigInt(name.length));
      }
      for (const node of what.nodes) {
        if (this.#stopping) return;
        await fuse.notify_inval_pages(this.#pointer, BigInt(node), 0n, 0n);
      }
    } finally {
      if (--this.#unanswered === 0) this.#drained?.();
    }
  }

  /**
   * Ends {@linkcode run} soon, though the filesystem is still in use.
   *
   * @param options `detached`: it is no longer in the tree, so that there is nothing to unmount in the end
   */
  stop(options: { detached: boolean }): void {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#detached = options.detached;
    this.#parts.library.libc.write(this.#wakeup, new BigUint64Array([1n]), 8n);
  }

  /**
   * Takes the session down, once {@linkcode run} has resolved: unmounts by force what is still mounted, frees what
   * libfuse holds, and only then closes the callbacks. The library itself may be closed afterwards.
   */
  [Symbol.dispose](): void {
    const { library: { fuse, libc } } = this.#parts;
    if (this.#pointer !== null) {
      fuse.fuse_session_exit(this.#pointer);
      if (!this.#detached) fuse.fuse_session_unmount(this.#pointer);
      fuse.fuse_session_destroy(this.#pointer);
      this.#pointer = null;
    }
    this.#spareMemory[Symbol.dispose]();
    libc.close(this.#wakeup);
    for (const callback of this.#callbacks.splice(0)) callback.close();
    this.#guard("the end", () => this.#parts.nodes.clear());
  }
}
