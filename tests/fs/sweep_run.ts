/**
 * The whole sweep over silent corruption, `deno task sweep [SUITE]`: every byte in use flipped, and a cut at every
 * length, of a container of each cipher suite unless one is named.
 */
import { parseSuite, SUITE_NAMES, type SuiteName } from "../../crypto/mod.ts";
import { describeTally, emptyTally, Sweep } from "./sweep.ts";

/** How often progress is shown, in ms. */
const REPORT = 10_000;

/** Sweeps a container of this suite to its end. @returns how many changes were not dealt with */
async function run(suite: SuiteName): Promise<number> {
  using sweep = await Sweep.make(suite);
  const [used, blocks] = sweep.blocks, tally = emptyTally(), began = Date.now();
  console.log(`${suite}: a container of ${blocks} blocks, ${used} of them in use`);
  let reported = began, faults = 0;
  for (const change of sweep.changes()) {
    try {
      await sweep.try(change, tally);
    } catch (error) {
      faults++;
      console.error(error);
    }
    if (Date.now() - reported < REPORT) continue;
    reported = Date.now();
    console.log(`${change.kind} at ${change.at}: ${describeTally(tally)}`);
  }
  const seconds = Math.round((Date.now() - began) / 1000);
  console.log(`${suite}: ${describeTally(tally)}; ${faults} faults; ${seconds} s`);
  return faults;
}

if (import.meta.main) {
  let faults = 0;
  for (const suite of Deno.args.length > 0 ? Deno.args.map(parseSuite) : SUITE_NAMES) {
    faults += await run(suite);
  }
  if (faults > 0) Deno.exit(1);
}
