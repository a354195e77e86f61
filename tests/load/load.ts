/** Good clients of one server, beside others that misbehave: what throughput is left to them, and that nothing is lost. */
import assert from "node:assert/strict";
import { connect as connectTcp } from "node:net";
import { connect as connectTls } from "node:tls";
import { Connection, FieldWriter, Op, parseLocatorUrl } from "../../net/mod.ts";
import { Access } from "../../net/protocol.ts";
import { TlsStream } from "../../net/tls_listener.ts";
import { ServerProcess } from "../cli/processes.ts";
import { Workplace } from "../cli/run.ts";
import { BLOCK_BYTES, HOST, makeWriter, same } from "../net/servers.ts";
import type { Target } from "./mischief.ts";

/** Blocks that a good client writes, makes durable and reads back in one turn. */
const RUN = 16;

/** How much of it. */
export interface LoadOptions {
  /** Rounds, each without those who misbehave and with them. */
  readonly rounds: number;
  /** Length of each half of a round. */
  readonly seconds: number;
  readonly good: number;
  readonly bad: number;
}

/** What was measured. */
export interface LoadResult {
  /** A row for each round. */
  readonly table: string;
  /** What is left to the good ones beside the others: the middle one of the rounds' shares. */
  readonly share: number;
  /** Turns whose content was not what was written, and connections that were ended. */
  readonly lost: number;
}

/** A client with a container of its own that it writes and reads back. */
class GoodClient {
  readonly #connection: Connection;
  readonly #run = new Uint8Array(RUN * BLOCK_BYTES);
  turns = 0;
  lost = 0;

  private constructor(connection: Connection) {
    this.#connection = connection;
  }

  static async make(
    target: Target & { readonly from: string; readonly certificateHash: Uint8Array<ArrayBuffer> },
  ): Promise<GoodClient> {
    const { port, from, token, container: name, certificateHash } = target;
    const raw = connectTcp({ host: HOST, port, localAddress: from });
    const socket = connectTls({ socket: raw, rejectUnauthorized: false });
    await new Promise<void>((resolve, reject) => {
      socket.once("secureConnect", () => resolve());
      socket.once("error", reject);
    });
    const connection = await Connection.greet({ conn: new TlsStream(socket, raw), certificateHash }, {
      ...{ token, address: { host: HOST, port } },
      signal: new AbortController().signal,
    });
    const { prover, containerId, session } = await makeWriter();
    const proof = await connection.prove(prover, { containerId, session, access: Access.create, name });
    const fields = new FieldWriter(1 + name.length + 128).name(name).raw(containerId).raw(prover.publicKey)
      .raw(session).raw(proof);
    await connection.request(Op.create, fields.bytes);
    return new GoodClient(connection);
  }

  /** Writes, flushes and reads back until `until` (`performance.now()`), and gives how many turns that were. */
  async work(until: number): Promise<number> {
    let turns = 0;
    try {
      for (; performance.now() < until; turns++) {
        this.#run.fill(++this.turns % 251);
        crypto.getRandomValues(this.#run.subarray(0, 32));
        const position = new FieldWriter(8).u64(this.turns % 8 * RUN).bytes;
        const written = this.#connection.request(Op.write, position, { payload: this.#run, bulk: true });
        await Promise.all([written, this.#connection.request(Op.flush)]);
        const where = new FieldWriter(12).u64(this.turns % 8 * RUN).u32(RUN).bytes;
        if (!same(await this.#connection.request(Op.read, where), this.#run)) this.lost++;
      }
    } catch {
      this.lost++; // its connection was ended
    }
    return turns;
  }

  close(): Promise<void> {
    return this.#connection.close();
  }
}

/** Those who misbehave, in a process of their own. */
class Others implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;

  constructor(targets: Omit<Target, "container"> & { readonly count: number }) {
    const script = new URL("./misbehaving_process.ts", import.meta.url).pathname;
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", "--quiet", script, JSON.stringify(targets)],
      ...{ stdin: "piped", stdout: "piped", stderr: "inherit" },
    }).spawn();
  }

  /** Resolves when all have begun. */
  async begun(): Promise<void> {
    const reader = this.#child.stdout.getReader();
    await reader.read();
    reader.releaseLock();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child.stdin.close();
    await this.#child.stdout.cancel();
    await this.#child.status;
  }
}

/** Measures in turns, so that what else the machine does falls on both. */
export async function measureLoad({ rounds, seconds, good, bad }: LoadOptions): Promise<LoadResult> {
  await using place = await Workplace.make();
  await using server = await ServerProcess.start(place, ["--ram", "--max-connections", "400"]);
  const { token, fingerprint } = parseLocatorUrl(server.link), { port } = server;
  const certificateHash = Uint8Array.fromBase64(fingerprint!, { alphabet: "base64url" });
  const clients: GoodClient[] = [];
  for (let i = 0; i < good; i++) {
    const from = `127.0.1.${1 + i % 10}`, container = `good-${i}`;
    clients.push(
      await GoodClient.make({
        port,
        token: token!,
        from,
        container,
        certificateHash,
        fingerprint: fingerprint!,
      }),
    );
  }
  const others = { port, token: token!, fingerprint: fingerprint!, count: bad };
  /** Mebibytes a second, written and read back. */
  const measure = async () => {
    const began = performance.now();
    const turns = await Promise.all(clients.map((client) => client.work(began + seconds * 1000)));
    const took = (performance.now() - began) / 1000;
    return turns.reduce((sum, one) => sum + one, 0) * 2 * RUN * BLOCK_BYTES / took / 2 ** 20;
  };
  const alone: number[] = [], beside: number[] = [];
  await measure(); // to warm up
  for (let round = 0; round < rounds; round++) {
    const halves = [async () => void alone.push(await measure()), async () => {
      await using misbehaving = new Others(others);
      await misbehaving.begun();
      beside.push(await measure());
    }];
    for (const half of round % 2 ? halves.reverse() : halves) await half();
  }
  await Promise.all(clients.map((client) => client.close()));
  const shares = alone.map((one, i) => beside[i]! / one), sorted = [...shares].sort((a, b) => a - b);
  const rows = shares.map((share, i) =>
    `| ${i + 1} | ${alone[i]!.toFixed(1)} | ${beside[i]!.toFixed(1)} | ${(100 * share).toFixed(0)} % |`
  );
  assert(clients.every((client) => client.turns > 0), "each was served");
  return {
    table: [`| round | ${good} alone, MiB/s | beside ${bad}, MiB/s | share |`, "| - | - | - | - |", ...rows]
      .join("\n"),
    share: sorted[Math.floor((sorted.length - 1) / 2)]!,
    lost: clients.reduce((sum, client) => sum + client.lost, 0),
  };
}
