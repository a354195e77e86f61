import assert from "node:assert/strict";
import { SUITE_NAMES } from "../../crypto/mod.ts";
import { randomNumbers, SEED } from "./fixture.ts";
import { type Change, describeTally, emptyTally, Sweep } from "./sweep.ts";

/** Of so many changes of the whole sweep one is tried here. */
const SAMPLED = 800;

for (const suite of SUITE_NAMES) {
  Deno.test(`whichever byte of a container is flipped, and wherever it is cut, no wrong data shows (${suite}, seed ${SEED})`, async () => {
    using sweep = await Sweep.make(suite);
    const random = randomNumbers(SEED), tally = emptyTally();
    let skip = random(SAMPLED), region: Change["kind"] = "flip";
    for (const change of sweep.changes()) {
      if (change.kind !== region) region = change.kind, skip = 0;
      if (skip-- > 0) continue;
      await sweep.try(change, tally);
      // Most lengths lie in what is not in use, or lose all that is behind the header.
      skip = random(2 * SAMPLED) * (change.kind === "cut" ? 10 : 1);
    }
    assert.ok(tally.cases > 125, describeTally(tally));
    for (const outcome of ["served", "refused"] as const) {
      assert.ok(tally[outcome] > 0, `${outcome}: ${describeTally(tally)}`);
    }
  });
}
