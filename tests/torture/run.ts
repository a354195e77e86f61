/**
 * Kills mounts and servers under load, over and over, and verifies what is left (`docs/reliability.md`):
 *
 *     deno task torture [ROUNDS] [SEED]
 *
 * The last line is "N passed, N failed".
 */
import process from "node:process";
import { torture } from "./rounds.ts";

if (import.meta.main) {
  const [rounds = 100, seed = crypto.getRandomValues(new Uint32Array(1))[0]!] = Deno.args.map(Number);
  if (!Number.isSafeInteger(rounds) || !Number.isSafeInteger(seed) || rounds < 1) {
    console.error("Usage: deno task torture [ROUNDS] [SEED]");
    Deno.exit(2);
  }
  console.log(`seed ${seed}; to do the same again: deno task torture ${rounds} ${seed}`);
  const { passed, failed } = await torture({
    rounds,
    seed,
    told: ({ number, container, victim, acknowledged, failure }) => {
      const how = failure === undefined ? `${acknowledged} acknowledged` : `FAILED: ${failure}`;
      console.log(`round ${number}: ${container}, ${victim} killed, ${how}`);
      if (failure instanceof Error) console.log(failure.stack);
    },
  });
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed > 0 ? 1 : 0;
}
