/** Outages: what a mount over a network lives through while programs save on it, without mounting anew. */
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { MountProcess, ServerProcess } from "../cli/processes.ts";
import { until, Workplace } from "../cli/run.ts";
import { randomNumbers } from "../layout/random.ts";
import { Replacer } from "./replacer.ts";
import { Wire } from "./wire.ts";

/** How long outages are, in ms, and with what options the mount is made. */
export interface OutageOptions {
  readonly seed: number;
  /** How long the network or the server is away. */
  readonly away: number;
  /** How long the client sleeps: more than it would wait awake. */
  readonly asleep: number;
  readonly args?: readonly string[];
  readonly told?: (outage: Outage) => void;
}

/** How one outage went. */
export interface Outage {
  readonly what: string;
  /** Saves that were acknowledged before and after it. */
  readonly acknowledged: number;
  /** From its end to the next acknowledged save, in ms. */
  readonly recovered: number;
}

/** What can happen to a mount and its server. */
interface Scene {
  readonly wire: Wire;
  readonly server: ServerProcess;
  readonly mount: MountProcess;
  readonly away: () => Promise<void>;
  readonly asleep: () => Promise<void>;
}

/** Each goes from the beginning of an outage to its end. */
const OUTAGES: Readonly<Record<string, (scene: Scene) => Promise<void>>> = {
  "the plug is pulled": async ({ wire, away }) => {
    await wire.pull();
    await away();
    await wire.plug();
  },
  "packets vanish": async ({ wire, away }) => {
    await wire.vanish();
    await away();
    await wire.restore();
  },
  // The old connection stays half-open: what is sent on it comes from an address that nobody has.
  "a new address": async ({ wire }) => await wire.move(),
  "the server is killed and started again": async ({ server, away }) => {
    await server.kill();
    await away();
    await server.restart();
  },
  "the client sleeps, and wakes up with a new address": async ({ wire, mount, asleep }) => {
    await wire.vanish();
    mount.program.signal("SIGSTOP");
    await asleep();
    // Before anything else: a program that starts while files of a stopped mount are open here waits for that mount.
    mount.program.signal("SIGCONT");
    await wire.restore();
    await wire.move();
  },
};

/**
 * Has one outage after another while programs save files by temporary and rename. No save may fail; each mount ends
 * with 0, the container is clean by `fsck --scrub`, and every saved file is there in a new mount.
 */
export async function outages(options: OutageOptions): Promise<void> {
  const { seed, args = [], told } = options, random = randomNumbers(seed);
  await using place = await Workplace.make();
  await using wire = await Wire.make();
  await mkdir(place.path("served"));
  await mkdir(place.path("mnt"));
  await using server = await ServerProcess.start(place, ["--host", wire.here]);
  const made = await place.run(["init", "--kdf-rounds", "210000", server.link]);
  assert.equal(made.code, 0, made.error);
  const loads = [1, 2, 3].map((number) => new Replacer(number)), at = place.path("mnt");
  const start = () => MountProcess.start(place, { container: server.link, at, args, under: wire.under });
  const folder = (load: Replacer) => `${at}/${load.name}`;
  const acknowledged = () => loads.reduce((sum, load) => sum + load.acknowledged, 0);
  for (const [what, outage] of Object.entries(OUTAGES)) {
    await using mount = await start();
    for (const load of loads) await mkdir(folder(load), { recursive: true });
    const stop = new AbortController(), before = acknowledged();
    const running = Promise.all(
      loads.map((load) =>
        load.run({ directory: folder(load), random: randomNumbers(random(2 ** 31)), signal: stop.signal })
      ),
    );
    running.catch(() => {}); // awaited below
    const more = async (count: number) => {
      const least = acknowledged() + count;
      await Promise.race([until(`saves after: ${what}`, () => acknowledged() >= least), running]);
    };
    await more(3);
    const wait = (milliseconds: number) => () => new Promise<void>((done) => setTimeout(done, milliseconds));
    await outage({ wire, server, mount, away: wait(options.away), asleep: wait(options.asleep) });
    const over = performance.now();
    await more(1);
    const recovered = performance.now() - over;
    await more(3);
    stop.abort();
    await running;
    assert.equal(await mount.unmount(), 0, mount.program.said);
    const checked = await place.run(["fsck", "--scrub", server.link]);
    assert.equal(checked.code, 0, checked.out + checked.error);
    await using again = await start();
    for (const load of loads) await load.verify(folder(load));
    assert.equal(await again.unmount(), 0, again.program.said);
    told?.({ what, acknowledged: acknowledged() - before, recovered });
  }
}
