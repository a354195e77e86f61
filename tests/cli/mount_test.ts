import assert from "node:assert/strict";
import { mkdir, readdir, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { prepared, smallDisk, Workplace } from "./run.ts";

const strict = { sanitizeOps: true, sanitizeResources: true, ignore: Deno.build.os !== "linux" };

Deno.test(
  "mount refuses a mountpoint with the container, the state or a pass file below it",
  strict,
  async () => {
    await using place = await Workplace.make();
    const mnt = place.path("mnt");
    await mkdir(place.path("mnt", "below"), { recursive: true });
    assert.equal((await place.run(["init", "--kdf-rounds", "210000"])).code, 0);
    await symlink(mnt, place.path("link"));
    await writeFile(place.path("mnt", "below", "pass"), "correct horse");
    await writeFile(place.path("mnt", "ca.pem"), "none");
    await writeFile(place.path("mnt", "below", "container"), "");
    const over = ["-o", "nonempty"], state = place.path("link", "below", "state");
    const cases: [args: string[], env: Record<string, string>, what: RegExp][] = [
      [["mnt/below/container", "mnt"], {}, /the container lies below it: ".*\/mnt\/below\/container"/],
      [["link/below/container", "mnt"], {}, /the container lies below it: ".*\/mnt\/below\/container"/],
      [["mnt/below/container", "link"], {}, /the container lies below it/],
      [["mnt"], { COVERFS_CONTAINER: "mnt/below/container" }, /the container lies below it/],
      [["mnt/below/container", "mnt/below/container"], {}, /the container lies below it/],
      [
        ["mnt"],
        { XDG_STATE_HOME: state },
        /the folder of state lies below it: ".*\/mnt\/below\/state\/coverfs"/,
      ],
      [["mnt"], { COVERFS_PASSFILE: "mnt/below/pass" }, /the passphrase file lies below it/],
      [
        ["--passfile", "pass", "--passfile", "link/below/pass", "mnt"],
        {},
        /the passphrase file lies below it/,
      ],
      [["--ca", "mnt/ca.pem", "mnt"], {}, /the file of authorities lies below it/],
    ];
    for (const how of [[], ["--foreground"]]) {
      for (const [args, env, what] of cases) {
        const ran = await place.run(["mount", ...how, ...over, ...args], { env });
        assert.equal(ran.code, 26, `${args}: ${ran.error}`);
        assert.match(
          ran.error,
          /^coverfs: Cannot mount at "[^\n]+\nhint: Choose another mountpoint[^\n]+\n$/,
        );
        assert.match(ran.error, what);
      }
    }
  },
);

Deno.test(
  "a mount in the background does not depend on the folder that it was started in",
  strict,
  async () => {
    await using place = await Workplace.make();
    await mkdir(place.path("mnt"));
    await mkdir(place.path("mntx"));
    assert.equal((await place.run(["init", "--kdf-rounds", "210000", "mntx/container"])).code, 0);
    // Relative, and beside a mountpoint whose name its own begins with.
    const mounted = await place.run(["mount", "mntx/container", "mnt"]);
    assert.equal(mounted.code, 0, mounted.error);
    try {
      await writeFile(place.path("mnt", "file"), "content");
      const listed = await place.run(["ls", "-c", "mntx/container"]);
      assert.equal(listed.code, 0, listed.error);
    } finally {
      const ended = await place.run(["umount", "mnt"]);
      assert.equal(ended.code, 0, ended.error);
    }
    assert.equal((await place.run(["cat", "-c", "mntx/container", "/file"])).out, "content");
  },
);

/** Blocks of 4096 bytes of a mounted filesystem, as `df` counts them. */
async function df(path: string): Promise<{ size: number; used: number; available: number }> {
  const { stdout } = await new Deno.Command("df", {
    args: ["-B", "4096", "--output=size,used,avail", path],
  }).output();
  const [size, used, available] = new TextDecoder().decode(stdout).split("\n")[1]!.trim().split(/\s+/).map(
    Number,
  );
  return { size: size!, used: used!, available: available! };
}

Deno.test("df of a read-only mount tells what that of a writing one does", {
  ...strict,
  ignore: strict.ignore || Deno.uid() !== 0,
}, async () => {
  await using place = await Workplace.make();
  await using disk = await smallDisk(place, 32 << 20);
  const container = `${disk.path}/container`, blocks = 2000;
  await mkdir(place.path("mnt"));
  assert.equal((await place.run(["init", "--kdf-rounds", "210000", container])).code, 0);
  await writeFile(place.path("data"), new Uint8Array(blocks * 4096).fill(1));
  assert.equal((await place.run(["put", "-c", container, "data", "/"])).code, 0);
  const seen: Record<string, Awaited<ReturnType<typeof df>>> = {};
  for (const how of ["--read-only", "--noatime"]) {
    const mounted = await place.run(["mount", how, container, "mnt"]);
    assert.equal(mounted.code, 0, mounted.error);
    try {
      seen[how] = await df(place.path("mnt"));
    } finally {
      assert.equal((await place.run(["umount", "mnt"])).code, 0);
    }
  }
  const { "--read-only": reading, "--noatime": writing } = seen;
  assert(reading && writing);
  const near = (a: number, b: number, by: number) => assert(Math.abs(a - b) <= by, `${a} and ${b}`);
  near(reading.used, blocks, 600); // besides the data: journal and checkpoint
  near(reading.used, writing.used, 600);
  near(reading.size, writing.size, 16);
  near(reading.size, (32 << 20) / 4128, 100);
  assert(reading.available > 0 && reading.available <= reading.size - reading.used);
});

Deno.test("mount asks for no passphrase where it cannot mount", strict, async () => {
  await using place = await Workplace.make();
  assert.equal((await place.run(["init", "--kdf-rounds", "210000"])).code, 0);
  await mkdir(place.path("full", "something"), { recursive: true });
  for (const how of [[], ["--foreground"]]) {
    for (
      const [where, why] of [["nowhere", "there is no such directory"], ["full", "is not empty"]] as const
    ) {
      const ran = await place.run(["mount", ...how, "--extpass", `touch "${place.path("asked")}"`, where]);
      assert.equal(ran.code, 26, ran.error);
      assert.match(ran.error, new RegExp(why));
      await assert.rejects(stat(place.path("asked")), { code: "ENOENT" });
    }
  }
});

Deno.test("info tells in how many pieces the files lie", strict, async () => {
  await using place = await Workplace.make();
  await mkdir(place.path("mnt"));
  assert.equal((await place.run(["init", "--kdf-rounds", "210000"])).code, 0);
  const info = async () => JSON.parse((await place.run(["info", "--json"])).out);
  assert.match((await place.run(["info"])).out, /^fragments {2}none: no file has data$/m);
  await writeFile(place.path("data"), new Uint8Array(5 * 4096).fill(1));
  for (const name of ["a", "b"]) assert.equal((await place.run(["put", "data", `/${name}`])).code, 0);
  const before = await info();
  assert.deepEqual([before.fragments, before.filesWithData, before.dataBytes], [2, 2, 10 * 4096]);

  const mounted = await place.run(["mount", place.path("mnt")]);
  assert.equal(mounted.code, 0, mounted.error);
  try {
    // Data is never overwritten in place: the block in the middle goes elsewhere.
    const args = ["if=data", "of=mnt/a", "bs=4096", "count=1", "seek=2", "conv=notrunc,fsync"];
    assert((await new Deno.Command("dd", { args, cwd: place.folder, stderr: "null" }).output()).success);
  } finally {
    assert.equal((await place.run(["umount", place.path("mnt")])).code, 0);
  }
  const after = await info();
  assert.deepEqual([after.fragments, after.filesWithData, after.dataBytes], [4, 2, 10 * 4096]);
  assert.match(
    (await place.run(["info"])).out,
    /^fragments {2}2\.00 a file with data, 10 KiB each on average$/m,
  );
});

Deno.test("access times move on a mount, and stay with --noatime and with -o noatime", strict, async () => {
  await using place = await Workplace.make();
  const folder = place.path("mnt", "folder");
  await mkdir(place.path("mnt"));
  assert.equal((await place.run(["init", "--kdf-rounds", "210000"])).code, 0);
  for (const options of [[], ["--noatime"], ["-o", "noatime"]]) {
    const mounted = await place.run(["mount", ...options, place.path("mnt")]);
    assert.equal(mounted.code, 0, mounted.error);
    try {
      await mkdir(folder, { recursive: true });
      await utimes(folder, 1, 2);
      assert.deepEqual(await readdir(folder), []);
      assert.equal((await stat(folder)).atimeMs === 1000, options.length > 0, options.join(" "));
    } finally {
      assert.equal((await place.run(["umount", place.path("mnt")])).code, 0);
    }
  }
});

Deno.test(
  { name: "umount leaves alone what is no container", ...strict, ignore: strict.ignore || Deno.uid() !== 0 },
  async () => {
    await using place = await prepared();
    const mnt = place.path("mnt"),
      run = (command: string, ...args: string[]) => new Deno.Command(command, { args }).output();
    assert.equal((await run("mount", "-t", "tmpfs", "none", mnt)).code, 0);
    const refused = await place.run(["umount", mnt]);
    assert.equal((await run("umount", mnt)).code, 0, "it is still mounted");
    assert.equal(refused.code, 1);
    assert.match(refused.error, /mnt": no container is mounted there\nhint: Name the mountpoint itself\n$/);
  },
);

Deno.test("umount tells how a mount has ended though that ends before umount(8) does", strict, async () => {
  await using place = await prepared();
  await mkdir(place.path("bin"));
  const env = { XDG_STATE_HOME: place.path("state"), PATH: `${place.path("bin")}:${Deno.env.get("PATH")}` };
  for (const command of ["umount", "fusermount3"]) {
    // As for a mount whose million files the kernel has to forget.
    const slow = `#!/bin/sh
PATH=\${PATH#*:}; pid=$(sed 's/.*"pid":\\([0-9]*\\).*/\\1/' "${env.XDG_STATE_HOME}"/coverfs/mounts/*.json)
${command} "$@" && while [ -e /proc/$pid/stat ]; do sleep 0.05; done`;
    await writeFile(place.path("bin", command), slow, { mode: 0o755 });
  }
  assert.equal((await place.run(["mount", place.path("mnt")], { env })).code, 0);
  const ended = await place.run(["umount", place.path("mnt")], { env });
  assert.deepEqual([ended.code, ended.error], [0, ""]);
});
