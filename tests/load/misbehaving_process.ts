/** Those who misbehave, in a process of their own. Ends with its input, and says then what was done. */
import { MISCHIEF, Mischievous, type Target } from "./mischief.ts";

/** What such a process is to do. */
export interface Work extends Pick<Target, "port" | "token"> {
  readonly count: number;
  /** Part of the name of a way; absent: all of them. */
  readonly only?: string;
  /** Third number of the ten addresses that they come from; 2 by default. */
  readonly network?: number;
}

const { count, only, network = 2, ...server } = JSON.parse(Deno.args[0]!) as Work;
const targets = Array.from({ length: count }, (_, i) => ({
  ...server,
  container: `good-${i}`,
  from: `127.0.${network}.${1 + i % 10}`,
}));
const all = new Mischievous(targets, MISCHIEF.filter(([name]) => name.includes(only ?? "")));
console.log("begun");
for await (const _ of Deno.stdin.readable);
console.log(JSON.stringify(all.deeds));
all.stop();
Deno.exit();
