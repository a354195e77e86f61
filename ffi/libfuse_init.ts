/** Agreeing with the kernel on more than libfuse knows of. */
import { FuseMessage } from "./libfuse_structs.ts";
import type { Libfuse } from "./libfuse_symbols.ts";

const F_DUPFD_CLOEXEC = 1030;
const O_CLOEXEC = 0o2000000, O_NONBLOCK = 0o4000;
/** More than any answer to INIT. */
const REPLY_BYTES = 4096;

/**
 * Has libfuse work on the INIT request in a session's buffer, and adds `FUSE_HANDLE_KILLPRIV_V2` to its answer where the
 * kernel offers that: set-id bits are then taken away by the filesystem (`PrivilegeLoss`), and the kernel does not ask for
 * `security.capability` before each single write. libfuse before 3.17 has no way to say so: for this one answer the
 * session's descriptor is a pipe. If anything is not as expected, the answer goes out as libfuse made it.
 *
 * @param process has libfuse work on the request
 */
export function answerInit(library: Libfuse, fd: number, request: Uint8Array, process: () => void): void {
  const { libc } = library, offered = new DataView(request.buffer, request.byteOffset, request.byteLength);
  if (!(offered.getUint32(FuseMessage.requestFlags, true) & FuseMessage.handleKillprivV2)) return process();
  const ends = new Int32Array(2), reply = new Uint8Array(REPLY_BYTES);
  const device = libc.fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (device < 0) return process();
  if (libc.pipe2(ends, O_CLOEXEC | O_NONBLOCK) !== 0) {
    libc.close(device);
    return process();
  }
  const [from, to] = ends as unknown as [number, number];
  libc.dup3(to, fd, O_CLOEXEC);
  try {
    process();
  } finally {
    libc.dup3(device, fd, O_CLOEXEC);
    const length = Number(libc.read(from, reply, BigInt(REPLY_BYTES)));
    for (const one of [device, from, to]) libc.close(one);
    if (length > 0) {
      const view = new DataView(reply.buffer);
      const agreed = view.getInt32(FuseMessage.replyError, true) === 0 && length > FuseMessage.replyFlags + 4;
      if (agreed) {
        const flags = view.getUint32(FuseMessage.replyFlags, true);
        view.setUint32(FuseMessage.replyFlags, flags | FuseMessage.handleKillprivV2, true);
      }
      libc.write(fd, reply, BigInt(length));
    }
  }
}
