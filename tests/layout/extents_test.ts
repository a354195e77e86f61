import assert from "node:assert/strict";
import fc from "fast-check";
import { ExtentTable } from "../../fs/layout/extents.ts";
import { randomNumbers } from "./random.ts";

const BLOCK = 4096;
type Extent = [offset: number, length: number, position: number, birth: number];

function extents(table: ExtentTable, ino: number): Extent[] {
  const all: Extent[] = [];
  table.each(ino, (...extent) => void all.push(extent));
  return all;
}

/** One file as blocks: what each is and how many bytes of it are valid. */
class Model {
  blocks = new Map<number, { position: number; birth: number; valid: number }>();
  freed: string[] = [];

  set(offset: number, length: number, position: number, birth: number): void {
    for (let i = 0; i * BLOCK < length; i++) {
      const old = this.blocks.get(offset / BLOCK + i);
      if (old) this.freed.push(`${old.position}:${old.birth}`);
      this.blocks.set(offset / BLOCK + i, {
        position: position + i,
        birth,
        valid: Math.min(BLOCK, length - i * BLOCK),
      });
    }
  }

  cut(from: number, to: number): void {
    for (const [index, block] of [...this.blocks]) {
      const start = index * BLOCK, end = start + block.valid;
      if (from <= start && end <= to) {
        this.blocks.delete(index);
        this.freed.push(`${block.position}:${block.birth}`);
      } else if (from > start && from < end && end <= to) block.valid = from - start;
    }
  }
}

/** The table's file as the model has it; checks order and merging on the way. */
function asModel(table: ExtentTable, ino: number): Model {
  const model = new Model();
  let last: Extent = [-BLOCK, 0, -1, -1];
  for (const extent of extents(table, ino)) {
    const [offset, length, position, birth] = extent, end = last[0] + Math.ceil(last[1] / BLOCK) * BLOCK;
    assert.ok(length > 0 && offset % BLOCK === 0 && offset >= end, "extents are sorted and do not overlap");
    model.set(offset, length, position, birth);
    last = extent;
  }
  assert.deepEqual(model.freed, []);
  return model;
}

const sorted = (model: Model) => [...model.blocks].sort(([a], [b]) => a - b);

const block = fc.nat(40);
const set = fc.record({
  op: fc.constant("set" as const),
  at: block,
  count: fc.integer({ min: 1, max: 9 }),
  odd: fc.nat(BLOCK - 1),
  whole: fc.boolean(),
});
const cut = fc.record({
  op: fc.constant("cut" as const),
  from: fc.nat(50 * BLOCK),
  length: fc.nat(12 * BLOCK),
  aligned: fc.boolean(),
});
const truncate = fc.record({ op: fc.constant("truncate" as const), size: fc.nat(50 * BLOCK) });
const clear = fc.record({ op: fc.constant("clear" as const) });
const step = fc.oneof(
  { weight: 20, arbitrary: set },
  { weight: 10, arbitrary: cut },
  { weight: 2, arbitrary: truncate },
  { weight: 1, arbitrary: clear },
);

Deno.test("extents behave like an array of blocks under set, cut, truncate and clear", () => {
  const steps = fc.array(step, { maxLength: 40, size: "max" });
  fc.assert(fc.property(steps, (steps) => {
    const table = new ExtentTable(), model = new Model(), ino = 3, freed: string[] = [];
    const report = (position: number, blocks: number, birth: number) => {
      for (let i = 0; i < blocks; i++) freed.push(`${position + i}:${birth}`);
    };
    let next = 100, birth = 1;
    for (const one of steps) {
      switch (one.op) {
        case "set": {
          const length = one.count * BLOCK - (one.whole ? 0 : one.odd), position = next;
          next += one.count + (one.odd % 3 === 0 ? 5 : 0);
          if (one.odd % 5 === 0) birth++;
          table.set(ino, one.at * BLOCK, length, position, birth, report);
          model.set(one.at * BLOCK, length, position, birth);
          break;
        }
        case "cut": {
          const from = one.aligned ? Math.floor(one.from / BLOCK) * BLOCK : one.from;
          table.cut(ino, from, from + one.length, report);
          model.cut(from, from + one.length);
          break;
        }
        case "truncate":
          table.truncate(ino, one.size, report);
          model.cut(one.size, Infinity);
          break;
        case "clear":
          table.clear(ino, report);
          model.cut(0, Infinity);
          break;
      }
      const all = extents(table, ino), lastExtent = all[all.length - 1];
      assert.deepEqual(sorted(asModel(table, ino)), sorted(model));
      assert.equal(table.blocksOf(ino), model.blocks.size);
      assert.equal(table.countOf(ino), all.length);
      assert.equal(table.endOf(ino), lastExtent ? lastExtent[0] + lastExtent[1] : 0);
    }
    assert.deepEqual(freed.sort(), model.freed.sort());
    assert.equal(table.countOf(2), 0);
  }));
});

Deno.test("lookup() shows exactly the valid bytes of a range, from block boundaries on", () => {
  const range = fc.tuple(fc.nat(50 * BLOCK), fc.integer({ min: 1, max: 20 * BLOCK }));
  const sets = fc.array(fc.tuple(block, fc.integer({ min: 1, max: 9 * BLOCK })), {
    maxLength: 12,
    size: "max",
  });
  fc.assert(fc.property(sets, range, (sets, [offset, length]) => {
    const table = new ExtentTable(), model = new Model();
    sets.forEach(([at, bytes], i) => {
      table.set(0, at * BLOCK, bytes, 1000 * i, i, () => {});
      model.set(at * BLOCK, bytes, 1000 * i, i);
    });
    const seen = new Map<number, { position: number; birth: number; valid: number }>();
    let before = 0;
    table.lookup(0, offset, length, (start, bytes, position, birth) => {
      assert.ok(start % BLOCK === 0 && bytes > 0 && start >= before && start + bytes <= offset + length);
      before = start + bytes;
      for (let i = 0; i * BLOCK < bytes; i++) {
        const valid = Math.min(BLOCK, bytes - i * BLOCK);
        seen.set(start / BLOCK + i, { position: position + i, birth, valid });
      }
    });
    const wanted = new Map<number, { position: number; birth: number; valid: number }>();
    for (const [index, { position, birth, valid }] of sorted(model)) {
      const start = index * BLOCK, end = Math.min(start + valid, offset + length);
      if (end > offset && end > start) wanted.set(index, { position, birth, valid: end - start });
    }
    assert.deepEqual(seen, wanted);
  }));
});

Deno.test("lookup() ends when the visitor answers false", () => {
  const table = new ExtentTable();
  for (let i = 0; i < 10; i++) table.set(0, i * 2 * BLOCK, BLOCK, i * 5, 1, () => {});
  let visits = 0;
  table.each(0, () => ++visits < 3);
  assert.equal(visits, 3);
});

Deno.test("neighbours merge only if whole, adjacent, of one birth and below 4 GiB together", () => {
  const none = () => assert.fail("nothing is freed");
  const of = (...sets: Extent[]) => {
    const table = new ExtentTable();
    for (const set of sets) table.set(0, ...set, none);
    return extents(table, 0);
  };
  assert.deepEqual(of([0, BLOCK, 10, 1], [BLOCK, 100, 11, 1]), [[0, BLOCK + 100, 10, 1]]);
  assert.deepEqual(of([0, BLOCK, 10, 1], [2 * BLOCK, BLOCK, 12, 1], [BLOCK, BLOCK, 11, 1]), [[
    0,
    3 * BLOCK,
    10,
    1,
  ]]);
  assert.deepEqual(of([BLOCK, BLOCK, 11, 1], [0, BLOCK, 10, 1]), [[0, 2 * BLOCK, 10, 1]]);
  assert.equal(of([0, BLOCK - 1, 10, 1], [BLOCK, BLOCK, 11, 1]).length, 2);
  assert.equal(of([0, BLOCK, 10, 1], [BLOCK, BLOCK, 12, 1]).length, 2);
  assert.equal(of([0, BLOCK, 10, 1], [BLOCK, BLOCK, 11, 2]).length, 2);
  assert.equal(of([0, BLOCK, 10, 1], [2 * BLOCK, BLOCK, 11, 1]).length, 2);
  const most = 2 ** 32 - BLOCK;
  assert.equal(of([0, most, 10, 1], [most, BLOCK, 10 + most / BLOCK, 1]).length, 2);
  assert.equal(of([0, most - BLOCK, 10, 1], [most - BLOCK, BLOCK, 9 + most / BLOCK, 1]).length, 1);
});

Deno.test("set() does not report blocks that the new extent still refers to", () => {
  const table = new ExtentTable(), freed: number[][] = [];
  const report = (...run: number[]) => void freed.push(run);
  table.set(0, 0, 2 * BLOCK, 10, 1, report);
  table.set(0, 0, 3 * BLOCK, 10, 1, report);
  table.set(0, BLOCK, BLOCK, 11, 1, report);
  assert.deepEqual(freed, []);
  assert.deepEqual(extents(table, 0), [[0, 3 * BLOCK, 10, 1]]);
  table.set(0, 0, BLOCK, 11, 1, report);
  assert.deepEqual(freed, [[10, 1, 1]]);
});

Deno.test("set() refuses lengths and offsets out of range", () => {
  const table = new ExtentTable();
  for (const [offset, length] of [[0, 0], [0, 2 ** 32], [1, 5], [0, NaN]] as const) {
    assert.throws(() => table.set(0, offset, length, 1, 1, () => {}), RangeError);
  }
  assert.equal(table.countOf(0), 0);
});

Deno.test("cut() within a block leaves bytes behind it and ends the valid ones before it", () => {
  const table = new ExtentTable(), freed: number[][] = [];
  const report = (...run: number[]) => void freed.push(run);
  table.set(0, 0, 3 * BLOCK, 10, 1, report);
  table.cut(0, 100, 200, report);
  assert.deepEqual(extents(table, 0), [[0, 3 * BLOCK, 10, 1]], "the middle of a block is the caller's");
  table.cut(0, 100, BLOCK, report);
  assert.deepEqual(extents(table, 0), [[0, 100, 10, 1], [BLOCK, 2 * BLOCK, 11, 1]]);
  table.cut(0, BLOCK, 2 * BLOCK + 5, report);
  assert.deepEqual(freed, [[11, 1, 1]]);
  assert.deepEqual(extents(table, 0), [[0, 100, 10, 1], [2 * BLOCK, BLOCK, 12, 1]]);
  table.truncate(0, 2 * BLOCK + 1, report);
  assert.deepEqual(extents(table, 0), [[0, 100, 10, 1], [2 * BLOCK, 1, 12, 1]]);
  table.truncate(0, 50, report);
  assert.deepEqual(extents(table, 0), [[0, 50, 10, 1]]);
});

Deno.test("files with thousands of extents keep them through random rewriting and cutting", () => {
  const table = new ExtentTable(), model = new Model(), size = 3000;
  let freed = 0;
  const next = randomNumbers(1);
  const count = (_position: number, blocks: number) => void (freed += blocks);
  for (let i = 0; i < 6000; i++) {
    const at = next(size), length = (1 + next(3)) * BLOCK - (next(4) === 0 ? next(BLOCK) : 0);
    table.set(7, at * BLOCK, length, i * 10, 1 + i, count);
    model.set(at * BLOCK, length, i * 10, 1 + i);
  }
  assert.ok(table.countOf(7) > 1000);
  for (let i = 0; i < 300; i++) {
    const from = next(size * BLOCK), to = from + next(8 * BLOCK);
    table.cut(7, from, to, count);
    model.cut(from, to);
  }
  assert.deepEqual(sorted(asModel(table, 7)), sorted(model));
  assert.equal(freed, model.freed.length);
  table.truncate(7, 1000 * BLOCK + 1, count);
  model.cut(1000 * BLOCK + 1, Infinity);
  assert.deepEqual(sorted(asModel(table, 7)), sorted(model));
  assert.equal(table.blocksOf(7), model.blocks.size);
  table.clear(7, count);
  assert.equal(table.countOf(7) + table.blocksOf(7) + table.endOf(7), 0);
});

Deno.test("a file with many extents, made in order or backwards, is emptied block by block", () => {
  const size = 3000, random = randomNumbers(2);
  for (const at of [(i: number) => i, (i: number) => size - 1 - i]) {
    const table = new ExtentTable(), model = new Model(), order = Array.from({ length: size }, (_, i) => i);
    let freed = 0;
    const count = (_position: number, blocks: number) => void (freed += blocks);
    for (let i = 0; i < size; i++) {
      table.set(1, at(i) * 2 * BLOCK, BLOCK, i * 2, 1, count);
      model.set(at(i) * 2 * BLOCK, BLOCK, i * 2, 1);
    }
    assert.equal(table.countOf(1), size);
    assert.deepEqual(sorted(asModel(table, 1)), sorted(model));
    for (let left = size; left > 0; left--) {
      const pick = random(left), index = order[pick]! * 2;
      order[pick] = order[left - 1]!;
      table.cut(1, index * BLOCK, (index + 1) * BLOCK, count);
      model.blocks.delete(index);
      if (left % 100 === 1) assert.deepEqual(sorted(asModel(table, 1)), sorted(model));
    }
    assert.deepEqual([table.countOf(1), table.blocksOf(1), freed], [0, 0, size]);
  }
});

Deno.test("cut() up to exactly the last valid byte frees that byte's block", () => {
  const table = new ExtentTable(), freed: number[][] = [];
  table.set(0, 0, 5000, 10, 1, () => {});
  table.cut(0, BLOCK, 4999, (...run) => void freed.push(run));
  assert.equal(freed.length, 0);
  table.cut(0, BLOCK, 5000, (...run) => void freed.push(run));
  assert.deepEqual(freed, [[11, 1, 1]]);
  assert.deepEqual(extents(table, 0), [[0, BLOCK, 10, 1]]);
});

Deno.test("nextFile() and everyExtent() find the files that have extents", () => {
  const table = new ExtentTable(), files = [0, 255, 256, 70_000];
  for (const ino of files) table.set(ino, 0, 5, ino, 1, () => {});
  table.set(255, 2 * BLOCK, 5, 9, 1, () => {});
  const found: number[] = [], seen: number[] = [];
  for (let ino = table.nextFile(0); ino < table.end; ino = table.nextFile(ino + 1)) found.push(ino);
  table.everyExtent((ino) => void seen.push(ino));
  assert.deepEqual(found, files);
  assert.deepEqual(seen, [0, 255, 255, 256, 70_000]);
});
