import fc from "fast-check";
import { SEED } from "../fs/fixture.ts";
import { fuzz } from "./fuzz.ts";
import { makeTargets } from "./targets.ts";

const RUNS = 400;

for (const [name, target] of Object.entries(await makeTargets())) {
  Deno.test(`whatever it is told, only documented errors come out of: ${name} (seed ${SEED})`, async () => {
    await fc.assert(fuzz(target), { numRuns: RUNS, seed: SEED });
  });
}
