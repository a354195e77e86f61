/** Options of `mount`: lists, owners, idleness, commits; and `sync`. */
import assert from "node:assert/strict";
import { mkdir, open, readFile, stat, writeFile } from "node:fs/promises";
import { Command, Option } from "@commander-js/extra-typings";
import { whenIdle } from "../../cli/idle.ts";
import { applyList, splitList } from "../../cli/mount_options.ts";
import { duration, octalMask, ownerId } from "../../cli/options.ts";
import type { Mounted } from "../../ffi/mod.ts";
import { prepared, type Ran, until, Workplace } from "./run.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const mounting = { ...strict, ignore: Deno.build.os !== "linux" };
async function isMounted(path: string): Promise<boolean> {
  return (await readFile("/proc/self/mountinfo", "utf8")).includes(` ${path} `);
}

const ok = (ran: Ran) => assert.equal(ran.code, 0, ran.error);

Deno.test("a list is split at commas, and a backslash keeps one", strict, () => {
  assert.deepEqual(splitList("ro,,passfile=/a\\,b,x=\\\\"), ["ro", "passfile=/a,b", "x=\\"]);
  assert.deepEqual(splitList(""), []);
});

Deno.test("durations, masks and owners are read, and what is none is refused", strict, () => {
  for (
    const [text, seconds] of [
      ["90", 90],
      ["5s", 5],
      ["30m", 1800],
      ["1h30m", 5400],
      ["500ms", 0.5],
      [
        "24d",
        2073600,
      ],
      ["0", 0],
      ["0.5s", 0.5],
    ] as const
  ) assert.equal(duration(text), seconds);
  for (const text of ["", "m", "-5s", "5 s", "1x", "25d", "s5"]) assert.throws(() => duration(text), text);
  assert.equal(octalMask("022"), 0o022);
  assert.equal(octalMask("7"), 7);
  for (const text of ["", "8", "-1", "1000", "0x1"]) assert.throws(() => octalMask(text), text);
  assert.equal(ownerId("4294967294"), 4294967294);
  for (const text of ["", "-1", "4294967295", "root"]) assert.throws(() => ownerId(text), text);
});

/** A command with options of each kind, parsed. */
function listed(list: string, args: string[] = [], options: { sloppy?: boolean } = {}) {
  const command = new Command("mount")
    .option("-r, --read-only", "")
    .option("--allow-other", "")
    .option("--noatime", "")
    .option("-f, --foreground", "")
    .option("--idle <TIME>", "", duration)
    .option("--umask <MASK>", "", octalMask)
    .option("-c, --container <CONTAINER>", "")
    .addOption(
      new Option("--passfile <FILE>").argParser<string[]>((one, before?: string[]) => [...before ?? [], one]),
    );
  command.parse(args, { from: "user" });
  const others = applyList(command, splitList(list), options);
  return { others, values: command.opts() };
}

Deno.test("every item of a list means the long option of its name, or is fstab's", strict, () => {
  const fstab =
    "defaults,auto,noauto,user,users,nouser,owner,group,nofail,_netdev,x-systemd.automount,X-a=b," +
    "comment=systemd.automount,user=someone,dev,nodev,suid,nosuid,exec,noexec,sync,async,atime,relatime";
  assert.deepEqual(listed(fstab), { others: fstab.split(","), values: {} });
  assert.deepEqual(listed("ro,allow_other,allow-other,idle=30m,umask=022,passfile=/a,passfile=/b"), {
    others: [],
    values: { readOnly: true, allowOther: true, idle: 1800, umask: 0o022, passfile: ["/a", "/b"] },
  });
  assert.deepEqual(listed("noatime"), { others: ["noatime"], values: { noatime: true } });
});

Deno.test("the last of ro and rw counts, and a long option more than a list", strict, () => {
  assert.equal(listed("rw,ro").values.readOnly, true);
  assert.equal(listed("ro,rw").values.readOnly, undefined);
  assert.equal(listed("rw", ["--read-only"]).values.readOnly, true);
  assert.equal(listed("idle=30m", ["--idle", "5s"]).values.idle, 5);
  assert.deepEqual(listed("passfile=/b", ["--passfile", "/a"]).values.passfile, ["/a"]);
});

Deno.test("an item that is not known is refused, or left out where that is asked for", strict, () => {
  for (const list of ["bogus", "foreground", "container=x", "nonsense=1", "help"]) {
    assert.throws(() => listed(list), { kind: "usage", message: `Unknown mount option "${list}"` });
    assert.deepEqual(listed(`${list},nodev`, [], { sloppy: true }).others, ["nodev"]);
  }
  for (const list of ["idle", "idle=", "idle=soon", "ro=1", "umask=9"]) {
    assert.throws(() => listed(list), { kind: "usage", message: /^Cannot read the mount option "/ });
  }
});

Deno.test("a mount is idle when nothing was asked and nothing is open for long enough", strict, async () => {
  const activity = { requests: 0, open: 1 };
  const { promise, resolve } = Promise.withResolvers<void>();
  let ended = 0, asked = 0;
  using _idle = whenIdle({ activity } as Mounted, {
    seconds: 0.4,
    end: () => {
      ended++;
      resolve();
      return Promise.resolve();
    },
  });
  const pause = () => new Promise((done) => setTimeout(done, 100));
  for (; asked < 8; asked++) await pause(); // open
  assert.equal(ended, 0);
  activity.open = 0;
  for (; asked < 16; asked++) activity.requests++, await pause();
  assert.equal(ended, 0);
  await promise;
  assert.equal(ended, 1);
});

Deno.test("a list says all that fstab needs; owners and modes are shown as asked for", mounting, async () => {
  await using place = await prepared();
  await mkdir(place.path("tree"));
  await writeFile(place.path("tree", "file"), "content", { mode: 0o666 });
  ok(await place.run(["put", "-r", "tree", "/"]));
  const list = `rw,relatime,users,nofail,_netdev,x-test=1,uid=1234,gid=77,umask=027,noatime,passfile=${
    place.path("pass")
  }`;
  const args = ["mount", "-o", list, place.container, place.path("mnt")];
  const mounted = await place.run(args, { plain: true });
  ok(mounted);
  try {
    const { uid, gid, mode } = await stat(place.path("mnt", "tree", "file"));
    assert.deepEqual([uid, gid, mode & 0o777], [1234, 77, 0o640]);
    assert.match(
      await readFile("/proc/mounts", "utf8"),
      new RegExp(`${place.path("mnt")} fuse.coverfs [^ ]*noatime`),
    );
    if (Deno.uid() === 0) {
      await writeFile(place.path("mnt", "new"), "");
      await Deno.chown(place.path("mnt", "new"), 1234, 77);
      await assert.rejects(Deno.chown(place.path("mnt", "new"), 5, 77), Deno.errors.PermissionDenied);
    }
  } finally {
    ok(await place.run(["umount", "mnt"]));
  }
  const [about] = JSON.parse((await place.run(["stat", "--json", "/tree/file"])).out);
  assert.deepEqual([about.uid, about.gid], [Deno.uid(), Deno.gid()], "what is stored stays");
});

Deno.test("-o ro mounts for reading though mount(8) says rw too", mounting, async () => {
  await using place = await prepared();
  ok(await place.run(["mount", "-o", "rw,ro", "mnt"]));
  try {
    await assert.rejects(writeFile(place.path("mnt", "file"), ""), { code: "EROFS" });
  } finally {
    ok(await place.run(["umount", "mnt"]));
  }
});

Deno.test(
  "an idle mount commits, unmounts itself and ends with 0, but not while a file is open",
  mounting,
  async () => {
    await using place = await prepared();
    const mnt = place.path("mnt"), child = place.start(["mount", "-f", "--idle", "1s", mnt]);
    await child.stdin.close();
    const output = child.output();
    await until("mounted", () => isMounted(mnt));
    await using file = await open(place.path("mnt", "file"), "w");
    await file.writeFile("content");
    await new Promise((resolve) => setTimeout(resolve, 2500)); // time itself is what is tested
    assert(await isMounted(mnt), "a file is open");
    await file.close();
    const { code, stderr } = await output;
    assert.equal(code, 0, new TextDecoder().decode(stderr));
    assert(!await isMounted(mnt));
    assert.equal((await place.run(["cat", "/file"])).out, "content");
    const told = await place.run(["umount", mnt]);
    assert.equal(told.code, 0, "it has ended, and well");
    assert.equal((await place.run(["umount", mnt])).code, 1, "now there is nothing more to tell");
  },
);

Deno.test("--idle is refused for a container in memory, whose files would be gone", mounting, async () => {
  await using place = await Workplace.make();
  await mkdir(place.path("mnt"));
  const ran = await place.run(["mount", "--idle", "5m", "ram:", "mnt"], { plain: true });
  assert.equal(ran.code, 2);
  assert.match(ran.error, /^coverfs: Cannot unmount "ram:" when it is idle[^\n]*\n$/);
});

/** The newest commit of the container, as another process sees it. */
async function commits(place: Workplace): Promise<number> {
  return JSON.parse((await place.run(["info", "--json"])).out).commit;
}

Deno.test("--commit-interval bounds how long a change waits; sync commits at once", mounting, async () => {
  await using place = await prepared();
  const mnt = place.path("mnt");
  ok(await place.run(["mount", "--commit-interval", "1d", mnt]));
  try {
    const before = await commits(place);
    await writeFile(place.path("mnt", "a"), "a");
    await mkdir(place.path("mnt", "b"));
    await writeFile(place.path("mnt", "b", "c"), "c");
    await new Promise((resolve) => setTimeout(resolve, 7000)); // longer than the default of 5 s
    assert.equal(await commits(place), before, "nothing was committed");
    ok(await place.run(["sync", mnt]));
    assert(await commits(place) > before);
    assert.equal((await place.run(["cat", "/a", "/b/c"])).out, "ac");
    await writeFile(place.path("mnt", "d"), "d");
    ok(await place.run(["sync"])); // all of this user
    assert.equal((await place.run(["cat", "/d"])).out, "d");
  } finally {
    ok(await place.run(["umount", "mnt"]));
  }
  ok(await place.run(["mount", "-o", "commit_interval=200ms", mnt]));
  try {
    const before = await commits(place);
    await writeFile(place.path("mnt", "e"), "e");
    await until("committed", async () => await commits(place) > before);
  } finally {
    ok(await place.run(["umount", "mnt"]));
  }
});

Deno.test(
  "remount,ro takes no more changes and has all committed; remount,rw takes them again",
  { ...mounting, ignore: mounting.ignore || Deno.uid() !== 0 },
  async () => {
    await using place = await prepared();
    const mnt = place.path("mnt"), file = place.path("mnt", "file");
    const remount = (how: string) => place.run(["mount", "-o", `remount,${how}`, mnt], { plain: true });
    assert.equal((await remount("ro")).code, 26, "nothing is mounted there");
    ok(await place.run(["mount", "--commit-interval", "1d", mnt]));
    try {
      const before = await commits(place);
      {
        await using _open = await open(file, "w");
        const busy = await remount("ro");
        assert.equal(busy.code, 26, "a file is open for writing");
        assert.match(busy.error, /^coverfs: Cannot remount "[^"]+\/mnt": .*busy\.?\nhint: [^\n]+\n$/);
      }
      await writeFile(file, "content");
      // As from fstab, which has the mount's own options, too: they stay as they were.
      ok(await remount("ro,nofail,user_id=0,passfile=none,idle=1s,noexec"));
      assert(await commits(place) > before, "it is committed");
      await assert.rejects(writeFile(file, "other"), { code: "EROFS" });
      const flags = `${mnt} fuse.coverfs ro,nosuid,nodev,noexec,`;
      assert((await readFile("/proc/mounts", "utf8")).includes(flags), "flags that were not named stay");
      ok(await remount("rw"));
      await writeFile(file, "other");
    } finally {
      ok(await place.run(["umount", "mnt"]));
    }
    assert.equal((await place.run(["cat", "/file"])).out, "other");
    ok(await place.run(["mount", "--read-only", mnt]));
    try {
      ok(await remount("rw"));
      await assert.rejects(writeFile(file, "more"), { code: "EROFS" }, "the container is open to read");
    } finally {
      ok(await place.run(["umount", "mnt"]));
    }
  },
);

Deno.test("sync names what is no mountpoint of a container", mounting, async () => {
  await using place = await Workplace.make();
  const ran = await place.run(["sync", place.folder]);
  assert.equal(ran.code, 4);
  assert.match(ran.error, /^coverfs: Cannot sync "[^\n]+\nhint: [^\n]+\n$/);
  assert.equal((await place.run(["sync"])).code, 0, "nothing is mounted: nothing to do");
});
