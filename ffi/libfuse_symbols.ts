/** The C functions of libfuse3's low-level API and of libc that a mount needs, and how the library is found. */

import { CoverError } from "../crypto/errors.ts";

/** Functions of libfuse3 (`fuse_lowlevel.h`, `fuse_common.h`, `fuse_opt.h`). `req` is a `fuse_req_t`, `se` a session. */
const LIBFUSE = {
  fuse_version: { parameters: [], result: "i32" },
  fuse_opt_free_args: { parameters: ["buffer"], result: "void" }, // struct fuse_args *
  fuse_session_new: {
    parameters: [
      "buffer", // struct fuse_args *args
      "buffer", // const struct fuse_lowlevel_ops *op
      "usize", // size_t op_size
      "pointer", // void *userdata
    ],
    result: "pointer",
    optional: true,
  },
  /** From 3.17 on: the caller says which header it was built against. */
  fuse_session_new_versioned: {
    parameters: [
      "buffer", // struct fuse_args *args
      "buffer", // const struct fuse_lowlevel_ops *op
      "usize", // size_t op_size
      "buffer", // const struct libfuse_version *version
      "pointer", // void *userdata
    ],
    result: "pointer",
    optional: true,
  },
  /** After 3.18: INIT may be answered by a thread of the library during mount, where no JavaScript can run. */
  fuse_session_set_sync_init: {
    parameters: [
      "pointer", // struct fuse_session *se
      "bool", // bool enable
    ],
    result: "void",
    optional: true,
  },
  fuse_session_mount: {
    parameters: [
      "pointer", // struct fuse_session *se
      "buffer", // const char *mountpoint
    ],
    result: "i32",
  },
  fuse_session_fd: { parameters: ["pointer"], result: "i32" },
  fuse_session_exit: { parameters: ["pointer"], result: "void" },
  fuse_session_exited: { parameters: ["pointer"], result: "i32" },
  fuse_session_unmount: { parameters: ["pointer"], result: "void" },
  fuse_session_destroy: { parameters: ["pointer"], result: "void" },
  fuse_session_receive_buf: {
    parameters: [
      "pointer", // struct fuse_session *se
      "buffer", // struct fuse_buf *buf
    ],
    result: "i32",
  },
  fuse_session_process_buf: {
    parameters: [
      "pointer", // struct fuse_session *se
      "buffer", // const struct fuse_buf *buf
    ],
    result: "void",
  },
  fuse_req_ctx: { parameters: ["pointer"], result: "pointer" }, // const struct fuse_ctx *
  fuse_req_interrupt_func: {
    parameters: [
      "pointer", // fuse_req_t req
      "function", // void (*func)(fuse_req_t req, void *data)
      "pointer", // void *data
    ],
    result: "void",
  },
  fuse_reply_err: {
    parameters: [
      "pointer", // fuse_req_t req
      "i32", // int err, positive
    ],
    result: "i32",
  },
  fuse_reply_none: { parameters: ["pointer"], result: "void" },
  fuse_reply_entry: {
    parameters: [
      "pointer", // fuse_req_t req
      "buffer", // const struct fuse_entry_param *e
    ],
    result: "i32",
  },
  fuse_reply_create: {
    parameters: [
      "pointer", // fuse_req_t req
      "buffer", // const struct fuse_entry_param *e
      "buffer", // const struct fuse_file_info *fi
    ],
    result: "i32",
  },
  fuse_reply_attr: {
    parameters: [
      "pointer", // fuse_req_t req
      "buffer", // const struct stat *attr
      "f64", // double attr_timeout
    ],
    result: "i32",
  },
  fuse_reply_readlink: {
    parameters: [
      "pointer", // fuse_req_t req
      "buffer", // const char *link
    ],
    result: "i32",
  },
  fuse_reply_open: {
    parameters: [
      "pointer", // fuse_req_t req
      "buffer", // const struct fuse_file_info *fi
    ],
    result: "i32",
  },
  fuse_reply_write: {
    parameters: [
      "pointer", // fuse_req_t req
      "usize", // size_t count
    ],
    result: "i32",
  },
  fuse_reply_buf: {
    parameters: [
      "pointer", // fuse_req_t req
      "buffer", // const char *buf
      "usize", // size_t size
    ],
    result: "i32",
  },
  fuse_reply_statfs: {
    parameters: [
      "pointer", // fuse_req_t req
      "buffer", // const struct statvfs *stbuf
    ],
    result: "i32",
  },
  fuse_reply_xattr: {
    parameters: [
      "pointer", // fuse_req_t req
      "usize", // size_t count
    ],
    result: "i32",
  },
  fuse_reply_lseek: {
    parameters: [
      "pointer", // fuse_req_t req
      "i64", // off_t off
    ],
    result: "i32",
  },
  fuse_lowlevel_notify_inval_inode: {
    parameters: [
      "pointer", // struct fuse_session *se
      "u64", // fuse_ino_t ino
      "i64", // off_t off, negative: attributes only
      "i64", // off_t len
    ],
    result: "i32",
  },
  // These two take locks that the kernel may hold while it waits for an answer: another thread calls them.
  notify_inval_pages: {
    name: "fuse_lowlevel_notify_inval_inode",
    parameters: [
      "pointer", // struct fuse_session *se
      "u64", // fuse_ino_t ino
      "i64", // off_t off
      "i64", // off_t len, 0: to the end
    ],
    result: "i32",
    nonblocking: true,
  },
  fuse_lowlevel_notify_inval_entry: {
    parameters: [
      "pointer", // struct fuse_session *se
      "u64", // fuse_ino_t parent
      "buffer", // const char *name
      "usize", // size_t namelen
    ],
    result: "i32",
    nonblocking: true,
  },
  fuse_add_direntry: {
    parameters: [
      "pointer", // fuse_req_t req
      "buffer", // char *buf
      "usize", // size_t bufsize
      "buffer", // const char *name
      "buffer", // const struct stat *stbuf
      "i64", // off_t off
    ],
    result: "usize",
  },
  fuse_add_direntry_plus: {
    parameters: [
      "pointer", // fuse_req_t req
      "buffer", // char *buf
      "usize", // size_t bufsize
      "buffer", // const char *name
      "buffer", // const struct fuse_entry_param *e
      "i64", // off_t off
    ],
    result: "usize",
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** Functions of libc. What may wait for this very mount is called on another thread (`nonblocking`). */
const LIBC = {
  fcntl: {
    parameters: [
      "i32", // int fd
      "i32", // int cmd
      "i32", // ... arg
    ],
    result: "i32",
  },
  poll: {
    parameters: [
      "buffer", // struct pollfd *fds
      "u64", // nfds_t nfds
      "i32", // int timeout, milliseconds
    ],
    result: "i32",
    nonblocking: true,
  },
  eventfd: {
    parameters: [
      "u32", // unsigned int initval
      "i32", // int flags
    ],
    result: "i32",
  },
  write: {
    parameters: [
      "i32", // int fd
      "buffer", // const void *buf
      "usize", // size_t count
    ],
    result: "isize",
  },
  read: {
    parameters: [
      "i32", // int fd
      "buffer", // void *buf
      "usize", // size_t count
    ],
    result: "isize",
  },
  pipe2: {
    parameters: [
      "buffer", // int pipefd[2]
      "i32", // int flags
    ],
    result: "i32",
  },
  dup3: {
    parameters: [
      "i32", // int oldfd
      "i32", // int newfd
      "i32", // int flags
    ],
    result: "i32",
  },
  openat: {
    parameters: [
      "i32", // int dirfd
      "buffer", // const char *pathname
      "i32", // int flags
    ],
    result: "i32",
    nonblocking: true,
  },
  open_tree: {
    parameters: [
      "i32", // int dirfd
      "buffer", // const char *filename
      "u32", // unsigned int flags
    ],
    result: "i32",
    nonblocking: true,
    optional: true, // since glibc 2.36
  },
  malloc_trim: {
    parameters: [
      "usize", // size_t pad
    ],
    result: "i32",
    optional: true, // glibc alone has it
  },
  syncfs: { parameters: ["i32"], result: "i32", nonblocking: true },
  close: { parameters: ["i32"], result: "i32" },
  /** `close` of a descriptor of this mount: its release may wait for an answer. */
  close_mounted: { name: "close", parameters: ["i32"], result: "i32", nonblocking: true },
  umount2: {
    parameters: [
      "buffer", // const char *target
      "i32", // int flags
    ],
    result: "i32",
    nonblocking: true,
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** A string as the functions of C take it, with its zero. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

/** libfuse3 and libc, opened; `abi` is the number behind `libfuse3.so.`. Dispose it once nothing calls back any more. */
export interface Libfuse extends Disposable {
  readonly fuse: Deno.DynamicLibrary<typeof LIBFUSE>["symbols"];
  readonly libc: Deno.DynamicLibrary<typeof LIBC>["symbols"];
  readonly abi: 3 | 4;
  /** `fuse_version()`: 100 × major + minor. */
  readonly version: number;
}

const CANDIDATES = [["libfuse3.so.4", 4], ["libfuse3.so.3", 3]] as const;

/** Lowest version whose low-level API has all that is used here (`lseek`, 3.8). */
const OLDEST = 308;

/**
 * Opens libfuse3: `libfuse3.so.4` where there is one, else `libfuse3.so.3`.
 *
 * @throws {CoverError} cannot-mount, if there is none or it is too old.
 */
export function openLibfuse(): Libfuse {
  const causes: unknown[] = [];
  for (const [name, abi] of CANDIDATES) {
    let fuse: Deno.DynamicLibrary<typeof LIBFUSE>;
    try {
      fuse = Deno.dlopen(name, LIBFUSE);
    } catch (cause) {
      causes.push(cause);
      continue;
    }
    const version = fuse.symbols.fuse_version();
    if (version < OLDEST) {
      fuse.close();
      throw new CoverError(
        "cannot-mount",
        `Cannot use ${name}: its version is ${version}, needed is ${OLDEST}`,
        {
          hint: "Install a newer fuse3",
        },
      );
    }
    const libc = Deno.dlopen("libc.so.6", LIBC);
    return {
      fuse: fuse.symbols,
      libc: libc.symbols,
      abi,
      version,
      [Symbol.dispose]() {
        fuse.close();
        libc.close();
      },
    };
  }
  throw new CoverError(
    "cannot-mount",
    "Cannot load libfuse3: neither libfuse3.so.4 nor libfuse3.so.3 was found",
    {
      hint: "Install it: apt install fuse3, dnf install fuse3-libs fuse3, or pacman -S fuse3",
      cause: new AggregateError(causes),
    },
  );
}
