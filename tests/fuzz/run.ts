/**
 * Many runs of the fuzz targets:
 *
 *     deno task fuzz [--runs N] [--seed N] [NAME...]
 *
 * A million runs of each target unless told otherwise. Prints what all took, what the longest took of the processor, and
 * by how much memory has grown; ends with the seed and the input that broke one.
 */
import process from "node:process";
import { parseArgs } from "node:util";
import fc from "fast-check";
import { fuzz } from "./fuzz.ts";
import { makeTargets, type Target } from "./targets.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: "string", default: "1000000" },
    seed: { type: "string", default: `${Date.now() % 1_000_000_007}` },
  },
});
const targets = await makeTargets(), names = positionals.length > 0 ? positionals : Object.keys(targets);
for (const name of names) {
  const target = targets[name];
  if (target === undefined) {
    console.error(`Unknown: ${name}; there are: ${Object.keys(targets).join(", ")}`);
    Deno.exit(2);
  }
  let longest = 0;
  const timed: Target = {
    ...target,
    decode: async (input) => {
      const begun = process.cpuUsage();
      try {
        await target.decode(input);
      } finally {
        const { user, system } = process.cpuUsage(begun);
        longest = Math.max(longest, (user + system) / 1000);
      }
    },
  };
  const before = Deno.memoryUsage().rss, start = performance.now();
  const { failed, counterexample, errorInstance, seed, numRuns } = await fc.check(fuzz(timed), {
    numRuns: Number(values.runs),
    seed: Number(values.seed),
    endOnFailure: false,
  });
  const seconds = (performance.now() - start) / 1000, grown = (Deno.memoryUsage().rss - before) / 1e6;
  console.log(
    `${name}: ${numRuns} runs in ${seconds.toFixed(0)} s, the longest ${longest.toFixed(1)} ms, ${
      grown.toFixed(0)
    } MB more`,
  );
  if (!failed) continue;
  console.error(`seed ${seed}: ${Deno.inspect(counterexample, { iterableLimit: 1e6 })}\n`, errorInstance);
  process.exitCode = 1;
}
