/**
 * What POSIX says of a filesystem's operations, as named checks of {@linkcode Filesystem}: no mount, no kernel. Of what
 * programs see through a mount, `tests/mounted/posix_checks.ts` has checks of its own.
 */
import assert from "node:assert/strict";
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  type Filesystem,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  XATTR_CREATE,
  XATTR_REPLACE,
} from "../../fs/filesystem.ts";
import {
  type Ino,
  S_IFBLK,
  S_IFCHR,
  S_IFIFO,
  S_IFLNK,
  S_IFSOCK,
  S_ISGID,
  type Time,
} from "../../fs/types.ts";
import { equal, fails, FILE, FOLDER, name, pattern } from "./fixture.ts";
import { assertHolds, DATA_CHECKS, put, type VolumeCheck } from "./volume_data_checks.ts";

const BLOCK = 4096;
const PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

function names(on: Filesystem, directory: Ino): string[] {
  return [...on.list(directory)].map((entry) => new TextDecoder().decode(entry.name));
}

function at({ seconds, nanoseconds }: Time): bigint {
  return BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds);
}

/** All checks by what they claim. */
export const VOLUME_CHECKS: Readonly<Record<string, VolumeCheck>> = {
  "create() makes every kind of node with its mode, owner and number": (on, directory) => {
    const kinds = [
      FILE.mode,
      FOLDER.mode,
      S_IFIFO | 0o600,
      S_IFSOCK | 0o777,
      S_IFCHR | 0o4,
      S_IFBLK | 0o7777,
    ];
    for (const [i, mode] of kinds.entries()) {
      const ino = on.create(directory, name(`n${i}`), { mode, uid: 4_000_000_000, gid: 5, rdev: 70_000 + i });
      assert.equal(on.lookup(directory, name(`n${i}`)), ino);
      const { uid, gid, rdev, size, blocks, nlink, mode: kept, ...rest } = on.attributes(ino);
      assert.deepEqual({ kept, uid, gid, size, blocks }, {
        ...{ kept: mode, uid: 4_000_000_000, gid: 5, size: 0, blocks: 0 },
      });
      assert.equal(rdev, 70_000 + i);
      assert.equal(nlink, mode === FOLDER.mode ? 2 : 1);
      assert.equal(rest.ino, ino);
      assert.deepEqual([rest.atime, rest.mtime, rest.ctime], [rest.btime, rest.btime, rest.btime]);
    }
  },

  "a name is made once, in a directory, and is not too long": (on, directory) => {
    const file = on.create(directory, name("f"), FILE), long = "n".repeat(255);
    assert.throws(() => on.create(directory, name("f"), FOLDER), fails("EEXIST"));
    assert.throws(() => on.create(file, name("x"), FILE), fails("ENOTDIR"));
    assert.throws(() => on.lookup(file, name("x")), fails("ENOTDIR"));
    assert.throws(() => on.create(directory, name(`${long}n`), FILE), fails("ENAMETOOLONG"));
    assert.throws(() => on.lookup(directory, name(`${long}n`)), fails("ENAMETOOLONG"));
    assert.equal(on.create(directory, name(long), FILE), on.lookup(directory, name(long)));
    assert.equal(on.lookup(directory, name("none")), undefined);
    for (const wrong of ["a/b", "a\0b"]) {
      assert.throws(() => on.create(directory, name(wrong), FILE), fails("EINVAL"));
    }
  },

  "a name may be any bytes": (on, directory) => {
    const all = Array.from({ length: 256 }, (_, byte) => byte).filter((byte) => byte !== 0 && byte !== 0x2f);
    const made = [all.slice(0, 127), all.slice(127), [0xff], [0xc3, 0x28], [0x20], [0x2e, 0x2e, 0x2e]]
      .map((bytes) => Uint8Array.from(bytes));
    for (const one of made) on.create(directory, one, FILE);
    assert.deepEqual([...on.list(directory)].map((entry) => [...entry.name]), made.map((one) => [...one]));
    for (const { name, ino } of on.list(directory)) assert.equal(on.lookup(directory, name), ino);
    on.rename(directory, made[2]!, directory, made[2]!.slice().fill(0xfe));
    assert.equal(on.lookup(directory, made[2]!), undefined);
  },

  "a directory's links are its names and its subdirectories": (on, directory) => {
    const links = () => on.attributes(directory).nlink;
    assert.equal(links(), 2);
    const a = on.create(directory, name("a"), FOLDER), b = on.create(directory, name("b"), FOLDER);
    on.create(directory, name("f"), FILE);
    assert.equal(links(), 4);
    assert.equal(on.parent(a), directory);
    assert.equal(on.lookup(a, name("..")), directory);
    assert.equal(on.lookup(a, name(".")), a);
    on.rename(directory, name("b"), a, name("b"));
    assert.deepEqual([links(), on.attributes(a).nlink, on.parent(b)], [3, 3, a]);
    on.rmdir(a, name("b"));
    assert.equal(on.attributes(a).nlink, 2);
  },

  "a directory with the set-group-id bit gives its group on": (on, directory) => {
    on.setAttributes(directory, { gid: 77, mode: 0o755 | S_ISGID });
    const file = on.create(directory, name("f"), FILE), folder = on.create(directory, name("d"), FOLDER);
    assert.deepEqual([on.attributes(file).gid, on.attributes(file).mode], [77, FILE.mode]);
    assert.deepEqual([on.attributes(folder).gid, on.attributes(folder).mode], [77, FOLDER.mode | S_ISGID]);
  },

  "unlink() and rmdir() remove what they are for, and nothing else": (on, directory) => {
    const folder = on.create(directory, name("d"), FOLDER), file = on.create(folder, name("f"), FILE);
    assert.throws(() => on.unlink(directory, name("d")), fails("EISDIR"));
    assert.throws(() => on.rmdir(directory, name("d")), fails("ENOTEMPTY"));
    assert.throws(() => on.rmdir(folder, name("f")), fails("ENOTDIR"));
    assert.throws(() => on.unlink(file, name("x")), fails("ENOTDIR"));
    for (const remove of [on.unlink, on.rmdir]) {
      assert.throws(() => remove.call(on, directory, name("none")), fails("ENOENT"));
    }
    on.unlink(folder, name("f"));
    on.rmdir(directory, name("d"));
    assert.deepEqual(names(on, directory), []);
    for (const gone of [folder, file]) assert.throws(() => on.attributes(gone), fails("ESTALE"));
  },

  "hard links are one file under several names": async (on, directory) => {
    const file = await put(on, directory, "a", pattern(12_345)),
      folder = on.create(directory, name("d"), FOLDER);
    on.link(file, folder, name("b"));
    assert.equal(on.lookup(folder, name("b")), file);
    assert.deepEqual([on.attributes(file).nlink, on.attributes(file).size], [2, 12_345]);
    assert.throws(() => on.link(file, folder, name("b")), fails("EEXIST"));
    assert.throws(() => on.link(folder, directory, name("x")), fails("EPERM"));
    assert.throws(() => on.link(file, file, name("x")), fails("ENOTDIR"));
    on.unlink(directory, name("a"));
    assert.equal(on.attributes(file).nlink, 1);
    await assertHolds(on, file, pattern(12_345));
  },

  "rename() replaces a file, an empty directory, and nothing else": async (on, directory) => {
    const a = await put(on, directory, "a", pattern(100)),
      b = await put(on, directory, "b", pattern(9000, 2));
    on.rename(directory, name("a"), directory, name("b"));
    assert.deepEqual([on.lookup(directory, name("a")), on.lookup(directory, name("b"))], [undefined, a]);
    assert.throws(() => on.attributes(b), fails("ESTALE"));
    const d = on.create(directory, name("d"), FOLDER), e = on.create(directory, name("e"), FOLDER);
    on.create(e, name("x"), FOLDER);
    assert.throws(() => on.rename(directory, name("d"), directory, name("e")), fails("ENOTEMPTY"));
    assert.throws(() => on.rename(directory, name("b"), directory, name("d")), fails("EISDIR"));
    assert.throws(() => on.rename(directory, name("d"), directory, name("b")), fails("ENOTDIR"));
    assert.throws(() => on.rename(directory, name("none"), directory, name("b")), fails("ENOENT"));
    on.rename(directory, name("d"), e, name("x"));
    assert.equal(on.lookup(e, name("x")), d);
    assert.deepEqual([on.attributes(directory).nlink, on.attributes(e).nlink], [3, 3]);
  },

  "rename() of one name of a file to another of its names does nothing": (on, directory) => {
    const file = on.create(directory, name("a"), FILE);
    on.link(file, directory, name("b"));
    for (const flags of [0, RENAME_EXCHANGE]) {
      on.rename(directory, name("a"), directory, name("b"), flags);
      assert.deepEqual(names(on, directory), ["a", "b"]);
      assert.equal(on.attributes(file).nlink, 2);
    }
  },

  "a directory moves with all that is in it, but not into itself": (on, directory) => {
    const a = on.create(directory, name("a"), FOLDER), b = on.create(a, name("b"), FOLDER);
    const file = on.create(b, name("f"), FILE), c = on.create(directory, name("c"), FOLDER);
    for (const [to, flags] of [[a, 0], [b, 0], [b, RENAME_NOREPLACE]] as const) {
      assert.throws(() => on.rename(directory, name("a"), to, name("x"), flags), fails("EINVAL"));
    }
    assert.throws(() => on.rename(directory, name("a"), a, name("b"), RENAME_EXCHANGE), fails("EINVAL"));
    assert.throws(() => on.rename(a, name("b"), directory, name("a"), RENAME_EXCHANGE), fails("EINVAL"));
    on.rename(directory, name("a"), c, name("z"));
    assert.deepEqual([on.parent(a), on.parent(b), on.lookup(b, name("f"))], [c, a, file]);
  },

  "rename() exchanges two names of any kind": (on, directory) => {
    const d = on.create(directory, name("d"), FOLDER), inner = on.create(d, name("in"), FOLDER);
    const file = on.create(inner, name("f"), FILE), e = on.create(directory, name("e"), FOLDER);
    on.rename(directory, name("e"), inner, name("f"), RENAME_EXCHANGE);
    assert.deepEqual([on.lookup(directory, name("e")), on.lookup(inner, name("f"))], [file, e]);
    assert.deepEqual([on.parent(e), on.attributes(directory).nlink, on.attributes(inner).nlink], [
      inner,
      3,
      3,
    ]);
    assert.throws(
      () => on.rename(directory, name("e"), directory, name("none"), RENAME_EXCHANGE),
      fails("ENOENT"),
    );
  },

  "rename() without replacing refuses, and unknown flags are refused": (on, directory) => {
    on.create(directory, name("a"), FILE);
    on.create(directory, name("b"), FILE);
    const rename = (to: string, flags: number) => on.rename(directory, name("a"), directory, name(to), flags);
    assert.throws(() => rename("b", RENAME_NOREPLACE), fails("EEXIST"));
    for (const flags of [RENAME_NOREPLACE | RENAME_EXCHANGE, 4, 8]) {
      assert.throws(() => rename("c", flags), fails("EINVAL"));
    }
    rename("c", RENAME_NOREPLACE);
    assert.deepEqual(names(on, directory), ["b", "c"]);
  },

  "a symlink keeps its target as it is": (on, directory) => {
    const targets = ["x", "../no/where", "y".repeat(4095), "\xff\xfe"].map((text) =>
      Uint8Array.from(text, (character) => character.charCodeAt(0))
    );
    for (const [i, target] of targets.entries()) {
      const link = on.create(directory, name(`s${i}`), { ...FILE, mode: S_IFLNK | 0o777, target });
      assert.deepEqual([...on.readlink(link)], [...target]);
      assert.equal(on.attributes(link).size, target.length);
    }
    assert.throws(() => on.readlink(directory), fails("EINVAL"));
    assert.throws(() => on.readlink(on.create(directory, name("f"), FILE)), fails("EINVAL"));
  },

  "a file that is held lives on without a name": async (on, directory) => {
    const file = await put(on, directory, "f", pattern(10_000));
    on.hold(file);
    on.unlink(directory, name("f"));
    const other = await put(on, directory, "f", pattern(5, 2));
    await on.fsync(file);
    await on.write(file, 10_000, pattern(500, 3));
    on.setAttributes(file, { size: 10_200, mode: 0o600, uid: 3, mtime: { seconds: 7, nanoseconds: 8 } });
    on.setXattr(file, name("user.a"), name("1"));
    await on.allocate(file, 0, 20_000, 0);
    assert.deepEqual(await on.read(file, 9990, 300), await on.read(file, 9990, 300));
    assert.ok(equal(await on.read(file, 0, 10_000), pattern(10_000)));
    assert.ok(equal(await on.read(file, 10_000, 200), pattern(500, 3).subarray(0, 200)));
    const { nlink, size, uid } = on.attributes(file);
    assert.deepEqual([nlink, size, uid], [0, 20_000, 3]);
    on.hold(file);
    on.drop(file);
    assert.equal(on.attributes(file).nlink, 0);
    on.drop(file);
    assert.throws(() => on.attributes(file), fails("ESTALE"));
    await assertHolds(on, other, pattern(5, 2));
  },

  "a directory that is held lives on without a name, and takes nothing more": (on, directory) => {
    const folder = on.create(directory, name("d"), FOLDER), file = on.create(directory, name("f"), FILE);
    on.hold(folder);
    on.rmdir(directory, name("d"));
    assert.deepEqual([names(on, folder), on.attributes(folder).nlink], [[], 0]);
    assert.throws(() => on.create(folder, name("x"), FILE), fails("ENOENT"));
    assert.throws(() => on.link(file, folder, name("x")), fails("ENOENT"));
    assert.throws(() => on.rename(directory, name("f"), folder, name("x")), fails("ENOENT"));
    on.drop(folder);
    assert.throws(() => on.attributes(folder), fails("ESTALE"));
  },

  "a file made without a name gets one by link(), or goes": async (on, directory) => {
    const [kept, gone] = [0, 1].map(() => on.createUnnamed(FILE)) as [Ino, Ino];
    for (const ino of [kept, gone]) on.hold(ino), await on.write(ino, 0, pattern(5000));
    assert.equal(on.attributes(kept).nlink, 0);
    on.link(kept, directory, name("f"));
    for (const ino of [kept, gone]) on.drop(ino);
    assert.equal(on.attributes(kept).nlink, 1);
    await assertHolds(on, kept, pattern(5000));
    assert.throws(() => on.attributes(gone), fails("ESTALE"));
  },

  "a listing gives what stays once, in order, though others come and go": async (on, directory) => {
    for (let i = 0; i < 500; i++) {
      await on.admit();
      on.create(directory, name(`stay${i}`), FILE);
      on.create(directory, name(`go${i}`), FILE);
    }
    const seen: string[] = [];
    let cookie = 0;
    for (let i = 0; i < 500; i++) {
      // As a mount lists: some entries, and on from the last one's cookie.
      const some = [...on.list(directory, cookie)].slice(0, 7);
      for (const entry of some) seen.push(new TextDecoder().decode(entry.name));
      cookie = some.at(-1)?.cookie ?? cookie;
      await on.admit();
      on.unlink(directory, name(`go${i}`));
      on.create(directory, name(`new${i}`), FILE);
    }
    const stayed = seen.filter((one) => one.startsWith("stay"));
    assert.deepEqual(stayed, Array.from({ length: 500 }, (_, i) => `stay${i}`));
    assert.equal(new Set(seen).size, seen.length);
  },

  "the cookies of a listing rise, and what is renamed comes last": (on, directory) => {
    assert.equal(on.newest(directory), 0);
    for (let i = 0; i < 20; i++) on.create(directory, name(`f${i}`), FILE);
    const cookies = [...on.list(directory)].map((entry) => entry.cookie);
    assert.deepEqual(cookies, [...cookies].sort((a, b) => a - b));
    assert.equal(new Set(cookies).size, 20);
    assert.equal(on.newest(directory), cookies.at(-1));
    on.rename(directory, name("f3"), directory, name("g3"));
    assert.equal(names(on, directory).at(-1), "g3");
    assert.ok(on.newest(directory) > cookies.at(-1)!);
    assert.throws(() => on.list(on.lookup(directory, name("f1"))!).next(), fails("ENOTDIR"));
  },

  "chmod, chown and times change what they name, and keep every bit": (on, directory) => {
    const file = on.create(directory, name("f"), FILE);
    const times = [[1, 2], [-5, 999_999_999], [2 ** 33, 1], [2 ** 51 - 1, 999_999_999]] as const;
    for (const [seconds, nanoseconds] of times) {
      const atime = { seconds, nanoseconds }, mtime = { seconds: -seconds, nanoseconds };
      const set = on.setAttributes(file, { atime, mtime });
      assert.deepEqual([set.atime, set.mtime, set.mode, set.uid], [atime, mtime, FILE.mode, FILE.uid]);
    }
    on.setAttributes(file, { mode: 0o7777, gid: 4_294_967_294 });
    assert.deepEqual(
      [on.attributes(file).mode, on.attributes(file).uid, on.attributes(file).gid],
      [(FILE.mode & ~0o777) | 0o7777, FILE.uid, 4_294_967_294],
    );
    on.setAttributes(file, { mode: 0, uid: 0 });
    const { mode, uid, gid, atime } = on.attributes(file);
    assert.deepEqual([mode, uid, gid], [FILE.mode & ~0o777, 0, 4_294_967_294]);
    assert.equal(atime.seconds, times.at(-1)![0]);
    const far = on.setAttributes(file, { mtime: { seconds: 2 ** 60, nanoseconds: 5 } }).mtime;
    assert.deepEqual(far, { seconds: 2 ** 51 - 1, nanoseconds: 0 }, "the nearest that can be kept");
  },

  "ctime and mtime move with what changes, and with nothing else": async (on, directory) => {
    const file = await put(on, directory, "f", pattern(10_000)),
      link = on.create(directory, name("s"), {
        ...{ ...FILE, mode: S_IFLNK | 0o777, target: name("f") },
      });
    const moves = async (ino: Ino, work: () => unknown, expected: "both" | "ctime" | "nothing") => {
      const before = on.attributes(ino);
      await work();
      const after = on.attributes(ino);
      assert.equal(at(after.ctime) > at(before.ctime), expected !== "nothing", `ctime: ${work}`);
      assert.equal(at(after.mtime) > at(before.mtime), expected === "both", `mtime: ${work}`);
    };
    await moves(file, () => on.write(file, 0, pattern(1)), "both");
    await moves(file, () => on.setAttributes(file, { size: 5000 }), "both");
    await moves(file, () => on.setAttributes(file, { size: 5000 }), "both");
    await moves(file, () => on.allocate(file, 0, BLOCK, PUNCH), "both");
    await moves(file, () => on.allocate(file, 0, 9999, FALLOC_FL_ZERO_RANGE), "both");
    await moves(file, () => on.setAttributes(file, { mode: 0o600 }), "ctime");
    await moves(file, () => on.setAttributes(file, { mode: 0o600 }), "ctime");
    await moves(file, () => on.setAttributes(file, { uid: 7 }), "ctime");
    await moves(file, () => on.setXattr(file, name("user.a"), name("1")), "ctime");
    await moves(file, () => on.removeXattr(file, name("user.a")), "ctime");
    await moves(file, () => on.link(file, directory, name("g")), "ctime");
    await moves(file, () => on.rename(directory, name("g"), directory, name("h")), "ctime");
    await moves(file, () => on.unlink(directory, name("h")), "ctime");
    await moves(directory, () => on.create(directory, name("x"), FILE), "both");
    await moves(directory, () => on.rename(directory, name("x"), directory, name("y")), "both");
    await moves(directory, () => on.link(file, directory, name("z")), "both");
    await moves(directory, () => on.unlink(directory, name("z")), "both");
    await moves(link, () => on.setAttributes(link, { uid: 7 }), "ctime");
    await moves(file, () => on.read(file, 0, 100), "nothing");
    await moves(file, () => on.fsync(file), "nothing");
    await moves(file, () => assert.throws(() => on.removeXattr(file, name("user.a"))), "nothing");
    await moves(link, () => on.readlink(link), "nothing");
    await moves(directory, () => names(on, directory), "nothing");
    await moves(directory, () => assert.throws(() => on.create(directory, name("y"), FILE)), "nothing");
    await moves(directory, () => on.setAttributes(file, { mode: 0o644 }), "nothing");
  },

  "atime moves with the first reading after a change": async (on, directory) => {
    const file = await put(on, directory, "f", pattern(100)),
      folder = on.create(directory, name("d"), FOLDER);
    const link = on.create(directory, name("s"), { ...FILE, mode: S_IFLNK | 0o777, target: name("f") });
    const ways = [
      [file, () => on.read(file, 0, 10)],
      [folder, () => names(on, folder)],
      [link, () => on.readlink(link)],
    ] as const;
    for (const [ino, read] of ways) {
      const before = on.attributes(ino).atime;
      await read();
      const after = on.attributes(ino).atime;
      assert.ok(at(after) > at(before));
      await read();
      assert.deepEqual(on.attributes(ino).atime, after, "relatime: not again");
    }
  },

  "extended attributes are set, replaced, listed and removed": (on, directory) => {
    const file = on.create(directory, name("f"), FILE);
    const link = on.create(directory, name("s"), { ...FILE, mode: S_IFLNK | 0o777, target: name("f") });
    for (const ino of [file, link, directory]) {
      on.setXattr(ino, name("user.a"), name("one"));
      on.setXattr(ino, name("user.b"), new Uint8Array(60_000));
      on.setXattr(ino, name("trusted.empty"), new Uint8Array(0));
      assert.throws(() => on.setXattr(ino, name("user.a"), name("x"), XATTR_CREATE), fails("EEXIST"));
      assert.throws(() => on.setXattr(ino, name("user.c"), name("x"), XATTR_REPLACE), fails("ENODATA"));
      on.setXattr(ino, name("user.a"), name("two"), XATTR_REPLACE);
      on.removeXattr(ino, name("user.b"));
      assert.throws(() => on.removeXattr(ino, name("user.b")), fails("ENODATA"));
      assert.equal(on.getXattr(ino, name("user.b")), undefined);
      assert.deepEqual(on.getXattr(ino, name("user.a")), name("two"));
      assert.deepEqual(on.getXattr(ino, name("trusted.empty")), new Uint8Array(0));
      assert.deepEqual(on.listXattr(ino), [name("user.a"), name("trusted.empty")]);
    }
  },

  "statistics follow what is made and written": async (on, directory) => {
    const before = on.statistics();
    assert.ok(before.available <= before.free && before.free <= before.blocks);
    const file = await put(on, directory, "f", pattern(1 << 20));
    await on.sync();
    const after = on.statistics(), used = (one: typeof before) => one.blocks - one.free;
    assert.ok(used(after) - used(before) >= 256, "a mebibyte more is in use");
    assert.equal(before.filesFree - after.filesFree, 1);
    assert.equal(on.attributes(file).blocks, 2048);
  },

  ...DATA_CHECKS,
};
