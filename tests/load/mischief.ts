/** Clients that misbehave, each in its own way, until they are told to stop. */
import { buildFrame } from "../../net/frames.ts";
import { FieldWriter, identifyServer, Op } from "../../net/mod.ts";
import { closeQuietly, dial } from "../../net/trust.ts";
import { HOST } from "../net/servers.ts";

/** Where and as whom. */
export interface Target {
  readonly port: number;
  readonly token: string;
  /** Of the server. */
  readonly fingerprint: string;
  /** A container that has blocks. */
  readonly container: string;
}

/** One way to misbehave, which reads nothing. Begins anew whenever it is ended. */
type Mischief = (target: Target, conn: Deno.TlsConn) => Promise<unknown>;

const request = (operation: Op, fields: Uint8Array, id = 1) =>
  buildFrame({ operation, direction: 0, status: 0, id }, fields);

function hello(token: string): Uint8Array {
  return request(
    Op.hello,
    new FieldWriter(72).raw(new TextEncoder().encode("CVFS")).u16(1).u16(1).raw(new Uint8Array(32))
      .raw(Uint8Array.fromBase64(token, { alphabet: "base64url" })).bytes,
  );
}

async function greet({ token, container }: Target, conn: Deno.TlsConn): Promise<void> {
  await send(conn, hello(token));
  await send(conn, request(Op.open, new FieldWriter(1 + container.length).name(container).bytes, 2));
}

async function send(conn: Deno.TlsConn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
}

const readMany = (id: number) => request(Op.read, new FieldWriter(12).u64(0).u32(1024).bytes, id);

/** The ways, by name; who does nothing in the first does not even speak TLS. */
export const MISCHIEF: readonly [name: string, Mischief][] = [
  ["a handshake that never goes on", () => Promise.resolve()],
  ["garbage", (_, conn) => send(conn, crypto.getRandomValues(new Uint8Array(60_000)))],
  ["frames that do not end", async (target, conn) => {
    await greet(target, conn);
    const frame = request(Op.write, new Uint8Array(0), 3);
    new DataView(frame.buffer).setUint32(0, 4 << 20, true);
    await send(conn, frame);
    await send(conn, new Uint8Array(100_000));
  }],
  ["wrong tokens", (_, conn) => send(conn, hello("B".repeat(43)))],
  ["big replies that are not taken", async (target, conn) => {
    await greet(target, conn);
    for (let id = 3; id < 100; id++) await send(conn, readMany(id));
  }],
  ["floods of requests, and nothing is read", async (target, conn) => {
    await greet(target, conn);
    const ping = request(Op.ping, new Uint8Array(0), 7), pings = new Uint8Array(ping.length * 5000);
    for (let at = 0; at < pings.length; at += ping.length) pings.set(ping, at);
    for (;;) await send(conn, pings);
  }],
  ["silence", greet],
];
/** Ways after which the server ends the connection: they begin anew then, and else when the time is over. */
const ENDED: ReadonlySet<string> = new Set(["garbage", "wrong tokens"]);

/** A number of them, all at work. */
export class Mischievous {
  readonly #open = new Set<Deno.Conn>();
  #stopped = false;

  /** @param targets one for each: they misbehave in turns of {@linkcode MISCHIEF} */
  constructor(targets: readonly Target[]) {
    for (const [i, target] of targets.entries()) void this.#misbehave(target, MISCHIEF[i % MISCHIEF.length]!);
  }

  async #misbehave(target: Target, [name, mischief]: (typeof MISCHIEF)[number]): Promise<void> {
    const address = { host: HOST, port: target.port }, { signal } = new AbortController();
    const identity = await identifyServer(address, { fingerprint: target.fingerprint, signal });
    while (!this.#stopped) {
      try {
        const conn = mischief === MISCHIEF[0]![1]
          ? await Deno.connect({ hostname: HOST, port: target.port })
          : (await dial(address, identity, signal)).conn;
        this.#open.add(conn);
        await mischief(target, conn as Deno.TlsConn);
        if (ENDED.has(name)) { while (await conn.read(new Uint8Array(4096)) !== null); }
        else return;
      } catch {
        // it was ended
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  /** Ends what is open. */
  stop(): void {
    this.#stopped = true;
    for (const conn of this.#open) closeQuietly(conn);
  }
}
