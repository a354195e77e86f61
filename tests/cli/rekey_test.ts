/** `rekey` as a program: which slots stay, killed and gone on with, on a server, damaged data, and mounts. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { mkdir, open, readdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { newRecoveryWords } from "../../crypto/mod.ts";
import { blockOffset, HEADER_AT } from "../../fs/block/byte_layout.ts";
import { Program, ServerProcess } from "./processes.ts";
import { type Ran, until, Workplace } from "./run.ts";
import { onTerminalOf } from "./terminal.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const QUICK = ["--kdf-rounds", "210000"];
const MAIN = fileURLToPath(new URL("../../main.ts", import.meta.url));
const PASSPHRASE = "correct horse battery staple";

function assertRan(ran: Ran, code: number, error = /^$/): string {
  assert.equal(ran.code, code, ran.out + ran.error);
  assert.match(ran.error, error);
  return ran.out;
}

/** A workplace with a container that has a file of so many bytes, there or where it is named. */
async function prepared(place: Workplace, megabytes: number, container = place.container): Promise<void> {
  assertRan(await place.run(["init", ...QUICK, container]), 0);
  const content = new Uint8Array(megabytes << 20);
  for (let at = 0; at < content.length; at += 65_536) {
    crypto.getRandomValues(content.subarray(at, at + 65_536));
  }
  await writeFile(place.path("large"), content);
  assertRan(await place.run(["put", "-c", container, "large", "/"]), 0);
}

async function assertWhole(place: Workplace, container = place.container): Promise<void> {
  const { bytes, code } = await place.run(["cat", "-c", container, "/large"]);
  assert.equal(code, 0);
  assert(
    Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).equals(await readFile(place.path("large"))),
  );
  assert.match(assertRan(await place.run(["fsck", "--scrub", container]), 0), /: clean/);
}

async function slots(place: Workplace, container = place.container): Promise<string[]> {
  const all = JSON.parse(assertRan(await place.run(["key", "-c", container, "list", "--json"]), 0)) as {
    kind: string;
    kdf: string;
    label: string;
  }[];
  return all.map(({ kind, kdf, label }) => `${kind} ${kdf.split(" ")[0]} ${label}`.trimEnd());
}

/** The generation of the previous master key in both copies of a container's encryption block; 0 if there is none. */
async function previousIn(path: string): Promise<number> {
  await using file = await open(path);
  const generations = new Uint32Array(2);
  for (const [i, at] of HEADER_AT.key.entries()) {
    await file.read(new Uint8Array(generations.buffer, i * 4, 4), 0, 4, at + 64);
  }
  return Math.min(...generations);
}

/** Starts `rekey`, and ends it by a signal when it is at work. @returns what it said, and its exit code */
async function interrupted(place: Workplace, signal: Deno.Signal): Promise<{ said: string; code: number }> {
  await using program = new Program(place.start(["rekey", "--yes"]));
  const goesOn = await previousIn(place.container) > 0;
  const atWork = async () =>
    goesOn ? program.said.includes("Going on") : await previousIn(place.container) > 0;
  await program.until(async () => await atWork() || undefined);
  program.signal(signal);
  const { code } = await program.ended;
  await program.kill(); // all that it said is there then
  return { said: program.said, code };
}

Deno.test("only slots whose secret is given stay, with label and key derivation", strict, async () => {
  await using place = await Workplace.make(PASSPHRASE);
  await prepared(place, 1);
  const words = newRecoveryWords();
  const add = (...args: string[]) => place.run(["key", "add", ...args]);
  for (const name of ["second", "third"]) {
    await writeFile(place.path(name), `${name} quiet harbour lamp`, { mode: 0o600 });
  }
  assertRan(await add("--new-passfile", "second", "--label", "lost", ...QUICK), 0);
  const argon = ["--kdf", "argon2id", "--kdf-memory", "19M", "--kdf-passes", "2"];
  assertRan(await add("--new-passfile", "third", "--label", "ours", ...argon), 0);
  assertRan(await add("--new-key-file", "key", "--label", "usb", ...QUICK), 0);
  const printed = assertRan(await add("--recovery-key"), 0);
  await writeFile(place.path("words"), /(?:^ {2}(?:[a-z]+ ?){6}\n){4}/m.exec(printed)![0], { mode: 0o600 });
  await writeFile(place.path("unknown"), words, { mode: 0o600 });
  const before = await readFile(place.container);

  const silent = await place.run(["rekey"]);
  assertRan(silent, 2, /secrets are not given: key slot 1 \(passphrase, "lost"\), key slot 2 .*\nhint: Give/);
  const wrong = await place.run(["rekey", "--yes", "--keep-passfile", "unknown"]);
  assertRan(wrong, 12, /^coverfs: Cannot keep a key slot by "unknown": it opens none$/m);
  assert((await readFile(place.container)).equals(before), "nothing was changed");

  const keep = ["--keep-passfile", "words", "--keep-key-file", "key", "--keep-passfile", "third"];
  const done = assertRan(await place.run(["rekey", "--yes", ...keep]), 0);
  assert.equal(
    done,
    'Without their secrets these go: key slot 1 (passphrase, "lost")\nThe master key is changed, 1.0 MiB of data sealed anew\n',
  );
  assert.deepEqual(await slots(place), [
    "passphrase pbkdf2-hmac-sha-512",
    "passphrase argon2id ours",
    "key-file pbkdf2-hmac-sha-512 usb",
    "recovery-key pbkdf2-hmac-sha-512",
  ]);
  for (const how of [["--passfile", "third"], ["--key-file", "key"], ["--passfile", "words"]]) {
    assertRan(await place.run(["ls", ...how]), 0);
  }
  assertRan(await place.run(["ls", "--passfile", "second"]), 12, /wrong passphrase$/m);
  await assertWhole(place);

  // Header and passphrase of before, which somebody has copied.
  const after = await readFile(place.container);
  before.copy(after, 0, 0, HEADER_AT.super[1] + 4128);
  await writeFile(place.path("forged"), after);
  const stolen = ["ls", "-c", "forged", "--accept-replaced"];
  assertRan(await place.run([...stolen, "--passfile", "second"]), 13, /neither superblock|no checkpoint/);
  assertRan(await place.run(stolen), 13, /neither superblock|no checkpoint/);
});

Deno.test("killed or interrupted, the container opens, says so, and it goes on", strict, async () => {
  await using place = await Workplace.make(PASSPHRASE);
  await prepared(place, 48);
  assertRan(await place.run(["key", "add", "--new-key-file", "key", ...QUICK]), 0);
  await interrupted(place, "SIGKILL");
  assert.equal(await previousIn(place.container), 1);
  assertRan(await place.run(["ls", "--key-file", "key"]), 12, /no key slot takes a key file$/m);
  assert.match(
    assertRan(await place.run(["info"]), 0),
    /^master key being changed, .*: coverfs rekey goes on$/m,
  );
  const { rekeying, keyGeneration } = JSON.parse(assertRan(await place.run(["info", "--json"]), 0));
  assert.deepEqual([rekeying, keyGeneration], [true, 2]);
  assert.match(assertRan(await place.run(["fsck"]), 0), /^note: The master key is being changed/m);
  await writeFile(place.path("more"), "written in between");
  assertRan(await place.run(["put", "more", "/"]), 0);
  assertRan(await place.run(["key", "add", "--new-key-file", "key", ...QUICK]), 0);

  const { code, said } = await interrupted(place, "SIGINT");
  const killed = Deno.build.os === "windows"; // there others can only end it
  assert.equal(code, killed ? 1 : 130, said);
  if (!killed) assert.match(said, /^coverfs: Interrupted\nhint: .*; coverfs rekey goes on with the change$/m);
  assert.equal(await previousIn(place.container), 1);
  assert.match(
    assertRan(await place.run(["rekey"]), 0),
    /^Going on .*; key slots stay as they are\nThe master key is changed, \d.* of data sealed anew\n$/,
  );
  assert.equal(await previousIn(place.container), 0);
  assert.equal((await slots(place)).length, 2);
  assert.doesNotMatch(assertRan(await place.run(["info"]), 0), /master key/);
  assert.equal(assertRan(await place.run(["cat", "/more"]), 0), "written in between");
  await assertWhole(place);
});

Deno.test(
  "on a server likewise, though that is killed too: it has the new writers' key then",
  strict,
  async () => {
    await using place = await Workplace.make(PASSPHRASE);
    await using server = await ServerProcess.start(place);
    const container = server.link, path = place.path("served", "cfscontainer");
    const record = async () => {
      const text = await readFile(
        place.path("served", ".coverfs", "containers", "cfscontainer.json"),
        "utf8",
      );
      return (JSON.parse(text) as { publicKey: string }).publicKey;
    };
    await prepared(place, 40, container);
    const before = await record();
    await using program = new Program(place.start(["rekey", "--yes", container]));
    await program.until(async () => await previousIn(path) > 0 ? true : undefined);
    await Promise.all([program.kill(), server.kill()]);
    await server.restart();
    assert.match(assertRan(await place.run(["info", container]), 0), /^master key being changed/m);
    // As the crash may have left it: the server does not know of the new key yet.
    await server.kill();
    const recordPath = place.path("served", ".coverfs", "containers", "cfscontainer.json");
    const { publicKey: _, ...rest } = JSON.parse(await readFile(recordPath, "utf8"));
    await writeFile(recordPath, JSON.stringify({ ...rest, publicKey: before }));
    await server.restart();
    await writeFile(place.path("more"), "written in between");
    assertRan(await place.run(["put", "-c", container, "--takeover", "more", "/"]), 0);
    assert.equal(await record(), before);
    assertRan(await place.run(["rekey", container]), 0);
    assert.notEqual(await record(), before);
    assert.equal(await previousIn(path), 0);
    assertRan(await place.run(["put", "-c", container, "more", "/again"]), 0);
    await assertWhole(place, container);
  },
);

Deno.test("data that does not verify keeps the previous key until it is given up", strict, async () => {
  await using place = await Workplace.make(PASSPHRASE);
  await prepared(place, 2);
  {
    await using file = await open(place.container, "r+");
    await file.write(new Uint8Array(16).fill(7), 0, 16, blockOffset(300));
  }
  for (let i = 0; i < 2; i++) {
    const ran = await place.run(["rekey"]);
    assertRan(
      ran,
      24,
      /^coverfs: Cannot end the change of the master key: 4\.0 KiB of data does not verify\nhint: .*--zero-damaged/,
    );
  }
  assert.equal(await previousIn(place.container), 1);
  assertRan(await place.run(["fsck", "--repair", "--zero-damaged", "--yes"]), 1);
  assert.match(assertRan(await place.run(["rekey"]), 0), /^Going on .*\nThe master key is changed, 0 B /);
  assert.equal(await previousIn(place.container), 0);
  assertRan(await place.run(["fsck", "--scrub"]), 0);
});

Deno.test("on a terminal, rekey asks for the secrets that are to stay, and whether the others may go", {
  ...strict,
  ignore: Deno.build.os === "windows",
}, async () => {
  await using place = await Workplace.make(PASSPHRASE);
  await prepared(place, 1);
  for (const name of ["one", "two"]) {
    await writeFile(place.path("new"), `${name} quiet harbour lamp`, { mode: 0o600 });
    assertRan(await place.run(["key", "add", "--new-passfile", "new", "--label", name, ...QUICK]), 0);
  }
  assertRan(await place.run(["key", "add", "--new-key-file", "key", "--label", "usb", ...QUICK]), 0);
  const rekey = (answer: string) =>
    onTerminalOf(
      [Deno.execPath(), "run", "--quiet", "--no-check", "-A", MAIN, "rekey", place.container],
      [
        ["Passphrase of", `${PASSPHRASE}\r`],
        ['Secret of key slot 1 (passphrase, "one"), if it is to stay', "\r"],
        ['Secret of key slot 2 (passphrase, "two"), if it is to stay', "a wrong one\r"],
        ["That opens no key slot. Secret of key slot 2", "two quiet harbour lamp\r"],
        ["(yes/no)", answer, "shown"],
      ],
      {
        env: {
          HOME: place.folder,
          DENO_DIR: Deno.env.get("DENO_DIR") ?? `${Deno.env.get("HOME")}/.cache/deno`,
        },
      },
    );
  const no = await rekey("no\n");
  assert.equal(no.code, 1, no.shown);
  assert.match(no.shown, /these go: key slot 1 \(passphrase, "one"\), key slot 3 \(key file, "usb"\)/);
  assert.match(no.shown, /coverfs: Nothing was changed/);
  assert.equal((await slots(place)).length, 4);
  const yes = await rekey("yes\n");
  assert.equal(yes.code, 0, yes.shown);
  assert.deepEqual((await slots(place)).map((slot) => slot.split(" ")[2]), [undefined, "two"]);
  await assertWhole(place);
});

Deno.test("a mounted container is busy; a mount for reading says that there is a new master key", {
  ...strict,
  ignore: Deno.build.os !== "linux",
}, async () => {
  await using place = await Workplace.make(PASSPHRASE);
  await prepared(place, 1);
  await mkdir(place.path("mnt"));
  assertRan(await place.run(["mount", place.container, "mnt"]), 0);
  try {
    assertRan(await place.run(["rekey"]), 11, /the container is mounted at ".*mnt"\nhint: Unmount it first/);
  } finally {
    assertRan(await place.run(["umount", "mnt"]), 0);
  }
  assertRan(await place.run(["mount", "--read-only", place.container, "mnt"]), 0);
  let said = "";
  try {
    assertRan(await place.run(["rekey"]), 0);
    const logs = place.path(".local", "state", "coverfs", "mounts");
    await until("the mount says so", async () => {
      for (const name of await readdir(logs)) {
        if (name.endsWith(".log")) said = await readFile(`${logs}/${name}`, "utf8");
      }
      return said.includes("The container has a new master key");
    });
  } finally {
    assert.equal((await place.run(["umount", "mnt"])).code, 0);
  }
  assert.doesNotMatch(said, /damaged|does not verify/);
  await assertWhole(place);
});
