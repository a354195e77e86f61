/** `put -r` of what is no file, directory or link, or cannot be read: each is named, and nothing waits. */
import assert from "node:assert/strict";
import { chmod, chown, mkdir, readFile, writeFile } from "node:fs/promises";
import { prepared } from "./run.ts";

const root = Deno.build.os === "linux" && Deno.uid() === 0;
const strict = { sanitizeOps: true, sanitizeResources: true, ignore: !root };
/** Without what root may do besides, so that there are files that cannot be read. */
const HUMBLE = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"];

async function make(command: string, ...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(command, { args }).output();
  assert(success, new TextDecoder().decode(stderr));
}

Deno.test(
  "put -r names devices, sockets and what cannot be read, copies the rest, and waits for nothing",
  strict,
  async () => {
    await using place = await prepared();
    const tree = (name: string) => place.path("tree", name);
    await mkdir(tree("folder"), { recursive: true });
    await mkdir(tree("closed"));
    for (const name of ["first", "folder/last", "secret"]) await writeFile(tree(name), name);
    await make("mkfifo", tree("pipe"));
    await make("mknod", tree("null"), "c", "1", "3");
    await make("mknod", tree("tty"), "c", "5", "0");
    await make("mknod", tree("disk"), "b", "7", "200");
    using _socket = Deno.listen({ transport: "unix", path: tree("socket") });
    for (const name of ["secret", "closed"]) {
      await chown(tree(name), 12345, 12345);
      await chmod(tree(name), 0);
    }
    const child = place.start(["put", "-r", "--quiet", "tree", "/"], { under: HUMBLE });
    await child.stdin.close();
    const { code, stderr } = await child.output(), said = new TextDecoder().decode(stderr).trim().split("\n");
    assert.equal(code, 3, said.join());
    const named = ["null", "tty", "disk", "socket", "secret", "closed"];
    for (const name of named) {
      assert.equal(
        said.filter((line) => line.includes(`tree/${name}"`)).length,
        1,
        `${name} in ${said}`,
      );
    }
    assert.match(said.at(-1)!, /: 6 of 11 items failed$/);
    assert.equal(said.length, named.length + 1, said.join());
    const { out } = await place.run(["ls", "-R", "/"]);
    for (const name of ["first", "pipe", "last", "folder"]) {
      assert.match(
        out,
        new RegExp(`^${name}$`, "m"),
        out,
      );
    }
    for (const name of named.slice(0, 5)) assert.doesNotMatch(out, new RegExp(`^${name}$`, "m"), out);
    assert.match((await place.run(["stat", "/tree/pipe"])).out, /fifo|pipe/i);
    assert.match((await place.run(["fsck", "--scrub"])).out, /: clean/);
  },
);

Deno.test("put reads files of /proc to their ends though they say that they are empty", strict, async () => {
  await using place = await prepared();
  const files = ["/proc/version", "/proc/sys/kernel/ostype"];
  const ran = await place.run(["put", "--quiet", ...files, "/dev/null", "/"]);
  assert.equal(ran.code, 3);
  assert.match(
    ran.error,
    /^coverfs: Cannot copy "\/dev\/null": a device or socket\ncoverfs: 1 of 3 items failed\n$/,
  );
  for (const path of files) {
    const { out } = await place.run(["cat", `/${path.split("/").at(-1)}`]);
    assert.equal(out, await readFile(path, "utf8"));
  }
});
