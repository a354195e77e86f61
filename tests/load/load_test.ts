import assert from "node:assert/strict";
import { measureLoad } from "./load.ts";

Deno.test("good clients beside others that misbehave are all served, and lose nothing", {
  sanitizeOps: true,
  sanitizeResources: true,
}, async () => {
  const { lost } = await measureLoad({ rounds: 1, seconds: 2, good: 15, bad: 14 });
  assert.equal(lost, 0);
});
