/**
 * `deno task load [ROUNDS] [SECONDS] [WAY]`: what 150 good clients get of a server, without and with 50 that misbehave,
 * in all ways or in those whose name has WAY in it.
 */
import assert from "node:assert/strict";
import { measureLoad } from "./load.ts";

const [rounds = "8", seconds = "10", only] = Deno.args;
const { table, share, lost, memory, connections } = await measureLoad({
  ...{ rounds: Number(rounds), seconds: Number(seconds), good: 150, bad: 50, only },
});
console.log(table);
console.log(`share that is left: ${(100 * share).toFixed(0)} %; lost: ${lost}`);
const [before, peak] = [memory.alone, memory.beside].map((one) => one.toFixed(0));
console.log(`the server's memory: ${before} MiB by the good ones alone, ${peak} MiB at most`);
assert.equal(lost, 0, "nothing is lost");
assert(only !== undefined || connections >= 400, "the machine was too busy for those who misbehave");
Deno.exit(share >= 0.8 ? 0 : 1);
