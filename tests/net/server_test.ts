import assert from "node:assert/strict";
import { join } from "node:path";
import { CoverError } from "../../crypto/errors.ts";
import { Broken } from "../../fs/errors.ts";
import {
  Connection,
  FieldWriter,
  Op,
  parseLocatorUrl,
  serve,
  type Server,
  StatusError,
} from "../../net/mod.ts";
import { buildFrame, FrameReader } from "../../net/frames.ts";
import { proofMessage } from "../../net/proof.ts";
import { Access, Status } from "../../net/protocol.ts";
import { dial, identifyServer } from "../../net/trust.ts";
import { head, hostileServer, reply } from "./hostile_server.ts";
import {
  blocks,
  connectTo,
  gate,
  hookedRoot,
  HOST,
  makeWriter,
  openOn,
  startServer,
  temporaryFolder,
} from "./servers.ts";
import { HAS_SYMLINKS, shownMode, WINDOWS } from "../platform.ts";
import { isCover } from "../errors.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };

function hasStatus(status: string): (error: unknown) => boolean {
  return (error) => {
    assert(error instanceof StatusError, String(error));
    assert.equal(error.status, status, error.message);
    return true;
  };
}

const open = (name: string) => new FieldWriter(1 + name.length).name(name).bytes;

Deno.test(
  "the first start makes one token and an identity, which stay, readable for the owner only",
  strict,
  async () => {
    await using folder = await temporaryFolder();
    const root = join(folder.path, "served");
    const first = await startServer({ root });
    const link = first.link(first.firstToken!, { host: HOST });
    const { fingerprint } = first;
    assert.deepEqual(parseLocatorUrl(link), {
      host: HOST,
      port: first.port,
      name: "cfscontainer",
      token: first.firstToken,
      fingerprint,
    });
    await assert.rejects(startServer({ root }), isCover("busy"), "two servers never share a folder");
    await first.shutdown();
    await using second = await startServer({ root });
    assert.equal(second.firstToken, undefined);
    assert.equal(second.fingerprint, fingerprint);
    assert.equal((await Deno.stat(join(root, ".coverfs"))).mode! & 0o777, shownMode(0o700));
    for (const file of ["key.pem", "tokens.json", "certificate.pem", "lock"]) {
      assert.equal((await Deno.stat(join(root, ".coverfs", file))).mode! & 0o777, shownMode(0o600), file);
    }
  },
);

Deno.test("a wrong token is refused", strict, async () => {
  await using server = await startServer();
  await assert.rejects(connectTo(server, "A".repeat(43)), isCover("refused"));
  await assert.rejects(connectTo(server, "short"), isCover("usage"));
});

Deno.test("a token with the role ro reads, and cannot write, create or remove", strict, async () => {
  await using server = await startServer();
  const writer = await makeWriter();
  const store = await openOn(server, { mode: "create", ...writer });
  await store.write(0, blocks(1, 1));
  await store.flush();
  await store.close();
  const token = await server.tokens.add("reader", "ro");
  await using reader = await openOn(server, { mode: "read", token });
  assert.equal((await reader.read(0, 1))[9], 1);
  await assert.rejects(openOn(server, { mode: "write", token, ...writer }), isCover("refused"));
  await assert.rejects(
    openOn(server, { mode: "create", token, container: "new", ...writer }),
    isCover("refused"),
  );
  const rw = await server.tokens.add("writer", "rw");
  await assert.rejects(
    openOn(server, { mode: "create", token: rw, container: "new", ...writer }),
    isCover("refused"),
  );
  await using _writing = await openOn(server, { mode: "write", token: rw, ...writer });
});

Deno.test(
  "a token alone does not write: the proof must be of the container's key, id and name",
  strict,
  async () => {
    await using server = await startServer();
    const writer = await makeWriter();
    await (await openOn(server, { mode: "create", ...writer })).close();
    const thief = await makeWriter();
    const { containerId } = writer;
    await assert.rejects(openOn(server, { mode: "write", ...thief, containerId }), isCover("refused"));
    await assert.rejects(openOn(server, { mode: "write", ...thief }), isCover("refused"));
    const overheard: Uint8Array[] = [];
    const recording = {
      ...writer.prover,
      sign: async (message: Uint8Array) => {
        overheard.push(await writer.prover.sign(message));
        return overheard[0]!;
      },
    };
    await (await openOn(server, { mode: "write", ...writer, prover: recording })).close();
    const replay = { ...writer.prover, sign: () => Promise.resolve(overheard[0]!) };
    await assert.rejects(
      openOn(server, { mode: "write", ...writer, prover: replay }),
      isCover("refused"),
      "a replay",
    );
    await (await openOn(server, { mode: "write", ...writer })).close();
  },
);

Deno.test("create refuses a container that is there, and open one that is not", strict, async () => {
  await using folder = await temporaryFolder();
  await using server = await startServer({ root: folder.path });
  const writer = await makeWriter();
  const made = await openOn(server, { mode: "create", ...writer });
  await made.writeHeader("key", 0, new Uint8Array(4096).fill(1));
  await made.flush();
  await made.close();
  const before = await Deno.readFile(join(folder.path, "box"));
  await assert.rejects(openOn(server, { mode: "create", ...await makeWriter() }), isCover("usage"));
  assert.deepEqual(await Deno.readFile(join(folder.path, "box")), before);
  await assert.rejects(openOn(server, { mode: "read", container: "none" }), isCover("no-container"));
  assert.deepEqual([...Deno.readDirSync(folder.path)].map((entry) => entry.name).sort(), [".coverfs", "box"]);
});

Deno.test(
  "several containers lie side by side; they are listed, and removed by their writer only",
  strict,
  async () => {
    await using folder = await temporaryFolder();
    await using server = await startServer({ root: folder.path });
    const writer = await makeWriter();
    await using one = await openOn(server, { mode: "create", container: "one", ...writer });
    await using two = await openOn(server, { mode: "create", container: "two", ...writer });
    await one.write(2, blocks(1, 1));
    await two.write(0, blocks(1, 2));
    await Promise.all([one.flush(), two.flush()]);
    const connection = await connectTo(server);
    try {
      assert.deepEqual(await connection.list(), [{ name: "one", blocks: 3 }, { name: "two", blocks: 1 }]);
      await connection.request(Op.open, open("one"));
      await assert.rejects(connection.request(Op.remove), hasStatus("state"));
      await assert.rejects(connection.request(Op.open, open("two")), hasStatus("state"));
    } finally {
      await connection.close();
    }
    await two.close();
    await one.remove();
    await one.close();
    assert.deepEqual([...Deno.readDirSync(folder.path)].map((entry) => entry.name).sort(), [
      ".coverfs",
      "two",
    ]);
    await (await openOn(server, { mode: "create", container: "one", ...await makeWriter() })).close();
  },
);

Deno.test("names that try to leave the root, and links in it, are refused", strict, async () => {
  await using folder = await temporaryFolder();
  const root = join(folder.path, "root");
  await using server = await startServer({ root });
  await Deno.writeFile(join(folder.path, "outside"), new Uint8Array(140000));
  if (HAS_SYMLINKS) await Deno.symlink(join(folder.path, "outside"), join(root, "link"));
  await Deno.mkdir(join(root, "folder"));
  const writer = await makeWriter();
  const names = [
    "..",
    ".",
    "../outside",
    "/etc/passwd",
    ".coverfs",
    "a/b",
    "a\\b",
    "",
    "a\0b",
    "x".repeat(65),
    "ä",
  ];
  const links = HAS_SYMLINKS ? ["link"] : [];
  for (const name of [...names, ...links, "folder"]) {
    const connection = await connectTo(server);
    const raw = new TextEncoder().encode(name);
    const fields = new FieldWriter(1 + raw.length).u8(raw.length).raw(raw).bytes;
    const status = name === "folder" && !WINDOWS ? "failure" : "name"; // folders can be opened there
    await assert.rejects(connection.request(Op.open, fields), hasStatus(status), name);
    await connection.close();
  }
  for (const name of [...links, "folder"]) {
    await assert.rejects(
      openOn(server, { mode: "create", container: name, ...writer }),
      isCover("usage"),
      name,
    );
  }
  assert.deepEqual(await Deno.readFile(join(folder.path, "outside")), new Uint8Array(140000));
});

/** A raw TLS connection that has not said HELLO. */
async function rawConnection(server: Server): Promise<Deno.TlsConn> {
  const { signal } = new AbortController();
  const address = { host: HOST, port: server.port };
  const identity = await identifyServer(address, { fingerprint: server.fingerprint, signal });
  return (await dial(address, identity, signal)).conn;
}

/** A raw connection that has said HELLO with this nonce; `ask` sends a request and gives the reply. */
async function greet(server: Server, clientNonce = new Uint8Array(32)) {
  const conn = await rawConnection(server), reader = new FrameReader(conn, 1 << 20);
  const ask = async (operation: Op, fields: Uint8Array) => {
    await conn.write(buildFrame({ operation, direction: 0, status: 0, id: 1 }, fields));
    return (await reader.next())!;
  };
  const hello = new FieldWriter(72).raw(new TextEncoder().encode("CVFS")).u16(1).u16(1).raw(clientNonce)
    .raw(Uint8Array.fromBase64(server.firstToken!, { alphabet: "base64url" }));
  const { status, body } = await ask(Op.hello, hello.bytes);
  assert.equal(status, 0);
  return { conn, ask, clientNonce, serverNonce: body.slice(12) };
}

Deno.test(
  "a proof that was overheard is of no use, though a client repeats its own nonce",
  strict,
  async () => {
    await using server = await startServer();
    const writer = await makeWriter(), { prover, containerId, session } = writer;
    await (await openOn(server, { mode: "create", ...writer })).close();
    const lease = (proof: Uint8Array) =>
      new FieldWriter(97).u8(0).raw(containerId).raw(session).raw(proof).bytes;
    const first = await greet(server);
    await first.ask(Op.open, open("box"));
    const proof = await prover.sign(proofMessage({
      version: 1,
      certificateHash: Uint8Array.fromBase64(server.fingerprint, { alphabet: "base64url" }),
      clientNonce: first.clientNonce,
      serverNonce: first.serverNonce,
      containerId,
      session,
      access: Access.write,
      name: "box",
    }));
    assert.equal((await first.ask(Op.lease, lease(proof))).status, Status.ok);
    assert.equal((await first.ask(Op.release, new Uint8Array(0))).status, Status.ok);
    first.conn.close();
    const second = await greet(server);
    assert.notDeepEqual(second.serverNonce, first.serverNonce);
    await second.ask(Op.open, open("box"));
    assert.equal((await second.ask(Op.lease, lease(proof))).status, Status.proof);
    second.conn.close();
  },
);

Deno.test("a frame that is cut gives back what it took of the server's room", strict, async () => {
  const limits = { connectionBytes: 8 << 20, totalBytes: 8 << 20 };
  await using server = await startServer({ limits });
  await using store = await openOn(server, { mode: "create", ...await makeWriter() });
  const cutFrames = async () => {
    for (let i = 0; i < 4; i++) {
      const { conn } = await greet(server);
      await conn.write(head(4 << 20, Op.write));
      await conn.write(new Uint8Array(1000));
      conn.close();
      const backwards = await greet(server);
      await backwards.conn.write(head(4000, Op.write, 1));
      await backwards.conn.write(new Uint8Array(4000));
      await drained(backwards.conn);
    }
    await store.write(0, blocks(256, 1));
    await store.flush();
  };
  await within(10, cutFrames());
});

/** Reads until the peer ends the connection. */
async function drained(conn: Deno.Conn): Promise<void> {
  const buffer = new Uint8Array(65536);
  try {
    while (await conn.read(buffer) !== null);
  } catch {
    // ended without ceremony
  }
  conn.close();
}

/** Rejects when something takes too long: a test that waits for good tells nothing. */
async function within<T>(seconds: number, work: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`not done within ${seconds} s`)), seconds * 1000);
  try {
    return await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Says something on new connections; each must be ended, and another connection goes on as before. */
async function disturb(server: Server, said: readonly Uint8Array[]): Promise<void> {
  await using store = await openOn(server, { mode: "create", ...await makeWriter() });
  for (const bytes of said) {
    const conn = await rawConnection(server);
    await conn.write(bytes);
    if (bytes.length < 12) await conn.closeWrite();
    await drained(conn);
    await store.write(0, blocks(1, 1));
    await store.flush();
  }
}

Deno.test("malformed and huge frames end their connection at once and disturb no other", strict, async () => {
  // Nothing here may wait for the time for HELLO to be over.
  await using server = await startServer({ limits: { handshakeSeconds: 60 } });
  const hello = buildFrame({ operation: Op.hello, direction: 0, status: 0, id: 1 }, new Uint8Array(72));
  const said = [
    head(0xffff_ffff, Op.hello),
    head(4097, Op.hello),
    head(0, Op.ping),
    head(0, 200),
    head(0, Op.hello, 1),
    hello,
    new Uint8Array(5),
  ];
  await within(10, disturb(server, said));
});

Deno.test("frames that do not end are ended when the time for HELLO is over", strict, async () => {
  await using server = await startServer({ limits: { handshakeSeconds: 1 } });
  await disturb(server, [head(72, Op.hello), crypto.getRandomValues(new Uint8Array(5000))]);
});

Deno.test(
  "requests with fields out of bounds end the connection, before anything is done",
  strict,
  async () => {
    await using server = await startServer();
    await using _store = await openOn(server, { mode: "create", ...await makeWriter() });
    const requests: [Op, Uint8Array][] = [
      [Op.read, new FieldWriter(12).u64(0).u32(1025).bytes],
      [Op.read, new FieldWriter(12).u64(0).u32(0).bytes],
      [Op.read, new FieldWriter(12).u64(Number.MAX_SAFE_INTEGER).u32(1).bytes],
      [Op.read, new Uint8Array(12).fill(0xff)],
      [Op.read, new Uint8Array(11)],
      [Op.read, new Uint8Array(13)],
      [Op.readHeader, Uint8Array.of(2, 0)],
      [Op.readHeader, Uint8Array.of(0, 2)],
      [Op.write, new Uint8Array(8)],
      [Op.write, new Uint8Array(8 + 4127)],
      [Op.writeHeader, new Uint8Array(2 + 4128)],
      [Op.flush, new Uint8Array(1)],
      [Op.hello, new Uint8Array(72)],
      [Op.open, Uint8Array.of(9, 65)],
      [99 as Op, new Uint8Array(0)],
    ];
    for (const [operation, fields] of requests) {
      const connection = await connectTo(server);
      await connection.request(Op.open, open("box"));
      await assert.rejects(connection.request(operation, fields), hasStatus("protocol"), `${operation}`);
      await connection.ended;
      await connection.close();
    }
  },
);

Deno.test("a connection that did not take the lease cannot write", strict, async () => {
  await using server = await startServer();
  await using store = await openOn(server, { mode: "create", ...await makeWriter() });
  const connection = await connectTo(server);
  try {
    await assert.rejects(
      connection.request(Op.read, new FieldWriter(12).u64(0).u32(1).bytes),
      hasStatus("state"),
    );
    await connection.request(Op.open, open("box"));
    const write = new FieldWriter(8 + 4128).u64(0).raw(blocks(1, 9)).bytes;
    await assert.rejects(connection.request(Op.write, write), hasStatus("state"));
    await assert.rejects(connection.request(Op.flush), hasStatus("state"));
    await assert.rejects(
      connection.request(Op.truncate, new FieldWriter(8).u64(0).bytes),
      hasStatus("state"),
    );
  } finally {
    await connection.close();
  }
  assert.equal((await store.read(0, 1))[9], 0);
});

Deno.test(
  "who only connects holds a place for a bounded time; connections beyond the limit are refused",
  strict,
  async () => {
    await using server = await startServer({ limits: { connections: 5, handshakeSeconds: 0.4 } });
    const silent: Promise<void>[] = [];
    for (let i = 0; i < 5; i++) {
      silent.push(drained(await Deno.connect({ hostname: HOST, port: server.port })));
    }
    await assert.rejects(connectTo(server), isCover("no-connection"));
    await Promise.all(silent); // the server closes them, though they never said anything
    await (await connectTo(server)).close();
    const greeting = await rawConnection(server);
    await drained(greeting); // TLS, but no HELLO
  },
);

Deno.test("idle connections are ended", strict, async () => {
  await using server = await startServer({ limits: { idleSeconds: 0.4 } });
  const connection = await connectTo(server);
  isCover("no-connection")(await connection.ended);
  await connection.close();
});

Deno.test("reads beyond the bytes in flight wait, and all are answered", strict, async () => {
  await using server = await startServer({ limits: { connectionBytes: 2 << 20, totalBytes: 3 << 20 } });
  await using store = await openOn(server, { mode: "create", ...await makeWriter() });
  await store.write(0, blocks(256, 1));
  await store.flush();
  const reads = await Promise.all(Array.from({ length: 40 }, (_, i) => store.read(i, 200)));
  assert(reads.every((bytes, i) => bytes[4128 + 9] === 1 && bytes[0] === i % 256));
});

Deno.test("what a client has asked for is not done any more when it is gone", strict, async () => {
  const ended = gate();
  let reads = 0;
  await using server = await startServer({
    decorate: hookedRoot((operation) => void (operation === "read" && reads++)),
    // The one that wrote the blocks has sent more.
    access: ({ event, received }) => event === "ended" && received! < 10_000 && ended.open(),
  });
  const store = await openOn(server, { mode: "create", ...await makeWriter() });
  await store.write(0, blocks(256, 1));
  await store.close();
  const { conn, ask } = await greet(server);
  await ask(Op.open, open("box"));
  const before = reads, frame = { operation: Op.read, direction: 0, status: 0, id: 9 };
  const asked = buildFrame(frame, new FieldWriter(12).u64(0).u32(1024).bytes);
  await conn.write(new Uint8Array(Array.from({ length: 200 }, () => [...asked]).flat()));
  conn.close(); // without having taken a reply
  await ended.opened;
  assert(reads - before < 50, `${reads - before} of 200 were read for nobody`);
});

const opened = new FieldWriter(40).raw(new Uint8Array(16)).u64(4).u64(100).u64(1).bytes;

for (
  const [what, answer] of [
    ["replies that nobody asked for", (id: number, op: number) => [reply(id + 1000, op, new Uint8Array(0))]],
    ["huge replies", () => [head(0xffff_fff0, Op.read, 1)]],
    [
      "requests",
      (id: number, op: number) => [buildFrame({ operation: op, direction: 0, status: 0, id }, opened)],
    ],
    [
      "malformed notifications",
      () => [buildFrame({ operation: 32, direction: 2, status: 0, id: 0 }, opened)],
    ],
  ] as const
) {
  Deno.test(`a server that sends ${what} gives no connection, and no data`, strict, async () => {
    await using server = await hostileServer(({ id, operation }) =>
      operation === Op.open ? [reply(id, operation, opened)] : answer(id, operation)
    );
    const store = await openOn(server, { mode: "read", waitSeconds: 0.3 });
    await assert.rejects(async () => await store.read(0, 1), isCover("no-connection"));
    await store.close();
  });
}

Deno.test("a server that breaks the protocol is told as no connection, at once too", strict, async () => {
  for (const from of [Op.hello, Op.ping]) {
    await using server = await hostileServer(() => [head(0xffff_fff0, Op.ping, 1)], from);
    await assert.rejects(async () => {
      const connection = await connectTo(server);
      await connection.request(Op.ping).finally(() => connection.close());
    }, isCover("no-connection"));
  }
});

Deno.test("a server that answers too much, too little or nonsense is not believed", strict, async () => {
  let body = new Uint8Array(0);
  let status = 0;
  await using server = await hostileServer(({ id, operation }) =>
    operation === Op.open ? [reply(id, operation, opened)] : [reply(id, operation, body, status)]
  );
  await using store = await openOn(server, { mode: "read", waitSeconds: 0.5 });
  assert.deepEqual(await store.read(0, 1), new Uint8Array(4128), "what is left out reads as zeros");
  body = new Uint8Array(4129);
  await assert.rejects(async () => await store.read(0, 1), /more than was asked/);
  body = new Uint8Array(3);
  await assert.rejects(store.size(), CoverError);
  body = new TextEncoder().encode("\u001b[2J red \u202e herring".repeat(90));
  status = 999;
  const error = await Promise.resolve(store.read(0, 1)).then(() => undefined, (e) => e as Error);
  // deno-lint-ignore no-control-regex
  assert(error !== undefined && !/[\u001b\u202e]/.test(error.message) && error.message.length < 600);
});

Deno.test(
  "a server that takes connections and drops them breaks a store after a bounded time",
  strict,
  async () => {
    const grant = new FieldWriter(32).u64(1).u64(0).u64(100).u64(1).bytes;
    await using server = await hostileServer(({ id, operation }) => {
      if (operation === Op.open) return [reply(id, operation, opened)];
      if (operation === Op.lease) return [reply(id, operation, grant)];
      return [head(0xffff_fff0, Op.read, 1)];
    });
    const writer = await makeWriter();
    await using store = await openOn(server, { mode: "write", outageSeconds: 0.4, ...writer });
    await store.write(0, blocks(1, 1));
    await assert.rejects(store.flush(), Broken);
  },
);

Deno.test("shutdown() finishes what has arrived and ends the connections", strict, async () => {
  await using folder = await temporaryFolder();
  const server = await startServer({ root: folder.path });
  const writer = await makeWriter();
  const store = await openOn(server, { mode: "create", ...writer });
  await store.write(0, blocks(4, 6));
  await store.flush();
  const idle = await connectTo(server);
  await server.shutdown();
  await server.shutdown();
  isCover("no-connection")(await idle.ended);
  await idle.close();
  await store.close();
  assert.equal((await Deno.readFile(join(folder.path, "box")))[131072 + 3 * 4128 + 9], 6);
  await assert.rejects(connectTo(server), isCover("no-connection"));
});

Deno.test("a port in use, and a certificate that is none, are told", strict, async () => {
  await using folder = await temporaryFolder();
  await using server = await startServer();
  await assert.rejects(serve({ hostname: HOST, port: server.port }), isCover("busy"));
  const file = join(folder.path, "x.pem");
  await Deno.writeTextFile(file, "nothing");
  await assert.rejects(startServer({ certificateFiles: { certificate: file, key: file } }), isCover("usage"));
});

Deno.test("Connection counts its frames", strict, async () => {
  await using server = await startServer();
  const connection: Connection = await connectTo(server);
  assert.equal(connection.framesSent, 1);
  await connection.request(Op.ping);
  await connection.list();
  assert.equal(connection.framesSent, 3);
  await connection.close();
});
