/** `coverfs fsck --repair` as a child process: what it says, its exit codes, and what it leaves alone. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { mkdir, readFile, stat, statfs, writeFile } from "node:fs/promises";
import { SEALED } from "../../crypto/sealer.ts";
import { blockOffset, HEADER_AT } from "../../fs/block/byte_layout.ts";
import { prepared, type Workplace } from "./run.ts";
import { onTerminalOf } from "./terminal.ts";
import { WINDOWS } from "../platform.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const mounting = { ...strict, ignore: Deno.build.os !== "linux" };
const CONTENT = new TextEncoder().encode("what must stay\n".repeat(2000));

/** A workplace with a container that holds one file. */
async function workplace(): Promise<Workplace> {
  const place = await prepared();
  await writeFile(place.path("file"), CONTENT);
  assert.equal((await place.run(["put", "file", "/"])).code, 0);
  return place;
}

async function edit(place: Workplace, change: (bytes: Uint8Array) => void): Promise<Uint8Array> {
  const bytes = new Uint8Array(await readFile(place.container));
  change(bytes);
  await writeFile(place.container, bytes);
  return bytes;
}

/** Finds the one block whose damage is of this kind, by trying. */
async function spoilBlock(place: Workplace, expected: RegExp): Promise<void> {
  const whole = new Uint8Array(await readFile(place.container));
  for (let position = 0; blockOffset(position) < whole.length; position++) {
    const bytes = whole.slice(), at = blockOffset(position);
    if (bytes.subarray(at, at + SEALED).every((byte) => byte === 0)) continue;
    bytes.fill(0xee, at, at + SEALED);
    await writeFile(place.container, bytes);
    if (expected.test((await place.run(["fsck", "--scrub"])).out)) return;
  }
  assert.fail(`no block for ${expected}`);
}

Deno.test("fsck --repair mends headers from their twins: 4 before, 1, then 0", strict, async () => {
  await using place = await workplace();
  const damaged = await edit(place, (bytes) => {
    bytes.fill(0xee, HEADER_AT.key[0], HEADER_AT.key[0] + 4096);
    bytes.fill(0xee, HEADER_AT.super[1], HEADER_AT.super[1] + SEALED);
  });
  const checked = await place.run(["fsck", "--json"]);
  assert.equal(checked.code, 4, checked.error);
  const { findings } = JSON.parse(checked.out);
  assert.deepEqual(findings.map((one: Record<string, string>) => [one.severity, one.remedy, one.code]), [
    ["degraded", "repair", "encryption-block"],
    ["degraded", "repair", "superblock"],
  ]);
  const planned = await place.run(["fsck", "--repair", "--dry-run"]);
  assert.equal(planned.code, 4, planned.error);
  assert.match(planned.out, /would do: encryption block A is written anew from the other one\n/);
  assert.match(planned.out, /would be repaired/);
  const unasked = await place.run(["fsck", "--repair"]);
  assert.equal(unasked.code, 16, unasked.out);
  assert.match(unasked.error, /there is no terminal\nhint: /);
  assert.deepEqual(new Uint8Array(await readFile(place.container)), damaged, "nothing was changed so far");
  const repaired = await place.run(["fsck", "--repair", "--yes"]);
  assert.equal(repaired.code, 1, repaired.error);
  assert.match(repaired.out, /done: both superblocks are written anew\n/);
  assert.equal((await place.run(["fsck", "--scrub"])).code, 0);
  assert.equal((await place.run(["fsck", "--repair", "-y"])).code, 0, "nothing to do");
  assert.deepEqual((await place.run(["cat", "/file"])).bytes, CONTENT);
  const after = new Uint8Array(await readFile(place.container));
  assert.deepEqual(after.slice(0, 4096), after.slice(65536, 69632));
});

Deno.test(
  "a damaged MAC of either encryption block hides nothing, and fsck --repair mends it",
  strict,
  async () => {
    await using place = await workplace();
    const whole = new Uint8Array(await readFile(place.container));
    for (const copy of [0, 1] as const) {
      await edit(place, (bytes) => void (bytes[HEADER_AT.key[copy] + 4095]! ^= 1));
      assert.deepEqual((await place.run(["cat", "/file"])).bytes, CONTENT);
      const repaired = await place.run(["fsck", "--repair", "-y"]);
      assert.equal(repaired.code, 1, repaired.error);
      assert.match(repaired.out, new RegExp(`done: encryption block ${"AB"[copy]} is written anew`));
      const after = new Uint8Array(await readFile(place.container));
      for (const at of HEADER_AT.key) {
        assert.deepEqual(after.slice(at, at + 4096), whole.slice(0, 4096));
      }
    }
    assert.equal((await place.run(["fsck", "--scrub"])).code, 0);
  },
);

Deno.test("fsck --repair leaves damaged data unless it is told to give it up", strict, async () => {
  await using place = await workplace();
  await spoilBlock(place, /bytes 4096 to 8191 do not verify/);
  const kept = await place.run(["fsck", "--repair", "-y", "--scrub"]);
  assert.equal(kept.code, 4, kept.error);
  assert.match(kept.out, /damage: .*\(\/file\); --repair --zero-damaged or --remove-damaged gives it up\n/);
  assert.equal((await place.run(["cat", "/file"])).code, 24);
  const zeroed = await place.run(["fsck", "--repair", "--zero-damaged", "-y", "--json"]);
  assert.equal(zeroed.code, 1, zeroed.error);
  const { clean, cleanAfter, left, mended } = JSON.parse(zeroed.out);
  assert.deepEqual([clean, cleanAfter, left, mended.length], [false, true, [], 1]);
  const expected = CONTENT.slice().fill(0, 4096, 8192);
  assert.deepEqual((await place.run(["cat", "/file"])).bytes, expected);
  assert.equal((await place.run(["fsck", "--scrub"])).code, 0);
});

Deno.test(
  "a mount, its log, stat and fsck give an inode the same number, and df -i counts as many as fsck",
  mounting,
  async () => {
    await using place = await workplace();
    const mnt = place.path("mnt"), mount = ["mount", "--read-only", mnt];
    await mkdir(mnt, { recursive: true });
    await spoilBlock(place, /bytes 4096 to 8191 do not verify/);
    const { findings, files } = JSON.parse((await place.run(["fsck", "--scrub", "--json"])).out);
    const [found] = findings, mounted = await place.run(mount);
    assert.equal(mounted.code, 0, mounted.error);
    const { ino } = await stat(`${mnt}/file`), { files: all, ffree: free } = await statfs(mnt);
    const root = await stat(mnt);
    await assert.rejects(readFile(`${mnt}/file`), { code: "EIO" });
    const ended = await place.run(["umount", mnt]);
    const [about, top] = JSON.parse((await place.run(["stat", "--json", "/file", "/"])).out);
    assert.deepEqual([found.ino, about.ino, top.ino, root.ino], [ino, ino, 1, 1]);
    assert.match(found.message, new RegExp(`^Inode ${ino}: `));
    assert.match(ended.error, new RegExp(`Cannot read inode ${ino} at offset`));
    assert.match((await place.run(["stat", "/file"])).out, new RegExp(`^inode +${ino}$`, "m"));
    const zeroed = await place.run(["fsck", "--repair", "--zero-damaged", "-y", "--json"]);
    const { mended } = JSON.parse(zeroed.out);
    assert.deepEqual([mended[0].ino, mended[0].message.split(":")[0]], [ino, `Inode ${ino}`]);
    assert.equal(all - free, files);
  },
);

Deno.test("fsck --repair --remove-damaged removes the file, and no other", strict, async () => {
  await using place = await workplace();
  await spoilBlock(place, /bytes 0 to 4095 do not verify/);
  await place.run(["put", "pass", "/"]);
  const removed = await place.run(["fsck", "--repair", "--remove-damaged", "-y"]);
  assert.equal(removed.code, 1, removed.error);
  assert.equal((await place.run(["ls"])).out, "pass\n");
  assert.equal((await place.run(["fsck", "--scrub"])).code, 0);
});

Deno.test(
  "a damaged journal is no rollback: fsck names what is lost, and --repair gives it up",
  strict,
  async () => {
    await using place = await workplace();
    await spoilBlock(place, /The journal is damaged/);
    const checked = await place.run(["fsck"]);
    assert.equal(checked.code, 4, checked.error);
    const refused = await place.run(["put", "pass", "/"]);
    assert.equal(refused.code, 13, refused.error);
    assert.match(refused.error, /The journal is damaged: .*\nhint: Run coverfs fsck/);
    const repaired = await place.run(["fsck", "--repair", "-y"]);
    assert.equal(repaired.code, 1, repaired.error);
    assert.equal((await place.run(["fsck", "--scrub"])).code, 0);
    assert.equal((await place.run(["put", "pass", "/"])).code, 0, "the repaired state is what is remembered");
  },
);

Deno.test(
  "options of repairing without --repair, and both ways to give up, end with 16",
  strict,
  async () => {
    await using place = await workplace();
    for (
      const args of [["-y"], ["-n"], ["--zero-damaged"], ["--repair", "--zero-damaged", "--remove-damaged"]]
    ) {
      const ran = await place.run(["fsck", ...args]);
      assert.equal(ran.code, 16, `${args}: ${ran.error}`);
    }
  },
);

Deno.test(
  "fsck --repair on a terminal tells what it would do, and does it when told yes",
  { ...strict, ignore: WINDOWS },
  async () => {
    await using place = await workplace();
    const damaged = await edit(
      place,
      (bytes) => bytes.fill(0xee, HEADER_AT.super[0], HEADER_AT.super[0] + SEALED),
    );
    const main = fileURLToPath(new URL("../../main.ts", import.meta.url));
    const command = [
      ...[Deno.execPath(), "run", "--quiet", "--no-check", "-A", main, "fsck", "--repair"],
      ...["--passfile", place.path("pass"), place.container],
    ];
    const env = { HOME: place.folder, XDG_STATE_HOME: "" };
    const refused = await onTerminalOf(command, [["(yes/no)", "no\n", "shown"]], { env });
    assert.equal(refused.code, 4, refused.shown);
    assert.match(
      refused.shown,
      /degraded: Superblock A is damaged.*\r\n.*would do: both superblocks are written anew/s,
    );
    assert.deepEqual(new Uint8Array(await readFile(place.container)), damaged);
    const agreed = await onTerminalOf(command, [["(yes/no)", "yes\n", "shown"]], { env });
    assert.equal(agreed.code, 1, agreed.shown);
    assert.match(agreed.said, /done: both superblocks are written anew\n/);
    assert.equal((await place.run(["fsck", "--scrub"])).code, 0);
  },
);
