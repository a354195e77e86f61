/** Attributes, times and security on a mount on Windows (dokan_bed.ts). */
import assert from "node:assert/strict";
import { ATTRIBUTE, BY_HANDLE, timeOfFileTime } from "../../ffi/dokan_structs.ts";
import { ROOT } from "../../fs/types.ts";
import { FILE, FOLDER, inoOf, makeContainer, name } from "../fs/fixture.ts";
import { RamStore } from "../../fs/store/ram.ts";
import {
  assertStatus,
  Bed,
  CREATE,
  DELETE,
  DIRECTORY,
  OVERWRITE,
  OVERWRITE_IF,
  READ,
  strict,
  WRITE,
} from "./dokan_bed.ts";

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
  assert.equal(at(BY_HANDLE.attributes), 0x20, "a backup that goes by it leaves nothing out");
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

/** The attributes and the time of creation that Windows is told of a file. */
async function told(bed: Bed, path: string): Promise<{ attributes: number; created: bigint }> {
  const handle = await bed.open(path, { access: READ }), view = await bed.information(handle);
  await bed.close(handle);
  const created = view.getBigUint64(BY_HANDLE.creationTime, true);
  return { attributes: view.getUint32(BY_HANDLE.attributes, true), created };
}

const { hidden, system, readOnly, archive, directory, notContentIndexed } = ATTRIBUTE;

Deno.test(
  "hidden, system and the time of creation are kept in the container, and go where they are taken back",
  strict,
  async () => {
    const store = new RamStore(), created = 120_000_000_000_000_000n;
    await makeContainer(store);
    {
      await using bed = await Bed.make({ store });
      const { symbols } = bed, none = new BigUint64Array(1);
      await bed.close(
        await bed.open("\\desktop.ini", {
          disposition: CREATE,
          attributes: hidden | system | archive | 0x100,
        }),
        await bed.open("\\folder", { disposition: CREATE, flags: DIRECTORY, attributes: hidden }),
      );
      assert.equal((await told(bed, "\\folder")).attributes, directory | hidden);
      const file = await bed.open("\\desktop.ini"), ino = inoOf(bed.volume, "/desktop.ini");
      assertStatus(
        await symbols.DoubleSetTime(file, new BigUint64Array([created]), none, none),
        "SUCCESS",
      );
      assertStatus(await symbols.DoubleSetAttributes(file, system | notContentIndexed | readOnly), "SUCCESS");
      assertStatus(await symbols.DoubleSetAttributes(file, 0), "SUCCESS"); // they stay
      assert.equal(bed.volume.attributes(ino).mode & 0o777, 0o444);
      await bed.close(file);
    }
    await using bed = await Bed.make({ store });
    assert.deepEqual(await told(bed, "\\desktop.ini"), {
      attributes: archive | system | notContentIndexed | readOnly,
      created,
    });
    const file = await bed.open("\\desktop.ini", { access: READ }), ino = inoOf(bed.volume, "/desktop.ini");
    assertStatus(await bed.symbols.DoubleSetAttributes(file, 0x80), "SUCCESS");
    await bed.close(file);
    assert.deepEqual(await told(bed, "\\desktop.ini"), { attributes: archive, created });
    bed.volume.setXattr(ino, name("user.coverfs.windows"), new Uint8Array(3)); // of somebody else
    assert.equal((await told(bed, "\\desktop.ini")).attributes, archive);
    const folder = await bed.open("\\folder", { flags: DIRECTORY });
    assertStatus(await bed.symbols.DoubleSetAttributes(folder, directory), "SUCCESS");
    await bed.close(folder);
    assert.deepEqual(bed.volume.listXattr(inoOf(bed.volume, "/folder")), [], "nothing is kept of nothing");
  },
);

Deno.test("times that are not to be set stay: 0, -1 and -2", strict, async () => {
  await using bed = await Bed.make();
  const file = await bed.open("\\f", { disposition: CREATE }), ino = inoOf(bed.volume, "/f");
  const before = bed.volume.attributes(ino);
  for (const stays of [0n, -1n, -2n]) {
    const value = new BigUint64Array([BigInt.asUintN(64, stays)]);
    assertStatus(await bed.symbols.DoubleSetTime(file, value, value, value), "SUCCESS");
    assert.deepEqual(bed.volume.attributes(ino), before, `${stays}`);
    assert.deepEqual(bed.volume.listXattr(ino), []);
  }
  await bed.close(file);
});

Deno.test("a hidden file is overwritten only by who says that it stays hidden", strict, async () => {
  await using bed = await Bed.make();
  await bed.close(await bed.open("\\f", { disposition: CREATE, attributes: hidden }));
  await bed.open("\\f", { disposition: OVERWRITE_IF, attributes: 0x80 }, "ACCESS_DENIED");
  await bed.close(
    await bed.open("\\f", { disposition: OVERWRITE, attributes: hidden | system }),
    await bed.open("\\f", { disposition: OVERWRITE, attributes: hidden | system }),
  );
  assert.equal((await told(bed, "\\f")).attributes, archive | hidden | system);
});

/** A descriptor in the words of SDDL. */
function allowed(descriptor: Uint8Array<ArrayBuffer>): string {
  const advapi = Deno.dlopen("advapi32.dll", {
    ConvertSecurityDescriptorToStringSecurityDescriptorW: {
      parameters: ["buffer", "u32", "u32", "buffer", "buffer"],
      result: "i32",
    },
  });
  const text = new BigUint64Array(1), length = new Uint32Array(1);
  const done = advapi.symbols.ConvertSecurityDescriptorToStringSecurityDescriptorW(
    descriptor,
    1,
    7,
    text,
    length,
  );
  advapi.close();
  assert.equal(done, 1);
  const view = new Deno.UnsafePointerView(Deno.UnsafePointer.create(text[0]!)!);
  const units = Array.from({ length: length[0]! }, (_, i) => view.getUint16(i * 2));
  return String.fromCharCode(...units).replace(/\0.*/s, "");
}

Deno.test("a mount is its user's, the system's and administrators' alone", strict, async () => {
  await using bed = await Bed.make();
  const { volume } = bed;
  volume.create(ROOT, name("f"), FILE);
  volume.create(ROOT, name("d"), FOLDER);
  const ask = async (path: string, parts: number, room = 4096) => {
    const handle = await bed.open(path, { access: READ }), out = new Uint8Array(4096);
    const needed = new Uint32Array(1);
    const status = await bed.symbols.DoubleSecurity(handle, parts, out, room, needed);
    await bed.close(handle);
    return { status, descriptor: out.slice(0, needed[0]) };
  };
  const whole = await ask("\\f", 7), folder = await ask("\\d", 7), short = await ask("\\f", 7, 8);
  assertStatus(whole.status, "SUCCESS");
  const said = allowed(whole.descriptor);
  const [, owner] = /^O:(.+)G:.+D:P/.exec(said)!;
  assert.equal(said.slice(said.indexOf("D:")), `D:P(A;;FA;;;${owner})(A;;FA;;;SY)(A;;FA;;;BA)`);
  assert.match(allowed(folder.descriptor), /D:P\(A;OICI;FA;;;/, "and so is what is made there");
  assertStatus(short.status, "BUFFER_OVERFLOW");
  assert.deepEqual(short.descriptor.length, whole.descriptor.length, "so much room it takes");
  assert.doesNotMatch(allowed((await ask("\\f", 4)).descriptor), /O:|G:/);
  assert.equal(allowed(bed.options().security as Uint8Array<ArrayBuffer>), said.slice(said.indexOf("D:")));
  const handle = await bed.open("\\f"), { descriptor } = whole;
  assertStatus(
    await bed.symbols.DoubleSetSecurity(handle, 4, descriptor, descriptor.length),
    "SUCCESS",
  );
  await bed.close(handle);
});

Deno.test(
  "with --allow-other it is everybody's, and nobody is told that a restriction was kept",
  strict,
  async () => {
    await using bed = await Bed.make({ allowOther: true });
    assert.equal(bed.options().security.length, 0);
    const handle = await bed.open("\\f", { disposition: CREATE }), needed = new Uint32Array(1);
    const room = new Uint8Array(64);
    assertStatus(await bed.symbols.DoubleSecurity(handle, 7, room, 64, needed), "NOT_IMPLEMENTED");
    assertStatus(await bed.symbols.DoubleSetSecurity(handle, 4, room, 64), "NOT_IMPLEMENTED");
    await bed.close(handle);
  },
);
