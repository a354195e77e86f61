import assert from "node:assert/strict";
import { SharedBudget } from "../../net/budget.ts";
import { MAX_RUN } from "../../net/protocol.ts";
import { clientSays, server } from "../fuzz/targets.ts";

Deno.test("who holds more than is left waits, and nobody else does", async () => {
  const budget = new SharedBudget(200, 100), greedy = [{}, {}, {}], other = {};
  const waiting: (void | Promise<void>)[] = [];
  for (const holder of greedy) {
    for (let i = 0; i < 20; i++) waiting.push(budget.take(holder, 5));
  }
  assert.equal(budget.take(other, 5), undefined, "there is room for one who holds nothing");
  budget.give(other, 5);
  for (const holder of greedy) {
    for (let i = 0; i < 20; i++) budget.give(holder, 5);
  }
  await Promise.all(waiting);
  assert.equal(budget.take(other, 1000), undefined, "all of it is there again");
});

Deno.test("one who is alone gets half, at once, and the rest in turns", async () => {
  const budget = new SharedBudget(102, 51), alone = {};
  assert.equal(budget.take(alone, 50), undefined, "one of them is its own");
  let came = false;
  const more = Promise.resolve(budget.take(alone, 20)).then(() => came = true);
  await Promise.resolve();
  assert.equal(came, false);
  budget.give(alone, 50);
  await more;
});

Deno.test("each has its own part, whatever the others hold", () => {
  const budget = new SharedBudget(200, 20), greedy = [{}, {}, {}, {}];
  const waiting = greedy.flatMap((holder) => Array.from({ length: 100 }, () => budget.take(holder, 5)));
  assert(waiting.some((wait) => wait !== undefined), "they have taken what there is");
  const left = budget.take({}, 100);
  assert(left instanceof Promise, "much is not left");
  for (let i = 0; i < 15; i++) assert.equal(budget.take({}, 5), undefined);
});

for (
  const [what, connectionBytes, totalBytes] of [
    ["a connection", 1 << 16, 8 << 20],
    ["all connections", 8 << 20, 800],
  ] as const
) {
  Deno.test(`a reply longer than the room of ${what} goes alone, and gives all of it back`, async () => {
    const { token, run } = await server(connectionBytes, totalBytes);
    await run(clientSays(token, MAX_RUN));
  });
}
