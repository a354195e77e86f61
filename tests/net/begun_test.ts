/** Containers that were begun on a server and never got an encryption block: they are in nobody's way. */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { Fenced } from "../../fs/errors.ts";
import type { ServeOptions } from "../../net/mod.ts";
import {
  blocks,
  gate,
  hookedRoot,
  makeWriter,
  openOn,
  startServer,
  temporaryFolder,
  type Writer,
} from "./servers.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
/** A maker that is away counts as gone at once. */
const HASTY: ServeOptions = { limits: { takeoverSeconds: 0 } };
const KEY = new Uint8Array(4096).fill(1);

const create = async (server: Awaited<ReturnType<typeof startServer>>, writer?: Writer) =>
  openOn(server, { mode: "create", ...writer ?? await makeWriter() });

Deno.test(
  "what was begun by a maker that is gone is replaced, and its late frames change nothing",
  strict,
  async () => {
    await using server = await startServer(HASTY);
    await using first = await create(server);
    await first.write(0, blocks(3, 7));
    await first.flush();
    await using second = await create(server);
    assert.equal(await second.size(), 0);
    await assert.rejects(async () => {
      await first.write(0, blocks(1, 8));
      await first.flush();
    }, Fenced);
    await second.writeHeader("key", 0, KEY);
    await second.flush();
    assert.deepEqual(await second.readHeader("key", 0), KEY);
  },
);

Deno.test(
  "what is being made is not replaced, until its maker gave it up or was silent",
  strict,
  async () => {
    await using server = await startServer();
    const first = await create(server);
    await assert.rejects(create(server), { kind: "busy", message: /is being made, .*: wait 30 s/ });
    await first.close();
    await using _second = await create(server);
  },
);

Deno.test(
  "a container that has an encryption block is never replaced, also if that was not flushed",
  strict,
  async () => {
    await using folder = await temporaryFolder();
    for (const [flushed, copy] of [[false, 0], [true, 1]] as const) {
      const options = { ...HASTY, root: `${folder.path}/${flushed}` };
      const link = await (async () => {
        await using server = await startServer(options);
        await using first = await create(server);
        await first.writeHeader("key", copy, KEY);
        if (flushed) await first.flush();
        else await first.readHeader("super", 0); // by then it has arrived
        await assert.rejects(create(server), { kind: "usage", message: /exists already/ });
        return { token: server.firstToken!, fingerprint: server.fingerprint };
      })();
      await using again = await startServer(options);
      const writer = await makeWriter();
      await assert.rejects(
        openOn(again, { mode: "create", ...writer, ...link }),
        { kind: "usage" },
        "after a restart",
      );
    }
  },
);

/**
 * A server that is held when it notes that a container has its encryption block. `looked`: it looked for one; `saved`:
 * what it noted, whether the container is only begun.
 */
async function heldServer() {
  const saved: boolean[] = [];
  const reached = gate(), go = gate(), looked = gate();
  const hooked = hookedRoot((operation, offset) => {
    if (operation === "read" && offset === 65_536) looked.open();
  });
  const server = await startServer({
    ...HASTY,
    decorate: (root) => ({
      ...hooked(root),
      saveRecord: async (name, record) => {
        if (!record.begun) {
          reached.open();
          await go.opened;
        }
        saved.push(record.begun);
        await root.saveRecord(name, record);
      },
    }),
  });
  return { server, reached: reached.opened, looked: looked.opened, saved, go: () => go.open() };
}

Deno.test("an encryption block that is being written when another maker comes counts", strict, async () => {
  const { server: held, reached, looked, go } = await heldServer();
  await using server = held;
  await using first = await create(server);
  const writing = Promise.resolve(first.writeHeader("key", 0, KEY)).then(() => first.flush()).catch(() => {});
  await reached;
  const refused = assert.rejects(create(server), { kind: "usage" });
  await looked;
  go();
  await refused;
  await writing;
});

Deno.test(
  "an encryption block that is being written when the lease changes hands counts",
  strict,
  async () => {
    const { server: held, reached, go, saved } = await heldServer(), writer = await makeWriter();
    await using server = held;
    await using first = await create(server, writer);
    const writing = Promise.resolve(first.writeHeader("key", 0, KEY)).then(() => first.flush());
    const fenced = assert.rejects(writing, Fenced);
    await reached;
    await using second = await openOn(server, { mode: "read" });
    const taking = second.upgrade({ ...await makeWriter(writer), takeover: true });
    await fenced;
    go();
    await taking;
    assert.equal(saved.at(-1), false);
  },
);

Deno.test("a container that was put in the place of what was begun is not replaced", strict, async () => {
  await using folder = await temporaryFolder();
  await using server = await startServer({ ...HASTY, root: folder.path });
  const first = await create(server);
  await first.flush();
  await first.close();
  const bytes = new Uint8Array(await readFile(`${folder.path}/box`));
  bytes[65_536 + 100] = 1;
  await writeFile(`${folder.path}/box`, bytes);
  await assert.rejects(create(server), { kind: "usage" });
  assert.deepEqual(new Uint8Array(await readFile(`${folder.path}/box`)), bytes);
});

Deno.test("records of earlier versions are those of containers", strict, async () => {
  await using folder = await temporaryFolder();
  await using server = await startServer({ ...HASTY, root: folder.path });
  const first = await create(server);
  await first.close();
  const path = `${folder.path}/.coverfs/containers/box.json`;
  const { begun, ...record } = JSON.parse(await readFile(path, "utf8"));
  assert.equal(begun, true);
  await writeFile(path, JSON.stringify(record));
  await assert.rejects(create(server), { kind: "usage" });
});
