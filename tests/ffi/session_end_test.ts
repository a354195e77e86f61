import assert from "node:assert/strict";
import { SessionEnd } from "../../ffi/session_end.ts";
import { WINDOWS } from "../platform.ts";
import { EndingSession } from "./session_windows.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };

Deno.test("who logs off waits until what that starts is done, and not if the session goes on", {
  ...strict,
  ignore: !WINDOWS,
}, async () => {
  using session = new EndingSession();
  assert.ok(!session.isWatched);
  const told = Promise.withResolvers<void>(), order: string[] = [];
  const watching = await SessionEnd.watch(() => (order.push("told"), told.resolve()));
  assert.ok(await session.ask());
  await session.end(false);
  assert.equal(order.length, 0);
  assert.ok(await session.answers());
  const ended = session.end(true).then(() => void order.push("ended"));
  await told.promise;
  assert.ok(!await session.answers());
  order.push("committed");
  await watching[Symbol.asyncDispose]();
  await ended;
  assert.deepEqual(order, ["told", "committed", "ended"]);
  assert.ok(!session.isWatched);
});

Deno.test("elsewhere nobody waits for the end of a session", { ...strict, ignore: WINDOWS }, async () => {
  await using _session = await SessionEnd.watch(() => assert.fail());
});
