/**
 * CoverFS beside other encrypted filesystems: the same work (`work.py`) on each, in turns, all backed by tmpfs.
 *
 *     deno task bench [--rounds N] [--scale S] [--megabytes N] [--only NAME,...] [--picture FILE]
 *     deno task bench --link DELAY,MBIT ...
 *
 * With `--link` the ciphertext lies behind a link of so many milliseconds each way and so many Mbit/s: that of
 * CoverFS on its server, that of the others by sshfs. Needs root, for mounting and for dropping caches.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { run } from "../tests/mounted/mounted_container.ts";
import { setUpPackages } from "../tests/setup.ts";
import { type Contender, CONTENDERS } from "./contenders.ts";
import { Link, type LinkOptions } from "./link.ts";
import { Figures, picture, table } from "./report.ts";

/** Where everything lies: memory, so that no disk is compared. */
const MEMORY = "/dev/shm";
/** Who is compared unless told otherwise. */
const USUAL = "coverfs-cbc,coverfs-gcm,gocryptfs,securefs";
/** What the others are compared with in the picture. */
const REFERENCE = "gocryptfs";

/** How to measure. */
interface Plan {
  readonly names: readonly string[];
  readonly rounds: number;
  readonly scale: string;
  readonly megabytes: string;
  readonly link: LinkOptions | undefined;
}

function parsePlan(
  values: { rounds: string; scale: string; megabytes: string; only: string; link?: string },
): Plan {
  const names = values.only.split(","), unknown = names.filter((name) => !Object.hasOwn(CONTENDERS, name));
  if (unknown.length > 0) {
    throw new TypeError(`Unknown: ${unknown.join(", ")}; there are: ${Object.keys(CONTENDERS).join(", ")}`);
  }
  const { rounds, scale, megabytes } = values;
  const [delay, mbit] = values.link?.split(",").map(Number) ?? [];
  const link = delay === undefined || mbit === undefined ? undefined : { delay, rate: mbit * 125_000 };
  return { names, rounds: Number(rounds), scale, megabytes, link };
}

/** Bytes that a commit of two blocks sends, and round trips that are made to measure one. */
const COMMIT = 2 * 4128, ROUND_TRIPS = 200;

/** What one TCP connection gets through a link: the measure for streams, and of round trips for commits. */
async function plainTcp(link: LinkOptions, megabytes: number): Promise<string> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using way = await Link.open((listener.addr as Deno.NetAddr).port, link);
  using near = await Deno.connect({ hostname: "127.0.0.1", port: way.port });
  using far = await listener.accept();
  for (const end of [near, far]) end.setNoDelay(true);
  const bytes = new Uint8Array(1 << 20), into = new Uint8Array(1 << 20);
  const give = async (conn: Deno.Conn, count: number) => {
    for (let left = count; left > 0;) left -= await conn.write(bytes.subarray(0, left));
  };
  const take = async (conn: Deno.Conn, count: number) => {
    for (let left = count; left > 0;) left -= (await conn.read(into))!;
  };
  const start = performance.now();
  await Promise.all([give(near, megabytes << 20), take(far, megabytes << 20)]);
  const stream = ((megabytes << 20) / 1000 / (performance.now() - start)).toFixed(1),
    began = performance.now();
  for (let i = 0; i < ROUND_TRIPS; i++) {
    await Promise.all([give(near, COMMIT), take(far, COMMIT)]);
    await Promise.all([give(far, 1), take(near, 1)]);
  }
  const trips = (1000 * ROUND_TRIPS / (performance.now() - began)).toFixed(1);
  return [
    ...["seqwrite", "seqwrite+fsync", "seqread"].map((name) => `${name} ${stream} MB/s`),
    ...["create1k+fsync", "randwrite4k+fsync", "sqlite-wal-commit"].map((name) => `${name} ${trips} /s`),
  ].join("\n");
}

async function measure(plan: Plan, work: string): Promise<Figures> {
  const figures = new Figures(), program = fileURLToPath(new URL("work.py", import.meta.url));
  await using made = new AsyncDisposableStack();
  const contenders: Contender[] = [];
  for (const name of plan.names) {
    await Deno.mkdir(`${work}/${name}`);
    contenders.push(made.use(await CONTENDERS[name]!.make(name, `${work}/${name}`, plan.link)));
  }
  for (let round = 1; round <= plan.rounds; round++) {
    for (const contender of contenders) {
      await contender.mount();
      const { code, stdout, stderr } = await run(
        [
          "python3",
          program,
          contender.mountpoint,
          plan.scale,
          plan.megabytes,
          ...(plan.link ? ["link"] : []),
        ],
        { env: { BENCH_LOCAL: `${work}/local` } },
      );
      await contender.unmount();
      if (code !== 0) throw new Error(`${contender.name}: ${stderr}`);
      figures.add(contender.name, stdout);
      console.error(`round ${round} of ${plan.rounds}: ${contender.name} done`);
    }
    if (plan.link) figures.add("plain TCP", await plainTcp(plan.link, Number(plan.megabytes)));
  }
  return figures;
}

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    scale: { type: "string", default: "1" },
    megabytes: { type: "string", default: "256" },
    only: { type: "string", default: USUAL },
    link: { type: "string" },
    picture: { type: "string" },
  },
});
const plan = parsePlan(values), needs = plan.names.flatMap((name) => CONTENDERS[name]!.needs);
const remote = plan.link ? ["sshfs:sshfs", "/usr/sbin/sshd:openssh-server"] : [];
await setUpPackages(["fusermount3:fuse3", "python3:python3", ...remote, ...needs]);
const work = await Deno.makeTempDir({ dir: MEMORY, prefix: "coverfs-bench-" });
try {
  const { works } = await measure(plan, work), all = plan.link ? [...plan.names, "plain TCP"] : plan.names;
  console.log(table(works, all));
  if (values.picture) {
    const title = `Times ${REFERENCE}${
      plan.link ? ` on sshfs, ${2 * plan.link.delay} ms round trip` : ""
    }: more is better`;
    await Deno.writeTextFile(values.picture, picture(works, plan.names, { title, reference: REFERENCE }));
  }
} finally {
  await Deno.remove(work, { recursive: true });
}
