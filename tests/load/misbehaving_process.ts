/** Those who misbehave, in a process of their own: what they do must not slow down who measures. Ends with its input. */
import { Mischievous, type Target } from "./mischief.ts";

const { count, ...server } = JSON.parse(Deno.args[0]!) as Omit<Target, "container"> & {
  readonly count: number;
};
const all = new Mischievous(Array.from({ length: count }, (_, i) => ({ ...server, container: `good-${i}` })));
console.log("begun");
for await (const _ of Deno.stdin.readable);
all.stop();
Deno.exit();
