/**
 * A mount on Windows in the sequences that cmd, Explorer and editors cause, from several threads, slow, and taken away
 * (dokan_bed.ts).
 */
import assert from "node:assert/strict";
import { wide } from "../../ffi/wide_strings.ts";
import type { StatusName } from "../../ffi/ntstatus.ts";
import { ROOT } from "../../fs/types.ts";
import { until } from "../cli/run.ts";
import { content, equal, FILE, FOLDER, inoOf, name, pattern } from "../fs/fixture.ts";
import { delayed } from "../model/delayed_filesystem.ts";
import {
  assertStatus,
  Bed,
  CREATE,
  DELETE,
  DELETE_ON_CLOSE,
  DIRECTORY,
  NON_DIRECTORY,
  OPEN,
  OPEN_IF,
  OVERWRITE,
  OVERWRITE_IF,
  READ,
  strict,
  WRITE,
} from "./dokan_bed.ts";

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

Deno.test(
  "what cannot be opened to delete it is not opened by its directory, which would be moved in its stead",
  strict,
  async () => {
    await using bed = await Bed.make();
    const { volume } = bed, folder = volume.create(ROOT, name("d"), FOLDER);
    volume.create(folder, name("fixed"), { ...FILE, mode: 0o100444 });
    await bed.open("\\d\\fixed", { access: WRITE | DELETE }, "CANNOT_DELETE");
    assert.deepEqual(bed.paths(), ["/d", "/d/fixed"]);
    assert.equal(bed.mounted.activity.open, 0);
  },
);

Deno.test(
  "a deletion waits for all who have the file open, and can be taken back by any of them",
  strict,
  async () => {
    await using bed = await Bed.make();
    const first = await bed.open("\\f", { disposition: CREATE }), second = await bed.open("\\F");
    assertStatus(await bed.symbols.DoubleSetDelete(first, 1), "SUCCESS");
    await bed.close(first);
    await bed.open("\\f", {}, "DELETE_PENDING");
    assert.deepEqual(bed.paths(), ["/f"]);
    assertStatus(await bed.symbols.DoubleSetDelete(second, 0), "SUCCESS");
    await bed.close(second);
    assert.deepEqual(bed.paths(), ["/f"]);
    const third = await bed.open("\\f"), fourth = await bed.open("\\f", { flags: DELETE_ON_CLOSE });
    await bed.open("\\f", { share: 3 }, "SHARING_VIOLATION"); // who opens it has to share its deletion
    await bed.close(await bed.open("\\f"), fourth);
    await bed.open("\\f", {}, "DELETE_PENDING");
    await bed.write(third, pattern(10), 0);
    await bed.close(third);
    assert.deepEqual(bed.paths(), []);
  },
);
