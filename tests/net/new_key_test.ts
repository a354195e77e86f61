/** NEW_KEY: who may replace the key that a container's writers prove, and what is left of a replacement that was cut. */
import assert from "node:assert/strict";
import { Access, type Connection, FieldReader, FieldWriter, Op } from "../../net/mod.ts";
import type { BackingRoot } from "../../net/root.ts";
import {
  blocks,
  connectTo,
  makeWriter,
  openOn,
  Relay,
  startServer,
  temporaryFolder,
  type Writer,
} from "./servers.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };

/** The same container and session under another key. */
const withKey = async (writer: Writer): Promise<Writer> => ({
  ...writer,
  prover: (await makeWriter()).prover,
});
const nextSession = (writer: Writer) => makeWriter(writer);

async function opened(server: Parameters<typeof connectTo>[0], token?: string): Promise<Connection> {
  const connection = await connectTo(server, token);
  new FieldReader(await connection.request(Op.open, new FieldWriter(4).name("box").bytes));
  return connection;
}

async function lease(connection: Connection, writer: Writer, flags = 0): Promise<void> {
  const proof = await connection.prove(writer.prover, { ...writer, access: Access.write, name: "box" });
  const { containerId, session } = writer;
  const fields = new FieldWriter(97).u8(flags).raw(containerId).raw(session).raw(proof);
  await connection.request(Op.lease, fields.bytes);
}

/** Asks for a key, with a proof that `over` makes, of that session, on `connection` or another one. */
async function newKey(
  connection: Connection,
  key: Writer,
  proof?: { readonly by?: Writer; readonly on?: Connection; readonly access?: Access },
): Promise<void> {
  const { by = key, on = connection, access = Access.newKey } = proof ?? {};
  const signed = await on.prove(by.prover, { ...key, access, name: "box" });
  await connection.request(Op.newKey, new FieldWriter(96).raw(key.prover.publicKey).raw(signed).bytes);
}

Deno.test(
  "who holds the lease replaces the key: the one before proves nothing any more",
  strict,
  async () => {
    await using folder = await temporaryFolder();
    const writer = await makeWriter(), next = await withKey(writer);
    let token: string, fingerprint: string;
    {
      await using server = await startServer({ root: folder.path });
      token = server.firstToken!, fingerprint = server.fingerprint;
      const store = await openOn(server, { mode: "create", ...writer });
      await store.write(0, blocks(1, 1));
      await store.flush();
      await store.replaceKey(next.prover);
      await store.replaceKey(next.prover); // may be repeated
      await store.write(1, blocks(1, 2));
      await store.close();
    }
    await using server = await startServer({ root: folder.path });
    const on = { port: server.port, fingerprint, firstToken: token };
    await assert.rejects(openOn(on, { mode: "write", ...await nextSession(writer) }), { status: "proof" });
    await (await openOn(on, { mode: "write", ...await nextSession(next) })).close();
  },
);

Deno.test("a token alone does not replace the key, whatever its role", strict, async () => {
  await using server = await startServer();
  const writer = await makeWriter(), thief = await withKey(await nextSession(writer));
  const holder = await openOn(server, { mode: "create", ...writer });
  for (const role of ["ro", "rw", "create"] as const) {
    const connection = await opened(server, await server.tokens.add(role, role));
    await assert.rejects(newKey(connection, thief), { status: "state" });
    await assert.rejects(lease(connection, thief), { status: role === "ro" ? "refused" : "proof" });
    await assert.rejects(newKey(connection, thief), { status: "state" });
    await connection.close();
  }
  await holder.close();
  await assert.rejects(openOn(server, { mode: "write", ...thief }), { status: "proof" });
  await (await openOn(server, { mode: "write", ...await nextSession(writer) })).close();
});

Deno.test(
  "the new key is proved too, on this connection, for this session and for this",
  strict,
  async () => {
    await using server = await startServer();
    const writer = await makeWriter(), next = await withKey(writer);
    await (await openOn(server, { mode: "create", ...writer })).close();
    const connection = await opened(server), other = await opened(server);
    await lease(connection, writer);
    const wrong = { status: "proof" };
    await assert.rejects(newKey(connection, next, { by: writer }), wrong, "another key's");
    await assert.rejects(newKey(connection, next, { on: other }), wrong, "another connection's");
    await assert.rejects(newKey(connection, next, { access: Access.write }), wrong, "for another request");
    await assert.rejects(newKey(connection, await nextSession(next)), wrong, "another session's");
    await newKey(connection, next);
    await connection.close();
    await assert.rejects(lease(other, writer), wrong);
    await lease(other, next);
    await other.close();
  },
);

Deno.test("a writer that was replaced replaces no key", strict, async () => {
  await using server = await startServer();
  const writer = await makeWriter(), next = await withKey(writer);
  const store = await openOn(server, { mode: "create", ...writer });
  const taking = await openOn(server, { mode: "write", takeover: true, ...await nextSession(writer) });
  await assert.rejects(store.replaceKey(next.prover), { kind: "busy" });
  await store.close();
  await taking.close();
  await (await openOn(server, { mode: "write", ...await nextSession(writer) })).close();
});

for (const saved of [true, false]) {
  Deno.test(
    `a key that was ${saved ? "" : "not "}replaced before the connection was cut is, when it is there again`,
    strict,
    async () => {
      const writer = await makeWriter(),
        next = await withKey(writer),
        publicKey = next.prover.publicKey.toHex();
      let cut = () => {}, cuts = 0;
      const decorate = (root: BackingRoot): BackingRoot =>
        new Proxy(root, {
          get: (_, name: keyof BackingRoot) => {
            if (name !== "saveRecord") return root[name].bind(root);
            return async (...[container, record]: Parameters<BackingRoot["saveRecord"]>) => {
              const cutting = record.publicKey === publicKey && cuts === 0;
              if (cutting) cuts++, cut();
              if (cutting && !saved) throw new Error("EIO");
              await root.saveRecord(container, record);
            };
          },
        });
      await using server = await startServer({ decorate });
      await using relay = new Relay(server.port);
      cut = () => relay.cut();
      const store = await openOn(server, { mode: "create", port: relay.port, ...writer });
      await store.replaceKey(next.prover);
      assert.equal(cuts, 1);
      await store.write(0, blocks(1, 1));
      await store.flush();
      await store.close();
      await assert.rejects(openOn(server, { mode: "write", ...await nextSession(writer) }), {
        status: "proof",
      });
      await (await openOn(server, { mode: "write", ...await nextSession(next) })).close();
    },
  );
}

Deno.test("a writer that has both keys is let in by the one that the server knows", strict, async () => {
  await using server = await startServer();
  const writer = await makeWriter(), next = await withKey(writer);
  await (await openOn(server, { mode: "create", ...writer })).close();
  for (const replace of [true, false]) {
    const store = await openOn(server, { mode: "read" });
    await store.upgrade({ ...await nextSession(next), previous: writer.prover });
    if (replace) await store.replaceKey(next.prover);
    await store.write(0, blocks(1, 1));
    await store.flush();
    await store.close();
  }
  const neither = await withKey(writer), store = await openOn(server, { mode: "read" });
  await assert.rejects(store.upgrade({ ...neither, previous: writer.prover }), { status: "proof" });
  await store.close();
});
