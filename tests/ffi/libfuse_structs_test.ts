import assert from "node:assert/strict";
import {
  ARGS,
  BUF,
  Capability,
  CONN_INFO,
  CTX,
  entryParamLayout,
  FILE_INFO,
  FILE_INFO_DIRECT_IO,
  FILE_INFO_KEEP_CACHE,
  FILE_INFO_NO_FLUSH,
  FORGET,
  FuseMessage,
  type Layout,
  operationCount,
  OPERATIONS,
  POLLFD,
  SetAttr,
  setI64,
  setU64,
  STAT,
  STATVFS,
} from "../../ffi/libfuse_structs.ts";
import { openLibfuse } from "../../ffi/libfuse_symbols.ts";
import { strict } from "./mounts.ts";

const STAT_LAYOUT = STAT[Deno.build.arch];

/** C type, layout, and the C names of fields that are called otherwise here. */
function structures(abi: 3 | 4): [string, Layout, Record<string, string>?][] {
  return [
    ["struct stat", STAT_LAYOUT],
    ["struct statvfs", STATVFS],
    ["struct fuse_entry_param", entryParamLayout(STAT_LAYOUT)],
    ["struct fuse_file_info", FILE_INFO[abi], { bits: "" }],
    ["struct fuse_conn_info", CONN_INFO],
    ["struct fuse_buf", BUF[abi], { length: "size" }],
    ["struct fuse_args", ARGS],
    ["struct fuse_ctx", CTX],
    ["struct fuse_forget_data", FORGET],
    ["struct pollfd", POLLFD],
  ];
}

const CONSTANTS: Record<string, number> = {
  FUSE_CAP_ASYNC_READ: Capability.asyncRead,
  FUSE_CAP_POSIX_LOCKS: Capability.posixLocks,
  FUSE_CAP_ATOMIC_O_TRUNC: Capability.atomicTruncate,
  FUSE_CAP_EXPORT_SUPPORT: Capability.exportSupport,
  FUSE_CAP_DONT_MASK: Capability.dontMask,
  FUSE_CAP_SPLICE_WRITE: Capability.spliceWrite,
  FUSE_CAP_SPLICE_MOVE: Capability.spliceMove,
  FUSE_CAP_SPLICE_READ: Capability.spliceRead,
  FUSE_CAP_FLOCK_LOCKS: Capability.flockLocks,
  FUSE_CAP_AUTO_INVAL_DATA: Capability.autoInvalidateData,
  FUSE_CAP_READDIRPLUS: Capability.readdirplus,
  FUSE_CAP_READDIRPLUS_AUTO: Capability.readdirplusAuto,
  FUSE_CAP_ASYNC_DIO: Capability.asyncDirectIo,
  FUSE_CAP_WRITEBACK_CACHE: Capability.writebackCache,
  FUSE_CAP_PARALLEL_DIROPS: Capability.parallelDirectoryOperations,
  FUSE_CAP_HANDLE_KILLPRIV: Capability.handleKillpriv,
  FUSE_CAP_CACHE_SYMLINKS: Capability.cacheSymlinks,
  FUSE_INIT: FuseMessage.init,
  FUSE_HANDLE_KILLPRIV_V2: FuseMessage.handleKillprivV2,
  FUSE_WRITE_CACHE: FuseMessage.writeCache,
  FUSE_WRITE_KILL_SUIDGID: FuseMessage.writeKillSetId,
  "offsetof(struct fuse_in_header, pid)": FuseMessage.pid,
  "offsetof(struct fuse_in_header, opcode)": FuseMessage.opcode,
  "sizeof(struct fuse_in_header) + offsetof(struct fuse_init_in, flags)": FuseMessage.requestFlags,
  "sizeof(struct fuse_in_header) + offsetof(struct fuse_write_in, write_flags)": FuseMessage.writeFlags,
  "offsetof(struct fuse_out_header, error)": FuseMessage.replyError,
  "sizeof(struct fuse_out_header) + offsetof(struct fuse_init_out, flags)": FuseMessage.replyFlags,
  FUSE_SET_ATTR_MODE: SetAttr.mode,
  FUSE_SET_ATTR_UID: SetAttr.uid,
  FUSE_SET_ATTR_GID: SetAttr.gid,
  FUSE_SET_ATTR_SIZE: SetAttr.size,
  FUSE_SET_ATTR_ATIME: SetAttr.atime,
  FUSE_SET_ATTR_MTIME: SetAttr.mtime,
  FUSE_SET_ATTR_ATIME_NOW: SetAttr.atimeNow,
  FUSE_SET_ATTR_MTIME_NOW: SetAttr.mtimeNow,
  FUSE_SET_ATTR_CTIME: SetAttr.ctime,
};

/** Compiles and runs a C program that prints "name number" lines about the installed headers. */
async function fromHeaders(statements: string): Promise<Record<string, number>> {
  const directory = await Deno.makeTempDir({ prefix: "coverfs-test-" });
  try {
    await Deno.writeTextFile(
      `${directory}/print.c`,
      `#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#define P(name, value) printf("%s %lu\\n", name, (unsigned long)(value))
int main(void) { ${statements} return 0; }`,
    );
    const args = ["-w", "-D_FILE_OFFSET_BITS=64", "-o", `${directory}/print`, `${directory}/print.c`];
    const compiled = await new Deno.Command("gcc", { args }).output();
    assert.equal(compiled.code, 0, new TextDecoder().decode(compiled.stderr));
    const { stdout } = await new Deno.Command(`${directory}/print`).output();
    const lines = new TextDecoder().decode(stdout).trim().split("\n").map((line) => line.split(/ (?=\d+$)/));
    return Object.fromEntries(lines.map(([name, value]) => [name, Number(value)]));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("structure layouts and constants are those of the installed C headers", strict, async () => {
  const version = await fromHeaders('P("version", FUSE_MAJOR_VERSION * 100 + FUSE_MINOR_VERSION);');
  const abi = version.version! >= 317 ? 4 : 3;
  const expected: Record<string, number> = {};
  const statements: string[] = [];
  const expect = (name: string, value: number, c: string) => {
    expected[name] = value;
    statements.push(`P("${name}", ${c});`);
  };
  for (const [type, layout, renamed = {}] of structures(abi)) {
    for (const [field, value] of Object.entries(layout)) {
      const cField = renamed[field] ?? field;
      if (field === "size") expect(`${type}`, value, `sizeof(${type})`);
      else if (cField !== "") expect(`${type}.${field}`, value, `offsetof(${type}, ${cField})`);
    }
  }
  for (const [i, name] of OPERATIONS.slice(0, operationCount(version.version!)).entries()) {
    expect(`operation ${name}`, i * 8, `offsetof(struct fuse_lowlevel_ops, ${name})`);
  }
  for (const [name, value] of Object.entries(CONSTANTS)) expect(name, value, name);
  for (
    const [bit, value] of [
      ["direct_io", FILE_INFO_DIRECT_IO],
      ["keep_cache", FILE_INFO_KEEP_CACHE],
      ["noflush", FILE_INFO_NO_FLUSH],
    ] as const
  ) {
    expected[bit] = value;
    statements.push(`{ struct fuse_file_info fi; unsigned bits; memset(&fi, 0, sizeof fi); fi.${bit} = 1;
      memcpy(&bits, (char *)&fi + ${FILE_INFO[abi].bits}, 4); P("${bit}", bits); }`);
  }
  assert.deepEqual(await fromHeaders(statements.join("\n")), expected);
});

Deno.test("the library that is found says which version it is", strict, () => {
  using library = openLibfuse();
  assert.equal(library.abi, library.version >= 317 ? 4 : 3);
});

Deno.test("setU64() and setI64() write what BigInt would", strict, () => {
  const view = new DataView(new ArrayBuffer(8));
  for (const value of [0, 1, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, 123456789012345]) {
    setU64(view, 0, value);
    assert.equal(view.getBigUint64(0, true), BigInt(value));
    for (const signed of [value, -value]) {
      setI64(view, 0, signed);
      assert.equal(view.getBigInt64(0, true), BigInt(signed));
    }
  }
});
