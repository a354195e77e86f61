/** What is peculiar to Windows, for the commands that do not mount. */
import assert from "node:assert/strict";
import {
  closeSync,
  copyFileSync,
  existsSync,
  fchmodSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { chmod, utimes } from "node:fs/promises";
import { windowsNameProblem } from "../../net/windows_names.ts";
import { foldName } from "../../fs/folded_names.ts";
import { WINDOWS } from "../platform.ts";
import { EndingSession } from "../ffi/session_windows.ts";
import { prepared, type Ran, Workplace } from "./run.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const onWindows = { ...strict, ignore: !WINDOWS };
const text = (value: string) => new TextEncoder().encode(value);

/** As chmod(), for paths of any length. */
function changeMode(path: string, mode: number, flags = "r+"): void {
  const descriptor = openSync(path, flags);
  fchmodSync(descriptor, mode);
  closeSync(descriptor);
}

function assertRan(ran: Ran, code = 0): Ran {
  assert.equal(ran.code, code, ran.out + ran.error);
  return ran;
}

Deno.test("names that Windows cannot have are told from those that it can", strict, () => {
  const none = [
    "",
    "a",
    ".a",
    "a.b",
    "COM",
    "COM10",
    "CONSOLE",
    "nul1",
    "LPT",
    "com0",
    "ä b",
    "a".repeat(255),
  ];
  for (const name of none) assert.equal(windowsNameProblem(name), undefined, name);
  const devices = ["con", "NUL", "nul.txt", "Com1", "LPT9.tar.gz", "aux .c", "COM\u00b2", "CONIN$", "prn:"];
  for (
    const name of [...devices, "a.", "a ", "a:b", 'a"b', "a\\b", "a/b", "a|b", "a?", "*", "<", ">", "a\nb"]
  ) {
    assert.ok(windowsNameProblem(name), name);
  }
});

Deno.test("names are the same without regard to case as NTFS has it, one unit for one unit", strict, () => {
  assert.equal(foldName("Straße ÄÖ \u{1f600}"), "STRAßE ÄÖ \u{1f600}");
  assert.equal(foldName("é"), foldName("É"));
  assert.notEqual(foldName("ß"), foldName("SS"));
});

Deno.test("get names each file that Windows cannot have, and copies all others", onWindows, async () => {
  await using place = await prepared();
  const odd = ["a?b", "nul", "dot.", "space ", "x:y", "back\\slash"];
  assertRan(await place.run(["mkdir", "/d"]));
  for (const name of [...odd, "Twice", "twice", "plain"]) {
    assertRan(await place.run(["put", "-", `/d/${name}`], { input: text(name) }));
  }
  const got = assertRan(await place.run(["get", "-r", "/d", "."]), 3);
  for (const name of odd) assert.ok(got.error.includes(`"/d/${name}": its name `), `${name}: ${got.error}`);
  assert.match(got.error, /Cannot copy "\/d\/[Tt]wice": on Windows its name is that of "\/d\/[Tt]wice"/);
  assert.deepEqual(readdirSync(place.path("d")).map((name) => name.toLowerCase()).sort(), ["plain", "twice"]);
  assertRan(await place.run(["get", "/d/a?b", "other name"]));
  assert.equal(readFileSync(place.path("other name"), "utf8"), "a?b");
});

Deno.test("drive letters, backslashes and paths longer than 260 are local paths", onWindows, async () => {
  await using place = await prepared();
  const long = ["x".repeat(120), "y".repeat(120), "z".repeat(120)], folder = place.path("tree", ...long);
  assert.match(folder, /^[A-Z]:\\/);
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}\\deep`, "down there");
  writeFileSync(`${folder}\\fixed`, "");
  changeMode(`${folder}\\fixed`, 0o400);
  assertRan(await place.run(["put", "-r", place.path("tree"), "/"]));
  assertRan(await place.run(["put", `tree\\${long[0]}\\..\\${long.join("\\")}\\deep`, "/"]));
  assert.equal(assertRan(await place.run(["cat", `/tree/${long.join("/")}/deep`])).out, "down there");
  assertRan(await place.run(["get", "-r", "/tree", place.path("back")]));
  assert.equal(readFileSync(place.path("back", ...long, "deep"), "utf8"), "down there");
  for (const tree of ["tree", "back"]) {
    const fixed = place.path(tree, ...long, "fixed");
    assert.equal(lstatSync(fixed).mode & 0o200, 0);
    changeMode(fixed, 0o600, "r");
  }
  assertRan(await place.run(["get", "/deep", ".\\back\\"]));
  assert.equal(readFileSync(place.path("back", "deep"), "utf8"), "down there");
  assert.equal(assertRan(await place.run(["get", "/deep", "none\\"]), 2).out, "");
});

Deno.test(
  "times and the read-only attribute go in and come back, and such a file is replaced",
  onWindows,
  async () => {
    await using place = await prepared();
    const file = place.path("file");
    writeFileSync(file, "content");
    await utimes(file, 1_000_000_000, 1_100_000_000);
    await chmod(file, 0o400);
    mkdirSync(place.path("folder"));
    assertRan(await place.run(["put", "-r", "file", "folder", "/"]));
    await chmod(file, 0o600); // so that it can be deleted
    const listed = JSON.parse(assertRan(await place.run(["ls", "--json", "-l", "/"])).out) as {
      path: string;
      mode: number;
    }[];
    assert.deepEqual(
      Object.fromEntries(listed.map(({ path, mode }) => [path, (Number(mode) & 0o777).toString(8)])),
      { "/file": "444", "/folder": "755" },
    );
    for (let round = 0; round < 2; round++) assertRan(await place.run(["get", "/file", "copy"]));
    const copy = lstatSync(place.path("copy"));
    assert.equal(copy.mtimeMs, 1_100_000_000_000);
    assert.equal(copy.mode & 0o200, 0);
    await chmod(place.path("copy"), 0o600);
  },
);

Deno.test(
  "a container is the same however its path is written, and its lock leaves nothing",
  onWindows,
  async () => {
    await using place = await prepared();
    assert.deepEqual(readdirSync(place.folder).sort(), [".local", "container", "mnt", "pass"]);
    assert.ok(existsSync(place.path(".local", "state", "coverfs", "rollback.json")));
    assertRan(await place.run(["mkdir", "-c", place.container.toUpperCase(), "/made"]));
    const state = readFileSync(place.path(".local", "state", "coverfs", "rollback.json"), "utf8");
    assert.equal(Object.keys(JSON.parse(state).locators).length, 1);
    assert.match(assertRan(await place.run(["ls", "-c", `file:///${place.container}`])).out, /made/);
  },
);

Deno.test("mount without Dokan is told in one line where it comes from", onWindows, async () => {
  await using place = await prepared();
  const { error } = assertRan(await place.run(["mount", "X:"]), 26);
  assert.match(
    error,
    /^coverfs: Cannot mount: Dokan is not installed; version 2\.3\.1 .* from https:\S+\r?\n$/,
  );
});

const DOUBLE = WINDOWS ? Deno.env.get("COVERFS_DOKAN_DOUBLE") : undefined;

Deno.test("mount serves in the background until umount, which waits for its end", {
  ...strict,
  ignore: DOUBLE === undefined,
}, async () => {
  await using place = await prepared();
  copyFileSync(DOUBLE!, place.path("dokan2.dll")); // the current directory is looked in for libraries
  assertRan(await place.run(["mount", "x:"]));
  assertRan(await place.run(["mkdir", "/d"]), 11); // it has the container
  assertRan(await place.run(["umount", "X:"]));
  assertRan(await place.run(["mkdir", "/d"]));
  assert.match(assertRan(await place.run(["umount", "X:"]), 1).error, /no container is mounted there/);
});

Deno.test("logging off ends a mount in order, as umount does", {
  ...strict,
  ignore: DOUBLE === undefined,
}, async () => {
  await using place = await prepared();
  copyFileSync(DOUBLE!, place.path("dokan2.dll"));
  assertRan(
    await place.run(["mount", "--label", "Box", "--network-drive", "//a/b", "-o", "label=B,noatime", "X:"]),
  );
  using session = new EndingSession();
  assert.ok(await session.ask());
  await session.end(true);
  assertRan(await place.run(["umount", "X:"])); // it tells how the mount has ended
  assertRan(await place.run(["mkdir", "/d"]));
  assert.match(
    assertRan(await place.run(["mount", "--network-drive", "a", "X:"]), 2).error,
    /It is no name like/,
  );
});

Deno.test("a folder as mountpoint is the same however its path is written", {
  ...strict,
  ignore: DOUBLE === undefined,
}, async () => {
  await using place = await prepared();
  copyFileSync(DOUBLE!, place.path("dokan2.dll"));
  mkdirSync(place.path("Mountpoint"));
  assertRan(await place.run(["mount", "mountpoint\\"]));
  assertRan(await place.run(["mkdir", "/d"]), 11);
  assertRan(await place.run(["umount", place.path(".", "mountpoint").toUpperCase()]));
  assertRan(await place.run(["mkdir", "/d"]));
  assertRan(await place.run(["mount", "none"]), 26);
});

Deno.test("a server takes no container by another name, nor one that is a device", onWindows, async () => {
  const { openOn, makeWriter, startServer } = await import("../net/servers.ts");
  await using place = await Workplace.make();
  await using server = await startServer({ root: place.path("served") });
  const writer = await makeWriter();
  {
    await using store = await openOn(server, { mode: "create", container: "Box", ...writer });
    await store.writeHeader("key", 0, new Uint8Array(4096).fill(1));
    await store.flush();
  }
  await assert.rejects(openOn(server, { mode: "read", container: "bOX" }), /No container/);
  await assert.rejects(openOn(server, { mode: "create", container: "box", ...await makeWriter() }), /exists/);
  for (const container of ["nul", "con.txt", "a."]) {
    await assert.rejects(openOn(server, { mode: "create", container, ...writer }), /Not a container name/);
    await assert.rejects(openOn(server, { mode: "read", container }), /Not a container name/);
  }
});
