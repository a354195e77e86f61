/**
 * A mount with its default times lives through outages of a minute and a sleep of two (`docs/reliability.md`):
 *
 *     deno task outages [SEED]
 *
 * Root only. The last line is "N passed".
 */
import { outages } from "./outages.ts";

if (import.meta.main) {
  const [seed = crypto.getRandomValues(new Uint32Array(1))[0]!] = Deno.args.map(Number);
  let passed = 0;
  console.log(`seed ${seed}`);
  await outages({
    seed,
    away: 60_000,
    asleep: 120_000,
    told: ({ what, acknowledged, recovered }) => {
      passed++;
      console.log(
        `${what}: ${acknowledged} acknowledged, the next one ${(recovered / 1000).toFixed(1)} s after it`,
      );
    },
  });
  console.log(`${passed} passed`);
}
