import assert from "node:assert/strict";
import { SharedBudget } from "../../net/budget.ts";

Deno.test("who holds more than is left waits, and nobody else does", async () => {
  const budget = new SharedBudget(100), greedy = [{}, {}, {}], other = {};
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
  const budget = new SharedBudget(100), alone = {};
  assert.equal(budget.take(alone, 50), undefined);
  let came = false;
  const more = Promise.resolve(budget.take(alone, 20)).then(() => came = true);
  await Promise.resolve();
  assert.equal(came, false);
  budget.give(alone, 50);
  await more;
});
