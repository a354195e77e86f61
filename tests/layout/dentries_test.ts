import assert from "node:assert/strict";
import fc from "fast-check";
import { DentryTable } from "../../fs/layout/dentries.ts";
import { NameArena, NameHash } from "../../fs/layout/names.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (name: Uint8Array) => new TextDecoder().decode(name);

Deno.test("NameHash is HalfSipHash-1-3 over the number and the name", () => {
  // Straight from the definition, word by word.
  const reference = (k0: number, k1: number, message: Uint8Array) => {
    const v = [k0, k1, 0x6c796765 ^ k0, 0x74656462 ^ k1] as [number, number, number, number];
    const turn = (x: number, by: number) => (x << by) | (x >>> (32 - by));
    const round = () => {
      v[0] = (v[0] + v[1]) | 0, v[1] = turn(v[1], 5), v[1] ^= v[0], v[0] = turn(v[0], 16);
      v[2] = (v[2] + v[3]) | 0, v[3] = turn(v[3], 8), v[3] ^= v[2];
      v[0] = (v[0] + v[3]) | 0, v[3] = turn(v[3], 7), v[3] ^= v[0];
      v[2] = (v[2] + v[1]) | 0, v[1] = turn(v[1], 13), v[1] ^= v[2], v[2] = turn(v[2], 16);
    };
    const padded = new Uint8Array(Math.ceil((message.length + 1) / 4) * 4);
    padded.set(message);
    padded[padded.length - 1] = message.length;
    const view = new DataView(padded.buffer);
    for (let i = 0; i < padded.length; i += 4) {
      const word = view.getInt32(i, true);
      v[3] ^= word, round(), v[0] ^= word;
    }
    v[2] ^= 0xff, round(), round(), round();
    return (v[1] ^ v[3]) >>> 0;
  };
  fc.assert(
    fc.property(fc.nat(0x7fff_ffff), fc.uint8Array({ minLength: 0, maxLength: 255 }), (number, name) => {
      const message = new Uint8Array(4 + name.length);
      new DataView(message.buffer).setUint32(0, number, true);
      message.set(name, 4);
      assert.equal(
        new NameHash(Uint32Array.of(0x03020100, 0x87060504)).of(number, name),
        reference(0x03020100, 0x87060504 | 0, message),
      );
    }),
  );
});

Deno.test("two tables do not hash alike", () => {
  const hashes = new Set(Array.from({ length: 8 }, () => new NameHash().of(1, bytes("name"))));
  assert.ok(hashes.size > 6);
});

Deno.test("a NameArena keeps names apart while room is used again", () => {
  const names = fc.array(fc.tuple(fc.boolean(), fc.uint8Array({ minLength: 1, maxLength: 255 })), {
    maxLength: 200,
  });
  fc.assert(
    fc.property(names, (steps) => {
      const arena = new NameArena(), kept: { reference: number; name: Uint8Array }[] = [];
      for (const [put, name] of steps) {
        if (put || kept.length === 0) kept.push({ reference: arena.put(name), name });
        else {
          const gone = kept.splice(name[0]! % kept.length, 1)[0]!;
          arena.free(gone.reference, gone.name.length);
        }
        for (const one of kept) {
          assert.ok(arena.equals(one.reference, one.name));
          assert.deepEqual(arena.view(one.reference, one.name.length).slice(), one.name);
        }
      }
    }),
    { numRuns: 20 },
  );
});

Deno.test("a NameArena uses all the room again that was given back", () => {
  const arena = new NameArena(), name = bytes("of nine by");
  const put = () => Array.from({ length: 100 }, () => arena.put(name)).sort((a, b) => a - b);
  const references = put();
  for (const reference of references) arena.free(reference, name.length);
  assert.deepEqual(put(), references);
});

Deno.test("a NameArena holds more than one chunk", () => {
  const arena = new NameArena(), name = (i: number) => bytes(`${i}-`.padEnd(1 + i % 255, "x"));
  const references = Array.from({ length: 5000 }, (_, i) => arena.put(name(i)));
  references.forEach((reference, i) => assert.ok(arena.equals(reference, name(i))));
});

/** What a table should say, kept in the plainest way. */
class Model {
  entries: { parent: number; name: string; ino: number; slot: number; directory: boolean }[] = [];
  in(parent: number) {
    return this.entries.filter((entry) => entry.parent === parent);
  }
  at(parent: number, name: string) {
    return this.entries.find((entry) => entry.parent === parent && entry.name === name);
  }
}

function check(table: DentryTable, model: Model, parents: readonly number[]): void {
  assert.equal(table.count, model.entries.length);
  for (const parent of parents) {
    const wanted = model.in(parent);
    assert.equal(table.countOf(parent), wanted.length);
    const listed = [...table.list(parent)].map((entry) => [text(entry.name), entry.ino, entry.slot]);
    assert.deepEqual(listed, wanted.map((entry) => [entry.name, entry.ino, entry.slot]));
  }
  for (const entry of model.entries) {
    assert.ok(table.live(entry.slot));
    assert.equal(table.find(entry.parent, bytes(entry.name)), entry.slot);
    assert.equal(table.parentAt(entry.slot), entry.parent);
    assert.equal(table.inoAt(entry.slot), entry.ino);
    assert.equal(table.directoryAt(entry.slot), entry.directory);
    assert.equal(text(table.nameAt(entry.slot)), entry.name);
  }
}

Deno.test("entries behave like a map of (directory, name), listed in the order of insertion", () => {
  const parents = [0, 1, 300, 70_000];
  const step = fc.record({
    op: fc.constantFrom("insert", "insert", "insert", "remove", "setIno"),
    parent: fc.constantFrom(...parents),
    name: fc.integer({ min: 0, max: 30 }).map((n) => `${n}`.repeat(1 + n % 7)),
    ino: fc.nat(50),
    directory: fc.boolean(),
  });
  fc.assert(fc.property(fc.array(step, { maxLength: 150, size: "max" }), (steps) => {
    const table = new DentryTable(), model = new Model();
    for (const { op, parent, name, ino, directory } of steps) {
      const had = model.at(parent, name), slot = table.find(parent, bytes(name));
      assert.equal(slot, had?.slot ?? -1);
      if (op === "insert" && !had) {
        const slot = table.insert(parent, bytes(name), ino, { directory });
        model.entries.push({ parent, name, ino, slot, directory });
      } else if (op === "remove" && had) {
        table.remove(slot);
        assert.ok(!table.live(slot));
        model.entries.splice(model.entries.indexOf(had), 1);
      } else if (op === "setIno" && had) {
        table.setIno(slot, ino, { directory });
        had.ino = ino;
        had.directory = directory;
      }
    }
    check(table, model, parents);
  }));
});

Deno.test("many entries are all found and removed again", () => {
  const table = new DentryTable(), count = 20_000, name = (i: number) => bytes(`entry ${i * 7}`);
  const slots = Array.from({ length: count }, (_, i) => table.insert(i % 13, name(i), i));
  for (let i = 0; i < count; i++) assert.equal(table.find(i % 13, name(i)), slots[i]);
  for (let i = 0; i < count; i += 2) table.remove(slots[i]!);
  for (let i = 0; i < count; i++) assert.equal(table.find(i % 13, name(i)), i % 2 === 0 ? -1 : slots[i]);
  assert.equal(table.count, count / 2);
});

Deno.test("insert() refuses names that no entry can have", () => {
  const table = new DentryTable();
  assert.throws(() => table.insert(0, new Uint8Array(0), 1), RangeError);
  assert.throws(() => table.insert(0, new Uint8Array(256), 1), RangeError);
  assert.equal(table.count, 0);
});

Deno.test("directoryEntryOf() follows the newest entry of a directory through moves", () => {
  const table = new DentryTable();
  const old = table.insert(0, bytes("a"), 7, { directory: true });
  assert.equal(table.directoryEntryOf(7), old);
  const moved = table.insert(3, bytes("b"), 7, { directory: true });
  table.remove(old);
  assert.equal(table.directoryEntryOf(7), moved);
  const other = table.insert(4, bytes("c"), 8, { directory: true });
  table.setIno(moved, 8);
  table.setIno(other, 7);
  assert.equal(table.directoryEntryOf(8), moved);
  assert.equal(table.directoryEntryOf(7), other);
  table.setIno(other, 9, { directory: false });
  assert.equal(table.directoryEntryOf(7), -1);
  assert.equal(table.directoryEntryOf(9), -1);
  table.remove(moved);
  table.forgetDirectory(8);
  assert.equal(table.directoryEntryOf(8), -1);
});

Deno.test("listing in parts while entries come and go shows each lasting entry exactly once", () => {
  const scenario = fc.record({
    size: fc.integer({ min: 0, max: 60 }),
    lasting: fc.array(fc.nat(60), { maxLength: 40, size: "max" }),
    part: fc.integer({ min: 1, max: 9 }),
    stepBack: fc.boolean(),
    seed: fc.nat(1000),
    listings: fc.integer({ min: 1, max: 80 }),
  });
  fc.assert(
    fc.property(scenario, ({ size, lasting, part, stepBack, seed, listings }) => {
      const table = new DentryTable(), keep = new Set(lasting.map(String));
      for (let i = 0; i < size; i++) table.insert(5, bytes(`${i}`), i);
      for (let i = 0; i < 3; i++) table.insert(6, bytes(`${i}`), i);
      const seen = Array.from({ length: listings }, () => [] as string[]), cookies = seen.map(() => 0);
      const running = new Set(seen.keys());
      for (let turn = seed; running.size > 0; turn++) {
        for (const who of running) {
          let taken = 0;
          for (const entry of table.list(5, cookies[who])) {
            // Like a kernel's buffer: the entry that does not fit is asked for again.
            if (stepBack && taken === part) break;
            seen[who]!.push(text(entry.name));
            cookies[who] = entry.cookie;
            if (++taken === part && !stepBack) break;
          }
          if (taken === 0) running.delete(who);
        }
        for (const i of [turn * 7 % 61, turn * 13 % 61]) {
          const slot = table.find(5, bytes(`${i}`));
          if (slot >= 0 && !keep.has(`${i}`)) table.remove(slot);
        }
        if (turn - seed < 20) table.insert(5, bytes(`new ${turn}`), 99);
      }
      for (const names of seen) {
        assert.equal(new Set(names).size, names.length, "listed twice");
        for (let i = 0; i < size; i++) {
          if (keep.has(`${i}`)) assert.ok(names.includes(`${i}`), `missing ${i}`);
        }
      }
    }),
    { numRuns: 50 },
  );
});

Deno.test("a directory can be emptied while it is listed", () => {
  const table = new DentryTable();
  for (let i = 0; i < 1000; i++) table.insert(0, bytes(`${i}`), i);
  let listed = 0;
  for (const entry of table.list(0)) {
    table.remove(entry.slot);
    if (listed++ % 10 === 0) table.insert(9, bytes(`${listed}`), 1);
  }
  assert.equal(listed, 1000);
  assert.equal(table.countOf(0), 0);
});

Deno.test("a listing goes on behind an entry that is gone, and at entries that were added at the end", () => {
  const table = new DentryTable();
  const slots = ["a", "b", "c"].map((name, i) => table.insert(1, bytes(name), i));
  const [a, b, c] = [...table.list(1)].map((entry) => entry.cookie);
  table.remove(slots[1]!);
  assert.deepEqual([...table.list(1, b)].map((entry) => text(entry.name)), ["c"]);
  table.remove(slots[2]!);
  assert.deepEqual([...table.list(1, c)], []);
  table.insert(1, bytes("d"), 4);
  assert.deepEqual([...table.list(1, c)].map((entry) => text(entry.name)), ["d"]);
  assert.deepEqual([...table.list(1, a)].map((entry) => text(entry.name)), ["d"]);
  const listing = table.list(1);
  assert.equal(text(listing.next().value!.name), "a");
  table.remove(slots[0]!);
  assert.equal(text(listing.next().value!.name), "d");
});

Deno.test("a place in a listing stays right when the entries before it go and their slots are used again", () => {
  const table = new DentryTable();
  table.insert(2, bytes("elsewhere and earlier"), 9);
  const slots = ["a", "b", "c"].map((name, i) => table.insert(1, bytes(name), i));
  // The cookie of "c", the fourth entry; listing it to learn that would leave more places behind.
  const behind = 4;
  const rest = () => [...table.list(1, behind)].map((entry) => text(entry.name));
  // A listing that ended at "c" and left only that place behind.
  assert.deepEqual(rest(), []);
  table.remove(slots[2]!);
  table.remove(slots[1]!);
  for (let i = 0; i < 3; i++) table.insert(2, bytes(`elsewhere ${i}`), 9);
  assert.deepEqual(rest(), []);
  table.insert(1, bytes("d"), 9);
  table.remove(slots[0]!);
  table.insert(2, bytes("and here"), 9);
  assert.deepEqual(rest(), ["d"]);
});
