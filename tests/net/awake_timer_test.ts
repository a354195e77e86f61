import assert from "node:assert/strict";
import { AwakeTimer } from "../../net/mod.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };

Deno.test("a timer is late once, and has nothing left then", strict, async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  using timer = new AwakeTimer(30, resolve);
  assert(timer.left > 0 && timer.left <= 30);
  await promise;
  assert.equal(timer.left, 0);
});

Deno.test("a timer that was stopped keeps what was left", strict, () => {
  const timer = new AwakeTimer(60_000, () => assert.fail("late"));
  timer[Symbol.dispose]();
  const { left } = timer;
  assert(left > 59_000 && left <= 60_000);
  timer[Symbol.dispose]();
  assert.equal(timer.left, left);
});

Deno.test("progress makes a timer begin anew, but not for ever", strict, async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  let asked = 0;
  using _timer = new AwakeTimer(20, resolve, () => ++asked > 0);
  await promise;
  // Ten whole waits, and the rest that is left where timers came a fraction of a millisecond early.
  assert(asked > 3 && asked <= 11, `${asked}`);
});
