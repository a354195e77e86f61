/** What the operator of a server can rely on: limits, revocation, a new certificate, the access log. */
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { makeCertificate } from "../../net/certificate.ts";
import { type AccessEvent, Op } from "../../net/mod.ts";
import { connectTo, HOST, makeWriter, openOn, startServer, temporaryFolder } from "./servers.ts";

const UNKNOWN = "A".repeat(43);
const strict = { sanitizeOps: true, sanitizeResources: true };

/** Opens a bare connection from an address of this machine. @returns undefined if it was closed at once */
async function dialFrom(localAddress: string, port: number): Promise<Socket | undefined> {
  const socket = connect({ host: HOST, port, localAddress });
  const closed = new Promise<undefined>((resolve) => socket.once("close", () => resolve(undefined)));
  socket.on("error", () => {});
  await new Promise((resolve) => socket.once("connect", resolve));
  // The server closes those that it has no room for as soon as it sees them.
  const open = new Promise<Socket>((resolve) => setTimeout(() => resolve(socket), 200));
  return await Promise.race([closed, open]);
}

Deno.test("an address that has taken all its places keeps no other out", strict, async () => {
  const refused: AccessEvent[] = [];
  await using server = await startServer({
    limits: { addressConnections: 2, handshakeSeconds: 1 },
    access: (event) => event.event === "refused" && refused.push(event),
  });
  const held = [await dialFrom("127.0.0.2", server.port), await dialFrom("127.0.0.2", server.port)];
  assert.ok(held.every((socket) => socket !== undefined));
  assert.equal(await dialFrom("127.0.0.2", server.port), undefined);
  await (await connectTo(server)).close();
  while (refused.length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(refused, [{ event: "refused", address: "127.0.0.2", count: 1 }]);
  await Promise.all(
    held.map((socket) =>
      new Promise((resolve) => socket!.destroyed ? resolve(0) : socket!.once("close", resolve).resume())
    ),
  );
});

/** A ClientHello (RFC 5246 section 7.4.1.2) that offers nothing newer than the given version. */
function clientHello(minor: number): Uint8Array<ArrayBuffer> {
  const ciphers = [0xc0, 0x09, 0xc0, 0x0a, 0xc0, 0x13, 0xc0, 0x14, 0x00, 0x2f, 0x00, 0x35];
  const body = [3, minor, ...new Uint8Array(32), 0, 0, ciphers.length, ...ciphers, 1, 0];
  const handshake = [1, 0, 0, body.length, ...body];
  return Uint8Array.from([22, 3, 1, 0, handshake.length, ...handshake]);
}

Deno.test("TLS below 1.2 is refused", strict, async () => {
  await using server = await startServer();
  for (const minor of [0, 1, 2]) { // SSL 3.0, TLS 1.0, TLS 1.1
    using conn = await Deno.connect({ hostname: HOST, port: server.port });
    await conn.write(clientHello(minor));
    const answer = new Uint8Array(1024), count = await conn.read(answer).catch(() => null);
    // Nothing, or a fatal alert: never a ServerHello (22).
    assert.ok(count === null || answer[0] === 21, `answered with ${answer[0]}`);
  }
  await (await connectTo(server)).close();
});

Deno.test(
  "a token that is taken back ends the connections that it admitted, and no others",
  strict,
  async () => {
    const events: string[] = [];
    await using server = await startServer({
      limits: { handshakeSeconds: 1 },
      access: ({ event, token }) => events.push(`${event} ${token}`),
    });
    const token = await server.tokens.add("laptop", "rw");
    const stays = await connectTo(server);
    const ends = await connectTo(server, token);
    await server.tokens.remove("laptop");
    const ended = () => ends.request(Op.ping).then(() => false, () => true);
    while (!await ended()) await new Promise((resolve) => setTimeout(resolve, 20));
    await ends.close();
    await stays.request(Op.ping);
    await assert.rejects(connectTo(server, token), { kind: "refused" });
    await stays.close();
    assert.deepEqual(events.slice(0, 6), [
      "greeted first",
      "greeted laptop",
      "revoked laptop",
      "ended laptop",
      "denied undefined",
      "ended undefined",
    ]);
  },
);

for (const [what, operation] of [["seldom needed", Op.ping], ["refused", Op.size]] as const) {
  Deno.test(`who asks without end for what is ${what} is made to wait, and nobody else`, strict, async () => {
    await using server = await startServer();
    const flood = await connectTo(server), other = await connectTo(server), began = performance.now();
    let answered = 0;
    const asked = Array.from(
      { length: 400 },
      () =>
        flood.request(operation).catch((error) => assert.equal(error.status, "state")).then(() => answered++),
    );
    const done = Promise.allSettled(asked);
    for (let i = 0; i < 90; i++) await other.request(Op.ping);
    // A hundred at once, those that were under way already, and twenty a second from then on.
    const most = 120 + 20 * (performance.now() - began) / 1000;
    assert.ok(answered > 50 && answered <= most, `${answered} were answered, ${most} may be`);
    await flood.close();
    await other.close();
    await done;
  });
}

Deno.test("an address that only fails is kept out before TLS, and others are not", strict, async () => {
  await using server = await startServer({
    limits: { addressHandshakesPerSecond: 20, addressHandshakesAtOnce: 50 },
  });
  const began = performance.now();
  let admitted = 0;
  for (let i = 0; i < 40; i++) {
    const socket = connect({ host: HOST, port: server.port, localAddress: "127.0.0.3" });
    const closed = new Promise((resolve) => socket.once("close", resolve));
    // Who is let in gets an alert for this.
    socket.on("error", () => {}).on("data", () => admitted++).write(new Uint8Array(100));
    await closed;
  }
  const most = 6 + 2 * (performance.now() - began) / 1000;
  assert.ok(admitted > 0 && admitted <= most, `${admitted} were let in, ${most} may be`);
  await (await connectTo(server)).close();
});

Deno.test(
  "an address that only looks is kept out, and one whose clients look and greet is not",
  strict,
  async () => {
    await using server = await startServer({
      limits: { addressHandshakesPerSecond: 0.001, addressHandshakesAtOnce: 100 },
    });
    for (let i = 0; i < 30; i++) await (await connectTo(server)).close(); // each looks first
    let admitted = 0;
    for (let i = 0; i < 60; i++) {
      const raw = connect({ host: HOST, port: server.port, localAddress: "127.0.0.4" });
      const closed = new Promise((resolve) => raw.once("close", resolve)), seen = server.connections;
      raw.on("error", () => {});
      const socket = connectTls({ socket: raw, rejectUnauthorized: false });
      socket.on("error", () => raw.destroy());
      socket.once("secureConnect", () => (admitted++, socket.end()));
      await closed;
      while (server.connections > seen) await new Promise((resolve) => setImmediate(resolve));
    }
    assert.ok(admitted >= 20 && admitted < 30, `${admitted} were let in`);
  },
);

Deno.test("a certificate that was replaced is shown to who connects from then on", strict, async () => {
  await using folder = await temporaryFolder();
  const files = { certificate: join(folder.path, "cert.pem"), key: join(folder.path, "key.pem") };
  const replace = async () => {
    const pair = await makeCertificate();
    await Deno.writeTextFile(files.certificate, pair.certificate);
    await Deno.writeTextFile(files.key, pair.key);
  };
  await replace();
  await using server = await startServer({ certificateFiles: files });
  const before = server.fingerprint, writer = await makeWriter();
  const store = await openOn(server, { mode: "create", ...writer });
  await replace();
  await server.reload();
  assert.notEqual(server.fingerprint, before);
  await store.write(0, new Uint8Array(4128));
  await store.flush();
  await store.close();
  // A proof is bound to the certificate that its client has seen: the new one.
  const again = await openOn(server, { mode: "write", ...await makeWriter(writer) });
  await again.close();

  await Deno.writeTextFile(files.key, (await makeCertificate()).key);
  await assert.rejects(server.reload(), { kind: "usage", message: /another/ });
  await Deno.writeTextFile(files.key, "no key");
  await assert.rejects(server.reload(), { kind: "usage" });
  await Deno.writeTextFile(files.certificate, "no certificate");
  await assert.rejects(server.reload(), { kind: "usage" });
  await (await connectTo(server)).close();
});

Deno.test("the access log tells who did what, and holds no secret", strict, async () => {
  const events: AccessEvent[] = [];
  await using server = await startServer({ access: (event) => events.push(event) });
  const writer = await makeWriter();
  const store = await openOn(server, { mode: "create", ...writer });
  await store.write(0, new Uint8Array(4128));
  await store.flush();
  await store.close();
  const taking = await openOn(server, { mode: "write", takeover: true, ...await makeWriter(writer) });
  await taking.replaceKey((await makeWriter()).prover);
  await taking.remove();
  await taking.close();
  await assert.rejects(openOn(server, { mode: "read", token: UNKNOWN }), { kind: "refused" });
  while (events.filter(({ event }) => event === "ended").length < 3) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const told = events.map(({ event, token = "-", container = "", takeover = "" }) =>
    `${event} ${token} ${container} ${takeover}`.trimEnd()
  );
  const done = told.filter((line) => !line.startsWith("ended"));
  assert.deepEqual(done, [
    "greeted first",
    "created first box",
    "granted first box",
    "greeted first",
    "opened first box",
    "granted first box true",
    "rekeyed first box",
    "removed first box",
    "denied -",
  ]);
  for (
    const { event, connection, received, sent, seconds } of events.filter(({ event }) => event === "ended")
  ) {
    assert.ok(connection! > 0 && received! > 0 && seconds! >= 0 && sent !== undefined, event);
  }
  assert.ok(events.find(({ event }) => event === "ended")!.received! > 4128);
  const all = JSON.stringify(events);
  assert.ok(!all.includes(server.firstToken!) && !all.includes(UNKNOWN));
});
