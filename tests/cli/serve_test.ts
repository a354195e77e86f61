import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { hookedRoot, HOST, startServer } from "../net/servers.ts";
import { Workplace } from "./run.ts";
import { WINDOWS } from "../platform.ts";

/** Reads lines from a child until one matches. */
async function lineOf(stream: ReadableStreamDefaultReader<Uint8Array>, shape: RegExp): Promise<string> {
  const decoder = new TextDecoder();
  for (let text = "";;) {
    const found = shape.exec(text);
    if (found) return found[1] ?? found[0];
    const { value, done } = await stream.read();
    if (done) throw new Error(`ended before ${shape}: ${text}`);
    text += decoder.decode(value, { stream: true });
  }
}

Deno.test({
  name:
    "a link from serve works once with its token, then the plain locator does; Ctrl-C ends the server in order",
  sanitizeOps: true,
  sanitizeResources: true,
  fn: async () => {
    await using place = await Workplace.make();
    const server = place.start(["serve", "--ram", "--host", "127.0.0.1", "--port", "0"]);
    await server.stdin.close();
    const reader = server.stdout.getReader();
    try {
      const link = await lineOf(reader, /(coverfs:\/\/\S+)\n/);
      const made = await place.run(["init", "--kdf-rounds", "210000", link]);
      assert.equal(made.code, 0, made.error);
      const plain = link.replace(/\/\/.*@/, "//").replace(/\?.*/, "");
      assert.equal(made.out, `Made a container at ${plain}\n`, "token and fingerprint are not shown");
      await writeFile(place.path("file"), "content");
      const put = await place.run(["put", "-c", plain, "file", "/"]);
      assert.equal(put.code, 0, put.error);
      assert.equal((await place.run(["cat", "-c", plain, "/file"])).out, "content");
      assert.equal((await place.run(["init", plain])).code, 2, "it is there already");
      const stranger = await place.run(["ls", "-c", plain], { env: { HOME: place.path("nowhere") } });
      assert.equal(stranger.code, 22, stranger.error);
    } finally {
      server.kill("SIGINT");
      await reader.cancel();
      await server.stderr.cancel();
    }
    const { code } = await server.status;
    if (!WINDOWS) assert.equal(code, 0); // there others can only end it
  },
});

Deno.test({
  name: "a container in a mount is busy for other writers, and umount makes everything durable",
  ignore: Deno.build.os !== "linux",
  sanitizeOps: true,
  sanitizeResources: true,
  fn: async () => {
    await using place = await Workplace.make();
    assert.equal((await place.run(["init", "--kdf-rounds", "210000"])).code, 0);
    await Deno.mkdir(place.path("mnt"));
    const mounted = await place.run(["mount", place.path("mnt")]);
    assert.equal(mounted.code, 0, mounted.error);
    try {
      await writeFile(place.path("mnt", "file"), "content");
      assert.equal((await place.run(["put", "pass", "/"])).code, 11);
    } finally {
      const ended = await place.run(["umount", place.path("mnt")]);
      assert.equal(ended.code, 0, ended.error);
    }
    assert.equal((await place.run(["cat", "/file"])).out, "content");
    assert.equal((await place.run(["fsck", "--scrub"])).code, 0);
  },
});

Deno.test({
  name: "a put that the server's disk breaks is told, and the next one need not wait for its lease",
  sanitizeOps: true,
  sanitizeResources: true,
  fn: async () => {
    await using place = await Workplace.make();
    let failing = false;
    await using server = await startServer({
      decorate: hookedRoot((operation) => {
        if (operation === "sync" && failing) throw new Error("EIO");
      }),
    });
    const link = server.link(server.firstToken!, { host: HOST });
    const made = await place.run(["init", "--kdf-rounds", "210000", link]);
    assert.equal(made.code, 0, made.error);
    failing = true;
    const broken = await place.run(["put", "-c", link, "pass", "/"]);
    assert.equal(broken.code, 1, broken.error);
    assert.match(broken.error, /\ncoverfs: The server cannot write: The operation failed at the server\n$/);
    failing = false;
    const put = await place.run(["put", "-c", link, "pass", "/"]);
    assert.equal(put.code, 0, put.error);
    assert.equal((await place.run(["fsck", "--scrub", link])).code, 0);
  },
});
