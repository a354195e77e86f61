import assert from "node:assert/strict";
import { Admission, sourceOf } from "../../net/admission.ts";

const limits = {
  connections: 10,
  addressConnections: 3,
  handshakesPerSecond: 8,
  handshakesAtOnce: 8,
  addressHandshakesPerSecond: 4,
  addressHandshakesAtOnce: 4,
};

/** An admission whose clock the test moves. */
function admission(changed: Partial<typeof limits> = {}) {
  const clock = { now: 1000 };
  return { clock, admission: new Admission({ ...limits, ...changed }, () => clock.now) };
}

Deno.test("an address has so many connections, and a place again when one has ended", () => {
  const { admission: at } = admission();
  const leave = [1, 2, 3].map(() => at.enter("10.0.0.1")!);
  assert.equal(at.enter("10.0.0.1"), undefined);
  assert.ok(at.enter("10.0.0.2"), "others are not kept out by that");
  leave[0]!();
  assert.ok(at.enter("10.0.0.1"));
});

Deno.test("all addresses together have so many connections", () => {
  const { admission: at, clock } = admission({ handshakesPerSecond: 100, handshakesAtOnce: 100 });
  for (let i = 0; i < 10; i++) assert.ok(at.enter(`10.0.0.${i}`));
  clock.now += 1000;
  assert.equal(at.enter("10.0.1.1"), undefined);
});

Deno.test("connections come at a bounded rate, of one address and of all", () => {
  const { admission: at, clock } = admission({ connections: 1000, addressConnections: 1000 });
  const admitted = (address: string, times: number) =>
    Array.from({ length: times }, () => at.enter(address)).filter((leave) => leave !== undefined).length;
  assert.equal(admitted("a", 100), 4);
  clock.now += 500;
  assert.equal(admitted("a", 100), 2, "half a second gives half as many");
  clock.now += 60_000;
  assert.equal(admitted("a", 100), 4, "rest does not add up");
  assert.equal(admitted("b", 100), 4);
  assert.equal(admitted("c", 100), 0, "all have had what there is in a second");
  assert.deepEqual([...at.sweep()].sort(), [["a", 290], ["b", 96], ["c", 100]]);
  assert.deepEqual([...at.sweep()], [], "each refusal is told once");
});

Deno.test("a connection that came to nothing counts for ten, and what is owed is bounded", () => {
  const { admission: at, clock } = admission();
  for (let i = 0; i < 3; i++) at.enter("a")!();
  at.blame("a");
  assert.equal(at.enter("a"), undefined);
  assert.ok(at.enter("b"), "others are not concerned");
  for (let i = 0; i < 1000; i++) at.blame("a");
  at.blame("somebody who is not there");
  clock.now += 2300;
  assert.ok(at.enter("a"), "it owes as many as come in a second at most");
  assert.equal(at.sources, 2);
});

Deno.test("an address may look without a greeting now and then, and is blamed for more", () => {
  const { admission: at, clock } = admission({ addressHandshakesPerSecond: 1 });
  at.enter("a")!();
  for (let i = 0; i < 20; i++) at.looked("a");
  clock.now += 60_000;
  for (let i = 0; i < 100; i++) {
    const leave = at.enter("a");
    assert.ok(leave, "one every two seconds is let in");
    leave();
    at.looked("a");
    clock.now += 2000;
  }
  for (let i = 0; i < 22; i++) at.looked("a");
  assert.equal(at.enter("a"), undefined);
  at.enter("b")!();
  for (let i = 0; i < 1000; i++) {
    at.looked("b");
    at.greeted("b");
  }
  assert.ok(at.enter("b"), "a greeting gives a look back");
  for (let i = 0; i < 22; i++) at.looked("b");
  assert.equal(at.enter("b"), undefined, "and no more than that");
  at.looked("somebody who is not there");
  at.greeted("somebody who is not there");
});

Deno.test("an address that has rested and has no connection is forgotten", () => {
  const { admission: at, clock } = admission();
  const leave = at.enter("a")!;
  at.enter("b")!();
  clock.now += 5000;
  at.sweep();
  assert.equal(at.sources, 1);
  leave();
  at.sweep();
  assert.equal(at.sources, 0);
});

Deno.test("IPv6 counts by its first 64 bits, IPv4 within it as IPv4", () => {
  assert.equal(sourceOf("192.0.2.7"), "192.0.2.7");
  assert.equal(sourceOf("::ffff:192.0.2.7"), "192.0.2.7");
  assert.equal(sourceOf("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
  assert.equal(sourceOf("2001:0db8:1:2::9"), "2001:db8:1:2::/64");
  assert.equal(sourceOf("2001:db8::9"), "2001:db8:0:0::/64");
  assert.equal(sourceOf("fe80::1%eth0"), "fe80:0:0:0::/64");
  assert.equal(sourceOf("::1"), "0:0:0:0::/64");
});
