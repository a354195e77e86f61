/** Clients that misbehave, each in its own way, until they are told to stop. */
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { buildFrame } from "../../net/frames.ts";
import { FieldWriter, Op } from "../../net/mod.ts";
import { BLOCK_BYTES, HOST } from "../net/servers.ts";

/** Where and as whom. */
export interface Target {
  readonly port: number;
  readonly token: string;
  /** A container that has blocks. */
  readonly container: string;
  /** Address of this machine to come from. */
  readonly from: string;
}

/** What was done. */
export interface Deeds {
  /** Connections that were made, those that were refused included. */
  connections: number;
  /** Bytes that were handed to TLS, or to TCP where there is none. */
  sent: number;
}

/** One that misbehaves on connections of its own. */
class Culprit {
  readonly target: Target;
  readonly #deeds: Deeds;
  /** Those that are open. */
  readonly #sockets: Set<Socket>;

  constructor(target: Target, deeds: Deeds, sockets: Set<Socket>) {
    this.target = target;
    this.#deeds = deeds;
    this.#sockets = sockets;
  }

  /**
   * Connects.
   *
   * @param options `bare`: without TLS; `deaf`: takes nothing of what comes (pausing a TLSSocket does not do that in
   * Deno 2.9.6)
   */
  async connect(options: { readonly bare?: boolean; readonly deaf?: boolean } = {}): Promise<Socket> {
    this.#deeds.connections++;
    const raw = connectTcp({ host: HOST, port: this.target.port, localAddress: this.target.from });
    this.#sockets.add(raw);
    raw.once("close", () => this.#sockets.delete(raw));
    const socket = options.bare ? raw : connectTls({ socket: raw, rejectUnauthorized: false });
    raw.on("error", () => socket.destroy());
    socket.on("error", () => raw.destroy());
    await new Promise<void>((resolve, reject) => {
      socket.once(options.bare ? "connect" : "secureConnect", () => resolve());
      for (const one of [raw, socket]) one.once("close", () => reject(new Error("it was refused")));
    });
    if (options.deaf) (raw as unknown as { _handle: { readStop(): void } })._handle.readStop();
    return socket;
  }

  /** Resolves when TCP has taken it. */
  send(socket: Socket, bytes: Uint8Array): Promise<void> {
    this.#deeds.sent += bytes.length;
    return new Promise((resolve, reject) => {
      const broken = () => reject(new Error("it was ended"));
      if (socket.destroyed) return broken();
      socket.once("close", broken);
      socket.write(bytes, (error) => {
        socket.off("close", broken);
        if (error) reject(error);
        else resolve();
      });
    });
  }

  /** Connects, and shows the token. */
  async greet(options: { readonly deaf?: boolean } = {}): Promise<Socket> {
    const { token, container } = this.target, socket = await this.connect(options);
    await this.send(socket, hello(token));
    await this.send(socket, request(Op.open, new FieldWriter(1 + container.length).name(container).bytes, 2));
    return socket;
  }

  /** Sends requests without end. @param options `deaf`: takes no replies */
  async flood(frame: Uint8Array, options: { readonly deaf?: boolean } = {}): Promise<void> {
    const socket = await this.greet(options), count = Math.ceil(60_000 / frame.length);
    socket.resume();
    const frames = new Uint8Array(frame.length * count);
    for (let i = 0; i < count; i++) frames.set(frame, i * frame.length);
    for (;;) await this.send(socket, frames);
  }
}

/** Resolves when the server has ended a connection. */
const ended = (socket: Socket) =>
  new Promise<void>((resolve) =>
    socket.destroyed ? resolve() : socket.once("close", () => resolve()).resume()
  );

const forEver = () => new Promise<never>(() => {});

const request = (operation: Op, fields: Uint8Array = new Uint8Array(0), id = 3) =>
  buildFrame({ operation, direction: 0, status: 0, id }, fields);

function hello(token: string): Uint8Array {
  const magic = new TextEncoder().encode("CVFS"),
    secret = Uint8Array.fromBase64(token, { alphabet: "base64url" });
  return request(
    Op.hello,
    new FieldWriter(72).raw(magic).u16(1).u16(1).raw(new Uint8Array(32)).raw(secret).bytes,
  );
}

/** The head of a frame that says that it has so many bytes. */
function head(operation: Op, length: number): Uint8Array {
  const frame = request(operation);
  new DataView(frame.buffer).setUint32(0, length, true);
  return frame;
}

const noise = () => crypto.getRandomValues(new Uint8Array(60_000));
const readMany = request(Op.read, new FieldWriter(12).u64(0).u32(1024).bytes);
const readFew = request(Op.read, new FieldWriter(12).u64(0).u32(1).bytes);
const wrongWrite = request(Op.write, new FieldWriter(8 + BLOCK_BYTES).u64(0).bytes);
const wrongProof = request(Op.lease, new Uint8Array(1 + 16 + 16 + 64));

/** The ways, by name. Each begins anew when the server has ended what it did. */
export const MISCHIEF: readonly [name: string, (culprit: Culprit) => Promise<unknown>][] = [
  ["a handshake that never goes on", async (by) => ended(await by.connect({ bare: true }))],
  ["connections that come and go", async (by) => {
    for (;;) (await by.connect({ bare: true })).destroy();
  }],
  ["handshakes, and nothing after", async (by) => {
    for (;;) (await by.connect()).destroy();
  }],
  ["garbage instead of TLS", async (by) => {
    const socket = await by.connect({ bare: true });
    await by.send(socket, noise());
    await ended(socket);
  }],
  ["garbage instead of frames", async (by) => {
    const socket = await by.connect();
    await by.send(socket, noise());
    await ended(socket);
  }],
  ["frames that are too long", async (by) => {
    const socket = await by.greet();
    await by.send(socket, head(Op.write, 0xffff_fff0));
    await ended(socket);
  }],
  ["frames that do not end", async (by) => {
    const socket = await by.greet();
    await by.send(socket, head(Op.write, 4 << 20));
    await by.send(socket, noise());
    await ended(socket);
  }],
  ["wrong tokens", async (by) => {
    const socket = await by.connect();
    await by.send(socket, hello("B".repeat(43)));
    await ended(socket);
  }],
  ["wrong proofs", (by) => by.flood(wrongProof)],
  ["big replies that are not taken", async (by) => {
    const socket = await by.greet({ deaf: true });
    for (let id = 3; id < 100; id++) await by.send(socket, readMany);
    await forEver();
  }],
  ["floods of PING, and nothing is read", (by) => by.flood(request(Op.ping), { deaf: true })],
  ["floods of PING", (by) => by.flood(request(Op.ping))],
  ["floods of LIST", (by) => by.flood(request(Op.list))],
  ["floods of SIZE", (by) => by.flood(request(Op.size))],
  ["floods of small READs", (by) => by.flood(readFew)],
  ["floods of writes without the right", (by) => by.flood(wrongWrite)],
  ["silence", async (by) => ended(await by.greet())],
];

/** A number of them, all at work. */
export class Mischievous {
  readonly #sockets = new Set<Socket>();
  #stopped = false;
  readonly deeds: Deeds = { connections: 0, sent: 0 };

  /** @param targets one for each: they misbehave in turns of `ways` */
  constructor(targets: readonly Target[], ways: typeof MISCHIEF = MISCHIEF) {
    for (const [i, target] of targets.entries()) {
      void this.#misbehave(new Culprit(target, this.deeds, this.#sockets), ways[i % ways.length]![1]);
    }
  }

  async #misbehave(culprit: Culprit, mischief: (by: Culprit) => Promise<unknown>): Promise<void> {
    while (!this.#stopped) {
      try {
        await mischief(culprit);
      } catch {
        // it was ended, or not let in
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Ends what is open. */
  stop(): void {
    this.#stopped = true;
    for (const socket of this.#sockets) socket.destroy();
  }
}
