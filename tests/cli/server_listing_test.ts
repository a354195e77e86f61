import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { HOST, makeWriter, openOn, startServer } from "../net/servers.ts";
import { Workplace } from "./run.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };

Deno.test(
  "ls of a server lists its containers with their sizes, and asks for no passphrase",
  strict,
  async () => {
    await using place = await Workplace.make();
    await using server = await startServer();
    const address = `coverfs://${HOST}:${server.port}`;
    const list = (...args: string[]) => place.run(["ls", ...args], { plain: true });
    const link = server.link(server.firstToken!, { host: HOST });
    const empty = await list(link);
    assert.deepEqual({ code: empty.code, out: empty.out, error: empty.error }, {
      code: 0,
      out: "",
      error: "",
    });

    await (await openOn(server, { mode: "create", container: "small", ...await makeWriter() })).close();
    const large = await openOn(server, { mode: "create", container: "large", ...await makeWriter() });
    await large.reserve(256);
    await large.close();
    // The link was used once: host and port are enough.
    assert.equal((await list(address)).out, "1.0 MiB  large\n    0 B  small\n");
    const long = await list("-l", address);
    assert.equal(long.out, `${256 * 4128}  -  ${address}/large\n${" ".repeat(6)}0  -  ${address}/small\n`);
    assert.deepEqual(JSON.parse((await list("--json", `${address}/`)).out), [
      { name: "large", locator: `${address}/large`, blocks: 256, bytes: 256 * 4128, id: null },
      { name: "small", locator: `${address}/small`, blocks: 0, bytes: 0, id: null },
    ]);
    const reader = await server.tokens.add("reader", "ro");
    const other = await place.run(["ls", server.link(reader, { host: HOST })], {
      plain: true,
      env: { HOME: place.path("elsewhere") },
    });
    assert.equal(other.out, "1.0 MiB  large\n    0 B  small\n", "a token that only reads may list");
  },
);

Deno.test(
  "another certificate is taken for a server's when --fingerprint says so, and remembered",
  strict,
  async () => {
    await using place = await Workplace.make();
    await using server = await startServer();
    const address = `coverfs://${HOST}:${server.port}`,
      link = server.link(server.firstToken!, { host: HOST });
    const list = (...args: string[]) => place.run(["ls", ...args], { plain: true });
    assert.equal((await list(link)).code, 0);
    const path = place.path(".local", "state", "coverfs", "servers.json"),
      before = await readFile(path, "utf8");
    await writeFile(path, before.replace(server.fingerprint, "A".repeat(43)));
    for (const named of [address, link]) {
      const refused = await list(named);
      assert.equal(refused.code, 21);
      assert.match(refused.error, /is not the one that is known: refusing it\nhint: .* --fingerprint\n$/);
    }
    assert.equal((await list(address, "--fingerprint", "E".repeat(43))).code, 21, "it must be right");
    assert.equal((await list(address, "--fingerprint", server.fingerprint)).code, 0);
    assert.equal((await list(address)).code, 0);
    assert.deepEqual(JSON.parse(await readFile(path, "utf8")), JSON.parse(before), "the token stays");
  },
);

Deno.test("ls of a server tells the id of a container that this machine knows", strict, async () => {
  await using place = await Workplace.make();
  await using server = await startServer();
  const made = await place.run([
    "init",
    "--kdf-rounds",
    "210000",
    server.link(server.firstToken!, { host: HOST, name: "box" }),
  ]);
  assert.equal(made.code, 0, made.error);
  const address = `coverfs://${HOST}:${server.port}`;
  const [listed] = JSON.parse((await place.run(["ls", "--json", address], { plain: true })).out);
  const info = JSON.parse((await place.run(["info", "--json", `${address}/box`])).out);
  assert.equal(listed.id, info.id);
  assert.equal(listed.bytes, info.containerBytes);
});

Deno.test(
  "ls of a server is refused without a token, trust, connection or with a container's name",
  strict,
  async () => {
    await using place = await Workplace.make();
    await using server = await startServer();
    const address = `coverfs://${HOST}:${server.port}`, token = server.firstToken!;
    const unknown = "A".repeat(43), { fingerprint } = server;
    const cases: [args: string[], code: number, error: RegExp][] = [
      [[address], 22, /^coverfs: No token is known for .*\nhint: Use the link/],
      [
        [`coverfs://${unknown}@${HOST}:${server.port}/?sha256=${fingerprint}`],
        22,
        /does not know this token\n/,
      ],
      [[`coverfs://${token}@${HOST}:${server.port}`], 21, /is unknown: not connecting\nhint: /],
      [[`coverfs://${token}@${HOST}:${server.port}/?sha256=${unknown}`], 21, /is not the one that is known/],
      [
        [`coverfs://${token}@${HOST}:1`],
        23,
        /Cannot reach 127.0.0.1:1: nothing listens at that port\nhint: /,
      ],
      [[`${address}/box`], 2, /it is a container, not a server\nhint: For its files: coverfs ls -c /],
      [[address, "/"], 2, /Cannot list a server beside anything else\n/],
      [[`coverfs://${token}@${HOST}:0`], 2, /the port is not a number/],
    ];
    for (const [args, code, error] of cases) {
      const ran = await place.run(["ls", ...args], { plain: true });
      assert.equal(ran.code, code, `${code}: ${ran.error}`);
      assert.match(ran.error, error);
      assert.equal(ran.out, "");
      assert(!ran.error.includes(token), "no secret is shown");
    }
    await assert.rejects(
      Deno.stat(place.path(".local", "state", "coverfs", "servers.json")),
      "nothing is remembered",
    );
  },
);
