/** `mount --writeback-cache`: what the kernel still holds is neither lost nor kept for long. */
import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { startServer } from "../net/servers.ts";
import { MountProcess, Program } from "./processes.ts";
import { prepared, until, Workplace } from "./run.ts";

const mounting = { sanitizeOps: true, sanitizeResources: true, ignore: Deno.build.os !== "linux" };

/** Pages that a program leaves with the kernel, and what it writes into them. */
const PAGES = 400, APART = 65536;

/** A program that has written to a new file and keeps it open. */
async function openWriter(path: string): Promise<Program> {
  const script = `import os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
for i in range(${PAGES}): os.pwrite(fd, b'x' * 4096, i * ${APART})
print('written', flush=True); time.sleep(600)`;
  const command = new Deno.Command("python3", {
    args: ["-c", script, path],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  });
  const program = new Program(command.spawn());
  await program.until(() => program.said.includes("written") || undefined);
  return program;
}

/** Tells whether the file is there as {@linkcode openWriter} has written it. */
async function isWhole(place: Workplace, container: string, path: string): Promise<boolean> {
  const { code, bytes } = await place.run(["cat", "-c", container, path]);
  if (code !== 0 || bytes.length !== (PAGES - 1) * APART + 4096) return false;
  return Array.from({ length: PAGES }, (_, i) => i * APART)
    .every((at) => bytes.subarray(at, at + 4096).every((byte) => byte === 120));
}

async function clean(place: Workplace, container: string): Promise<void> {
  const checked = await place.run(["fsck", "--scrub", container]);
  assert.equal(checked.code, 0, checked.out + checked.error);
}

const ok = ({ code, error }: { code: number; error: string }) => assert.equal(code, 0, error);

Deno.test(
  "--writeback-cache does not go with --direct-io, and a reader has no use for it",
  mounting,
  async () => {
    await using place = await prepared();
    for (
      const args of [["--writeback-cache", "--direct-io"], ["-o", "direct_io,writeback_cache"], [
        "--direct-io",
        "-o",
        "ro,writeback-cache",
      ]]
    ) {
      const ran = await place.run(["mount", ...args, "mnt"]);
      assert.equal(ran.code, 2, ran.error);
      assert.match(ran.error, /^coverfs: --writeback-cache and --direct-io do not go together\n$/);
    }
    await writeFile(place.path("file"), "content");
    ok(await place.run(["put", "file", "/"]));
    ok(await place.run(["mount", "--read-only", "--writeback-cache", "mnt"]));
    try {
      assert.equal(await Deno.readTextFile(place.path("mnt", "file")), "content");
      await assert.rejects(writeFile(place.path("mnt", "new"), ""), { code: "EROFS" });
    } finally {
      ok(await place.run(["umount", "mnt"]));
    }
  },
);

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  Deno.test(
    `${signal} ends a mount whose files are open, with all that the kernel has kept`,
    mounting,
    async () => {
      await using place = await prepared();
      const { container } = place, args = ["--writeback-cache", "--commit-interval", "1h"];
      await using mount = await MountProcess.start(place, { container, at: place.path("mnt"), args });
      await using _writer = await openWriter(`${mount.path}/file`);
      mount.program.signal(signal);
      assert.equal((await mount.program.ended).code, 0, mount.program.said);
      assert(await isWhole(place, container, "/file"));
      await clean(place, container);
    },
  );
}

Deno.test("umount and --idle leave nothing with the kernel", mounting, async () => {
  await using place = await prepared();
  const { container } = place, mnt = place.path("mnt");
  ok(await place.run(["mount", "-o", "writeback_cache,commit_interval=1h", "mnt"]));
  await (await openWriter(`${mnt}/first`)).kill(); // which closes the file
  ok(await place.run(["umount", "mnt"]));
  assert(await isWhole(place, container, "/first"));
  await using idle = await MountProcess.start(place, {
    container,
    at: mnt,
    args: ["--writeback-cache", "--commit-interval", "1h", "--idle", "500ms"],
  });
  await (await openWriter(`${mnt}/second`)).kill();
  assert.equal((await idle.program.ended).code, 0, idle.program.said);
  assert(await isWhole(place, container, "/second"));
  await clean(place, container);
});

Deno.test(
  "sync commits what the kernel has kept, and --commit-interval bounds how long that is",
  mounting,
  async () => {
    await using place = await prepared();
    const { container } = place, mnt = place.path("mnt");
    ok(await place.run(["mount", "-o", "writeback_cache,commit_interval=1h", "mnt"]));
    try {
      await using _writer = await openWriter(`${mnt}/file`);
      assert(!await isWhole(place, container, "/file"));
      ok(await place.run(["sync", mnt]));
      assert(await isWhole(place, container, "/file"));
    } finally {
      ok(await place.run(["umount", "mnt"]));
    }
    ok(await place.run(["mount", "-o", "writeback_cache,commit_interval=200ms", "mnt"]));
    try {
      await using _writer = await openWriter(`${mnt}/other`);
      const start = performance.now();
      await until("committed", () => isWhole(place, container, "/other"));
      assert(performance.now() - start < 20_000, "the kernel itself takes half a minute");
    } finally {
      ok(await place.run(["umount", "mnt"]));
    }
  },
);

for (const args of [["--writeback-cache"], []]) {
  const how = args.length > 0 ? "with" : "without";
  Deno.test(
    `who is asked for the container commits first what was written to it, ${how} the write-back cache`,
    mounting,
    async () => {
      await using place = await Workplace.make();
      for (const folder of ["mnt", "served"]) await mkdir(place.path(folder));
      await using server = await startServer({ root: place.path("served"), limits: { graceSeconds: 5 } });
      const link = server.link(server.firstToken!, { host: "127.0.0.1" });
      ok(await place.run(["init", "--kdf-rounds", "210000", link]));
      await using mount = await MountProcess.start(place, {
        container: link,
        at: place.path("mnt"),
        args: ["--commit-interval", "1h", ...args],
      });
      await using writer = await openWriter(`${mount.path}/file`);
      await writeFile(place.path("theirs"), "theirs");
      ok(await place.run(["put", "--takeover", "-c", link, "theirs", "/"]));
      assert(await isWhole(place, link, "/file"));
      await until("read-only", () => /taken the container over: it is shown/.test(mount.program.said));
      const seen = () => Deno.readTextFile(`${mount.path}/theirs`).catch(() => "");
      await until("seen", async () => await seen() === "theirs");
      await assert.rejects(Deno.create(`${mount.path}/new`), /os error 30/);
      await assert.rejects(Deno.open(`${mount.path}/theirs`, { write: true }), /os error 30/);
      await writer.kill();
      assert.equal(await mount.unmount(), 11, mount.program.said);
      await clean(place, link);
    },
  );
}
