import assert from "node:assert/strict";
import fc from "fast-check";
import { FreeSpace } from "../../fs/layout/free_space.ts";
import type { Run } from "../../fs/layout/superblock.ts";
import { randomNumbers } from "./random.ts";

/** Checks what is told about the free runs against a bitmap (true is used). */
function check(space: FreeSpace, used: readonly boolean[]): void {
  const tail = used.lastIndexOf(true) + 1, holes: Run[] = [];
  for (let i = 0; i < tail; i++) {
    if (used[i]) continue;
    const position = i;
    while (!used[i]) i++;
    holes.push({ position, count: i - position });
  }
  assert.deepEqual([...space.runs()], holes);
  const all = tail < used.length ? [...holes, { position: tail, count: used.length - tail }] : holes;
  for (let at = 0; at <= used.length; at += 7) {
    const next = all.find((run) => run.position + run.count > at), found = space.next(at);
    const start = next && (next.position < tail ? next.position : Math.max(at, tail));
    assert.deepEqual(found, next && { position: start, count: next.position + next.count - start! });
  }
  assert.equal(space.holes, holes.length);
  assert.equal(space.tailStart(), tail);
  assert.equal(space.limit, used.length);
  assert.equal(space.freeBlocks, used.filter((one) => !one).length);
  assert.equal(space.largest(), Math.max(used.length - tail, ...holes.map((run) => run.count)));
}

/** Every hole can be had whole: the largest first, each request fits exactly. */
function drain(space: FreeSpace): void {
  space.limit = space.tailStart();
  for (const { count } of [...space.runs()].sort((a, b) => b.count - a.count)) {
    assert.equal(space.largest(), count);
    assert.equal(space.allocate(count, { contiguous: true })?.length, 1);
  }
  assert.equal(space.freeBlocks, 0);
}

const LIMIT = 600;
const step = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant("allocate" as const),
      count: fc.oneof(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 60 })),
      near: fc.nat(LIMIT),
      contiguous: fc.boolean(),
      max: fc.constantFrom(Infinity, Infinity, 1, 2, 4),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant("release" as const),
      at: fc.nat(LIMIT),
      count: fc.integer({ min: 1, max: 20 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant("use" as const),
      at: fc.nat(LIMIT - 20),
      count: fc.integer({ min: 1, max: 20 }),
    }),
  },
);

Deno.test("free space behaves like a bitmap", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120, size: "max" }), (steps) => {
      const space = new FreeSpace(), used: boolean[] = Array(LIMIT).fill(false);
      space.limit = LIMIT;
      for (const one of steps) {
        if (one.op === "allocate") {
          const { count, near, contiguous, max } = one, largest = space.largest(), free = space.freeBlocks;
          const runs = space.allocate(count, { near, contiguous, max });
          if (runs === undefined) {
            assert.ok(contiguous || max === 1 ? largest < count : max < Infinity || free < count);
            if (!contiguous && max < Infinity) {
              const sizes = [...space.runs()].map((run) => run.count).concat(LIMIT - space.tailStart());
              const most = sizes.sort((a, b) => b - a).slice(0, max).reduce((sum, size) => sum + size, 0);
              assert.ok(most < count, "so few runs would have been enough");
            }
          } else {
            assert.equal(runs.reduce((sum, run) => sum + run.count, 0), count);
            assert.ok(runs.length <= (contiguous ? 1 : max));
            if (largest >= count) assert.equal(runs.length, 1);
            for (const run of runs) {
              for (let i = run.position; i < run.position + run.count; i++) {
                assert.ok(!used[i] && i < LIMIT, "allocated twice");
                used[i] = true;
              }
            }
          }
        } else {
          const wanted = used.slice(one.at, one.at + one.count);
          if (one.op === "use") {
            assert.equal(space.use(one.at, one.count), !wanted.includes(true));
            used.fill(true, one.at, one.at + one.count);
          } else if (wanted.length === one.count && !wanted.includes(false)) {
            space.release(one.at, one.count);
            used.fill(false, one.at, one.at + one.count);
          } else assert.throws(() => space.release(one.at, one.count), RangeError);
        }
      }
      check(space, used);
    }),
    { numRuns: 200 },
  );
});

Deno.test("blocks before a position are found as long as there are enough, and none behind it are taken", () => {
  const size = fc.integer({ min: 1, max: 40 }), place = fc.integer({ min: 0, max: LIMIT });
  fc.assert(
    fc.property(
      fc.array(size, { minLength: 1, maxLength: 30 }),
      size,
      place,
      place,
      (sizes, count, near, below) => {
        const space = new FreeSpace(), used: { position: number; count: number }[] = [];
        let at = 0;
        sizes.forEach((one, i) => {
          if (i % 2 === 1) used.push({ position: at, count: one });
          at += one;
        });
        space.build(used, Math.max(at, LIMIT));
        const inUse = used.reduce(
          (sum, run) => sum + Math.max(0, Math.min(below - run.position, run.count)),
          0,
        );
        const runs = space.allocate(count, { near, below });
        if (runs === undefined) assert.ok(below - inUse < count);
        else {
          assert.equal(runs.reduce((sum, run) => sum + run.count, 0), count);
          for (const run of runs) assert.ok(run.position + run.count <= below);
        }
      },
    ),
  );
});

Deno.test("build() finds what is free and what is used more than once", () => {
  const runs = fc.array(fc.record({ position: fc.nat(80), count: fc.nat(12) }), {
    maxLength: 20,
    size: "max",
  });
  fc.assert(fc.property(runs, fc.nat(120), (runs, end) => {
    const space = new FreeSpace(), covers: number[] = Array(120).fill(0), twice: Run[] = [];
    for (const { position, count } of runs) {
      for (let i = position; i < position + count; i++) covers[i]!++;
    }
    for (let i = 0; i < covers.length; i++) {
      const last = twice[twice.length - 1];
      if (covers[i]! < 2) continue;
      if (last && last.position + last.count === i) {
        twice[twice.length - 1] = { ...last, count: last.count + 1 };
      } else twice.push({ position: i, count: 1 });
    }
    space.use(5, 7);
    assert.deepEqual(space.build(runs, end), twice);
    const used = covers.map((count) => count > 0), tail = used.lastIndexOf(true) + 1;
    check(space, used.slice(0, Math.max(tail, end)).concat(Array(Math.max(0, end - 120)).fill(false)));
  }));
});

Deno.test("a request goes on where the last one ended, else a small one takes the hole that fits best", () => {
  const space = new FreeSpace();
  space.build([{ position: 100, count: 1 }, { position: 103, count: 1 }, { position: 110, count: 1 }], 1000);
  assert.deepEqual(space.allocate(2, { near: 500 }), [{ position: 101, count: 2 }]);
  assert.deepEqual(space.allocate(4, { near: 0 }), [{ position: 0, count: 4 }]);
  assert.deepEqual(space.allocate(4, { near: 4 }), [{ position: 4, count: 4 }]);
  assert.deepEqual(space.allocate(4, { near: 9 }), [{ position: 104, count: 4 }]);
  assert.deepEqual(space.allocate(80, { near: 200 }), [{ position: 8, count: 80 }]);
  assert.deepEqual(space.allocate(80, { near: 0 }), [{ position: 111, count: 80 }]);
});

Deno.test("a request that fits no run takes the long ones", () => {
  const space = new FreeSpace(), used: Run[] = [];
  // Holes of 1, and every tenth of 20 blocks.
  let at = 0;
  for (let i = 0; i < 1000; i++) {
    at += i % 10 === 9 ? 20 : 1;
    used.push({ position: at++, count: 1 });
  }
  space.build(used);
  const runs = space.allocate(1000)!;
  assert.equal(runs.length, 50);
  assert.ok(runs.every((run) => run.count === 20));
  assert.equal(space.allocate(100, { max: 4 }), undefined);
  assert.equal(space.allocate(80, { max: 4 })!.length, 4);
  assert.equal(space.allocate(space.freeBlocks + 1), undefined);
  assert.ok(space.allocate(space.freeBlocks) !== undefined);
  assert.equal(space.freeBlocks, 0);
  assert.equal(space.allocate(1), undefined);
});

Deno.test("the limit cannot go below used blocks", () => {
  const space = new FreeSpace();
  space.limit = 50;
  space.use(9, 1);
  space.limit = 10;
  assert.throws(() => space.limit = 9, RangeError);
  assert.throws(() => space.limit = NaN, RangeError);
  assert.equal(space.freeBlocks, 9);
  space.use(20, 1);
  assert.equal(space.limit, 21);
  assert.equal(space.freeBlocks, 19);
});

Deno.test("many thousand scattered runs merge back into one", () => {
  const space = new FreeSpace(), count = 30_000;
  space.limit = count + 1;
  space.use(0, count + 1);
  for (let i = 0; i < count; i++) space.release((i * 7919) % count, 1);
  assert.deepEqual([...space.runs()], [{ position: 0, count }]);
  for (let i = 0; i < count; i += 2) assert.ok(space.use((i * 7919) % count, 1));
  assert.equal(space.freeBlocks, count / 2);
  for (let i = 0; i < count; i += 2) space.release((i * 7919) % count, 1);
  space.release(count, 1);
  assert.equal(space.tailStart(), 0);
  assert.equal(space.holes, 0);
});

Deno.test("thousands of holes stay right through random allocating and releasing", () => {
  const limit = 16_000, random = randomNumbers(3), space = new FreeSpace(), owned: Run[] = [];
  const used: boolean[] = Array(limit).fill(false);
  space.limit = limit;
  let holes = 0;
  for (let turn = 0; turn < 30_000; turn++) {
    // Fills everything, then empties half and goes on about there.
    const filling = turn < 10_000 ? 10 : turn < 14_000 ? 0 : 5;
    if (random(10) < filling) {
      const runs = space.allocate(1 + random(random(100) === 0 ? 300 : 3), { near: random(limit) });
      for (const run of runs ?? []) {
        assert.ok(!used.slice(run.position, run.position + run.count).includes(true));
        used.fill(true, run.position, run.position + run.count);
        owned.push(run);
      }
    } else if (owned.length > 0) {
      const at = random(owned.length), run = owned[at]!, kept = random(run.count);
      owned[at] = owned[owned.length - 1]!;
      owned.pop();
      if (kept > 0) owned.push({ position: run.position, count: kept });
      space.release(run.position + kept, run.count - kept);
      used.fill(false, run.position + kept, run.position + run.count);
    }
    if (turn % 1000 === 0) check(space, used);
    holes = Math.max(holes, space.holes);
  }
  check(space, used);
  drain(space);
  assert.ok(holes > 1000, `${holes} holes are too few to test much`);
});

Deno.test("thousands of holes made in order, or backwards, can each be had", () => {
  const count = 3000, order = [(i: number) => i, (i: number) => count - 1 - i];
  for (const at of order) {
    const space = new FreeSpace(), used: boolean[] = Array(count * 8).fill(true);
    space.use(0, used.length);
    for (let i = 0; i < count; i++) {
      const position = at(i) * 8, size = 1 + (at(i) * 7) % 6;
      space.release(position, size);
      used.fill(false, position, position + size);
    }
    check(space, used);
    drain(space);
  }
});
