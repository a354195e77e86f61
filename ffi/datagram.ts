/** Unix datagram sockets, by which systemd is told of a service's state and syslogd of messages. Deno has none. */

const LIBC = {
  socket: {
    parameters: [
      "i32", // int domain
      "i32", // int type
      "i32", // int protocol
    ],
    result: "i32",
  },
  sendto: {
    parameters: [
      "i32", // int fd
      "buffer", // const void *buf
      "usize", // size_t n
      "i32", // int flags
      "buffer", // const struct sockaddr *addr
      "u32", // socklen_t addr_len
    ],
    result: "isize",
  },
  close: { parameters: ["i32"], result: "i32" },
  // int *__errno_location(void): right only straight after a synchronous call
  __errno_location: { parameters: [], result: "pointer" },
} as const satisfies Deno.ForeignLibraryInterface;

const AF_UNIX = 1, SOCK_DGRAM = 2, SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40, MSG_NOSIGNAL = 0x4000;
/** `struct sockaddr_un` (sys/un.h): 16 bits of family, then 108 bytes of path. */
const PATH_OFFSET = 2, PATH_MAX = 108;

/** Sends datagrams to one Unix socket. */
export interface DatagramSender extends Disposable {
  /**
   * Sends one, and does not wait for room there.
   *
   * @throws {Error} with the errno in its message where nobody listens, or the system has no such sockets
   */
  send(data: Uint8Array<ArrayBuffer>): void;
}

/**
 * Opens what datagrams are sent by; that is not a connection. It works on when the permission to open libraries is given
 * up.
 *
 * @param path of the socket; one that begins with `@` is an abstract name
 * @throws {Error} where the system has no such sockets, or the path is too long
 */
export function openDatagrams(path: string): DatagramSender {
  if (Deno.build.os !== "linux") {
    throw new Error(`Cannot send to "${path}": not possible on ${Deno.build.os}`);
  }
  const name = new TextEncoder().encode(path), abstract = path.startsWith("@");
  if (name.length >= PATH_MAX) throw new Error(`Cannot send to "${path}": the path is too long`);
  const address = new Uint8Array(PATH_OFFSET + name.length + (abstract ? 0 : 1));
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, PATH_OFFSET);
  if (abstract) address[PATH_OFFSET] = 0;
  const library = Deno.dlopen("libc.so.6", LIBC);
  const { socket, sendto, close, __errno_location } = library.symbols;
  return {
    send: (data) => {
      const fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
      const size = BigInt(data.length), flags = MSG_DONTWAIT | MSG_NOSIGNAL;
      const sent = fd < 0 ? -1n : sendto(fd, data, size, flags, address, address.length);
      const errno = sent === size ? 0 : errnoAt(__errno_location());
      if (fd >= 0) close(fd);
      if (sent !== size) throw new Error(`Cannot send to "${path}": errno ${errno}`);
    },
    [Symbol.dispose]: () => library.close(),
  };
}

/** Reading memory takes the permission that may have been given up. */
function errnoAt(location: Deno.PointerValue): number | "unknown" {
  try {
    return new Deno.UnsafePointerView(location!).getInt32();
  } catch {
    return "unknown";
  }
}

/** Sends one datagram to a Unix socket. @throws {Error} as {@linkcode openDatagrams} and its `send()` */
export function sendDatagram(path: string, data: Uint8Array<ArrayBuffer>): void {
  using sender = openDatagrams(path);
  sender.send(data);
}
