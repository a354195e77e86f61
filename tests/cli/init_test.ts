/** `init` where it cannot be finished: nothing stays behind, and the reason has its own exit code. */
import assert from "node:assert/strict";
import { hookedRoot, HOST, Relay, startServer } from "../net/servers.ts";
import { smallDisk, Workplace } from "./run.ts";
import { WINDOWS } from "../platform.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const STRONG = "correct horse battery staple";
const INIT = ["init", "--kdf-rounds", "210000"];

Deno.test({
  name: "init on a full disk ends with 25 and leaves nothing behind",
  ignore: Deno.build.os !== "linux" || Deno.uid() !== 0,
  ...strict,
  fn: async () => {
    await using place = await Workplace.make(STRONG);
    await using disk = await smallDisk(place, 8192);
    const ran = await place.run([...INIT, `${disk.path}/container`]);
    assert.equal(ran.code, 25, ran.error);
    assert.match(ran.error, /^coverfs: Cannot write container ".*": no space left on the disk\n$/);
    assert.deepEqual([...Deno.readDirSync(disk.path)], []);
    assert.equal((await place.run(["info", `${disk.path}/container`])).code, 10);
  },
});

Deno.test("init beyond a server's quota ends with 25 and leaves nothing behind", strict, async () => {
  await using place = await Workplace.make(STRONG);
  await using server = await startServer({ maxContainerBytes: 131072 });
  const link = server.link(server.firstToken!, { host: HOST });
  const ran = await place.run([...INIT, link]);
  assert.equal(ran.code, 25, ran.error);
  assert.match(
    ran.error,
    /^coverfs: The server cannot write: Container "cfscontainer" may hold 0 blocks at most\n$/,
  );
  assert.equal((await place.run(["ls", link], { plain: true })).out, "");
});

Deno.test("init on a server whose disk fails leaves nothing behind", strict, async () => {
  await using place = await Workplace.make(STRONG);
  await using server = await startServer({
    decorate: hookedRoot((operation) => {
      if (operation === "sync") throw new Error("EIO");
    }),
  });
  const link = server.link(server.firstToken!, { host: HOST });
  const ran = await place.run([...INIT, link]);
  assert.equal(ran.code, 1, ran.error);
  assert.match(ran.error, /\ncoverfs: The server cannot write: The operation failed at the server\n$/);
  assert.equal((await place.run(["ls", link], { plain: true })).out, "");
});

Deno.test(
  "init that is interrupted while the server does not answer leaves nothing behind",
  { ...strict, ignore: WINDOWS }, // which knows no signals of others
  async () => {
    await using place = await Workplace.make(STRONG);
    const reached = Promise.withResolvers<void>(), held = Promise.withResolvers<void>();
    let syncs = 0;
    await using server = await startServer({
      decorate: hookedRoot(async (operation) => {
        if (operation !== "sync") return;
        if (++syncs > 1) throw new Error("EIO"); // it cannot be finished behind the test's back
        reached.resolve();
        await held.promise;
      }),
    });
    const link = server.link(server.firstToken!, { host: HOST });
    const child = place.start([...INIT, link]);
    await child.stdin.close();
    const ended = child.output();
    await reached.promise;
    child.kill("SIGINT");
    held.resolve();
    const { code, stderr } = await ended;
    assert.equal(code, 130, new TextDecoder().decode(stderr));
    assert.equal((await place.run(["ls", link], { plain: true })).out, "");
  },
);

Deno.test(
  "init whose connection is cut goes on when it is back; one that fails then removes its rest",
  strict,
  async () => {
    await using place = await Workplace.make(STRONG);
    let broken = false, syncs = 0;
    await using server = await startServer({
      decorate: hookedRoot((operation) => {
        if (operation !== "sync") return;
        if (++syncs === 1) relay.cut();
        if (broken) throw Object.assign(new Error("disk full"), { code: "ENOSPC" });
      }),
    });
    await using relay = new Relay(server.port);
    const link = server.link(server.firstToken!, { host: HOST }).replace(
      `:${server.port}/`,
      `:${relay.port}/`,
    );
    const made = await place.run([...INIT, link]);
    assert.equal(made.code, 0, made.error);
    assert.match(
      made.error,
      /^coverfs: connection to 127\.0\.0\.1 cut: .*\ncoverfs: connection to 127\.0\.0\.1 restored\n$/,
    );
    assert.equal((await place.run(["fsck", "--scrub", link])).code, 0);

    broken = true, syncs = 0;
    const failed = await place.run([...INIT, link.replace("cfscontainer", "other")]);
    assert.equal(failed.code, 25, failed.error);
    assert.match(failed.error, /\ncoverfs: The server cannot write: The server's disk is full\n$/);
    assert.match(
      (await place.run(["ls", link], { plain: true })).out,
      /^ *\d.* cfscontainer\n$/,
      "and no other",
    );
  },
);
