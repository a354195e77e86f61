/**
 * The long run of the crash tests: `deno task crash [STATES] [SEED]`. Workload after workload, each with the next
 * seed and each in both kinds, until so many distinct states were judged (default 100 000), then writers that crash
 * while they recover. What is found ends the run with exit code 1 and with the command that repeats it.
 */
import { openLibcrypto } from "../../ffi/libcrypto.ts";
import type { ContainerKeys } from "../../fs/loading.ts";
import { judgeAll, judgeRecovery, record, whereIs } from "./crash_judge.ts";
import { SEED, SUITES, testKeys } from "./fixture.ts";

/** Drawn images at each moment. */
const VARIANTS = 3;
/** Of so many images one is recovered by a writer that crashes, twice over. */
const RECOVERED = 1500;

/** What a run has tried. */
interface Tally {
  workloads: number;
  events: number;
  states: number;
  /** States that differ in what anybody looked at. */
  looked: number;
  commits: number;
  recovered: number;
  recoveryStates: number;
}

async function runWorkload(seed: number, overlapping: boolean, keys: ContainerKeys, tally: Tally) {
  const recorded = await record(seed, overlapping, keys), recovery = new Set<number>();
  let images = 0;
  await judgeAll(recorded, {
    seed,
    variants: VARIANTS,
    onJudged: async (image, picture) => {
      if (images++ % RECOVERED !== 700) return;
      tally.recovered++;
      await judgeRecovery({ ...image, picture }, keys, whereIs(recorded, image), {
        depth: 2,
        again: 5,
        crashes: { seed: image.seed, modes: ["subset", "torn", "reordered"], variants: VARIANTS },
        onState: (hash) => recovery.add(hash),
      });
    },
  });
  tally.workloads++;
  tally.events += recorded.store.events.length;
  tally.states += recorded.states.size;
  tally.looked += recorded.looks.runs;
  tally.commits += recorded.pictures.size;
  tally.recoveryStates += recovery.size;
}

if (import.meta.main) {
  const wanted = Number(Deno.args[0] ?? 100_000), first = Number(Deno.args[1] ?? SEED);
  if (!(wanted > 0 && Number.isInteger(first))) {
    console.error("Usage: deno task crash [STATES] [SEED]");
    Deno.exit(2);
  }
  using engine = await openLibcrypto();
  const keys = await testKeys(SUITES[0], engine), began = Date.now();
  const tally: Tally = {
    ...{ workloads: 0, events: 0, states: 0, looked: 0, commits: 0, recovered: 0, recoveryStates: 0 },
  };
  let seed = first;
  const report = () => {
    const { workloads, events, states, looked, commits, recovered, recoveryStates } = tally;
    console.log(
      `${states} distinct states (${looked} in what was looked at) of ${commits} commits, ${workloads} workloads ` +
        `and ${events} store events; ${recoveryStates} of ${recovered} recoveries; ` +
        `seeds ${first} to ${seed}; ${Math.round((Date.now() - began) / 1000)} s`,
    );
  };
  try {
    for (;; seed++) {
      for (const overlapping of [false, true]) await runWorkload(seed, overlapping, keys, tally);
      report();
      if (tally.states >= wanted) break;
    }
  } catch (error) {
    report();
    console.error(error);
    console.error(`Repeat it with: deno task crash 1 ${seed}`);
    Deno.exit(1);
  }
}
