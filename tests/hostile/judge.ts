/** Whether what a client made of a forged container is as it must be. */
import assert from "node:assert/strict";
import { cpuUsage } from "node:process";
import { equal, pattern } from "../fs/fixture.ts";
import type { Outcome } from "./attacks.ts";
import type { Client, Files, Seen } from "./client.ts";
import type { Place } from "./places.ts";

/** What no attack may take, in ms of the processor. */
const BOUND = 10_000;

/** What was seen, as an outcome; nothing else than `truth` may show. */
export function outcomeOf(seen: Seen, truth: Files): Outcome {
  if (typeof seen === "string") return seen;
  assert.deepEqual([...seen.keys()].sort(), [...truth.keys()].sort(), "the names");
  let outcome: Outcome = "served";
  for (const [path, found] of seen) {
    if (typeof found === "string") outcome = found;
    else assert(equal(found, truth.get(path) as Uint8Array), `wrong data in ${path}`);
  }
  return outcome;
}

/** Whether it shows one of these states, as far as it can be read. */
export function isOneOf(seen: Files, states: readonly Files[]): boolean {
  return states.some((state) =>
    seen.size === state.size &&
    [...seen].every(([path, found]) =>
      found === "integrity" || found instanceof Uint8Array && equal(found, state.get(path) as Uint8Array)
    )
  );
}

/** Holds work to a bound of the processor's time. */
export async function bounded<T>(work: () => Promise<T>): Promise<T> {
  const began = cpuUsage(), result = await work(), { user, system } = cpuUsage(began);
  assert((user + system) / 1000 < BOUND, `it took ${(user + system) / 1000} ms`);
  return result;
}

/** Where it is refused to be read, it must be refused to be written, and stay byte for byte as it is. */
export async function judgeWriter(
  client: Client,
  place: Place,
  { expected, truth }: { expected: Outcome; truth: Files },
): Promise<void> {
  const before = await place.get(), written = pattern(5000, 55);
  const refused = await bounded(() => client.write(place, { written }));
  const readable = expected === "served" || expected === "integrity";
  assert.equal(refused, readable ? undefined : expected, "to write");
  if (refused !== undefined) return assert(equal(await place.get(), before), "something was written");
  const outcome = outcomeOf(await client.look(place), new Map([...truth, ["/written", written]]));
  assert.equal(outcome, expected, "after it was written");
}
