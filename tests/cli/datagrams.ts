/** A Unix datagram socket that listens, as systemd or syslogd would: python3 has what Deno has not. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";

const LISTENER = `
import socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
name = sys.argv[1]
listener.bind("\\0" + name[1:] if name[0] == "@" else name)
print("ready", flush=True)
while True:
    open(sys.argv[2], "ab").write(listener.recv(65536) + b"\\n")
`;

/** A listener, which goes away with it. */
export interface Datagrams extends AsyncDisposable {
  /** What came so far, one text a datagram. */
  received(): Promise<string[]>;
}

/** Listens at a path, or at an abstract name that begins with `@`; `folder` is for what comes. */
export async function listenDatagrams(socket: string, folder: string): Promise<Datagrams> {
  const path = join(folder, `received-${crypto.randomUUID()}`);
  const child = new Deno.Command("python3", {
    args: ["-c", LISTENER, socket, path],
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  return {
    received: async () =>
      (await readFile(path, "utf8").catch(() => "")).split("\n").filter((line) => line !== ""),
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await reader.cancel();
      await child.status;
    },
  };
}
