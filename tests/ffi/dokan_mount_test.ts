/** How a mount on Windows begins, what it is said to be, and what is refused (dokan_bed.ts). */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mount } from "../../ffi/mod.ts";
import { wide } from "../../ffi/wide_strings.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { ROOT } from "../../fs/types.ts";
import { FILE, name, openVolume, ramContainer } from "../fs/fixture.ts";
import {
  ALL_SHARED,
  assertStatus,
  Bed,
  CREATE,
  DELETE,
  DOUBLE,
  OPEN,
  READ,
  strict,
  SYMBOLS,
  WRITE,
} from "./dokan_bed.ts";

Deno.test("a read-only mount refuses every change; space and label are told", strict, async () => {
  const store = await ramContainer();
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
    const store = await ramContainer();
    await using volume = await openVolume(store);
    await assert.rejects(mount(volume, "X:"), /Dokan is not installed; version 2\.3\.1 .* https:/);
    await assert.rejects(mount(volume, "1:", { library: DOUBLE! }), /no such drive letter/);
    await volume.end();
  },
);

Deno.test("a folder is a mountpoint if it is there, and empty", strict, async () => {
  const above = mkdtempSync(join(tmpdir(), "coverfs-mountpoint-")), folder = join(above, "folder");
  const volume = await openVolume(await made());
  const refused = (at: string, why: RegExp) => assert.rejects(mount(volume, at, { library: DOUBLE! }), why);
  await refused(folder, /Cannot mount ".*folder": there is no such folder$/);
  mkdirSync(folder);
  {
    await using bed = await Bed.make({ at: folder });
    assert.equal(bed.options().mountpoint, folder);
    await bed.close(await bed.open("\\f", { disposition: CREATE }));
    assert.equal(await bed.symbols.DokanRemoveMountPoint(wide(folder)), 1);
    assert.deepEqual(await bed.mounted.done, { reason: "unmounted" });
  }
  writeFileSync(join(folder, "file"), "");
  await refused(folder, /the folder is not empty$/);
  await refused(join(folder, "file"), /there is no such folder$/);
  await refused(join(folder, "x".repeat(260)), /its path is too long$/);
  await volume.end();
  rmSync(above, { recursive: true });
});

async function made(): Promise<RamStore> {
  const store = await ramContainer();
  return store;
}

Deno.test(
  "a network drive has the name that it is given, and a letter; a label is cut to what Windows has",
  strict,
  async () => {
    {
      await using bed = await Bed.make({ networkName: "\\\\coverfs\\box", label: "a/b: ".repeat(9) });
      const { unc, flags } = bed.options(), texts = new Uint16Array(128), numbers = new Uint32Array(3);
      assert.equal(unc, "\\coverfs\\box");
      assert.equal(flags & 1040, 1040); // it is one, and Explorer may take it away
      assertStatus(await bed.symbols.DoubleVolume(texts, numbers), "SUCCESS");
      assert.equal(String.fromCharCode(...texts.subarray(0, 33)), "a_b_ a_b_ a_b_ a_b_ a_b_ a_b_ a_\0");
    }
    await using bed = await Bed.make();
    assert.deepEqual([bed.options().unc, bed.options().flags & 1040], ["", 0]);
    const volume = await openVolume(await made());
    const folder = mount(volume, "C:\\folder", { library: DOUBLE!, networkName: "\\\\a\\b" });
    await assert.rejects(folder, /as a network drive: it is a folder/);
    await volume.end();
  },
);

Deno.test("locks of ranges are left to the driver, and streams there are none", strict, async () => {
  await using bed = await Bed.make();
  const { flags, withoutLocks } = bed.options();
  assert.ok(withoutLocks);
  assert.equal(flags & 256, 0); // DOKAN_OPTION_FILELOCK_USER_MODE
  await bed.open("\\f:stream", { disposition: CREATE }, "OBJECT_NAME_INVALID");
});
