import { BufferPool } from "../fs/block/buffers.ts";
import { now } from "../fs/clock.ts";
import { Errno, FsError } from "../fs/errors.ts";
import {
  type AttributeChanges,
  type Filesystem,
  type NodeSpec,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
} from "../fs/filesystem.ts";
import {
  FILE_SIZE_MAX,
  type Ino,
  ROOT,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_ISGID,
  S_ISUID,
  type Time,
} from "../fs/types.ts";
import { Directories } from "./libfuse_directories.ts";
import { type Nodes, ROOT_NODE } from "./libfuse_nodes.ts";
import { type Receiver, REQUEST_BYTES } from "./libfuse_receive.ts";
import type { Replies, Request } from "./libfuse_requests.ts";
import {
  Capability,
  CONN_INFO,
  FILE_INFO,
  FORGET,
  FuseMessage,
  type OperationName,
  SetAttr,
  STAT,
} from "./libfuse_structs.ts";
import type { Libfuse } from "./libfuse_symbols.ts";
import type { WriteOut } from "./libfuse_write_out.ts";
import type { Writers } from "./libfuse_writers.ts";

/** One operation: the C types behind `fuse_req_t req`, and what is done. It answers the request or throws. */
export interface Operation {
  readonly parameters: readonly Deno.NativeType[];
  // deno-lint-ignore no-explicit-any -- the parameters differ from one operation to the next
  readonly handle: (request: Request, ...parameters: any[]) => void | Promise<void>;
  /** While it waits, who asks can be interrupted. It must not answer a request that was. */
  readonly interruptible?: boolean;
}

function operation<const P extends readonly Deno.NativeType[]>(
  parameters: P,
  handle: (request: Request, ...parameters: Deno.FromNativeParameterTypes<P>) => void | Promise<void>,
): Operation {
  return { parameters, handle: handle as Operation["handle"] };
}

function interruptible<const P extends readonly Deno.NativeType[]>(
  really: boolean,
  parameters: P,
  handle: (request: Request, ...parameters: Deno.FromNativeParameterTypes<P>) => void | Promise<void>,
): Operation {
  return { ...operation(parameters, handle), interruptible: really };
}

/** C types of parameters. Names and data come as addresses, to be found again in the receive buffer. */
const NODE = "u64",
  ADDRESS = "u64",
  SIZE = "usize",
  OFFSET = "i64",
  POINTER = "pointer",
  U32 = "u32",
  I32 = "i32";

const X_OK = 1;
const O_ACCMODE = 0o3, O_RDONLY = 0, O_TRUNC = 0o1000;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
/** Copies go in pieces of this many bytes, so that none keeps others waiting for long. */
const COPY_BYTES = 64 * REQUEST_BYTES;
/** Writes up to this many bytes are copied at once; larger ones keep their receive buffer while they wait. */
const COPIED_WRITE_BYTES = 16384;

/** What the operations work on. */
export interface OperationsContext {
  readonly library: Libfuse;
  readonly filesystem: Filesystem;
  readonly nodes: Nodes;
  readonly receiver: Receiver;
  readonly replies: Replies;
  readonly writers: Writers;
  readonly writeOut: WriteOut;
  readonly writebackCache: boolean;
  readonly directIo: boolean;
  /** Has the kernel ask again for a node's attributes. */
  readonly forgetAttributes: (node: bigint) => void;
}

function position(offset: bigint): number {
  if (offset < 0n) throw new FsError("EINVAL");
  if (offset > BigInt(FILE_SIZE_MAX)) throw new FsError("EFBIG");
  return Number(offset);
}

/** The filesystem's own clock: another one would make the mtime of `touch` later than its ctime. */
function present(): Time {
  const [seconds, nanoseconds] = now();
  return { seconds, nanoseconds };
}

const TRUSTED = new TextEncoder().encode("trusted.");
/** Namespaces of xattr(7) that are kept. `system.` is not: POSIX ACLs would be stored and not enforced. */
const NAMESPACES = [...["user.", "security."].map((prefix) => new TextEncoder().encode(prefix)), TRUSTED];

/** The attribute that gives a program capabilities (capabilities(7)). */
const CAPABILITY = new TextEncoder().encode("security.capability");

function startsWith(name: Uint8Array, prefix: Uint8Array): boolean {
  return prefix.every((byte, i) => name[i] === byte);
}

function refuseNamespace(name: Uint8Array): void {
  if (!NAMESPACES.some((prefix) => startsWith(name, prefix))) throw new FsError("ENOTSUP");
}

/** All operations that a mount answers, by their names in `struct fuse_lowlevel_ops`. Locks are left to the kernel. */
export function operations(context: OperationsContext): Partial<Record<OperationName, Operation>> {
  const { library, filesystem: fs, nodes, receiver, replies, writers, writeOut } = context;
  const readBuffers = new BufferPool(REQUEST_BYTES, { shared: true });
  const directories = new Directories({ filesystem: fs, nodes, replies });
  const info = FILE_INFO[library.abi];
  const stat = STAT[Deno.build.arch];

  /** Does a change when the filesystem admits it: at once where it can. */
  function change(work: () => void | Promise<void>): void | Promise<void> {
    const admitted = fs.admit();
    return admitted ? admitted.then(work) : work();
  }

  function create(request: Request, directory: Ino, name: Uint8Array, spec: Omit<NodeSpec, "uid" | "gid">) {
    const full = { ...replies.caller(request), ...spec };
    return change(() => replies.entry(request, fs.create(directory, name, full)));
  }

  function flagsOf(fileInfo: Deno.PointerValue): number {
    return new Deno.UnsafePointerView(fileInfo!).getInt32(info.flags);
  }

  function opened(request: Request, node: bigint, flags: number): void {
    // Else the kernel would take what is written, and could say only later that it is not to be had.
    if (fs.readOnly && (flags & O_ACCMODE) !== O_RDONLY) throw new FsError("EROFS");
    const how = { ...writers.opened(Number(node), flags), flush: (flags & O_ACCMODE) !== O_RDONLY };
    if (!replies.opened(request, node, how)) writers.released(Number(node), how.handle);
  }

  function created(request: Request, ino: Ino, flags: number): void {
    const node = nodes.look(ino), { handle } = writers.opened(node, flags);
    if (!replies.created(request, { ino, node, handle })) writers.released(node, handle);
  }

  function handleOf(fileInfo: Deno.PointerValue): number {
    return Number(new Deno.UnsafePointerView(fileInfo!).getBigUint64(info.fh));
  }

  function timeAt(view: Deno.UnsafePointerView, offset: number): Time {
    return { seconds: Number(view.getBigInt64(offset)), nanoseconds: Number(view.getBigInt64(offset + 8)) };
  }

  function changesOf(attributes: Deno.PointerValue, set: number): AttributeChanges {
    const view = new Deno.UnsafePointerView(attributes!);
    // A kernel that keeps ctime itself means the same moment by "now".
    const moment = set & SetAttr.ctime ? timeAt(view, stat.st_ctim) : present();
    return {
      ...(set & SetAttr.mode && { mode: view.getUint32(stat.st_mode) & 0o7777 }),
      ...(set & SetAttr.uid && { uid: view.getUint32(stat.st_uid) }),
      ...(set & SetAttr.gid && { gid: view.getUint32(stat.st_gid) }),
      ...(set & SetAttr.size && { size: position(view.getBigInt64(stat.st_size)) }),
      ...(set & SetAttr.atimeNow
        ? { atime: moment }
        : set & SetAttr.atime && { atime: timeAt(view, stat.st_atim) }),
      ...(set & SetAttr.mtimeNow
        ? { mtime: moment }
        : set & SetAttr.mtime && { mtime: timeAt(view, stat.st_mtim) }),
      ...(set & SetAttr.ctime && { ctime: moment }),
    };
  }

  /** The mode that a file has without set-id bits; undefined if it stays. The group's counts only where it can execute. */
  function modeWithoutSetId(ino: Ino): number | undefined {
    const { mode } = fs.attributes(ino);
    const lost = S_ISUID | (mode & 0o010 ? S_ISGID : 0);
    return (mode & lost) === 0 || (mode & S_IFMT) === S_IFDIR ? undefined : mode & 0o7777 & ~lost;
  }

  /**
   * Adds the loss of set-id bits to what is to be changed. The kernel leaves that to the filesystem (`answerInit`): where
   * the owner changes; where others than root truncate; and where it asks for nothing at all, which stands for a change
   * of content by others.
   */
  function withPrivilegesLost(request: Request, ino: Ino, changes: AttributeChanges): AttributeChanges {
    if (changes.mode !== undefined) return changes;
    const owner = changes.uid !== undefined || changes.gid !== undefined;
    const others = changes.size !== undefined && replies.caller(request).uid !== 0;
    let nothing = true;
    for (const _ in changes) nothing = false;
    const mode = owner || others || nothing ? modeWithoutSetId(ino) : undefined;
    return mode === undefined ? changes : { ...changes, mode };
  }

  /** Takes set-id bits, by others than root, and capabilities from a file that is written past the page cache. */
  function losePrivileges(node: bigint, options: { setId: boolean }): void {
    const ino = nodes.ino(node), mode = options.setId ? modeWithoutSetId(ino) : undefined;
    const capable = fs.getXattr(ino, CAPABILITY) !== undefined;
    if (capable) fs.removeXattr(ino, CAPABILITY);
    if (mode !== undefined) fs.setAttributes(ino, { mode });
    if (capable || mode !== undefined) context.forgetAttributes(node);
  }

  /**
   * The kernel writes pages that it has kept. Who wrote them hears of it by fsync or close: of no room as such, of all
   * else as EIO, since it is too late for a refusal.
   */
  function writeBack(request: Request, write: () => void | Promise<void>): void | Promise<void> {
    const failed = (error: unknown) => {
      const { errno, ordinary } = errnoOf(error), room = errno === Errno.ENOSPC || errno === Errno.EDQUOT;
      writeOut.failed(room ? error : new FsError("EIO", "Data that the kernel has kept is lost"));
      if (room || !ordinary) throw error;
      replies.error(request, Errno.EIO);
    };
    try {
      const done = write()?.catch(failed);
      if (done) writeOut.writing(done);
      return done;
    } catch (error) {
      failed(error);
    }
  }

  async function fsync(request: Request, node: bigint, dataOnly: number): Promise<void> {
    await fs.fsync(nodes.written(node), { dataOnly: dataOnly !== 0 });
    replies.success(request);
  }

  return {
    lookup: operation([NODE, ADDRESS], (request, parent, name) => {
      const directory = nodes.ino(parent), bytes = receiver.string(name), ino = fs.lookup(directory, bytes);
      if (ino === undefined) {
        replies.noEntry(request, { remembered: directory !== ROOT || nodes.absent(bytes) });
      } else replies.entry(request, ino);
    }),

    forget: operation([NODE, "u64"], (request, node, count) => {
      nodes.forget(Number(node), Number(count));
      replies.none(request);
    }),

    forget_multi: operation([SIZE, ADDRESS], (request, count, forgets) => {
      const bytes = receiver.view(forgets, Number(count) * FORGET.size);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      for (let at = 0; at < bytes.length; at += FORGET.size) {
        const node = Number(view.getBigUint64(at + FORGET.ino, true));
        nodes.forget(node, Number(view.getBigUint64(at + FORGET.nlookup, true)));
      }
      replies.none(request);
    }),

    getattr: operation([NODE, POINTER], (request, node) => {
      replies.attributes(request, fs.attributes(nodes.ino(node)));
    }),

    setattr: operation([NODE, POINTER, I32, POINTER], (request, node, attributes, set) => {
      const ino = nodes.ino(node);
      const changes = withPrivilegesLost(request, ino, changesOf(attributes, set));
      for (const _ in changes) {
        return change(() => replies.attributes(request, fs.setAttributes(ino, changes)));
      }
      return replies.attributes(request, fs.attributes(ino));
    }),

    readlink: operation([NODE], (request, node) => replies.target(request, fs.readlink(nodes.ino(node)))),

    mknod: operation([NODE, ADDRESS, U32, "u64"], (request, parent, name, mode, rdev) => {
      const type = mode & S_IFMT ? mode : mode | S_IFREG;
      return create(request, nodes.ino(parent), receiver.string(name), { mode: type, rdev: Number(rdev) });
    }),

    mkdir: operation([NODE, ADDRESS, U32], (request, parent, name, mode) => {
      const spec = { mode: S_IFDIR | (mode & 0o7777) };
      return create(request, nodes.ino(parent), receiver.string(name), spec);
    }),

    symlink: operation([ADDRESS, NODE, ADDRESS], (request, target, parent, name) => {
      const spec = { mode: S_IFLNK | 0o777, target: receiver.string(target) };
      return create(request, nodes.ino(parent), receiver.string(name), spec);
    }),

    unlink: operation([NODE, ADDRESS], (request, parent, name) => {
      const directory = nodes.ino(parent), bytes = receiver.string(name);
      return change(() => {
        fs.unlink(directory, bytes);
        replies.success(request);
      });
    }),

    rmdir: operation([NODE, ADDRESS], (request, parent, name) => {
      const directory = nodes.ino(parent), bytes = receiver.string(name);
      return change(() => {
        fs.rmdir(directory, bytes);
        replies.success(request);
      });
    }),

    rename: operation(
      [NODE, ADDRESS, NODE, ADDRESS, U32],
      (request, parent, name, newParent, newName, flags) => {
        if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) throw new FsError("EINVAL");
        const from = nodes.ino(parent), old = receiver.string(name);
        const to = nodes.ino(newParent), bytes = receiver.string(newName);
        return change(() => {
          fs.rename(from, old, to, bytes, flags);
          replies.success(request);
        });
      },
    ),

    link: operation([NODE, NODE, ADDRESS], (request, node, parent, name) => {
      const ino = nodes.ino(node), directory = nodes.ino(parent), bytes = receiver.string(name);
      return change(() => {
        fs.link(ino, directory, bytes);
        replies.entry(request, ino);
      });
    }),

    create: operation([NODE, ADDRESS, U32, POINTER], (request, parent, name, mode, fileInfo) => {
      const directory = nodes.ino(parent), bytes = receiver.string(name), flags = flagsOf(fileInfo);
      const spec = { ...replies.caller(request), mode: S_IFREG | (mode & 0o7777) };
      return change(() => created(request, fs.create(directory, bytes, spec), flags));
    }),

    tmpfile: operation([NODE, U32, POINTER], (request, parent, mode, fileInfo) => {
      const caller = replies.caller(request), flags = flagsOf(fileInfo);
      const directory = fs.attributes(nodes.ino(parent));
      const gid = directory.mode & S_ISGID ? directory.gid : caller.gid;
      const spec = { uid: caller.uid, gid, mode: S_IFREG | (mode & 0o7777) };
      return change(() => created(request, fs.createUnnamed(spec), flags));
    }),

    open: operation([NODE, POINTER], (request, node, fileInfo) => {
      const flags = flagsOf(fileInfo), ino = nodes.ino(node);
      if ((flags & O_TRUNC) === 0) return opened(request, node, flags);
      const changes = withPrivilegesLost(request, ino, { size: 0 });
      return change(() => {
        fs.setAttributes(ino, changes);
        opened(request, node, flags);
      });
    }),

    // A page fault that got EINTR would end in SIGBUS, so only what comes straight from read(2) can be interrupted.
    read: interruptible(context.directIo, [NODE, SIZE, OFFSET, POINTER], (request, node, size, offset) => {
      const ino = nodes.ino(node), at = position(offset), length = Number(size), buffer = readBuffers.take();
      const give = () => readBuffers.give(buffer);
      let later: Promise<void> | undefined;
      try {
        const bytes = fs.read(ino, at, length, length <= buffer.length ? buffer : undefined);
        if (bytes instanceof Uint8Array) return replies.bytes(request, bytes);
        return later = bytes.then((late) => {
          if (!request.interrupted) replies.bytes(request, late);
        }).finally(give);
      } finally {
        if (later === undefined) give();
      }
    }),

    write: operation([NODE, ADDRESS, SIZE, OFFSET, POINTER], (request, node, data, size, offset) => {
      const flags = receiver.u32(FuseMessage.writeFlags), setId = (flags & FuseMessage.writeKillSetId) !== 0;
      const write = () => {
        const ino = nodes.ino(node), at = position(offset), length = Number(size);
        if (at + length > FILE_SIZE_MAX) throw new FsError("EFBIG");
        if (setId || context.directIo) losePrivileges(node, { setId });
        const answer = () => replies.written(request, length);
        const view = receiver.view(data, length);
        const admitted = fs.admit();
        if (admitted) {
          const copy = view.slice();
          return admitted.then(() => fs.write(ino, at, copy)).then(answer);
        }
        if (length <= COPIED_WRITE_BYTES) {
          const done = fs.write(ino, at, view.slice());
          return done ? done.then(answer) : answer();
        }
        const done = fs.write(ino, at, view);
        return done ? done.finally(receiver.lend()).then(answer) : answer();
      };
      return flags & FuseMessage.writeCache ? writeBack(request, write) : write();
    }),

    flush: operation([NODE, POINTER], (request, node) => {
      fs.closed(nodes.written(node));
      replies.success(request);
    }),

    release: operation([NODE, POINTER], (request, node, fileInfo) => {
      writers.released(Number(node), handleOf(fileInfo));
      nodes.close(node);
      replies.success(request);
    }),

    fsync: operation([NODE, I32, POINTER], fsync),
    // The kernel asks a FUSE filesystem nothing on syncfs(2): fsync of the root directory stands for it.
    fsyncdir: operation([NODE, I32, POINTER], async (request, node, dataOnly) => {
      if (nodes.ino(node) !== ROOT) return await fsync(request, node, dataOnly);
      // The kernel waits for this, but for nothing that the writes need: it holds the lock of the root alone.
      if (context.writebackCache && writers.open > 0) await writeOut.request();
      await fs.sync();
      const failure = writeOut.takeFailure();
      if (failure !== undefined) throw failure;
      replies.success(request);
    }),

    // Asked only where root alone has access, without `default_permissions`.
    access: operation([NODE, I32], (request, node, mask) => {
      const { mode } = fs.attributes(nodes.ino(node)),
        executable = (mode & S_IFMT) === S_IFDIR || mode & 0o111;
      if (mask & X_OK && !executable) replies.error(request, Errno.EACCES);
      else replies.success(request);
    }),

    opendir: operation([NODE, POINTER], (request, node) => {
      const handle = directories.open(request, node);
      if (node === BigInt(ROOT_NODE)) writeOut.opened(handle, receiver.u32(FuseMessage.pid));
    }),

    readdir: operation([NODE, SIZE, OFFSET, POINTER], (request, _node, size, offset, fileInfo) => {
      const options = { size: Number(size), offset: position(offset), plus: false };
      directories.read(request, handleOf(fileInfo), options);
    }),

    readdirplus: operation([NODE, SIZE, OFFSET, POINTER], (request, _node, size, offset, fileInfo) => {
      const options = { size: Number(size), offset: position(offset), plus: true };
      directories.read(request, handleOf(fileInfo), options);
    }),

    releasedir: operation([NODE, POINTER], (request, node, fileInfo) => {
      const handle = handleOf(fileInfo);
      directories.close(request, node, handle);
      writeOut.released(handle);
    }),

    statfs: operation([NODE], (request) => replies.statistics(request, fs.statistics())),

    setxattr: operation([NODE, ADDRESS, ADDRESS, SIZE, I32], (request, node, name, value, size, flags) => {
      const ino = nodes.ino(node), key = receiver.string(name);
      const bytes = receiver.view(value, Number(size)).slice();
      refuseNamespace(key);
      return change(() => {
        fs.setXattr(ino, key, bytes, flags);
        replies.success(request);
      });
    }),

    getxattr: operation([NODE, ADDRESS, SIZE], (request, node, name, size) => {
      const key = receiver.string(name);
      refuseNamespace(key);
      const value = fs.getXattr(nodes.ino(node), key);
      if (value === undefined) replies.error(request, Errno.ENODATA);
      else replies.xattr(request, value, Number(size));
    }),

    listxattr: operation([NODE, SIZE], (request, node, size) => {
      // As elsewhere (xattr(7)), only who may read trusted attributes sees that they are there.
      const root = replies.caller(request).uid === 0;
      const names = fs.listXattr(nodes.ino(node)).filter((name) => root || !startsWith(name, TRUSTED));
      const list = new Uint8Array(names.reduce((sum, name) => sum + name.length + 1, 0));
      let at = 0;
      for (const name of names) {
        list.set(name, at);
        at += name.length + 1;
      }
      replies.xattr(request, list, Number(size));
    }),

    removexattr: operation([NODE, ADDRESS], (request, node, name) => {
      const ino = nodes.ino(node), key = receiver.string(name);
      refuseNamespace(key);
      return change(() => {
        fs.removeXattr(ino, key);
        replies.success(request);
      });
    }),

    fallocate: operation([NODE, I32, OFFSET, OFFSET, POINTER], (request, node, mode, offset, length) => {
      const ino = nodes.ino(node), at = position(offset), count = position(length);
      position(offset + length);
      return change(() => {
        const done = fs.allocate(ino, at, count, mode);
        return done ? done.then(() => replies.success(request)) : replies.success(request);
      });
    }),

    lseek: operation([NODE, OFFSET, I32, POINTER], (request, node, offset, whence) => {
      // With the write-back cache the kernel knows of data that is not written yet; without an answer from here it
      // takes all of the file as data, which is right.
      if (context.writebackCache) throw new FsError("ENOSYS");
      if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw new FsError("EINVAL");
      if (offset < 0n) throw new FsError("ENXIO");
      const what = whence === SEEK_DATA ? "data" : "hole";
      replies.position(request, fs.seek(nodes.ino(node), position(offset), what));
    }),

    copy_file_range: operation(
      [NODE, OFFSET, POINTER, NODE, OFFSET, POINTER, SIZE, I32],
      (request, from, offset, _in, to, toOffset, _out, size, flags) => {
        if (flags !== 0) throw new FsError("EINVAL");
        const source = nodes.ino(from),
          at = position(offset),
          target = nodes.ino(to),
          toAt = position(toOffset);
        const length = Math.min(Number(size), COPY_BYTES);
        return change(async () => {
          replies.written(request, await fs.copy(source, at, target, toAt, length));
        });
      },
    ),
  };
}

/** How the kernel is to treat a mount. */
export interface ConnectionSettings {
  readonly readOnly: boolean;
  /** The kernel checks no permissions: nobody but root has access. */
  readonly rootAlone: boolean;
  readonly directIo: boolean;
  readonly writebackCache: boolean;
}

const NEVER = Capability.posixLocks | Capability.flockLocks | Capability.handleKillpriv |
  Capability.spliceRead | Capability.spliceWrite | Capability.spliceMove | Capability.dontMask |
  Capability.exportSupport;
const ALWAYS = Capability.asyncRead | Capability.handleKillprivV2 | Capability.atomicTruncate |
  Capability.readdirplus |
  Capability.readdirplusAuto |
  Capability.asyncDirectIo | Capability.parallelDirectoryOperations | Capability.cacheSymlinks;

/** Answers `init`: says in `struct fuse_conn_info` what is wanted of the kernel. */
export function negotiate(connection: Deno.PointerValue, settings: ConnectionSettings): void {
  const view = new DataView(Deno.UnsafePointerView.getArrayBuffer(connection!, CONN_INFO.size));
  const capable = view.getUint32(CONN_INFO.capable, true);
  let want = view.getUint32(CONN_INFO.want, true) & ~NEVER | ALWAYS;
  // A writer is the only one who changes anything, so the kernel's pages are true. Where the attributes that a
  // reader is told of change, the pages of that file are dropped.
  want = settings.readOnly ? want | Capability.autoInvalidateData : want & ~Capability.autoInvalidateData;
  if (settings.writebackCache) want |= Capability.writebackCache;
  if (settings.directIo) want |= Capability.directIoMmap;
  view.setUint32(CONN_INFO.want, want & capable, true);
  view.setUint32(
    CONN_INFO.max_write,
    Math.min(REQUEST_BYTES, view.getUint32(CONN_INFO.max_write, true)),
    true,
  );
  view.setUint32(CONN_INFO.max_background, 64, true);
  view.setUint32(CONN_INFO.congestion_threshold, 48, true);
  view.setUint32(CONN_INFO.time_gran, 1, true);
}

/** The errno of an error, and whether it is an ordinary refusal that nobody needs to be told of. */
export function errnoOf(error: unknown): { errno: number; ordinary: boolean } {
  if (error instanceof FsError) return { errno: error.errno, ordinary: error.errno !== Errno.EIO };
  return { errno: Errno.EIO, ordinary: false };
}
