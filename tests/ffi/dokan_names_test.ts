/** Names on a mount on Windows: case, characters and bytes that Windows has no names with, and links (dokan_bed.ts). */
import assert from "node:assert/strict";
import { shownName, storedName } from "../../ffi/dokan_names.ts";
import { type Ino, ROOT } from "../../fs/types.ts";
import { FILE, FOLDER, name } from "../fs/fixture.ts";
import { Bed, CREATE, DELETE, DELETE_ON_CLOSE, READ, REPARSE, strict } from "./dokan_bed.ts";

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
    assert.deepEqual(await bed.list("\\"), ["a\uf03fb", "dot\uf02e", "Ü", "\uf0ff"]);
    await bed.close(await bed.open("\\\uf0ff"));
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

Deno.test("every name of a container is shown, and found by what is shown", () => {
  const bytes = (...all: (number | string)[]) =>
    Uint8Array.from(all.flatMap((one) => typeof one === "number" ? [one] : [...name(one)]));
  const shown: [Uint8Array, string][] = [
    [bytes("caf", 0xe9), "caf\uf0e9"],
    [bytes(0xff, "ä", 0xc3, "\u{1f600}", 0xf0, 0x9f), "\uf0ffä\uf0c3\u{1f600}\uf0f0\uf09f"],
    [bytes(0xed, 0xa0, 0x80, "?"), "\uf0ed\uf0a0\uf080\uf03f"], // half of a surrogate pair
    [bytes(0xc0, 0xaf), "\uf0c0\uf0af"], // a slash, longer than it has to be
    [bytes("x", 0x80, "."), "x\uf080\uf02e"],
  ];
  for (const [stored, text] of shown) {
    assert.equal(shownName(stored), text);
    assert.deepEqual([...storedName(text)], [...stored]);
  }
  // Together they would be UTF-8, which is shown as itself.
  assert.deepEqual([...storedName("\uf0c3\uf0a4")], [...name("\uf0c3\uf0a4")]);
});

Deno.test("a name that has a character of the private use area itself is found too", strict, async () => {
  await using bed = await Bed.make();
  for (const one of ["\uf0ff", "\uf03a"]) bed.volume.create(ROOT, name(one), FILE);
  assert.deepEqual(await bed.list("\\"), ["\uf0ff", "\uf03a"]);
  await bed.close(await bed.open("\\\uf0ff"), await bed.open("\\\uf03a"));
  assert.deepEqual(bed.paths().length, 2);
});

Deno.test("two files whose names differ in case only are not open at once", strict, async () => {
  await using bed = await Bed.make();
  for (const one of ["Name", "NAME"]) bed.volume.create(ROOT, name(one), FILE);
  const first = await bed.open("\\Name");
  await bed.open("\\NAME", {}, "SHARING_VIOLATION");
  await bed.close(await bed.open("\\nAME")); // that is the oldest one: the same
  await bed.close(first);
  const second = await bed.open("\\NAME");
  await bed.open("\\Name", {}, "SHARING_VIOLATION");
  bed.volume.unlink(ROOT, name("NAME")); // not through the mount
  await bed.close(await bed.open("\\Name"), second);
});
