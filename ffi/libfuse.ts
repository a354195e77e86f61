import { CoverError } from "../crypto/errors.ts";
import type { Filesystem } from "../fs/filesystem.ts";
import { Nodes, ROOT_NODE } from "./libfuse_nodes.ts";
import { operations } from "./libfuse_operations.ts";
import { Receiver, REQUEST_BYTES } from "./libfuse_receive.ts";
import { Replies } from "./libfuse_requests.ts";
import { Session } from "./libfuse_session.ts";
import { ARGS } from "./libfuse_structs.ts";
import { cString, type Libfuse, openLibfuse } from "./libfuse_symbols.ts";
import { WriteOut } from "./libfuse_write_out.ts";
import { Writers } from "./libfuse_writers.ts";
import type { Mounted, MountEnd, MountOptions, StateBefore } from "./mount.ts";
import { checkMachine, checkMountpoint, findFusermount, mountArgument, rootAlone } from "./mountpoint.ts";

const MNT_DETACH = 2;
/** `struct libfuse_version`: the header whose layouts `libfuse_structs.ts` has, {3, 17, 0}. */
const HEADER_VERSION = new Uint32Array([3, 17, 0, 0]);

/** Makes a libfuse session from its `-o` argument. @throws {CoverError} cannot-mount */
function newSession(
  library: Libfuse,
  table: BigUint64Array<ArrayBuffer>,
  argument: string,
): Deno.PointerValue {
  const { fuse } = library;
  const strings = ["coverfs", "-o", argument].map(cString);
  const argv = new BigUint64Array([
    ...strings.map((string) => Deno.UnsafePointer.value(Deno.UnsafePointer.of(string))),
    0n,
  ]);
  const args = new Uint8Array(ARGS.size);
  const view = new DataView(args.buffer);
  view.setInt32(ARGS.argc, strings.length, true);
  view.setBigUint64(ARGS.argv, Deno.UnsafePointer.value(Deno.UnsafePointer.of(argv)), true);
  const size = BigInt(table.byteLength);
  const session = fuse.fuse_session_new_versioned
    ? fuse.fuse_session_new_versioned(args, table, size, HEADER_VERSION, null)
    : fuse.fuse_session_new?.(args, table, size, null) ?? null;
  fuse.fuse_opt_free_args(args);
  if (session === null) throw new CoverError("cannot-mount", "Cannot mount: libfuse3 refused the options");
  fuse.fuse_session_set_sync_init?.(session, false);
  return session;
}

/** How long the kernel may keep what programs have written, in seconds, unless said otherwise. */
const WRITEBACK_SECONDS = 5;
/** How long the kernel may trust names and attributes that another writer changes, in seconds. */
const READER_TIMEOUT = 1;

/** Mounts by libfuse3's low-level API; see `mount` in `mod.ts`. */
export async function mountLibfuse(
  filesystem: Filesystem,
  mountpoint: string,
  options: MountOptions,
): Promise<Mounted> {
  options.signal?.throwIfAborted();
  const readOnly = options.readOnly === true || filesystem.readOnly;
  const argument = mountArgument({ ...options, readOnly });
  const path = await checkMountpoint(mountpoint, options);
  await checkMachine(options);
  const library = openLibfuse();
  const timeout = readOnly ? READER_TIMEOUT : 3600;
  const settings = {
    readOnly,
    rootAlone: rootAlone(options),
    directIo: options.directIo === true,
    writebackCache: options.writebackCache === true && !readOnly && !options.directIo,
    entryTimeout: options.entryTimeout ?? timeout,
    attrTimeout: options.attrTimeout ?? timeout,
  };
  const nodes = new Nodes(filesystem);
  const receiver = new Receiver(library.abi);
  const replies = new Replies(library, { filesystem, nodes, settings });
  const writers = new Writers(), writeOut = new WriteOut(library, path);
  const context = {
    ...{ library, filesystem, nodes, receiver, replies, writers, writeOut },
    ...{ writebackCache: settings.writebackCache, directIo: settings.directIo },
    forgetAttributes: (node: bigint) => session.forgetAttributes(node),
  };
  const session: Session = new Session({
    ...{ library, nodes, receiver, replies, settings },
    operations: operations(context),
    onSilence: () => writeOut.end(),
    log: options.log ?? (() => {}),
  });
  const end = () => {
    session[Symbol.dispose]();
    library[Symbol.dispose]();
  };
  let done: Promise<MountEnd>;
  try {
    const pointer = newSession(library, session.operationTable, argument);
    session.adopt(pointer);
    if (library.fuse.fuse_session_mount(pointer, cString(path)) !== 0) {
      throw new CoverError("cannot-mount", `Cannot mount at "${mountpoint}": the system refused`, {
        hint: Deno.uid() === 0
          ? "In a container, mounting needs --device /dev/fuse --cap-add SYS_ADMIN"
          : "The directory must be yours; what fusermount3 says stands above",
      });
    }
    done = session.run().then(async (ended) => {
      if (ended.reason === "unmounted") await writeOut.idle();
      return ended;
    });
  } catch (error) {
    end();
    throw error;
  }
  const mounted = new LibfuseMount({
    ...{ library, session, nodes, replies, writeOut },
    writebackCache: settings.writebackCache,
    mountpoint: path,
    done: done.finally(end),
  });
  try {
    await session.ready;
  } catch (cause) {
    await mounted.done;
    throw new CoverError("cannot-mount", `Cannot mount at "${mountpoint}": the kernel did not agree`, {
      cause,
    });
  }
  if (Deno.uid() === 0) await widenReadahead(path);
  if (settings.writebackCache) {
    writeOut.repeat(options.writebackSeconds ?? WRITEBACK_SECONDS, () => writers.open > 0);
  }
  mounted.endWith(options.signal);
  return mounted;
}

/** How far the kernel may read ahead, in requests: several are opened at once, each on another thread. */
const READAHEAD_REQUESTS = 4;

/** Lets the kernel read ahead by several requests: its default is an eighth of one. Root only. */
async function widenReadahead(path: string): Promise<void> {
  try {
    const lines = (await Deno.readTextFile("/proc/self/mountinfo")).split("\n").map((line) =>
      line.split(" ")
    );
    const escapedPath = path.replace(
      /[\\ \t\n]/g,
      (c) => `\\${c.charCodeAt(0).toString(8).padStart(3, "0")}`,
    );
    const device = lines.findLast((fields) => fields[4] === escapedPath)?.[2];
    await Deno.writeTextFile(
      `/sys/class/bdi/${device}/read_ahead_kb`,
      `${READAHEAD_REQUESTS * REQUEST_BYTES / 1024}`,
      {
        create: false,
      },
    );
  } catch {
    // Only a matter of speed.
  }
}

class LibfuseMount implements Mounted {
  readonly mountpoint: string;
  readonly done: Promise<MountEnd>;
  readonly #library: Libfuse;
  readonly #session: Session;
  readonly #nodes: Nodes;
  readonly #replies: Replies;
  readonly #writeOut: WriteOut;
  readonly #writebackCache: boolean;
  #ended = false;
  #removeListener = () => {};

  constructor(
    parts: {
      library: Libfuse;
      session: Session;
      nodes: Nodes;
      replies: Replies;
      writeOut: WriteOut;
      writebackCache: boolean;
      mountpoint: string;
      done: Promise<MountEnd>;
    },
  ) {
    this.#library = parts.library;
    this.#session = parts.session;
    this.#nodes = parts.nodes;
    this.#replies = parts.replies;
    this.#writeOut = parts.writeOut;
    this.#writebackCache = parts.writebackCache;
    this.mountpoint = parts.mountpoint;
    this.done = parts.done.then((end) => {
      this.#ended = true;
      this.#removeListener();
      return end;
    });
  }

  get activity(): { requests: number; open: number } {
    return { requests: this.#session.requests, open: this.#nodes.opened };
  }

  async replaced(before?: StateBefore): Promise<void> {
    if (this.#ended) return;
    const nodes = this.#nodes.known(), known = new Map(nodes), entries: [number, Uint8Array][] = [];
    if (before) {
      this.#replies.trust({ entryTimeout: READER_TIMEOUT, attrTimeout: READER_TIMEOUT });
      for (const [directory, node] of known) {
        for (const { name, ino } of before.names(directory)) if (known.has(ino)) entries.push([node, name]);
      }
      for (const name of this.#nodes.takeAbsent()) entries.push([ROOT_NODE, name]);
    }
    this.#nodes.reconcile(before?.lost);
    // Of files that it has written to by itself the kernel believes no size but its own.
    if (this.#writebackCache) this.#nodes.renewFiles();
    await this.#session.forget({ entries, nodes: nodes.map(([, node]) => node) });
  }

  writeOut(): Promise<void> {
    return this.#writeOut.request();
  }

  endWith(signal: AbortSignal | undefined): void {
    if (!signal) return;
    const listener = () => void this[Symbol.asyncDispose]();
    signal.addEventListener("abort", listener);
    this.#removeListener = () => signal.removeEventListener("abort", listener);
    if (signal.aborted) listener();
  }

  async unmount(options: { lazy?: boolean } = {}): Promise<void> {
    if (this.#ended) return;
    const lazy = options.lazy ?? false;
    await this.#writeOut.idle(); // it may have the root open
    const problem = Deno.uid() === 0 ? await this.#umount(lazy) : await this.#fusermount(lazy);
    if (problem !== undefined && !this.#ended) {
      throw new CoverError("failure", `Cannot unmount "${this.mountpoint}": ${problem}`, {
        hint: "Close what is open there; to see who it is: fuser -vm, to take it away anyway: umount -l",
      });
    }
    if (!lazy) await this.done;
  }

  /** On another thread: what is still to be written comes back here as requests. */
  async #umount(lazy: boolean): Promise<string | undefined> {
    const result = await this.#library.libc.umount2(cString(this.mountpoint), lazy ? MNT_DETACH : 0);
    return result === 0 ? undefined : "it is in use";
  }

  async #fusermount(lazy: boolean): Promise<string | undefined> {
    const args = ["-u", ...(lazy ? ["-z"] : []), "--", this.mountpoint];
    const command = new Deno.Command(await findFusermount() ?? "fusermount3", { args, stdout: "null" });
    const { success, stderr } = await command.output();
    if (success) return undefined;
    const text = new TextDecoder().decode(stderr).trim();
    return /busy/.test(text) ? "it is in use" : text;
  }

  /** Once begun, by a signal perhaps, whoever disposes waits for the same end. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#disposal ??= this.#dispose();
  }
  #disposal: Promise<void> | undefined;

  async #dispose(): Promise<void> {
    if (this.#ended) return;
    try {
      await this.unmount();
    } catch {
      await this.#writeOut.last();
      const detached = await this.unmount({ lazy: true }).then(() => true, () => false);
      if (!this.#ended) this.#session.stop({ detached });
      await this.done;
    }
  }
}
