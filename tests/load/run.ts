/** `deno task load [ROUNDS] [SECONDS]`: what 150 good clients get of a server, without and with 50 that misbehave. */
import assert from "node:assert/strict";
import { measureLoad } from "./load.ts";

const [rounds = 4, seconds = 10] = Deno.args.map(Number);
const { table, share, lost } = await measureLoad({ rounds, seconds, good: 150, bad: 50 });
console.log(table);
console.log(`share that is left: ${(100 * share).toFixed(0)} %; lost: ${lost}`);
assert.equal(lost, 0, "nothing is lost");
Deno.exit(share >= 0.8 ? 0 : 1);
