/** `coverfs header`, `clone` and `compact` as child processes. */
import assert from "node:assert/strict";
import { copyFile, mkdir, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { lockContainer } from "../../fs/store/file_lock.ts";
import { gate, hookedRoot, HOST, startServer } from "../net/servers.ts";
import { prepared, until, type Workplace } from "./run.ts";
import { shownMode } from "../platform.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const MEGABYTE = 1 << 20;

/** A workplace with a container of a few megabytes. */
async function workplace(): Promise<{ place: Workplace; content: Uint8Array }> {
  const place = await prepared();
  const content = crypto.getRandomValues(new Uint8Array(65_536));
  await writeFile(place.path("small"), content);
  const large = new Uint8Array(3 * MEGABYTE);
  for (let at = 0; at < large.length; at += 65_536) large.set(content, at);
  await writeFile(place.path("large"), large);
  assert.equal((await place.run(["put", "large", "small", "/"])).code, 0);
  return { place, content };
}

Deno.test(
  "header backup and restore: what the beginning of a container held is put back byte for byte",
  strict,
  async () => {
    const { place, content } = await workplace();
    await using _place = place;
    const backup = await place.run(["header", "backup", "header.bak"]);
    assert.equal(backup.code, 0, backup.error);
    const { mode, size } = await stat(place.path("header.bak"));
    assert.deepEqual([mode & 0o777, size], [shownMode(0o600), 131_072]);
    assert.equal((await place.run(["header", "backup", "header.bak"])).code, 1, "overwrites nothing");

    const bytes = new Uint8Array(await readFile(place.container)), whole = bytes.slice();
    bytes.fill(0, 0, 131_072);
    await writeFile(place.container, bytes);
    assert.equal((await place.run(["ls"])).code, 13);
    const unasked = await place.run(["header", "restore", "header.bak"]);
    assert.equal(unasked.code, 2, unasked.out);
    assert.deepEqual(new Uint8Array(await readFile(place.container)), bytes, "nothing was changed");
    const restored = await place.run(["header", "restore", "header.bak", "-y"]);
    assert.equal(restored.code, 0, restored.error);
    assert.deepEqual(new Uint8Array(await readFile(place.container)), whole, "byte for byte");
    assert.equal((await place.run(["fsck", "--scrub"])).code, 0);
    assert.deepEqual((await place.run(["cat", "/small"])).bytes, content);
  },
);

Deno.test("header restore keeps superblocks that are newer than the backup's", strict, async () => {
  const { place, content } = await workplace();
  await using _place = place;
  assert.equal((await place.run(["header", "backup", "header.bak"])).code, 0);
  assert.equal((await place.run(["rm", "/large"])).code, 0);
  const bytes = new Uint8Array(await readFile(place.container));
  bytes.fill(0, 0, 4096);
  bytes.fill(0, 65_536, 69_632);
  await writeFile(place.container, bytes);
  const restored = await place.run(["header", "restore", "header.bak", "-y"]);
  assert.equal(restored.code, 0, restored.error);
  assert.match(restored.out, /^Restored both encryption blocks: /);
  assert.equal((await place.run(["ls"])).out, "small\n");
  assert.deepEqual((await place.run(["cat", "/small"])).bytes, content);
});

Deno.test(
  "header restore refuses another container's header and an older one, and changes nothing",
  strict,
  async () => {
    const { place } = await workplace();
    await using _place = place;
    const other = place.path("other"), env = { COVERFS_CONTAINER: other };
    assert.equal((await place.run(["init", "--kdf-rounds", "210000"], { env })).code, 0);
    assert.equal((await place.run(["header", "backup", "other.bak"], { env })).code, 0);
    assert.equal((await place.run(["header", "backup", "old.bak"])).code, 0);
    await writeFile(place.path("new"), "another passphrase\n");
    const changed = await place.run(["passwd", "--new-passfile", "new", "--kdf-rounds", "210000"]);
    assert.equal(changed.code, 0, changed.error);
    const before = await readFile(place.container);
    for (const [file, message] of [["other.bak", /another container/], ["old.bak", /newer/]] as const) {
      const ran = await place.run(["header", "restore", file, "-y"]);
      assert.equal(ran.code, 20, ran.error);
      assert.match(ran.error, message);
    }
    await writeFile(place.path("short.bak"), new Uint8Array(1000));
    assert.equal((await place.run(["header", "restore", "short.bak", "-y"])).code, 13);
    assert.deepEqual(await readFile(place.container), before);
    // Without any header of its own, what lies in the container tells.
    const bytes = new Uint8Array(before).fill(0, 0, 131_072);
    await writeFile(place.container, bytes);
    const ran = await place.run(["header", "restore", "other.bak", "-y"]);
    assert.equal(ran.code, 20, ran.error);
    assert.deepEqual(new Uint8Array(await readFile(place.container)), bytes);
  },
);

Deno.test(
  "the first megabyte of a container is gone: what docs/reliability.md has one do",
  strict,
  async () => {
    const { place } = await workplace();
    await using _place = place;
    const put = async (...names: string[]) => {
      for (const one of names) await copyFile(place.path("small"), place.path(one));
      assert.equal((await place.run(["put", ...names, "/"])).code, 0);
    };
    const lose = async () => {
      const bytes = new Uint8Array(await readFile(place.container));
      await writeFile(place.container, bytes.fill(0, 0, MEGABYTE));
    };
    const whole = async () => new Uint8Array(await readFile(place.container));
    // Of a container that is new both checkpoints lie there.
    assert.equal((await place.run(["header", "backup", "early.bak"])).code, 0);
    const kept = await whole();
    await lose();
    const unreachable = await place.run(["header", "restore", "early.bak", "-y"]);
    assert.equal(unreachable.code, 20, unreachable.error);
    await writeFile(place.container, kept);

    assert.equal((await place.run(["compact"])).code, 0);
    await put("before");
    assert.equal((await place.run(["header", "backup", "header.bak"])).code, 0);
    await put("after");
    await lose();
    assert.equal((await place.run(["header", "restore", "header.bak", "-y"])).code, 0);
    assert.equal((await place.run(["fsck", "--scrub"])).code, 8, "it is older than what was seen");
    const scrubbed = await place.run(["fsck", "--scrub", "--accept-rollback"]);
    assert.equal(scrubbed.code, 4, scrubbed.error);
    assert.doesNotMatch(scrubbed.out, /used twice/);
    const repaired = await place.run(["fsck", "--repair", "--zero-damaged", "-y"]);
    assert.equal(repaired.code, 1, repaired.error);
    assert.equal((await place.run(["fsck", "--scrub"])).code, 0);
    assert.equal((await place.run(["ls"])).out, "before\nlarge\nsmall\n");
    const large = (await place.run(["cat", "/large"])).bytes, expected = await readFile(place.path("large"));
    assert.deepEqual(large.slice(2 * MEGABYTE), new Uint8Array(expected.subarray(2 * MEGABYTE)));
  },
);

Deno.test("clone copies a container that is mounted, as of its newest commit", {
  ...strict,
  ignore: Deno.build.os !== "linux",
}, async () => {
  const { place, content } = await workplace();
  await using _place = place;
  assert.equal((await place.run(["mount", place.path("mnt")])).code, 0);
  try {
    await writeFile(place.path("mnt", "late"), "mounted");
    assert.equal((await place.run(["sync"])).code, 0);
    const cloned = await place.run(["clone", place.container, "copy"]);
    assert.equal(cloned.code, 0, cloned.error);
    const again = await place.run(["clone", place.container, "copy"]);
    assert.equal(again.code, 1, again.error);
    assert.match(again.error, /there is something already\nhint: /);
  } finally {
    assert.equal((await place.run(["umount", place.path("mnt")])).code, 0);
  }
  const env = { COVERFS_CONTAINER: place.path("copy") };
  assert.equal((await place.run(["fsck", "--scrub"], { env })).code, 0);
  assert.equal((await place.run(["cat", "/late"], { env })).out, "mounted");
  assert.deepEqual((await place.run(["cat", "/small"], { env })).bytes, content);
  assert.equal((await stat(place.path("copy"))).mode & 0o777, shownMode(0o600));
});

Deno.test(
  "clone goes between a file and a server, both ways; what fails leaves nothing",
  strict,
  async () => {
    const { place, content } = await workplace();
    await using _place = place;
    await using server = await startServer({});
    const link = server.link(server.firstToken!, { host: HOST });
    const there = await place.run(["clone", place.container, link]);
    assert.equal(there.code, 0, there.error);
    assert.equal(
      (await place.run(["clone", place.container, link])).code === 0,
      false,
      "refuses an existing target",
    );
    const back = await place.run(["clone", link, "back"]);
    assert.equal(back.code, 0, back.error);
    const env = { COVERFS_CONTAINER: place.path("back") };
    assert.equal((await place.run(["fsck", "--scrub"], { env })).code, 0);
    assert.deepEqual((await place.run(["cat", "/small"], { env })).bytes, content);

    const bytes = new Uint8Array(await readFile(place.container));
    for (let at = MEGABYTE; at < 3 * MEGABYTE; at += 4128) bytes[at]! ^= 1;
    await writeFile(place.container, bytes);
    const before = (await readdir(place.folder)).sort();
    const failed = await place.run(["clone", place.container, "broken"]);
    assert.equal(failed.code, 24, failed.error);
    assert.match(failed.error, /"\/large" does not verify/);
    assert.deepEqual((await readdir(place.folder)).sort(), before);
  },
);

Deno.test(
  "clone that is killed leaves nothing under the target's name, and the next one nothing at all",
  strict,
  async () => {
    const { place } = await workplace();
    await using _place = place;
    const isThere = async () => (await readdir(place.folder)).includes("copy");
    const begun = async () => (await readdir(place.folder)).some((one) => /^(\.copy\.|copy$)/.test(one));
    // A kill may come too late where copying is quick: then once more.
    for (let tries = 0, late = true; late; tries++) {
      assert.ok(tries < 20, "no copy was killed in time");
      const child = place.start(["clone", place.container, "copy"]);
      await child.stdin.close();
      await until("the copy has begun", begun, 1);
      child.kill("SIGKILL");
      await child.output();
      late = await isThere();
      if (late) await rm(place.path("copy"));
    }
    const parts = async () => (await readdir(place.folder)).filter((one) => one.endsWith(".coverfs-part"));
    assert.equal((await parts()).length, 1);
    assert.equal((await place.run(["clone", place.container, "copy"])).code, 0);
    assert.deepEqual(await parts(), []);
  },
);

Deno.test("clone and init take away what killed ones left, and nothing else", strict, async () => {
  const { place } = await workplace();
  await using _place = place;
  const part = (digit: string) => place.path(`.copy.${digit.repeat(12)}.coverfs-part`);
  await writeFile(part("a"), new Uint8Array(200_000));
  await writeFile(part("b"), ""); // killed before its first byte
  await copyFile(place.container, part("c")); // whole, killed before it was given its name
  await writeFile(part("d"), new Uint8Array(200_000));
  await writeFile(place.path(".other.aaaaaaaaaaaa.coverfs-part"), "");
  using making = lockContainer(part("d"));
  assert(making);
  const made = await place.run(["init", "--kdf-rounds", "210000", "copy"]);
  assert.equal(made.code, 0, made.error);
  assert.match(made.error, /^coverfs: warning: ".*\.copy\.c{12}\.coverfs-part" is a whole container .*\n/m);
  assert.deepEqual((await readdir(place.folder)).filter((one) => one.endsWith("-part")).sort(), [
    `.copy.${"c".repeat(12)}.coverfs-part`,
    `.copy.${"d".repeat(12)}.coverfs-part`,
    `.other.${"a".repeat(12)}.coverfs-part`,
  ]);
  const env = { COVERFS_CONTAINER: part("c") };
  assert.equal((await place.run(["fsck", "--scrub"], { env })).code, 0);
});

Deno.test("clone to a server that is killed is in nobody's way", strict, async () => {
  const { place, content } = await workplace();
  await using _place = place;
  const reached = gate(), go = gate();
  await using server = await startServer({
    limits: { takeoverSeconds: 0 },
    decorate: hookedRoot(async (operation, offset) => {
      if (operation !== "write" || offset < 1_000_000) return;
      reached.open();
      await go.opened;
    }),
  });
  const link = server.link(server.firstToken!, { host: HOST });
  const child = place.start(["clone", place.container, link]);
  await child.stdin.close();
  await reached.opened;
  child.kill("SIGKILL");
  await child.output();
  go.open();
  const unfinished = await place.run(["cat", "-c", link, "/small"]);
  assert.equal(unfinished.code, 13, unfinished.error);
  assert.match(unfinished.error, /only zeros where its encryption block should be\nhint: /);
  const again = await place.run(["clone", place.container, link]);
  assert.equal(again.code, 0, again.error);
  assert.deepEqual((await place.run(["cat", "-c", link, "/small"])).bytes, content);
});

Deno.test("compact makes a container shorter", strict, async () => {
  const { place, content } = await workplace();
  await using _place = place;
  await copyFile(place.path("small"), place.path("last"));
  assert.equal((await place.run(["put", "last", "/"])).code, 0);
  assert.equal((await place.run(["rm", "/large"])).code, 0);
  const before = (await stat(place.container)).size;
  const done = await place.run(["compact"]);
  assert.equal(done.code, 0, done.error);
  assert.match(done.out, / before, .* now, .* moved\n$/);
  assert.ok((await stat(place.container)).size <= before);
  assert.equal((await place.run(["fsck", "--scrub"])).code, 0);
  assert.deepEqual((await place.run(["cat", "/last"])).bytes, content);
});

Deno.test("compact makes a container shorter that is mounted, while it is read and written", {
  ...strict,
  ignore: Deno.build.os !== "linux",
}, async () => {
  const place = await prepared();
  await using _place = place;
  const mnt = place.path("mnt"), copy = place.path("copy");
  await mkdir(copy);
  assert.equal((await place.run(["mount", mnt])).code, 0);
  try {
    const both = async (work: (folder: string) => Promise<unknown>) => {
      for (const folder of [mnt, copy]) await work(folder);
    };
    const content = (i: number) => new Uint8Array(200_000 + i).fill(i);
    const put = (i: number) => both((folder) => writeFile(`${folder}/${i}`, content(i)));
    for (let i = 0; i < 100; i++) await put(i);
    assert.equal((await place.run(["sync", mnt])).code, 0);
    for (let i = 0; i < 100; i++) if (i % 10 !== 9) await both((folder) => rm(`${folder}/${i}`));
    assert.equal((await place.run(["sync", mnt])).code, 0);
    const before = (await stat(place.container)).size;
    // By the mountpoint, while files are written, cut, removed while they are open, and read.
    let done = false;
    const compacting = place.run(["compact", mnt]).finally(() => done = true);
    for (let i = 0; !done; i = (i + 1) % 50) {
      await put(i);
      await both((folder) => truncate(`${folder}/${i}`, 1000 * i));
      if (i % 3 === 0) {
        using open = await Deno.open(`${mnt}/${i}`);
        await both((folder) => rm(`${folder}/${i}`));
        const read = new Uint8Array(await new Response(open.readable).arrayBuffer());
        assert.deepEqual(read, content(i).subarray(0, 1000 * i));
      }
      assert.deepEqual(new Uint8Array(await readFile(`${mnt}/99`)), content(99));
    }
    const ran = await compacting;
    assert.equal(ran.code, 0, ran.error);
    assert.ok(ran.out.startsWith(`${mnt}: `) && / before, .* now, .* moved\n$/.test(ran.out), ran.out);
    assert.doesNotMatch(ran.out, / 0 B moved/);
    // By the container, with nothing else going on.
    const again = await place.run(["compact", "./container"], { plain: true });
    assert.equal(again.code, 0, again.error);
    assert.ok((await stat(place.container)).size < before / 2);
    const diff = await new Deno.Command("diff", { args: ["-r", copy, mnt] }).output();
    assert.equal(diff.code, 0, new TextDecoder().decode(diff.stdout));
  } finally {
    assert.equal((await place.run(["umount", mnt])).code, 0);
  }
  assert.equal((await place.run(["fsck", "--scrub"])).code, 0);
  assert.equal((await place.run(["mount", "--read-only", mnt])).code, 0);
  try {
    const diff = await new Deno.Command("diff", { args: ["-r", copy, mnt] }).output();
    assert.equal(diff.code, 0, new TextDecoder().decode(diff.stdout));
    const refused = await place.run(["compact", mnt]);
    assert.equal(refused.code, 1);
    assert.match(refused.error, /mounted for reading only/);
    assert.equal((await place.run(["compact"])).code, 0, "nobody else writes it");
  } finally {
    assert.equal((await place.run(["umount", mnt])).code, 0);
  }
});
