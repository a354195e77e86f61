/**
 * Mounting through a double of Dokan's library (tests/windows/dokan_double.c), in the sequences that cmd, Explorer and
 * editors cause. Runs on Windows where `COVERFS_DOKAN_DOUBLE` names it.
 */
import assert from "node:assert/strict";
import { mount, type Mounted, type MountOptions } from "../../ffi/mod.ts";
import { BY_HANDLE, timeOfFileTime } from "../../ffi/dokan_structs.ts";
import { STATUS, type StatusName } from "../../ffi/ntstatus.ts";
import { wide } from "../../ffi/wide_strings.ts";
import { RamStore } from "../../fs/store/ram.ts";
import type { Filesystem } from "../../fs/filesystem.ts";
import { type Ino, ROOT } from "../../fs/types.ts";
import type { Volume } from "../../fs/volume.ts";
import {
  content,
  equal,
  FILE,
  FOLDER,
  inoOf,
  makeContainer,
  name,
  openVolume,
  pattern,
  walk,
} from "../fs/fixture.ts";
import { until } from "../cli/run.ts";
import { delayed } from "../model/delayed_filesystem.ts";

const DOUBLE = Deno.build.os === "windows" ? Deno.env.get("COVERFS_DOKAN_DOUBLE") : undefined;
const strict = { sanitizeOps: true, sanitizeResources: true, ignore: DOUBLE === undefined };

const HANDLE = "usize", NAME = "buffer";
const SYMBOLS = {
  DoubleCreate: {
    parameters: [NAME, "u32", "u32", "u32", "u32", "u32", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  DoubleRead: { parameters: [HANDLE, "buffer", "u32", "i64", "buffer"], result: "i32", nonblocking: true },
  DoubleWrite: {
    parameters: [HANDLE, "buffer", "u32", "i64", "u32", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  DoubleFlush: { parameters: [HANDLE], result: "i32", nonblocking: true },
  DoubleInformation: { parameters: [HANDLE, "buffer"], result: "i32", nonblocking: true },
  DoubleFind: { parameters: [HANDLE, NAME, "buffer", "u32"], result: "i32", nonblocking: true },
  DoubleSetAttributes: { parameters: [HANDLE, "u32"], result: "i32", nonblocking: true },
  DoubleSetTime: { parameters: [HANDLE, "buffer", "buffer", "buffer"], result: "i32", nonblocking: true },
  DoubleSetDelete: { parameters: [HANDLE, "i32"], result: "i32", nonblocking: true },
  DoubleMove: { parameters: [HANDLE, NAME, "i32"], result: "i32", nonblocking: true },
  DoubleSetEnd: { parameters: [HANDLE, "i64"], result: "i32", nonblocking: true },
  DoubleSetAllocation: { parameters: [HANDLE, "i64"], result: "i32", nonblocking: true },
  DoubleClose: { parameters: [HANDLE], result: "void", nonblocking: true },
  DoubleExtensions: { parameters: [], result: "i32", nonblocking: true },
  DoubleSpace: { parameters: ["buffer"], result: "i32", nonblocking: true },
  DoubleVolume: { parameters: ["buffer", "buffer"], result: "i32", nonblocking: true },
  DoubleStress: { parameters: ["u32", "u32"], result: "i32", nonblocking: true },
  DokanRemoveMountPoint: { parameters: [NAME], result: "i32", nonblocking: true },
} as const;

const READ = 0x8000_0000, WRITE = 0x4000_0000, DELETE = 0x1_0000, ALL_SHARED = 7;
const OPEN = 1, CREATE = 2, OPEN_IF = 3, OVERWRITE = 4, OVERWRITE_IF = 5;
const DIRECTORY = 1, NON_DIRECTORY = 0x40, DELETE_ON_CLOSE = 0x1000, REPARSE = 0x20_0000;

interface Opening {
  access?: number;
  share?: number;
  disposition?: number;
  flags?: number;
  attributes?: number;
}

/** A mount of a volume in RAM, and what asks it. */
class Bed implements AsyncDisposable {
  readonly volume: Volume;
  readonly mounted: Mounted;
  readonly #library = Deno.dlopen(DOUBLE!, SYMBOLS);
  readonly logged: string[] = [];

  private constructor(volume: Volume, mounted: Mounted) {
    this.volume = volume;
    this.mounted = mounted;
  }

  static async make(options: MountOptions & { wrap?: (volume: Volume) => Filesystem } = {}): Promise<Bed> {
    const store = new RamStore();
    await makeContainer(store);
    const volume = await openVolume(store), { wrap, ...rest } = options;
    const logged: string[] = [];
    const mounted = await mount(wrap?.(volume) ?? volume, "X:", {
      library: DOUBLE!,
      fsname: "C:\\boxes\\box",
      log: (message, cause) => logged.push(`${message}: ${cause}`),
      ...rest,
    });
    const bed = new Bed(volume, mounted);
    bed.logged.push(...logged);
    return bed;
  }

  get symbols() {
    return this.#library.symbols;
  }

  /** Opens as told, and expects a status. @returns the handle; 0 where there is none */
  async open(path: string, opening: Opening = {}, expected: StatusName = "SUCCESS"): Promise<bigint> {
    const { access = READ | WRITE, share = ALL_SHARED, disposition = OPEN, flags = 0, attributes = 0 } =
      opening;
    const out = new BigUint64Array(1);
    const status = await this.symbols.DoubleCreate(
      wide(path),
      access >>> 0,
      attributes,
      share,
      disposition,
      flags,
      out,
    );
    assertStatus(status, expected, path);
    return out[0]!;
  }

  async close(...handles: bigint[]): Promise<void> {
    for (const handle of handles) await this.symbols.DoubleClose(handle);
  }

  async write(
    handle: bigint,
    bytes: Uint8Array,
    at: number,
    options: { how?: 0 | 1 | 2; expected?: StatusName } = {},
  ): Promise<number> {
    const put = new Uint32Array(1), { how = 0, expected = "SUCCESS" } = options;
    assertStatus(
      await this.symbols.DoubleWrite(handle, bytes.slice(), bytes.length, BigInt(at), how, put),
      expected,
    );
    return put[0]!;
  }

  async read(
    handle: bigint,
    length: number,
    at: number,
    expected: StatusName = "SUCCESS",
  ): Promise<Uint8Array> {
    const into = new Uint8Array(length), got = new Uint32Array(1);
    assertStatus(await this.symbols.DoubleRead(handle, into, length, BigInt(at), got), expected);
    return into.subarray(0, got[0]);
  }

  async list(path: string, expression = "*", room = 4096): Promise<string[]> {
    const handle = await this.open(path, { access: READ, flags: DIRECTORY }), out = new Uint16Array(room);
    assertStatus(await this.symbols.DoubleFind(handle, wide(expression), out, room), "SUCCESS");
    await this.close(handle);
    const text = String.fromCharCode(...out);
    return text.slice(0, text.indexOf("\0")).split("\n").slice(0, -1);
  }

  async information(handle: bigint): Promise<DataView> {
    const view = new DataView(new ArrayBuffer(BY_HANDLE.bytes));
    assertStatus(await this.symbols.DoubleInformation(handle, view), "SUCCESS");
    return view;
  }

  paths(): string[] {
    return walk(this.volume).map(({ path }) => path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.mounted[Symbol.asyncDispose]();
    this.#library.close();
    await this.volume.end();
  }
}

function assertStatus(status: number, expected: StatusName, what = ""): void {
  const name = Object.entries(STATUS).find(([, value]) => (value | 0) === status)?.[0] ?? status.toString(16);
  assert.equal(name, expected, what);
}

Deno.test("cmd: copy, type, ren and del of a file", strict, async () => {
  await using bed = await Bed.make();
  const bytes = pattern(100_000);
  const made = await bed.open("\\New.txt", { disposition: OVERWRITE_IF, flags: NON_DIRECTORY });
  for (let at = 0; at < bytes.length; at += 60_000) {
    const part = bytes.slice(at, at + 60_000);
    assert.equal(await bed.write(made, part, at), part.length);
  }
  assertStatus(await bed.symbols.DoubleFlush(made), "SUCCESS");
  await bed.close(made);
  assert(equal(await content(bed.volume, inoOf(bed.volume, "/New.txt")), bytes));

  const read = await bed.open("\\NEW.TXT", { access: READ });
  assert(equal(await bed.read(read, 200_000, 0), bytes));
  await bed.read(read, 10, 100_000, "END_OF_FILE");
  await bed.close(read);

  const renamed = await bed.open("\\new.txt", { access: DELETE });
  assertStatus(await bed.symbols.DoubleMove(renamed, wide("\\new.TXT"), 0), "SUCCESS");
  assert.deepEqual(bed.paths(), ["/new.TXT"], "only the case changes");
  await bed.close(renamed);

  const deleted = await bed.open("\\New.txt", { access: DELETE });
  assertStatus(await bed.symbols.DoubleSetDelete(deleted, 1), "SUCCESS");
  assert.deepEqual(bed.paths(), ["/new.TXT"], "it goes when it is closed");
  await bed.open("\\New.txt", {}, "DELETE_PENDING");
  await bed.close(deleted);
  assert.deepEqual(bed.paths(), []);
  await bed.open("\\New.txt", {}, "OBJECT_NAME_NOT_FOUND");
  assert.deepEqual(bed.mounted.activity.open, 0);
});

Deno.test("Explorer: a new folder, its name, its listing, its end", strict, async () => {
  await using bed = await Bed.make();
  const folder = await bed.open("\\New folder", { disposition: CREATE, flags: DIRECTORY });
  await bed.open("\\new FOLDER", { disposition: CREATE, flags: DIRECTORY }, "OBJECT_NAME_COLLISION");
  assertStatus(await bed.symbols.DoubleMove(folder, wide("\\Photos"), 0), "SUCCESS");
  await bed.close(folder);
  for (const one of ["a.txt", "b.jpg", "C.TXT"]) {
    await bed.close(await bed.open(`\\photos\\${one}`, { disposition: CREATE }));
  }
  assert.deepEqual(await bed.list("\\PHOTOS"), [".", "..", "a.txt", "b.jpg", "C.TXT"]);
  assert.deepEqual(await bed.list("\\Photos", "*.txt"), ["a.txt", "C.TXT"]);
  assert.deepEqual(await bed.list("\\Photos", "b.jpg"), ["b.jpg"]);
  assert.deepEqual(await bed.list("\\"), ["Photos"]);
  assert.deepEqual(await bed.list("\\Photos", "*", 8), [".", ".."], "as many as there is room for");

  const full = await bed.open("\\Photos", { access: DELETE, flags: DIRECTORY });
  assertStatus(await bed.symbols.DoubleSetDelete(full, 1), "DIRECTORY_NOT_EMPTY");
  for (const one of ["a.txt", "b.jpg", "c.txt"]) {
    await bed.close(await bed.open(`\\Photos\\${one}`, { access: DELETE, flags: DELETE_ON_CLOSE }));
  }
  assertStatus(await bed.symbols.DoubleSetDelete(full, 1), "SUCCESS");
  await bed.close(full);
  assert.deepEqual(bed.paths(), []);
});

Deno.test(
  "editors: a new version beside takes the name of the old one, which is open elsewhere",
  strict,
  async () => {
    await using bed = await Bed.make();
    const first = pattern(5000, 1), second = pattern(7000, 2);
    const old = await bed.open("\\doc", { disposition: CREATE });
    await bed.write(old, first, 0);
    const fresh = await bed.open("\\doc.tmp", { disposition: CREATE, access: WRITE | DELETE });
    await bed.write(fresh, second, 0);
    assertStatus(await bed.symbols.DoubleMove(fresh, wide("\\doc"), 0), "OBJECT_NAME_COLLISION");
    assertStatus(await bed.symbols.DoubleMove(fresh, wide("\\doc"), 1), "SUCCESS");
    assert(equal(await bed.read(old, 9000, 0), first), "who has the old one open goes on reading it");
    await bed.close(old, fresh);
    assert.deepEqual(bed.paths(), ["/doc"]);
    assert(equal(await content(bed.volume, inoOf(bed.volume, "/doc")), second));
  },
);

Deno.test("every disposition answers as Windows has it, there and not there", strict, async () => {
  await using bed = await Bed.make();
  const there = bed.volume.create(ROOT, name("f"), FILE);
  await bed.volume.write(there, 0, pattern(100));
  const expected: [number, StatusName, StatusName, number][] = [
    [OPEN, "SUCCESS", "OBJECT_NAME_NOT_FOUND", 100],
    [CREATE, "OBJECT_NAME_COLLISION", "SUCCESS", 100],
    [OPEN_IF, "OBJECT_NAME_COLLISION", "SUCCESS", 100],
    [OVERWRITE, "SUCCESS", "OBJECT_NAME_NOT_FOUND", 0],
    [OVERWRITE_IF, "OBJECT_NAME_COLLISION", "SUCCESS", 0],
    [0, "OBJECT_NAME_COLLISION", "SUCCESS", 0],
  ];
  for (const [disposition, found, missing, size] of expected) {
    bed.volume.setAttributes(there, { size: 100 });
    const handle = await bed.open("\\f", { disposition }, found);
    if (handle !== 0n) await bed.close(handle);
    assert.equal(bed.volume.attributes(there).size, size);
    const made = await bed.open("\\g", { disposition }, missing);
    if (made !== 0n) await bed.close(made);
    assert.equal(bed.paths().includes("/g"), made !== 0n);
    if (made !== 0n) bed.volume.unlink(ROOT, name("g"));
  }
  await bed.open("\\f", { flags: DIRECTORY }, "NOT_A_DIRECTORY");
  await bed.open("\\", { flags: NON_DIRECTORY }, "FILE_IS_A_DIRECTORY");
  await bed.open("\\none\\f", {}, "OBJECT_PATH_NOT_FOUND");
  await bed.open("\\f\\g", {}, "OBJECT_PATH_NOT_FOUND");
  await bed.open("\\f:stream", { disposition: CREATE }, "OBJECT_NAME_INVALID");
  await bed.open(`\\${"n".repeat(256)}`, { disposition: CREATE }, "NAME_TOO_LONG");
});

Deno.test("what others do not share is refused, until they close", strict, async () => {
  await using bed = await Bed.make();
  const alone = await bed.open("\\f", { disposition: CREATE, share: 1 });
  await bed.close(await bed.open("\\f", { access: 0x80 })); // attributes alone are in nobody's way
  await bed.open("\\f", { access: WRITE }, "SHARING_VIOLATION");
  await bed.open("\\f", { access: READ, share: 1 }, "SHARING_VIOLATION");
  await bed.open("\\f", { access: DELETE }, "SHARING_VIOLATION");
  await bed.close(await bed.open("\\f", { access: READ, share: 7 }));
  await bed.close(alone);
  await bed.close(await bed.open("\\f", { access: WRITE | DELETE }));
});

Deno.test("writing past the end, at the end, and by the cache; sizes and room", strict, async () => {
  await using bed = await Bed.make();
  const file = await bed.open("\\f", { disposition: CREATE }), ino = inoOf(bed.volume, "/f");
  await bed.write(file, Uint8Array.of(1, 2), 10);
  await bed.write(file, Uint8Array.of(3), 0, { how: 1 });
  assert.deepEqual([...await content(bed.volume, ino)], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
  assert.equal(
    await bed.write(file, new Uint8Array(4096).fill(9), 8, { how: 2 }),
    4096,
    "a page is taken whole",
  );
  assert.deepEqual([...await content(bed.volume, ino)].slice(7), [0, 9, 9, 9, 9, 9], "and adds nothing");
  assert.equal(await bed.write(file, new Uint8Array(4096), 4096, { how: 2 }), 4096);
  assert.equal(bed.volume.attributes(ino).size, 13);
  assertStatus(await bed.symbols.DoubleSetEnd(file, 20n), "SUCCESS");
  assertStatus(await bed.symbols.DoubleSetAllocation(file, 1n << 20n), "SUCCESS");
  assert.equal(bed.volume.attributes(ino).size, 20);
  assertStatus(await bed.symbols.DoubleSetAllocation(file, 5n), "SUCCESS");
  assert.equal(bed.volume.attributes(ino).size, 5);
  await bed.write(file, new Uint8Array(1), -1, { expected: "INVALID_PARAMETER" });
  await bed.close(file);
});

Deno.test("attributes and times are told, and set where Windows sets them", strict, async () => {
  await using bed = await Bed.make();
  const file = await bed.open("\\f", { disposition: CREATE }), ino = inoOf(bed.volume, "/f");
  const filetime = (value: bigint) => new BigUint64Array([value]);
  const time = 132_000_000_000_000_007n, none = filetime(0n);
  assertStatus(
    await bed.symbols.DoubleSetTime(file, none, filetime(0xffff_ffff_ffff_ffffn), filetime(time)),
    "SUCCESS",
  );
  const { mtime, atime, btime } = bed.volume.attributes(ino);
  assert.deepEqual(mtime, timeOfFileTime(time));
  assert.notDeepEqual(atime, mtime);
  bed.volume.setAttributes(ino, { size: 2 ** 33 + 5 });
  const view = await bed.information(file), at = (offset: number) => view.getUint32(offset, true);
  const told = (offset: number) => timeOfFileTime(BigInt(at(offset)) | BigInt(at(offset + 4)) << 32n);
  assert.deepEqual(told(BY_HANDLE.creationTime), {
    ...btime,
    nanoseconds: btime.nanoseconds - btime.nanoseconds % 100,
  });
  assert.deepEqual([at(BY_HANDLE.sizeHigh), at(BY_HANDLE.sizeLow), at(BY_HANDLE.links)], [2, 5, 1]);
  assert.equal(at(BY_HANDLE.attributes), 0x80);
  assertStatus(await bed.symbols.DoubleSetAttributes(file, 1), "SUCCESS");
  assert.equal(bed.volume.attributes(ino).mode & 0o777, 0o444);
  await bed.close(file);
  await bed.open("\\f", { access: WRITE }, "ACCESS_DENIED");
  await bed.open("\\f", { disposition: OVERWRITE }, "ACCESS_DENIED");
  const fixed = await bed.open("\\f", { access: DELETE });
  assertStatus(await bed.symbols.DoubleSetDelete(fixed, 1), "CANNOT_DELETE");
  assertStatus(await bed.symbols.DoubleSetAttributes(fixed, 0x80), "SUCCESS");
  assertStatus(await bed.symbols.DoubleSetDelete(fixed, 1), "SUCCESS");
  assertStatus(await bed.symbols.DoubleSetDelete(fixed, 0), "SUCCESS"); // taken back
  await bed.close(fixed);
  assert.deepEqual(bed.paths(), ["/f"]);
});

Deno.test(
  "names that differ in case only: the exact one, else the oldest; odd ones are shown mapped",
  strict,
  async () => {
    await using bed = await Bed.make();
    const { volume } = bed;
    for (const one of ["Name", "NAME"]) {
      await volume.write(
        volume.create(ROOT, name(one), FILE),
        0,
        name(one),
      );
    }
    for (const [asked, found] of [["Name", "Name"], ["NAME", "NAME"], ["name", "Name"]] as const) {
      const handle = await bed.open(`\\${asked}`, { access: READ });
      assert.equal(new TextDecoder().decode(await bed.read(handle, 10, 0)), found);
      await bed.close(handle);
    }
    volume.unlink(ROOT, name("Name")); // not through the mount
    await bed.close(await bed.open("\\name", { access: READ }));
    volume.unlink(ROOT, name("NAME"));
    for (const one of ["a?b", "dot.", "Ü"]) volume.create(ROOT, name(one), FILE);
    volume.create(ROOT, Uint8Array.of(0xff), FILE);
    assert.deepEqual(await bed.list("\\"), ["a\uf03fb", "dot\uf02e", "Ü"]);
    await bed.close(await bed.open("\\A\uf03fB"), await bed.open("\\dot\uf02e"), await bed.open("\\ü"));
    await bed.close(await bed.open("\\c\uf03a", { disposition: CREATE }));
    assert.ok(bed.paths().includes("/c:"));
  },
);

Deno.test("symbolic links are followed, and deleted themselves", strict, async () => {
  await using bed = await Bed.make();
  const { volume } = bed;
  const folder = volume.create(ROOT, name("folder"), FOLDER);
  await volume.write(volume.create(folder, name("f"), FILE), 0, name("content"));
  const link = (at: Ino, from: string, target: string) =>
    volume.create(at, name(from), { mode: 0o120777, uid: 0, gid: 0, target: name(target) });
  link(ROOT, "l", "folder/f"),
    link(folder, "up", "../l"),
    link(ROOT, "abs", "/folder"),
    link(ROOT, "loop", "loop");
  for (const path of ["\\l", "\\folder\\up", "\\ABS\\F", "\\abs\\up"]) {
    const handle = await bed.open(path, { access: READ });
    assert.equal(new TextDecoder().decode(await bed.read(handle, 10, 0)), "content", path);
    await bed.close(handle);
  }
  await bed.open("\\loop", {}, "OBJECT_PATH_NOT_FOUND");
  for (const path of ["\\loop", "\\l"]) {
    await bed.close(await bed.open(path, { access: DELETE, flags: DELETE_ON_CLOSE | REPARSE }));
  }
  assert.deepEqual(bed.paths(), ["/abs", "/folder", "/folder/f", "/folder/up"]);
});

Deno.test("eight threads create, write, read, rename over and delete at once", strict, async () => {
  await using bed = await Bed.make({ wrap: delayed });
  assert.equal(await bed.symbols.DoubleStress(8, 12), 0);
  assert.deepEqual(bed.paths(), []);
  assert.equal(bed.mounted.activity.open, 0);
  assert.ok(bed.mounted.activity.requests > 8 * 12 * 8);
});

Deno.test("who waits for a slow store is given more time, as often as it takes", strict, async () => {
  const asked = Promise.withResolvers<void>(), slow = Promise.withResolvers<void>();
  await using bed = await Bed.make({
    answerTimeout: 0.2,
    wrap: (volume) =>
      new Proxy(volume, {
        get: (of, key) => {
          if (key === "fsync") return () => (asked.resolve(), slow.promise);
          const value = Reflect.get(of, key, of);
          return typeof value === "function" ? value.bind(of) : value;
        },
      }),
  });
  const file = await bed.open("\\f", { disposition: CREATE });
  const before = await bed.symbols.DoubleExtensions(), flushed = bed.symbols.DoubleFlush(file);
  await asked.promise;
  await until("it was given more time", async () => await bed.symbols.DoubleExtensions() >= before + 3);
  await bed.close(await bed.open("\\g", { disposition: CREATE })); // others are answered meanwhile
  slow.resolve();
  assertStatus(await flushed, "SUCCESS");
  await bed.close(file);
});

Deno.test(
  "a mount that is taken away in the middle gives back what was open, and the volume goes on",
  strict,
  async () => {
    await using bed = await Bed.make();
    const file = await bed.open("\\f", { disposition: CREATE });
    await bed.write(file, pattern(10_000), 0);
    await assert.rejects(bed.mounted.unmount(), /1 files are open/);
    assert.equal(await bed.symbols.DokanRemoveMountPoint(wide("X:")), 1); // as dokanctl does
    assert.deepEqual(await bed.mounted.done, { reason: "stopped" });
    assert(equal(await content(bed.volume, inoOf(bed.volume, "/f")), pattern(10_000)));
    await bed.volume.sync();
  },
);

Deno.test("a read-only mount refuses every change; space and label are told", strict, async () => {
  const store = new RamStore();
  await makeContainer(store);
  {
    await using volume = await openVolume(store);
    volume.create(ROOT, name("f"), FILE);
    await volume.end();
  }
  await using volume = await openVolume(store, "read");
  await using mounted = await mount(volume, "X:", { library: DOUBLE!, fsname: "C:\\boxes\\box" });
  const library = Deno.dlopen(DOUBLE!, SYMBOLS), { symbols } = library, out = new BigUint64Array(1);
  const create = (path: string, access: number, disposition: number) =>
    symbols.DoubleCreate(wide(path), access >>> 0, 0, ALL_SHARED, disposition, 0, out);
  assertStatus(await create("\\g", READ, CREATE), "MEDIA_WRITE_PROTECTED");
  assertStatus(await create("\\f", WRITE, OPEN), "MEDIA_WRITE_PROTECTED");
  assertStatus(await create("\\f", READ | DELETE, OPEN), "SUCCESS");
  assertStatus(await symbols.DoubleSetDelete(out[0]!, 1), "MEDIA_WRITE_PROTECTED");
  assertStatus(await symbols.DoubleMove(out[0]!, wide("\\h"), 0), "MEDIA_WRITE_PROTECTED");
  await symbols.DoubleClose(out[0]!);
  const space = new BigUint64Array(3), texts = new Uint16Array(128), numbers = new Uint32Array(3);
  assertStatus(await symbols.DoubleSpace(space), "SUCCESS");
  assert.ok(space[0]! <= space[2]! && space[2]! <= space[1]! && space[1]! > 0n);
  assertStatus(await symbols.DoubleVolume(texts, numbers), "SUCCESS");
  assert.equal(String.fromCharCode(...texts).replace(/\0+/g, " ").trim(), "box CoverFS");
  assert.deepEqual([numbers[1], numbers[2]], [255, 0x8_0006]);
  await mounted.unmount();
  assert.deepEqual(await mounted.done, { reason: "unmounted" });
  library.close();
});

Deno.test(
  "without Dokan it is told where it comes from; a mountpoint that cannot be is refused",
  strict,
  async () => {
    const store = new RamStore();
    await makeContainer(store);
    await using volume = await openVolume(store);
    await assert.rejects(mount(volume, "X:"), /Dokan is not installed; version 2\.3\.1 .* https:/);
    await assert.rejects(mount(volume, "1:", { library: DOUBLE! }), /no such drive letter/);
    await volume.end();
  },
);
