/** The whole sweep over silent corruption, `deno task sweep`: every byte in use flipped, and a cut at every length. */
import { describeTally, emptyTally, Sweep } from "./sweep.ts";

/** How often progress is shown, in ms. */
const REPORT = 10_000;

if (import.meta.main) {
  using sweep = await Sweep.make();
  const [used, blocks] = sweep.blocks, tally = emptyTally(), began = Date.now(), faults: unknown[] = [];
  console.log(`A container of ${blocks} blocks, ${used} of them in use`);
  let reported = began;
  for (const change of sweep.changes()) {
    try {
      await sweep.try(change, tally);
    } catch (error) {
      faults.push(error);
      console.error(error);
    }
    if (Date.now() - reported < REPORT) continue;
    reported = Date.now();
    console.log(`${change.kind} at ${change.at}: ${describeTally(tally)}`);
  }
  console.log(
    `${describeTally(tally)}; ${faults.length} faults; ${Math.round((Date.now() - began) / 1000)} s`,
  );
  if (faults.length > 0) Deno.exit(1);
}
