/** What POSIX says of the contents of files, as named checks; `volume_checks.ts` has all others. */
import assert from "node:assert/strict";
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  type Filesystem,
} from "../../fs/filesystem.ts";
import { FILE_SIZE_MAX, type Ino, S_IFIFO } from "../../fs/types.ts";
import { content, equal, fails, FILE, name, pattern } from "./fixture.ts";

const BLOCK = 4096;
const PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

/** One check: it works in an empty directory of its own, and throws if something is wrong. It may leave things there. */
export type VolumeCheck = (on: Filesystem, directory: Ino) => void | Promise<void>;

/** Makes a file with contents. */
export async function put(
  on: Filesystem,
  directory: Ino,
  text: string,
  bytes: Uint8Array = new Uint8Array(0),
): Promise<Ino> {
  const ino = on.create(directory, name(text), FILE);
  await on.write(ino, 0, bytes);
  return ino;
}

/** Compares a file with what it should hold, which may be long. */
export async function assertHolds(on: Filesystem, ino: Ino, expected: Uint8Array, where = ""): Promise<void> {
  assert.ok(equal(await content(on, ino), expected), `the content is another one ${where}`);
}

/** The checks of contents by what they claim. */
export const DATA_CHECKS: Readonly<Record<string, VolumeCheck>> = {
  "truncation cuts, and what it adds is zero": async (on, directory) => {
    const file = await put(on, directory, "f", pattern(20_000)), expected = pattern(20_000);
    for (const commit of [false, true]) {
      if (commit) await on.fsync(file);
      on.setAttributes(file, { size: 5000 });
      on.setAttributes(file, { size: 20_000 });
      expected.fill(0, 5000);
      await assertHolds(on, file, expected);
      await on.write(file, 0, expected.set(pattern(20_000)) ?? expected);
    }
    on.setAttributes(file, { size: 0 });
    assert.deepEqual([on.attributes(file).size, on.attributes(file).blocks], [0, 0]);
    on.setAttributes(file, { size: 2 ** 40 + 1 });
    assert.deepEqual(await on.read(file, 2 ** 40 - 4, 9), new Uint8Array(5));
    on.setAttributes(file, { size: 100 });
    assert.throws(() => on.setAttributes(directory, { size: 0 }), fails("EISDIR"));
    const fifo = on.create(directory, name("p"), { ...FILE, mode: S_IFIFO | 0o600 });
    assert.throws(() => on.setAttributes(fifo, { size: 0 }), fails("EINVAL"));
  },

  "writing nothing changes nothing, behind the end either": async (on, directory) => {
    const file = await put(on, directory, "f", pattern(5000)), before = on.attributes(file);
    await on.write(file, 9000, new Uint8Array(0));
    assert.deepEqual(on.attributes(file), before);
    await assertHolds(on, file, pattern(5000));
  },

  "reading ends where the file does": async (on, directory) => {
    const file = await put(on, directory, "f", pattern(5000));
    assert.deepEqual(await on.read(file, 4990, 100), pattern(5000).subarray(4990));
    for (const offset of [5000, 5001, 2 ** 40]) assert.equal((await on.read(file, offset, 100)).length, 0);
    assert.equal((await on.read(file, 0, 0)).length, 0);
    await assert.rejects(async () => await on.read(directory, 0, 10), fails("EISDIR"));
    await assert.rejects(async () => await on.write(directory, 0, pattern(1)), fails("EISDIR"));
  },

  "no file becomes larger than can be told, nor does refusing that change it": async (on, directory) => {
    const file = await put(on, directory, "f", pattern(10));
    const ways = [
      () => on.write(file, FILE_SIZE_MAX, pattern(1)),
      () => on.allocate(file, FILE_SIZE_MAX - 10, 100, 0),
      () => on.setAttributes(file, { size: FILE_SIZE_MAX + 2 }),
    ];
    for (const way of ways) await assert.rejects(async () => await way(), fails("EFBIG"));
    await assertHolds(on, file, pattern(10));
  },

  "random writes and truncations read back right, in pages and in blocks": async (on, directory) => {
    const file = on.create(directory, name("f"), FILE);
    let model = new Uint8Array(0);
    const resized = (size: number) => {
      const other = new Uint8Array(size);
      other.set(model.subarray(0, size));
      return other;
    };
    for (let i = 0; i < 200; i++) {
      await on.admit();
      const offset = (i * 7919) % 100_000, data = pattern(1 + (i * 613) % 9000, i + 1);
      if (i % 17 === 16) {
        on.setAttributes(file, { size: (i * 5003) % 120_000 });
        model = resized((i * 5003) % 120_000);
      } else {
        model = resized(Math.max(model.length, offset + data.length));
        model.set(data, offset);
        await on.write(file, offset, data);
      }
      if (i % 23 === 0) await on.fsync(file);
      await assertHolds(on, file, model, `after step ${i}`);
    }
  },

  "writes side by side arrive whole, and so does what is read meanwhile": async (on, directory) => {
    const file = on.create(directory, name("f"), FILE), size = 64 * 5000, parts = 64;
    on.setAttributes(file, { size });
    const write = async (part: number) => {
      await on.admit();
      await on.write(file, part * 5000, pattern(5000, part + 1));
      if (part % 16 === 0) await on.fsync(file);
    };
    const read = async (part: number) => {
      const bytes = await on.read(file, part * 5000, 5000);
      assert.ok(equal(bytes, new Uint8Array(5000)) || equal(bytes, pattern(5000, part + 1)), `part ${part}`);
    };
    await Promise.all(Array.from({ length: parts }, (_, part) => Promise.all([write(part), read(part)])));
    for (let part = 0; part < parts; part++) {
      assert.ok(equal(await on.read(file, part * 5000, 5000), pattern(5000, part + 1)), `part ${part}`);
    }
  },

  "a write past 4 GiB makes a sparse file whose hole reads as zeros": async (on, directory) => {
    const file = on.create(directory, name("big"), FILE), far = 2 ** 33 + 123;
    await on.write(file, far, pattern(5000));
    await on.fsync(file);
    assert.deepEqual([on.attributes(file).size, on.attributes(file).blocks], [far + 5000, 16]);
    assert.deepEqual(await on.read(file, far, 5000), pattern(5000));
    assert.deepEqual(await on.read(file, 2 ** 32, 100), new Uint8Array(100));
    assert.deepEqual([on.seek(file, 0, "data"), on.seek(file, 0, "hole")], [2 ** 33, 0]);
    await on.allocate(file, 2 ** 33, 8192, PUNCH);
    assert.throws(() => on.seek(file, 0, "data"), fails("ENXIO"));
    assert.equal(on.attributes(file).blocks, 0);
    on.setAttributes(file, { size: 100_000 });
  },

  "data and holes are told apart, in pages and in blocks": async (on, directory) => {
    const file = on.create(directory, name("f"), FILE);
    on.setAttributes(file, { size: 10 * BLOCK + 5 });
    for (const number of [2, 3, 7]) await on.write(file, number * BLOCK, pattern(BLOCK, number));
    for (const commit of [false, true]) {
      if (commit) await on.sync();
      const data = [0, 2 * BLOCK, 3 * BLOCK + 1, 4 * BLOCK, 7 * BLOCK].map((from) =>
        on.seek(file, from, "data")
      );
      assert.deepEqual(data, [2 * BLOCK, 2 * BLOCK, 3 * BLOCK + 1, 7 * BLOCK, 7 * BLOCK]);
      const holes = [0, 2 * BLOCK, 4 * BLOCK + 9, 7 * BLOCK].map((from) => on.seek(file, from, "hole"));
      assert.deepEqual(holes, [0, 4 * BLOCK, 4 * BLOCK + 9, 8 * BLOCK]);
      assert.throws(() => on.seek(file, 8 * BLOCK, "data"), fails("ENXIO"));
      for (const what of ["data", "hole"] as const) {
        assert.throws(() => on.seek(file, 10 * BLOCK + 5, what), fails("ENXIO"));
      }
      assert.equal(on.attributes(file).blocks, 3 * 8);
    }
    const full = await put(on, directory, "g", pattern(BLOCK + 1));
    assert.equal(on.seek(full, 0, "hole"), BLOCK + 1, "the end is a hole");
  },

  "fallocate extends, punches and zeroes, to the byte": async (on, directory) => {
    const file = await put(on, directory, "f", pattern(30_000)), expected = pattern(30_000);
    for (const commit of [false, true]) {
      if (commit) await on.fsync(file);
      await on.allocate(file, 5000, 10_001, PUNCH);
      expected.fill(0, 5000, 15_001);
      await assertHolds(on, file, expected, "punched");
      await on.allocate(file, 20_000, 3, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
      expected.fill(0, 20_000, 20_003);
      await assertHolds(on, file, expected, "zeroed");
      await on.allocate(file, 40_000, 9999, PUNCH);
      await on.allocate(file, 25_000, 20_000, FALLOC_FL_KEEP_SIZE);
      assert.equal(on.attributes(file).size, 30_000);
    }
    await on.allocate(file, 29_000, 3000, FALLOC_FL_ZERO_RANGE);
    await on.allocate(file, 0, 35_000, 0);
    const longer = new Uint8Array(35_000);
    longer.set(expected.fill(0, 29_000));
    await assertHolds(on, file, longer);
    const unknown = [FALLOC_FL_PUNCH_HOLE, 8, 9, 32, 64, FALLOC_FL_ZERO_RANGE | PUNCH];
    for (const mode of unknown) {
      await assert.rejects(async () => await on.allocate(file, 0, BLOCK, mode), fails("ENOTSUP"));
    }
    await assert.rejects(async () => await on.allocate(file, 0, 0, 0), fails("EINVAL"));
    await assert.rejects(async () => await on.allocate(directory, 0, 1, 0), fails("EISDIR"));
  },

  "a hole that is punched up to the end takes nothing of what is appended meanwhile": async (
    on,
    directory,
  ) => {
    const file = await put(on, directory, "f", pattern(10_000));
    await on.fsync(file);
    const punched = on.allocate(file, 100, 9900, PUNCH), appended = on.write(file, 10_000, pattern(1000, 2));
    await Promise.all([punched, appended]);
    const expected = new Uint8Array(11_000);
    expected.set(pattern(10_000).subarray(0, 100));
    expected.set(pattern(1000, 2), 10_000);
    await assertHolds(on, file, expected);
  },

  "a file that is cut while a hole is punched stays cut": async (on, directory) => {
    const file = await put(on, directory, "f", pattern(20_000));
    await on.fsync(file);
    const punched = on.allocate(file, 100, 15_000, PUNCH);
    on.setAttributes(file, { size: 50 });
    await punched;
    await assertHolds(on, file, pattern(20_000).subarray(0, 50));
  },

  "what is cut or punched while a write waits does not come back with it": async (on, directory) => {
    for (const [i, size] of [9990, 8200, 8192, 100, 0].entries()) {
      for (const punch of [false, true]) {
        const file = await put(on, directory, `f${i}${punch}`, pattern(10_000));
        await on.fsync(file);
        const written = on.write(file, 9000, pattern(10, 2));
        if (punch) await on.allocate(file, size, 10_000 - size, PUNCH);
        else on.setAttributes(file, { size });
        await written;
        // One before the other, either way.
        const before = new Uint8Array(punch ? 10_000 : size);
        before.set(pattern(10_000).subarray(0, size));
        const after = new Uint8Array(Math.max(before.length, 9010));
        after.set(before);
        after.set(pattern(10, 2), 9000);
        if (size > 9000) before.set(pattern(10, 2), 9000);
        const bytes = await content(on, file);
        assert.ok(equal(bytes, before) || equal(bytes, after), `${punch ? "punched" : "cut"} at ${size}`);
      }
    }
  },

  "copy() copies ranges, within one file too, and the rest stays": async (on, directory) => {
    const from = await put(on, directory, "from", pattern(3_000_000)), to = await put(on, directory, "to");
    assert.equal(await on.copy(from, 1000, to, 5, 2_500_000), 2_500_000);
    assert.ok(equal(await on.read(to, 0, 5), new Uint8Array(5)));
    assert.ok(equal(await on.read(to, 5, 2_500_000), pattern(3_000_000).subarray(1000, 2_501_000)));
    assert.equal(await on.copy(from, 2_999_000, to, 0, 5000), 1000, "to the end");
    assert.equal(await on.copy(from, 3_000_000, to, 0, 5000), 0, "behind the end");
    assert.equal(await on.copy(from, 0, from, 3_000_000, 4_000_000), 3_000_000, "onto its own end, once");
    const twice = new Uint8Array(6_000_000);
    twice.set(pattern(3_000_000)), twice.set(pattern(3_000_000), 3_000_000);
    await assertHolds(on, from, twice);
  },
};
