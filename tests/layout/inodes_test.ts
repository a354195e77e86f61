import assert from "node:assert/strict";
import fc from "fast-check";
import { DecodeError } from "../../fs/layout/bytes.ts";
import { ColumnGroup, NumberSet } from "../../fs/layout/columns.ts";
import { InodeTable } from "../../fs/layout/inodes.ts";

Deno.test("a NumberSet tells its lowest number like a sorted set", () => {
  const numbers = fc.oneof(fc.nat(70), fc.nat(5000), fc.nat(200_000));
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), numbers), { maxLength: 60, size: "max" }), (steps) => {
      const set = new NumberSet(), model = new Set<number>();
      for (const [add, number] of steps) {
        if (add) set.add(number), model.add(number);
        else set.delete(number), model.delete(number);
        assert.equal(set.has(number), add);
        assert.equal(set.size, model.size);
        assert.equal(set.lowest(), model.size === 0 ? -1 : Math.min(...model));
      }
    }),
  );
});

Deno.test("columns keep their values however far they grow, and new rows are zero", () => {
  const owner = { a: new Uint8Array(0), b: new Float64Array(0) };
  const group = new ColumnGroup(owner, ["a", "b"]);
  const rows = [0, 1, 1023, 1024, 16383, 16384, 20000, 200_000, 1_000_000];
  rows.forEach((row, i) => {
    group.need(row);
    assert.equal(owner.a[row], 0);
    assert.equal(owner.b[row], 0);
    owner.a[row] = i + 1;
    owner.b[row] = row + 0.5;
  });
  rows.forEach((row, i) => assert.deepEqual([owner.a[row], owner.b[row]], [i + 1, row + 0.5]));
});

Deno.test("large columns grow in place", () => {
  const owner = { a: new Uint32Array(0) };
  const group = new ColumnGroup(owner, ["a"]);
  group.need(100_000);
  const column = owner.a;
  group.need(3_000_000);
  assert.equal(owner.a, column);
  assert.ok(column.length > 3_000_000);
});

Deno.test("allocate() gives the lowest released id and counts its generation up", () => {
  const table = new InodeTable();
  table.insert(0);
  assert.deepEqual(Array.from({ length: 4 }, () => table.allocate()), [1, 2, 3, 4]);
  table.mode[2] = 0o100644;
  table.size[2] = 77;
  table.xattrs.set(2, new Map());
  table.remove(3);
  table.remove(2);
  assert.equal(table.allocate(), 5, "an id that is not released yet must not come");
  table.release(3);
  table.release(2);
  assert.equal(table.allocate(), 2);
  assert.equal(table.generation[2], 1);
  assert.deepEqual([table.mode[2], table.size[2], table.xattrs.has(2)], [0, 0, false]);
  assert.equal(table.allocate(), 3);
  assert.equal(table.allocate(), 6);
  assert.equal(table.count, 7);
  assert.equal(table.end, 7);
});

Deno.test("release() of a live id does nothing", () => {
  const table = new InodeTable();
  const ino = table.allocate();
  table.release(ino);
  table.release(100);
  assert.equal(table.allocate(), 1);
});

Deno.test("after replay all dead ids below the high-water mark are allocatable, lowest first", () => {
  const table = new InodeTable();
  for (const ino of [0, 5, 3]) table.insert(ino);
  table.generation[5] = 9;
  table.remove(5);
  assert.equal(table.generation[5], 9);
  assert.equal(table.allocate(), 6);
  table.rebuildFreeList();
  assert.deepEqual(Array.from({ length: 5 }, () => table.allocate()), [1, 2, 4, 5, 7]);
  assert.equal(table.generation[5], 10);
});

Deno.test("insert() takes an id off the free list and leaves a live one alone", () => {
  const table = new InodeTable();
  for (let i = 0; i < 4; i++) table.allocate();
  table.remove(1);
  table.release(1);
  table.insert(1);
  table.size[1] = 5;
  table.insert(1);
  assert.equal(table.size[1], 5);
  assert.equal(table.count, 4);
  assert.equal(table.allocate(), 4);
});

Deno.test("insert() refuses an id absurdly far above all others", () => {
  const table = new InodeTable();
  for (const ino of [0x7fff_ffff, 2 ** 40, 1 << 23]) assert.throws(() => table.insert(ino), DecodeError);
  assert.equal(table.end, 0);
});
