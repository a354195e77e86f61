/** What each command may still do once it has begun, asked of the runtime at its end. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { writeFile } from "node:fs/promises";
import { PERMISSION_KINDS, type PermissionKind } from "../../cli/permissions.ts";
import { makeProgram } from "../../cli/program.ts";
import { ServerProcess } from "./processes.ts";
import { Workplace } from "./run.ts";

const strict = { sanitizeOps: true, sanitizeResources: true, ignore: Deno.build.os === "windows" };
const MAIN = fileURLToPath(new URL("../../main.ts", import.meta.url));

/** Runs before the program in the same process, and says at its end what it may do. */
const INSPECTOR = `
addEventListener("unload", () => {
  const kinds = ${JSON.stringify(PERMISSION_KINDS)};
  console.log("granted: " + kinds.filter((name) => Deno.permissions.querySync({ name }).state === "granted").join(" "));
});`;

const FILES = "read write env sys ffi";

/** Command lines, and what they keep; every command must be here. */
const LOCAL: [args: string[], granted: string][] = [
  [["init", "--kdf-rounds", "210000"], FILES],
  [["ls"], FILES],
  [["ls", "--extpass", "cat pass"], `${FILES} run`],
  [["cat", "/none"], FILES],
  [["get", "/none"], FILES],
  [["put", "pass", "/"], FILES],
  [["mkdir", "/folder"], FILES],
  [["rm", "/none"], FILES],
  [["mv", "/none", "/nowhere"], FILES],
  [["stat", "/"], FILES],
  [["info"], FILES],
  [["fsck"], FILES],
  [["compact"], "read write net env sys ffi"],
  [["clone", "container", "copy"], FILES],
  [["header", "backup", "header.bak"], FILES],
  [["passwd", "--new-passfile", "pass", "--kdf-rounds", "210000"], FILES],
  [["key", "list"], FILES],
  [["rekey", "--yes"], FILES],
  [["serve", "--ram", "--cert", "none", "--key", "none"], "read write net env sys"],
  [["token", "list"], "read write env"],
  [["bench", "--time", "1ms"], FILES],
  [["umount", "none"], `${FILES} run`],
  [["sync", "none"], "read env sys ffi"],
  [["completion", "bash"], "env"],
  [["man"], "env"],
  [["mount", "--foreground", "none"], PERMISSION_KINDS.join(" ")],
  // Where the runtime would refuse the files themselves:
  [["ls", "-c", "/dev/shm/none"], PERMISSION_KINDS.join(" ")],
];

const sorted = (kinds: string) =>
  PERMISSION_KINDS.filter((kind: PermissionKind) => kinds.split(" ").includes(kind)).join(" ");

async function granted(place: Workplace, args: string[], env: Record<string, string> = {}): Promise<string> {
  await writeFile(place.path("inspector.ts"), INSPECTOR);
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", "-A", "--preload", place.path("inspector.ts"), MAIN, ...args],
    cwd: place.folder,
    env: {
      HOME: place.folder,
      DENO_DIR: Deno.env.get("DENO_DIR") ?? `${Deno.env.get("HOME")}/.cache/deno`,
      COVERFS_CONTAINER: place.container,
      COVERFS_PASSFILE: place.path("pass"),
      ...env,
    },
    stdin: "null",
  }).output();
  const said = new TextDecoder().decode(stdout), error = new TextDecoder().decode(stderr);
  assert(!/NotCapable|access to/.test(error), `${args}: ${error}`);
  const found = /^granted: (.*)$/m.exec(said);
  assert(found, `${args}: ${said}${error}`);
  return found[1]!;
}

Deno.test("each command gives up what it does not need", strict, async () => {
  await using place = await Workplace.make();
  for (const [args, expected] of LOCAL) {
    assert.equal(await granted(place, args), sorted(expected), args.join(" "));
  }
  const tested = new Set(LOCAL.map(([[name]]) => name));
  assert.deepEqual(
    makeProgram(() => {}).commands.map((one) => one.name()).filter((name) => !tested.has(name)),
    [],
  );
});

Deno.test("the network is kept for a container on a server alone", strict, async () => {
  await using place = await Workplace.make();
  await using server = await ServerProcess.start(place);
  const net = sorted(`${FILES} net`), remote = { COVERFS_CONTAINER: server.link };
  assert.equal(await granted(place, ["init", "--kdf-rounds", "210000", server.link]), net);
  assert.equal(await granted(place, ["ls"], remote), net);
  assert.equal(await granted(place, ["ls", server.link]), net);
  assert.equal(await granted(place, ["clone", server.link, "copy"]), net);
  assert.equal(await granted(place, ["ls", "-c", "copy"]), sorted(FILES));
});

Deno.test(
  "a server may have its folder in /dev/shm, where the runtime lets nobody in who has given up anything",
  {
    ...strict,
    ignore: Deno.build.os !== "linux",
  },
  async () => {
    await using place = await Workplace.make();
    const root = await Deno.makeTempDir({ dir: "/dev/shm", prefix: "coverfs-test-" });
    try {
      await using server = await ServerProcess.start(place, ["--root", root]);
      const made = await place.run(["init", "--kdf-rounds", "210000", server.link]);
      assert.equal(made.code, 0, made.error);
    } finally {
      await Deno.remove(root, { recursive: true });
    }
  },
);
