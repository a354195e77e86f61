/** What a mounted client touches on its own machine, as the system sees it. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HOST, startServer } from "../net/servers.ts";
import { Workplace } from "./run.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Calls that open a file, make one or change a name. */
const CALLS =
  "open,openat,openat2,creat,truncate,mkdir,mkdirat,mknod,mknodat,link,linkat,symlink,symlinkat," +
  "rename,renameat,renameat2";

/** Where strace is missing or may not trace, nothing can be told. */
function canTrace(): boolean {
  try {
    return new Deno.Command("strace", { args: ["-qq", "-o", "/dev/null", "true"] }).outputSync().success;
  } catch {
    return false;
  }
}

/** Paths that the traced calls could have written to. */
function written(trace: string): string[] {
  const paths = new Set<string>();
  for (const line of trace.split("\n")) {
    const call = /^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)/.exec(line);
    if (call === null || Number(call[3]) < 0) continue;
    const [, operation = "", rest = ""] = call;
    if (/^open/.test(operation) && !/O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_TMPFILE/.test(rest)) continue;
    for (const path of rest.matchAll(/"((?:[^"\\]|\\.)*)"/g)) paths.add(path[1]!);
  }
  return [...paths].sort();
}

Deno.test({
  name: "a mounted client of a remote container writes no file but its state",
  ignore: Deno.build.os !== "linux" || !canTrace(),
  sanitizeOps: true,
  sanitizeResources: true,
  fn: async () => {
    await using place = await Workplace.make();
    await using server = await startServer();
    const mnt = place.path("mnt"), log = place.path("trace");
    await mkdir(mnt);
    const link = server.link(server.firstToken!, { host: HOST });
    const made = await place.run(["init", "--kdf-rounds", "210000", link]);
    assert.equal(made.code, 0, made.error);
    const { dev } = await stat(mnt);
    const mounting = place.start(["mount", "--foreground", link, mnt], {
      under: ["strace", "-f", "-qq", "-s", "4096", "-e", `trace=${CALLS}`, "-o", log],
      env: { DENO_DIR: place.path("cache") },
    });
    await mounting.stdin.close();
    const ended = mounting.output();
    while ((await stat(mnt)).dev === dev) {
      const moment = new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), 50));
      const over = await Promise.race([ended, moment]);
      assert(over === undefined, `it ended: ${new TextDecoder().decode(over?.stderr)}`);
    }
    const secret = "plaintext that stays in memory ".repeat(1000);
    try {
      await mkdir(join(mnt, "folder"));
      for (let i = 0; i < 20; i++) await writeFile(join(mnt, "folder", `file ${i}`), secret);
      const { success } = await new Deno.Command("sync", { args: ["-f", mnt] }).output();
      assert(success);
      assert.equal(await readFile(join(mnt, "folder", "file 7"), "utf8"), secret);
    } finally {
      assert.equal((await place.run(["umount", mnt])).code, 0);
    }
    assert.equal((await ended).code, 0);
    const trace = await readFile(log, "utf8");
    assert.match(trace, /\/dev\/fuse", O_RDWR/, "the trace holds what it should");
    const state = place.path(".local", "state", "coverfs"), cache = place.path("cache");
    const allowed = ["/dev/fuse", "/dev/null", "/dev/tty", mnt];
    // The mount's own setting in the kernel; what the runtime keeps of the program's code.
    const below = [state, "/sys/class/bdi", cache, join(ROOT, "node_modules", ".deno")];
    const elsewhere = written(trace).filter((path) =>
      !allowed.includes(path) && !below.some((folder) => `${path}/`.startsWith(`${folder}/`))
    );
    assert.deepEqual(elsewhere, []);
    const found = await new Deno.Command("grep", { args: ["-rl", secret.slice(0, 30), place.folder] })
      .output();
    assert.equal(new TextDecoder().decode(found.stdout), "", "and none of it holds plaintext");
  },
});
