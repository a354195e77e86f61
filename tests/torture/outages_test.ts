import { outages } from "./outages.ts";

const seed = Number(Deno.env.get("COVERFS_SEED") ?? crypto.getRandomValues(new Uint32Array(1))[0]);

Deno.test(`a mount lives through outages of the network and the server, and a sleep (seed ${seed})`, {
  sanitizeOps: true,
  sanitizeResources: true,
  ignore: Deno.build.os !== "linux" || Deno.uid() !== 0,
}, async () => {
  await outages({ seed, away: 2000, asleep: 3000, args: ["--keep-alive", "500ms", "--timeout", "2s"] });
});
