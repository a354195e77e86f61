/** Good clients of one server, beside others that misbehave: what throughput is left to them, and that nothing is lost. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { CoverError } from "../../crypto/errors.ts";
import {
  Connection,
  type ConnectOptions,
  FieldWriter,
  identifyServer,
  Op,
  parseLocatorUrl,
} from "../../net/mod.ts";
import { Access } from "../../net/protocol.ts";
import { type Program, ServerProcess } from "../cli/processes.ts";
import { Workplace } from "../cli/run.ts";
import { BLOCK_BYTES, HOST, makeWriter, same } from "../net/servers.ts";
import { WINDOWS } from "../platform.ts";
import type { Work } from "./misbehaving_process.ts";
import type { Deeds } from "./mischief.ts";

/** Blocks that a good client writes, makes durable and reads back in one turn, and how many such runs it has. */
const RUN = 16, RUNS = 8;

/** How much of it. */
export interface LoadOptions {
  /** Rounds, each without those who misbehave and with them. */
  readonly rounds: number;
  /** Length of each half of a round. */
  readonly seconds: number;
  readonly good: number;
  readonly bad: number;
  /** Part of the name of a way to misbehave; absent: all of them. */
  readonly only?: string | undefined;
}

/** What was measured. */
export interface LoadResult {
  /** A row for each round. */
  readonly table: string;
  /** What is left to the good ones beside the others: the middle one of the rounds' shares. */
  readonly share: number;
  /** Connections a second of those who misbehave, in the round that has the fewest. */
  readonly connections: number;
  /** Turns whose content was not what was written, and connections that were ended. */
  readonly lost: number;
  /** Most memory that the server has taken, in MiB: by those alone, and in the end. */
  readonly memory: { readonly alone: number; readonly beside: number };
}

/** A client with a container of its own that it writes and reads back. */
export class GoodClient {
  readonly #connection: Connection;
  readonly #runs = Array.from({ length: RUNS }, () => new Uint8Array(RUN * BLOCK_BYTES));
  /** The runs that are durable by the server's word, as they are in {@linkcode GoodClient.run}. */
  readonly acknowledged = new Set<number>();
  turns = 0;
  lost = 0;

  private constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Connects as every client does, and makes the container `name`. */
  static async make(options: ConnectOptions, name: string): Promise<GoodClient> {
    const connection = await connectAgain(options);
    const { prover, containerId, session } = await makeWriter();
    const proof = await connection.prove(prover, { containerId, session, access: Access.create, name });
    const fields = new FieldWriter(1 + name.length + 128).name(name).raw(containerId).raw(prover.publicKey)
      .raw(session).raw(proof);
    await connection.request(Op.create, fields.bytes);
    return new GoodClient(connection);
  }

  /** What was written to a run last, and the position of its first block. */
  run(index: number): { readonly bytes: Uint8Array; readonly position: number } {
    return { bytes: this.#runs[index]!, position: index * RUN };
  }

  /** Writes, flushes and reads back until `until` (`performance.now()`), and gives how many turns that were. */
  async work(until: number): Promise<number> {
    let turns = 0;
    try {
      for (; performance.now() < until; turns++) {
        const index = ++this.turns % RUNS, { bytes, position } = this.run(index);
        this.acknowledged.delete(index);
        bytes.fill(this.turns % 251);
        crypto.getRandomValues(bytes.subarray(0, 32));
        const where = new FieldWriter(8).u64(position).bytes;
        const written = this.#connection.request(Op.write, where, { payload: bytes, bulk: true });
        await Promise.all([written, this.#connection.request(Op.flush, undefined, { bulk: true })]);
        this.acknowledged.add(index);
        const wanted = new FieldWriter(12).u64(position).u32(RUN).bytes;
        if (!same(await this.#connection.request(Op.read, wanted), bytes)) this.lost++;
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

/**
 * Those who misbehave, in a process of their own at the lowest priority: they stand for other machines, so that what
 * they do themselves must take no time from the server and the good ones. Linux compares priorities within a session
 * only, and sessions by a priority of their own (sched(7), "The autogroup feature"): so they have their own session too,
 * and that the lowest as well.
 */
export class Others {
  readonly #child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;

  /** @param work `count` of them */
  constructor(work: Work) {
    const script = fileURLToPath(new URL("./misbehaving_process.ts", import.meta.url));
    const run = [Deno.execPath(), "run", "-A", "--no-check", "--quiet", script, JSON.stringify(work)];
    // Windows has no nice.
    const [command, ...args] = [...WINDOWS ? [] : ["nice", "-n", "19"], ...run];
    this.#child = new Deno.Command(command!, {
      args,
      ...{ stdin: "piped", stdout: "piped", stderr: "inherit" },
      detached: true,
    }).spawn();
    const autogroup = `/proc/${this.pid}/autogroup`;
    if (existsSync(autogroup)) Deno.writeTextFileSync(autogroup, "19");
    this.#lines = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Resolves when all have begun. */
  async begun(): Promise<void> {
    assert.equal((await this.#lines.read()).value, "begun\n");
  }

  /** Ends them. @returns what they did: that they were at work to the end */
  async end(): Promise<Deeds> {
    await this.#child.stdin.close();
    const { value } = await this.#lines.read();
    assert((await this.#child.status).success, "those who misbehave have failed");
    await this.#lines.cancel();
    return JSON.parse(value!);
  }
}

/** Connects; where too many of this address came at once, until it is let in. */
async function connectAgain(options: ConnectOptions): Promise<Connection> {
  for (;;) {
    try {
      return await Connection.connect(options);
    } catch (error) {
      if (!(error instanceof CoverError && error.kind === "no-connection")) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/** Good clients, whose containers are `good-0` and so on. */
export async function goodClients(server: ServerProcess, count: number): Promise<GoodClient[]> {
  const { token, fingerprint } = parseLocatorUrl(server.link), address = { host: HOST, port: server.port };
  const { signal } = new AbortController(), identity = await identifyServer(address, { fingerprint, signal });
  const clients: GoodClient[] = [];
  for (let i = 0; i < count; i++) {
    clients.push(await GoodClient.make({ address, identity, token: token!, signal }, `good-${i}`));
  }
  return clients;
}

/** Most memory that a process has had so far, in MiB (proc_pid_status(5)); NaN where nothing tells. */
function peakMemory({ pid }: Program): number {
  if (Deno.build.os !== "linux") return NaN;
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(Deno.readTextFileSync(`/proc/${pid}/status`))![1]) / 1024;
}

/** Processor time that a process has taken, in ms (proc_pid_stat(5), in ticks of 10 ms); NaN where nothing tells. */
function processorTime(pid: number): number {
  if (Deno.build.os !== "linux") return NaN;
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\) /, "").split(" ");
  return 10 * (Number(fields[11]) + Number(fields[12]));
}

/** Processor time that the whole machine has taken, and what its host took from it, in ms (proc_stat(5)). */
function machineTime(): number {
  if (Deno.build.os !== "linux") return NaN;
  const [user, nice, system, , , interrupts, soft, steal] = Deno.readTextFileSync("/proc/stat").split(
    "\n",
  )[0]!
    .split(/ +/).slice(1).map(Number);
  return 10 * (user! + nice! + system! + interrupts! + soft! + steal!);
}

/** Measures in turns, so that what else the machine does falls on both. */
export async function measureLoad(options: LoadOptions): Promise<LoadResult> {
  const { rounds, seconds, good, bad, only } = options;
  await using place = await Workplace.make();
  await using server = await ServerProcess.start(place, [
    ...["--ram", "--max-connections", "400", "--max-address-connections", "200"],
  ]);
  const clients = await goodClients(server, good);
  const { token } = parseLocatorUrl(server.link), { port } = server;
  const others = { port, token: token!, count: bad, ...only !== undefined && { only } };
  /**
   * Mebibytes a second, written and read back; what one of them took of the server's processor time, in ms; and what
   * those who misbehave, and whatever else the machine did, took of one processor.
   */
  const measure = async (misbehaving?: Others) => {
    const times = () => {
      const [server_, self, theirs] = [server.program.pid, Deno.pid, misbehaving?.pid].map((pid) =>
        pid === undefined ? 0 : processorTime(pid)
      );
      return { server: server_!, theirs: theirs!, elsewhere: machineTime() - server_! - self! - theirs! };
    };
    const began = performance.now(), before = times();
    const turns = await Promise.all(clients.map((client) => client.work(began + seconds * 1000)));
    const took = (performance.now() - began) / 1000, after = times();
    const mebibytes = turns.reduce((sum, one) => sum + one, 0) * 2 * RUN * BLOCK_BYTES / 2 ** 20;
    const part = (of: "theirs" | "elsewhere") => (after[of] - before[of]) / took / 1000;
    const cost = (after.server - before.server) / mebibytes;
    return { rate: mebibytes / took, cost, theirs: part("theirs"), elsewhere: part("elsewhere") };
  };
  type Half = Awaited<ReturnType<typeof measure>>;
  const alone: Half[] = [], beside: Half[] = [], deeds: Deeds[] = [];
  await measure(); // to warm up
  const memoryAlone = peakMemory(server.program);
  for (let round = 0; round < rounds; round++) {
    const halves = [async () => void alone.push(await measure()), async () => {
      // New addresses each time: a port that was used stays taken for a minute, and there are some thousands of each.
      const misbehaving = new Others({ ...others, network: 2 + round });
      await misbehaving.begun();
      beside.push(await measure(misbehaving));
      deeds.push(await misbehaving.end());
    }];
    for (const half of round % 2 ? halves.reverse() : halves) await half();
  }
  const memory = { alone: memoryAlone, beside: peakMemory(server.program) };
  await Promise.all(clients.map((client) => client.close()));
  const shares = alone.map(({ rate }, i) => beside[i]!.rate / rate),
    sorted = [...shares].sort((a, b) => a - b);
  const percent = (part: number) => `${(100 * part).toFixed(0)} %`;
  const rows = shares.map((share, i) => {
    const { connections, sent } = deeds[i]!, halves = [alone[i]!, beside[i]!];
    return [
      ...[i + 1, ...halves.map(({ rate }) => rate.toFixed(1)), percent(share)],
      ...[...halves.map(({ cost }) => cost.toFixed(1)), connections, (sent / 2 ** 20).toFixed(0)],
      ...[percent(halves[1]!.theirs), ...halves.map(({ elsewhere }) => percent(elsewhere))],
    ];
  });
  assert(clients.every((client) => client.turns > 0), "each was served");
  assert(deeds.every(({ connections }) => connections >= bad), "those who misbehave did so");
  const columns = [
    ...["round", `${good} alone, MiB/s`, `beside ${bad}, MiB/s`, "share", "ms a MiB, alone", "beside"],
    ...["their connections", "they sent, MiB", "their processor", "elsewhere, alone", "beside"],
  ];
  const line = (cells: readonly unknown[]) => `| ${cells.join(" | ")} |`;
  return {
    table: [line(columns), line(columns.map(() => "-")), ...rows.map(line)].join("\n"),
    share: sorted[Math.floor((sorted.length - 1) / 2)]!,
    connections: Math.min(...deeds.map(({ connections }) => connections)) / seconds,
    lost: clients.reduce((sum, client) => sum + client.lost, 0),
    memory,
  };
}
