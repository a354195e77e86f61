import assert from "node:assert/strict";
import {
  chmod,
  copyFile,
  link,
  lstat,
  mkdir,
  readFile,
  readlink,
  stat,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { rolledBack } from "../../cli/container.ts";
import { type Ran, Workplace } from "./run.ts";
import { HAS_SYMLINKS, shownMode } from "../platform.ts";

/** A container made once; each test that changes it takes a copy. */
let made: Promise<{ place: Workplace; ran: Ran }> | undefined;

function shared() {
  return made ??= (async () => {
    const place = await Workplace.make();
    return { place, ran: await place.run(["init", "--kdf-rounds", "210000"]) };
  })();
}

async function workplace(): Promise<Workplace> {
  const { place } = await shared(), copy = await Workplace.make();
  await copyFile(place.container, copy.container);
  return copy;
}

const test = (name: string, body: () => Promise<void>) =>
  Deno.test({ name, fn: body, sanitizeOps: true, sanitizeResources: true });

test("init makes a container that only its owner can read, and says where", async () => {
  const { place, ran } = await shared();
  assert.equal(ran.code, 0, ran.error);
  assert.match(ran.out, /^Made a container at /);
  assert.equal((await stat(place.container)).mode & 0o777, shownMode(0o600));
});

test("init overwrites nothing", async () => {
  await using place = await workplace();
  const before = await readFile(place.container), ran = await place.run(["init", "--kdf-rounds", "210000"]);
  assert.equal(ran.code, 1);
  assert.match(ran.error, /^coverfs: Cannot make a container .*already\nhint: /);
  assert.deepEqual(await readFile(place.container), before);
});

test("files, links, modes and times come back from put and get as they were", async () => {
  await using place = await workplace();
  const content = crypto.getRandomValues(new Uint8Array(60_000));
  await mkdir(place.path("tree", "below"), { recursive: true });
  await writeFile(place.path("tree", "file"), content);
  await chmod(place.path("tree", "file"), 0o640);
  await utimes(place.path("tree", "file"), 1_000_000_000, 1_100_000_000);
  if (HAS_SYMLINKS) await symlink("../file", place.path("tree", "below", "symlink"));
  await link(place.path("tree", "file"), place.path("tree", "below", "hard"));
  const put = await place.run(["put", "-r", "tree", "/"]);
  assert.equal(put.code, 0, put.error);

  const listed = await place.run(["ls", "-R", "--json", "/"]);
  const entries = JSON.parse(listed.out) as { path: string; type: string; nlink: number; target?: string }[];
  assert.deepEqual(entries.map((entry) => entry.path).sort(), [
    "/tree",
    "/tree/below",
    "/tree/below/hard",
    ...HAS_SYMLINKS ? ["/tree/below/symlink"] : [],
    "/tree/file",
  ]);
  assert.equal(entries.find((entry) => entry.path === "/tree/file")?.nlink, 2);
  if (HAS_SYMLINKS) {
    assert.equal(entries.find((entry) => entry.type === "symlink")?.target, "../file");
    assert.deepEqual((await place.run(["cat", "/tree/below/symlink"])).bytes, content);
  }
  const part = await place.run(["cat", "--offset", "4090", "--count", "10", "/tree/file"]);
  assert.deepEqual(part.bytes, content.slice(4090, 4100));

  const got = await place.run(["get", "-r", "/tree", "copy"]);
  assert.equal(got.code, 0, got.error);
  assert.deepEqual(new Uint8Array(await readFile(place.path("copy", "file"))), content);
  const copied = await lstat(place.path("copy", "file"));
  assert.equal(copied.mode & 0o777, shownMode(0o640));
  assert.equal(Math.round(copied.mtimeMs), 1_100_000_000_000);
  assert.equal(copied.ino, (await lstat(place.path("copy", "below", "hard"))).ino);
  if (HAS_SYMLINKS) assert.equal(await readlink(place.path("copy", "below", "symlink")), "../file");

  const checked = await place.run(["fsck", "--scrub", "--json"]);
  assert.equal(checked.code, 0, checked.out + checked.error);
  assert.equal(JSON.parse(checked.out).clean, true);
});

test("put takes standard input and replaces a file; mv, rm, mkdir and stat do as they say", async () => {
  await using place = await workplace();
  for (const text of ["first", "second"]) {
    const put = await place.run(["put", "-", "/note"], { input: new TextEncoder().encode(text) });
    assert.equal(put.code, 0, put.error);
  }
  assert.equal((await place.run(["mkdir", "-p", "/a/b"])).code, 0);
  assert.equal((await place.run(["mv", "/note", "/a/b"])).code, 0);
  assert.equal((await place.run(["get", "/a/b/note", "-"])).out, "second");
  const [about] = JSON.parse((await place.run(["stat", "--json", "/a/b/note"])).out);
  assert.equal(about.size, 6);
  assert.equal(about.type, "file");
  const refused = await place.run(["rm", "/a"]);
  assert.equal(refused.code, 1);
  assert.match(refused.error, /hint: Use -r/);
  assert.equal((await place.run(["rm", "-r", "/a"])).code, 0);
  assert.equal((await place.run(["ls", "-a"])).out, "");
});

test("what is not there ends with 4 and is named; of several items the others are done", async () => {
  await using place = await workplace();
  const missing = await place.run(["cat", "/nothing/here"]);
  assert.equal(missing.code, 4);
  assert.equal(missing.error, 'coverfs: "/nothing/here": no such file or directory\n');
  await place.run(["put", "-", "/there"], { input: new TextEncoder().encode("x") });
  const some = await place.run(["cat", "/nothing", "/there"]);
  assert.equal(some.code, 3);
  assert.equal(some.out, "x");
});

test("a wrong passphrase ends with 12, fsck with 8", async () => {
  await using place = await workplace();
  await writeFile(place.path("wrong"), "wrong\n");
  for (const [command, code] of [["ls", 12], ["info", 12], ["fsck", 8]] as const) {
    const ran = await place.run([command, "--passfile", "wrong"]);
    assert.equal(ran.code, code);
    assert.match(ran.error, /wrong passphrase/);
  }
});

test("what is no container ends with 13, what is not there with 10", async () => {
  await using place = await Workplace.make();
  assert.equal((await place.run(["ls"])).code, 10);
  for (const bytes of [new Uint8Array(200_000), new TextEncoder().encode("hello"), new Uint8Array(0)]) {
    await writeFile(place.container, bytes);
    for (const command of [["ls"], ["put", "pass", "/"], ["info"]]) {
      const ran = await place.run(command);
      assert.equal(ran.code, 13, ran.error);
    }
    assert.deepEqual(new Uint8Array(await readFile(place.container)), bytes, "it is left as it was");
  }
});

test("wrong usage ends with 2, of fsck with 16, and says what may be meant", async () => {
  await using place = await Workplace.make();
  const unknown = await place.run(["lss"]);
  assert.equal(unknown.code, 2);
  assert.equal(unknown.error, "coverfs: unknown command 'lss'\nhint: Did you mean ls?\n");
  assert.equal((await place.run(["ls", "--nonsense"])).code, 2);
  assert.equal((await place.run(["fsck", "--nonsense"])).code, 16);
  assert.equal((await place.run(["ls"], { plain: true })).code, 2, "no container is named");
  assert.equal((await place.run(["ls", "-c", "s3://bucket/prefix"])).code, 14);
});

test("without a terminal nobody is asked for a passphrase", async () => {
  await using place = await workplace();
  const ran = await place.run(["ls", "-c", place.container], { plain: true });
  assert.equal(ran.code, 2);
  assert.match(ran.error, /there is no terminal\nhint: Use --passfile/);
});

test("a passphrase comes from standard input, from a command and from several files", async () => {
  await using place = await workplace();
  await writeFile(place.path("one"), "correct ");
  await writeFile(place.path("two"), "horse\r\n");
  const pass = new TextEncoder().encode("correct horse\n"), c = ["ls", "-c", place.container];
  const ways: [string[], Uint8Array | undefined][] = [
    [["--passfile", "-"], pass],
    [["--extpass", "echo correct horse"], undefined],
    [["--passfile", "one", "--passfile", "two"], undefined],
  ];
  for (const [way, input] of ways) {
    const ran = await place.run([...c, ...way], { plain: true, ...(input ? { input } : {}) });
    assert.equal(ran.code, 0, ran.error);
  }
});

test("an older state of a container is refused with 20 until it is accepted", async () => {
  await using place = await workplace();
  await place.run(["put", "pass", "/a"]);
  await copyFile(place.container, place.path("old"));
  await place.run(["put", "pass", "/b"]);
  await copyFile(place.path("old"), place.container);
  const before = await readFile(place.container);
  const refused = await place.run(["ls"]);
  assert.equal(refused.code, 20);
  assert.match(
    refused.error,
    /: Cannot open container: it is older than commit \d+, seen before\nhint: If an/,
  );
  assert.equal((await place.run(["put", "pass", "/c"])).code, 20);
  const checked = await place.run(["fsck"]);
  assert.equal(checked.code, 8);
  assert.match(checked.error, /Cannot check container: it is older than/);
  assert.deepEqual(await readFile(place.container), before, "nothing was written");
  const accepted = await place.run(["ls", "--accept-rollback"]);
  assert.equal(accepted.code, 0, accepted.error);
  assert.equal(accepted.out, "a\n");
  assert.equal((await place.run(["ls"])).code, 0);
});

test("a state of another history that is newer than the one that is remembered is called that", async () => {
  await using place = await workplace();
  const elsewhere = { env: { HOME: place.path("elsewhere") } };
  await place.run(["put", "pass", "/a"]);
  await copyFile(place.container, place.path("old"));
  await place.run(["put", "pass", "/b"]);
  await copyFile(place.path("old"), place.container);
  // On a busy machine one put may have more commits than another.
  for (const name of "cdefg") assert.equal((await place.run(["put", "pass", `/${name}`], elsewhere)).code, 0);
  const refused = await place.run(["ls"]), checked = await place.run(["fsck"]);
  const why = /container: it has another history than the one seen before, up to commit \d+\nhint: If an/;
  assert.deepEqual([refused.code, checked.code], [20, 8]);
  assert.match(refused.error, why);
  assert.match(checked.error, why);
  const accepted = await place.run(["ls", "--accept-rollback"]);
  assert.deepEqual([accepted.code, accepted.out], [0, "a\nc\nd\ne\nf\ng\n"]);
  assert.equal((await place.run(["ls"])).code, 0);
});

Deno.test("a state that lacks the remembered commit is older, or has another history if it is as new", () => {
  const said = (last: number) =>
    rolledBack({ last }, { session: new Uint8Array(16), commit: 7 }, "open").message;
  assert.match(said(6), /older than commit 7/);
  for (const last of [7, 8]) assert.match(said(last), /another history .* up to commit 7/);
});

test("a damaged memory against rollback is told of and locks nobody out", async () => {
  await using place = await workplace();
  await mkdir(place.path(".local", "state", "coverfs"), { recursive: true });
  await writeFile(place.path(".local", "state", "coverfs", "rollback.json"), "{");
  const ran = await place.run(["ls"]);
  assert.equal(ran.code, 0);
  assert.equal(ran.error.match(/warning/g)?.length, 1);
});

test("passwd changes the passphrase and keeps the files", async () => {
  await using place = await workplace();
  await place.run(["put", "pass", "/file"]);
  await writeFile(place.path("new"), "battery staple");
  const changed = await place.run(["passwd", "--new-passfile", "new", "--kdf-rounds", "210000"]);
  assert.equal(changed.code, 0, changed.error);
  assert.equal((await place.run(["ls"])).code, 12);
  assert.equal((await place.run(["ls", "--passfile", "new"])).out, "file\n");
  assert.equal((await place.run(["fsck", "--passfile", "new"])).code, 0);
});

test("every command explains itself with an example", async () => {
  await using place = await Workplace.make();
  const help = await place.run(["--help"]);
  const commands = [...help.out.matchAll(/^ {2}([a-z]+) .*\[options\]/gm)].map((match) => match[1]!);
  assert.ok(commands.length >= 12, help.out);
  for (const command of commands) {
    const ran = await place.run([command, "--help"]);
    assert.equal(ran.code, 0);
    assert.match(ran.out, /\nExample:\n {2}\S/);
  }
  assert.match((await place.run(["--version"])).out, /^\d+\.\d+\.\d+\n$/);
});

test("the shared container is put away", async () => {
  await (await shared()).place[Symbol.asyncDispose]();
});
