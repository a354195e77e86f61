import assert from "node:assert/strict";
import { torture } from "./rounds.ts";

const seed = Number(Deno.env.get("COVERFS_SEED") ?? crypto.getRandomValues(new Uint32Array(1))[0]);

Deno.test(`ten rounds of killing mounts and servers under load lose nothing (seed ${seed})`, {
  sanitizeOps: true,
  sanitizeResources: true,
  ignore: Deno.build.os !== "linux",
}, async () => {
  const failures: unknown[] = [];
  const { passed } = await torture({
    rounds: 10,
    seed,
    longest: 1000,
    told: ({ number, victim, failure }) => {
      if (failure !== undefined) failures.push(`round ${number}, ${victim}: ${failure}`);
    },
  });
  assert.deepEqual(failures, []);
  assert.equal(passed, 10);
});
