import assert from "node:assert/strict";
import fc from "fast-check";
import { ByteWriter, DecodeError } from "../../fs/layout/bytes.ts";
import { decodePage, encodePages, PAGE_KINDS, PAGE_MAX, type PageKind } from "../../fs/layout/pages.ts";
import { Tables } from "../../fs/layout/tables.ts";
import { randomNumbers } from "./random.ts";
import { FILE_SIZE_MAX, type Ino } from "../../fs/types.ts";

const none = () => {};
const bytes = (text: string) => new TextEncoder().encode(text);
const COLUMNS = [
  ...["live", "mode", "uid", "gid", "nlink", "rdev", "generation", "size"] as const,
  ...["atimeS", "atimeN", "mtimeS", "mtimeN", "ctimeS", "ctimeN", "btimeS", "btimeN"] as const,
];

/** All that tables hold, for comparing. Slots and cookies are not kept by pages, the order of entries is. */
function dump(tables: Tables): unknown {
  const { inodes, dentries, extents } = tables, entries: unknown[] = [], files: unknown[] = [];
  for (let slot = 0; slot < dentries.end; slot++) {
    if (!dentries.live(slot)) continue;
    const ino = dentries.inoAt(slot), isDirectory = dentries.directoryAt(slot);
    entries.push([dentries.parentAt(slot), dentries.nameAt(slot).join(), ino, isDirectory]);
  }
  extents.everyExtent((...extent) => void files.push(extent));
  return {
    columns: COLUMNS.map((name) => [...inodes[name].subarray(0, inodes.end)]),
    targets: [...inodes.targets].map(([ino, target]) => [ino, target.join()]).sort(),
    xattrs: [...inodes.xattrs].map((
      [ino, all],
    ) => [ino, [...all].map(([name, value]) => [name, value.join()])]),
    entries,
    files,
  };
}

function pages(tables: Tables, sizeOf?: (ino: Ino) => number): { kind: PageKind; bytes: Uint8Array }[] {
  return PAGE_KINDS.flatMap((kind) => {
    const all = [...encodePages(tables, kind, sizeOf ? { sizeOf } : {})];
    for (const page of all) {
      assert.equal(page.kind, kind);
      assert.ok(page.bytes.length <= PAGE_MAX && page.end > page.first);
    }
    return all;
  });
}

function decoded(all: readonly { kind: PageKind; bytes: Uint8Array }[], into = new Tables()): Tables {
  for (const page of all) decodePage(page.kind, page.bytes, into);
  return into;
}

/** Tables of some size with a bit of everything; `seed` varies them. */
function sample(count: number, seed = 1): Tables {
  const tables = new Tables(), { inodes: t, dentries, extents } = tables;
  const random = randomNumbers(seed);
  t.insert(0);
  for (let i = 1; i < count; i++) {
    const ino = t.allocate(), kind = random(10);
    t.mode[ino] = kind === 0 ? 0o40755 : kind === 1 ? 0o120777 : 0o100644;
    t.uid[ino] = random(3) === 0 ? 0xffff_fffe : 1000;
    t.gid[ino] = random(3) * 1000;
    t.nlink[ino] = 1 + random(3);
    t.rdev[ino] = random(50) === 0 ? 0xffff_ffff : 0;
    t.size[ino] = random(100) === 0 ? FILE_SIZE_MAX : random(100_000);
    t.mtimeS[ino] = random(100) === 0 ? -(2 ** 51) + 1 : 1_700_000_000 + random(1000);
    t.ctimeS[ino] = random(100) === 0 ? 2 ** 51 - 1 : 1_700_000_000;
    t.atimeS[ino] = t.btimeS[ino] = -5;
    t.mtimeN[ino] = random(1_000_000_000);
    t.ctimeN[ino] = 999_999_999;
    t.atimeN[ino] = random(2) === 0 ? 0 : t.mtimeN[ino]!;
    t.btimeN[ino] = random(1_000_000_000);
    if (kind === 1) t.targets.set(ino, bytes("../".repeat(1 + random(1300)) + ino));
    if (kind === 2) {
      t.xattrs.set(ino, new Map([["user.a", bytes("x".repeat(random(40)))], ["\xff", bytes("")]]));
    }
    dentries.insert(random(i), bytes(`${i} `.padEnd(1 + random(250), "ä").slice(0, 120)), ino, {
      directory: kind === 0,
    });
    if (kind <= 1) continue;
    extents.set(ino, random(3) * 4096, 1 + random(70_000), random(1_000_000), 1 + random(100), none);
    for (let n = random(20) === 0 ? random(8) : 0; n > 0; n--) {
      extents.set(
        ino,
        random(2 ** 30) * 4096,
        1 + random(70_000),
        random(2 ** 31) * 1000,
        1 + random(100),
        none,
      );
    }
    if (random(8) === 0) {
      t.remove(ino);
      extents.clear(ino, none);
      dentries.remove(dentries.end - 1);
    }
  }
  return tables;
}

Deno.test("tables come back from their pages as they were", () => {
  for (const [count, seed] of [[1, 1], [2, 2], [300, 3], [6000, 4]] as const) {
    const tables = sample(count, seed), back = decoded(pages(tables));
    assert.deepEqual(dump(back), dump(tables));
    assert.equal(back.inodes.count, tables.inodes.count);
    assert.equal(back.inodes.end, tables.inodes.end);
  }
});

Deno.test("a file with more extents than fit a page comes back whole", () => {
  const tables = new Tables();
  for (const ino of [3, 4, 90]) {
    for (let i = 0; i < 20_000; i++) tables.extents.set(ino, i * 8192, 4096, i * 9 + ino, 1 + i % 7, none);
  }
  const all = pages(tables);
  assert.ok(all.length > 4);
  assert.deepEqual(dump(decoded(all)), dump(tables));
});

Deno.test("empty tables have no pages", () => {
  assert.deepEqual(pages(new Tables()), []);
});

Deno.test("decoding pages twice changes nothing", () => {
  const tables = sample(500), all = pages(tables);
  assert.deepEqual(dump(decoded([...all, ...all.filter((page) => page.kind !== "dentries")])), dump(tables));
});

Deno.test("the size recorded is the one that is asked for", () => {
  const tables = sample(20), back = decoded(pages(tables, (ino) => ino * 3));
  for (let ino = 0; ino < 20; ino++) if (back.inodes.has(ino)) assert.equal(back.inodes.size[ino], ino * 3);
});

Deno.test("dead ids keep their generation", () => {
  const tables = new Tables(), { inodes } = tables;
  for (let i = 0; i < 5; i++) inodes.allocate();
  for (let i = 0; i < 3; i++) {
    inodes.remove(2);
    inodes.release(2);
    assert.equal(inodes.allocate(), 2);
  }
  inodes.remove(2);
  inodes.remove(4);
  const back = decoded(pages(tables)).inodes;
  back.rebuildFreeList();
  assert.equal(back.allocate(), 2);
  assert.equal(back.generation[2], 4);
  assert.equal(back.end, 5);
});

Deno.test("attributes larger than a page come back whole", () => {
  const tables = new Tables(), { inodes } = tables;
  const value = (length: number, seed: number) => Uint8Array.from({ length }, (_, i) => (i * seed) >>> 3);
  for (let ino = 0; ino < 6; ino++) {
    inodes.insert(ino);
    const all = new Map([["a", value(65536, 7 + ino)], ["n".repeat(255), value(65536 - ino * 90, 3)]]);
    inodes.xattrs.set(ino, all.set("", value(65200 + ino, 5)).set("small", value(9, 1)));
  }
  assert.deepEqual(dump(decoded(pages(tables))), dump(tables));
});

Deno.test("a part of an attribute that continues nothing is refused", () => {
  const record = (ino: number, offset: number, part: Uint8Array, first = true) => {
    const out = new ByteWriter();
    if (!first) out.raw(record(9, 0, bytes("x")));
    out.varint(ino), out.varint(2), out.raw(bytes("a")), out.varint(offset), out.bytes(part);
    return out.take();
  };
  const tables = new Tables();
  decodePage("attributes", record(1, 0, bytes("abc")), tables);
  assert.throws(() => decodePage("attributes", record(1, 2, bytes("d")), tables), DecodeError);
  assert.throws(() => decodePage("attributes", record(2, 3, bytes("d")), tables), DecodeError);
  assert.throws(() => decodePage("attributes", record(1, 3, bytes("d"), false), tables), DecodeError);
  decodePage("attributes", record(1, 3, bytes("d")), tables);
  assert.deepEqual(tables.inodes.xattrs.get(1)!.get("a"), bytes("abcd"));
});

Deno.test("pages made while the tables change hold each lasting row once, whatever else they hold", () => {
  const tables = sample(9000, 7), { inodes: t, dentries, extents } = tables, back = new Tables();
  const lasting = new Map<string, number>(), files = new Map<number, string>();
  const extentsOf = (tables: Tables, ino: Ino) => {
    const all: number[][] = [];
    tables.extents.each(ino, (...extent) => void all.push(extent));
    return JSON.stringify(all);
  };
  // What is divisible by 3 stays; the others are removed, changed and added meanwhile.
  for (let slot = 0; slot < dentries.end; slot += 3) {
    if (!dentries.live(slot)) continue;
    lasting.set(`${dentries.parentAt(slot)} ${dentries.nameAt(slot).join()}`, dentries.inoAt(slot));
  }
  for (let ino = 0; ino < t.end; ino += 3) if (t.has(ino)) files.set(ino, extentsOf(tables, ino));
  let turn = 0;
  for (const kind of PAGE_KINDS) {
    for (const page of encodePages(tables, kind)) {
      decodePage(kind, page.bytes, back);
      for (let i = turn++ * 37; i < t.end; i += 211) {
        if (i % 3 === 0) continue;
        if (dentries.live(i)) dentries.remove(i);
        else dentries.insert(1, bytes(`new ${turn} ${i}`), i);
        if (t.has(i) && i % 2 === 0) extents.truncate(i, 5000, none);
        else extents.set(i, (turn % 50) * 8192, 4096, turn * 10, turn, none);
        if (t.has(i) && i % 5 === 0) t.remove(i);
        else t.allocate();
      }
    }
  }
  assert.ok(turn > 5);
  for (const [key, ino] of lasting) {
    const [parent, name] = key.split(" ") as [string, string];
    const slot = back.dentries.find(Number(parent), Uint8Array.from(name.split(","), Number));
    assert.ok(slot >= 0 && back.dentries.inoAt(slot) === ino);
  }
  for (const [ino, list] of files) {
    assert.ok(back.inodes.has(ino));
    assert.equal(extentsOf(back, ino), list);
  }
});

Deno.test("the last of several entries of one name wins, and extents may overlap earlier ones", () => {
  const one = new Tables(), other = new Tables(), back = new Tables();
  one.dentries.insert(1, bytes("a"), 5, { directory: true });
  other.dentries.insert(1, bytes("a"), 6);
  one.extents.set(900_000, 0, 10 * 4096, 100, 1, none);
  other.extents.set(900_000, 4096, 4096, 200, 2, none);
  decoded([...pages(one), ...pages(other)], back);
  assert.equal(back.dentries.count, 1);
  assert.equal(back.dentries.inoAt(back.dentries.find(1, bytes("a"))), 6);
  assert.equal(back.dentries.directoryEntryOf(5), -1);
  assert.equal(back.extents.countOf(900_000), 3);
  assert.equal(back.extents.blocksOf(900_000), 10);
});

Deno.test("pages of inodes with a gap before them are refused", () => {
  const tables = sample(10), page = [...encodePages(tables, "inodes", { from: 5 })][0]!;
  assert.equal(page.first, 5);
  assert.throws(() => decodePage("inodes", page.bytes, new Tables()), DecodeError);
});

Deno.test("whatever the bytes, decoding ends with tables or a DecodeError", () => {
  const good = pages(sample(200, 9)).concat(pages(sample(30, 5)));
  const attempt = (kind: PageKind, page: Uint8Array) => {
    const tables = new Tables();
    try {
      decodePage(kind, page, tables);
    } catch (error) {
      assert.ok(error instanceof DecodeError, `${error}`);
      return;
    }
    // What was taken in can be written again, and comes back.
    assert.deepEqual(dump(decoded(pages(tables))), dump(tables));
  };
  const kind = fc.constantFrom(...PAGE_KINDS);
  fc.assert(fc.property(kind, fc.uint8Array({ maxLength: 200, size: "max" }), attempt), { numRuns: 1000 });
  const smallBytes = fc.array(fc.oneof(fc.nat(3), fc.nat(255)), { maxLength: 60, size: "max" }).map((list) =>
    Uint8Array.from(list)
  );
  fc.assert(fc.property(kind, smallBytes, attempt), { numRuns: 1000 });
  const edits = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 });
  const damage = fc.record({ page: fc.nat(good.length - 1), edits, cut: fc.nat(), shorten: fc.boolean() });
  fc.assert(
    fc.property(damage, ({ page, edits, cut, shorten }) => {
      const { kind, bytes } = good[page]!,
        damaged = bytes.slice(0, shorten ? cut % bytes.length : bytes.length);
      for (const [at, value] of edits) if (damaged.length > 0) damaged[at % damaged.length] = value;
      attempt(kind, damaged);
    }),
    { numRuns: 300 },
  );
});

Deno.test("every cut of a page, and anything behind it, is refused", () => {
  const tables = new Tables(), small = sample(6, 11);
  for (const page of pages(small)) {
    for (let length = 0; length < page.bytes.length; length++) {
      if (page.kind === "attributes") continue;
      assert.throws(() => decodePage(page.kind, page.bytes.subarray(0, length), new Tables()), DecodeError);
    }
    const longer = new Uint8Array(page.bytes.length + 1);
    longer.set(page.bytes);
    assert.throws(() => decodePage(page.kind, longer, new Tables()), DecodeError);
  }
  assert.throws(() => decodePage("inodes", new Uint8Array(PAGE_MAX + 1), tables), DecodeError);
});

Deno.test("a page that names ids far apart takes little memory", () => {
  const far = new Tables();
  for (let i = 0; i < 2000; i++) {
    far.extents.set(i * 1_000_000, 0, 1, i, 1, none);
    far.dentries.insert(i * 1_000_000, bytes("a"), 2_000_000_000 - i);
  }
  const before = Deno.memoryUsage().external, back = decoded(pages(far));
  assert.ok(Deno.memoryUsage().external - before < 64e6);
  assert.equal(back.extents.countOf(1_999_000_000), 1);
  assert.equal(back.dentries.countOf(1_999_000_000), 1);
});

Deno.test("usedRuns() tells the blocks of every extent", () => {
  const tables = new Tables();
  tables.extents.set(1, 0, 5000, 10, 1, none);
  tables.extents.set(1, 1 << 20, 4096, 50, 1, none);
  tables.extents.set(700, 0, 1, 30, 1, none);
  const wanted = [{ position: 10, count: 2 }, { position: 50, count: 1 }, { position: 30, count: 1 }];
  assert.deepEqual([...tables.usedRuns()], wanted);
  assert.equal(tables.usedRunColumns().length, 3);
});

Deno.test("values out of their range are refused", () => {
  const page = (write: (out: ByteWriter) => void) => {
    const out = new ByteWriter();
    out.varint(0), out.varint(1);
    write(out);
    return out.take();
  };
  const extent = (ino: number, offset: number, length: number, position: number, birth: number) =>
    page((
      out,
    ) => (out.varint(ino), out.varint(offset), out.varint(length), out.signed(position), out.signed(birth)));
  const entry = (parent: number, ino: number, flags: number, name: Uint8Array) =>
    page((out) => (out.signed(parent), out.signed(ino), out.u8(flags), out.u8(name.length), out.raw(name)));
  const inode = (
    changes: { mode?: number; uid?: number; size?: number; seconds?: number; nanoseconds?: number },
  ) =>
    page((out) => {
      out.varint((changes.mode ?? 0o100644) + 1), out.varint(0), out.signed(changes.uid ?? 0), out.signed(0);
      out.varint(1), out.varint(0), out.varint(changes.size ?? 0), out.signed(changes.seconds ?? 0);
      out.u32(changes.nanoseconds ?? 0);
      for (let i = 0; i < 6; i++) out.signed(0);
    });
  const blocks = 2 ** 41, number = 2 ** 52 - 1;
  const good: [PageKind, Uint8Array][] = [
    ["extents", extent(0x7fff_ffff, blocks - 1, 4096, number - 1, number)],
    ["dentries", entry(0x7fff_ffff, 0x7fff_ffff, 1, bytes("a"))],
    ["inodes", inode({ mode: 0xffff, uid: 0xffff_ffff, seconds: 2 ** 51 - 1, nanoseconds: 999_999_999 })],
    ["inodes", inode({ seconds: -(2 ** 51) + 1, size: FILE_SIZE_MAX })],
  ];
  const bad: [PageKind, Uint8Array][] = [
    ["extents", extent(0x8000_0000, 0, 1, 1, 1)],
    ["extents", extent(0, blocks, 1, 1, 1)],
    ["extents", extent(0, blocks - 1, 4097, 1, 1)],
    ["extents", extent(0, 0, 0, 1, 1)],
    ["extents", extent(0, 0, 2 ** 32, 1, 1)],
    ["extents", extent(0, 0, 1, number, 1)],
    ["extents", extent(0, 0, 1, -1, 1)],
    ["extents", extent(0, 0, 1, 1, number + 1)],
    ["extents", extent(0, 0, 1, 1, -1)],
    ["dentries", entry(-1, 1, 0, bytes("a"))],
    ["dentries", entry(1, 0x8000_0000, 0, bytes("a"))],
    ["dentries", entry(1, 1, 2, bytes("a"))],
    ["dentries", entry(1, 1, 0, bytes(""))],
    ["dentries", entry(1, 1, 0, bytes("a/b"))],
    ["dentries", entry(1, 1, 0, bytes("a\0"))],
    ["inodes", inode({ mode: 0x10000 })],
    ["inodes", inode({ uid: -1 })],
    ["inodes", inode({ uid: 2 ** 32 })],
    ["inodes", inode({ seconds: 2 ** 51 })],
    ["inodes", inode({ seconds: -(2 ** 51) })],
    ["inodes", inode({ nanoseconds: 1_000_000_000 })],
  ];
  for (const [kind, page] of good) decodePage(kind, page, new Tables());
  for (const [kind, page] of bad) assert.throws(() => decodePage(kind, page, new Tables()), DecodeError);
});
