import assert from "node:assert/strict";
import { MAX_RUN } from "../../net/protocol.ts";
import { AHEAD, Turns } from "../../net/turns.ts";
import { clientSays, server } from "../fuzz/targets.ts";
import { BLOCK_BYTES } from "./servers.ts";

const MEBIBYTE = 1 << 20;
const strict = { sanitizeOps: true, sanitizeResources: true };

/** Turns by a clock that the test moves, of which `flood` has had more than the others. */
function ahead() {
  const clock = { now: 1000 }, turns = new Turns(() => clock.now), flood = {}, other = {};
  turns.spend(other, 1);
  while (!turns.ahead(flood)) turns.spend(flood, 20_000);
  return { clock, turns, flood, other };
}

/** A turn of the event loop. */
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Waits, and says whether it is over. */
function waits(turns: Turns, holder: object) {
  const state = { over: false, done: turns.take(holder).then(() => void (state.over = true)) };
  return state;
}

Deno.test("who floods gets as much as each of the others, and these never wait", strict, () => {
  const clock = { now: 1000 }, turns = new Turns(() => clock.now), flood = {};
  const others = Array.from({ length: 9 }, () => ({}));
  let had = 0, each = 0;
  for (let i = 0; i < 1000; i++, clock.now += 10) {
    for (const other of others) {
      assert.ok(!turns.ahead(other));
      turns.spend(other, 65_536);
    }
    each += 65_536;
    for (let asked = 0; asked < 16 && !turns.ahead(flood); asked++, had += 20_000) turns.spend(flood, 20_000);
  }
  assert.ok(had > 0.9 * each && had < 1.1 * each + 2 * AHEAD, `${had} of ${each}`);
});

Deno.test("one who is alone is never ahead, whoever was there before", strict, () => {
  const { clock, turns, other } = ahead();
  clock.now += 1000;
  turns.spend(other, 1);
  clock.now += 1000;
  for (let i = 0; i < 1000; i++) {
    turns.spend(other, MEBIBYTE);
    assert.ok(!turns.ahead(other));
  }
});

Deno.test("who is ahead waits while others ask, until they have had as much", strict, async () => {
  const { turns, flood, other } = ahead(), waiting = waits(turns, flood);
  for (let i = 0; i < 200; i++) {
    turns.spend(other, 1);
    await turn();
  }
  assert.equal(waiting.over, false);
  for (let spent = 0; spent < 4 * AHEAD; spent += MEBIBYTE) turns.spend(other, MEBIBYTE);
  await waiting.done;
  assert.ok(!turns.ahead(flood));
});

Deno.test("where nobody else asks, one after another of those who are ahead goes on", strict, async () => {
  const { turns, flood } = ahead(), second = {};
  while (!turns.ahead(flood) || !turns.ahead(second)) {
    for (const one of [flood, second]) turns.spend(one, 20_000);
  }
  const waiting = [waits(turns, flood), waits(turns, second)];
  await waiting[0]!.done;
  assert.equal(waiting[1]!.over, false);
  assert.ok(!turns.ahead(flood) && turns.ahead(second));
  await waiting[1]!.done;
});

/** What `holder`, which has gone on, may ask for until it waits again, in bytes. */
function room(turns: Turns, holder: object): number {
  for (let bytes = 0;; bytes += 1024) {
    if (turns.ahead(holder)) return bytes;
    turns.spend(holder, 1024);
  }
}

/** The same of one that waits. */
async function extra(turns: Turns, holder: object): Promise<number> {
  await turns.take(holder);
  return room(turns, holder);
}

Deno.test("who waits goes on when there is room for many requests, not for one", strict, async () => {
  const { turns, flood, other } = ahead(), waiting = waits(turns, flood);
  while (!waiting.over) {
    turns.spend(other, 20_000);
    await turn();
  }
  assert.ok(room(turns, flood) > AHEAD / 4);
});

Deno.test("who goes on where nobody asks gets little, and more where still nobody does", strict, async () => {
  const { turns, flood, other } = ahead(), small = await extra(turns, flood);
  assert.ok(small < AHEAD / 2, `${small}`);
  const more = await extra(turns, flood);
  assert.ok(more > 1.5 * small, `${more} after ${small}`);
  for (let i = 0; i < 9; i++) assert.ok(await extra(turns, flood) < 3 * AHEAD);
  turns.spend(other, 1);
  assert.ok(await extra(turns, flood) < 1.5 * small);
});

Deno.test("who is ahead does not go on between two requests of others", strict, async () => {
  const { turns, flood, other } = ahead(), waiting = waits(turns, flood);
  for (let i = 0; i < 500; i++) {
    if (i % 20 === 0) turns.spend(other, 1);
    await turn();
  }
  assert.equal(waiting.over, false);
  await waiting.done;
});

Deno.test("each request of a connection counts with its bytes, and who is ahead is not read from", async () => {
  const said: (string | number)[] = [];
  class Told extends Turns {
    override spend(_: object, work: number): void {
      said.push(work);
    }
    override ahead(): boolean {
      return true;
    }
    override take(): Promise<void> {
      said.push("turn");
      return Promise.resolve();
    }
  }
  const { token, run } = await server(undefined, 64 * MEBIBYTE, new Told());
  await run(clientSays(token, MAX_RUN));
  const works = said.filter((one) => typeof one === "number");
  assert.deepEqual(said, [...works.flatMap((work) => ["turn", work]), "turn"]);
  assert.ok(works.length > 5);
  assert.ok(works.every((work) => work > 16 * 1024));
  assert.equal(works.filter((work) => work > MAX_RUN * BLOCK_BYTES).length, 1);
});
