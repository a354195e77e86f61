/** The lease of a store on a server: who may write, who takes over, and when it is given back. */
import assert from "node:assert/strict";
import { Broken, Fenced } from "../../fs/errors.ts";
import type { RemoteStore } from "../../fs/store/remote.ts";
import {
  BLOCK_BYTES,
  blocks,
  gate,
  hookedRoot,
  makeWriter,
  openOn,
  Relay,
  startServer,
} from "../net/servers.ts";
import { isCover } from "../errors.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };

Deno.test("a second writer is refused, and let in when the first has closed", strict, async () => {
  await using server = await startServer();
  const writer = await makeWriter();
  const first = await openOn(server, { mode: "create", ...writer });
  const other = await makeWriter(writer);
  await assert.rejects(openOn(server, { mode: "write", ...other }), { kind: "busy", hint: /--takeover/ });
  await first.close();
  await using second = await openOn(server, { mode: "write", ...other });
  await second.write(0, blocks(1, 1));
  await second.flush();
});

Deno.test("a writer that was cut off keeps its lease for a while", strict, async () => {
  await using server = await startServer({ limits: { takeoverSeconds: 0.5 } });
  await using relay = new Relay(server.port);
  const writer = await makeWriter();
  await using first = await openOn(server, { mode: "create", port: relay.port, ...writer });
  relay.down = true;
  relay.cut();
  await using second = await openOn(server, { mode: "read" });
  const claim = await makeWriter(writer);
  const until = performance.now() + 5000;
  let refusals = 0;
  for (;;) {
    try {
      await second.upgrade(claim);
      break;
    } catch (error) {
      isCover("busy")(error);
      refusals++;
      assert(performance.now() < until, "the lease never became free");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  assert(refusals > 0, "the lease was free at once");
  await second.write(0, blocks(1, 2));
  await second.flush();
  relay.down = false;
  await first.write(0, blocks(1, 1));
  await assert.rejects(first.flush(), Fenced);
  assert.equal((await first.read(0, 1))[9], 2, "reading goes on, and sees the new writer's data");
  assert.equal((await second.read(0, 1))[9], 2);
});

Deno.test("takeover on request: the holder is asked, commits and yields", strict, async () => {
  await using server = await startServer({ limits: { graceSeconds: 20 } });
  const writer = await makeWriter();
  let yielded: Promise<void> | undefined;
  const first: RemoteStore = await openOn(server, {
    mode: "create",
    ...writer,
    onLeaseWanted: () => yielded = first.flush().then(() => first.close()),
  });
  await first.write(0, blocks(1, 1));
  await using second = await openOn(server, { mode: "write", takeover: true, ...await makeWriter(writer) });
  await yielded;
  assert.equal((await second.read(0, 1))[9], 1);
});

Deno.test("takeover of a holder that does not yield: its late frames change nothing", strict, async () => {
  const held = gate();
  const go = gate();
  let hold = true;
  await using server = await startServer({
    decorate: hookedRoot(async (operation) => {
      if (operation !== "write" || !hold) return;
      hold = false;
      held.open();
      await go.opened;
    }),
  });
  const writer = await makeWriter();
  await using first = await openOn(server, { mode: "create", ...writer });
  await first.write(0, blocks(1, 1)); // under way at the server
  await held.opened;
  await using watcher = await openOn(server, { mode: "read" });
  await first.write(1, blocks(1, 1)); // queued behind it
  const flushed = first.flush().then(() => undefined, (e) => e);
  const taking = openOn(server, { mode: "write", takeover: true, ...await makeWriter(writer) });
  assert(await flushed instanceof Fenced, "the old writer is told");
  let granted = false;
  void taking.then(() => granted = true);
  for (let i = 0; i < 50; i++) await watcher.refresh();
  const early = granted;
  go.open();
  assert.equal(early, false, "granted while an operation of the old writer was under way");
  await using second = await taking;
  assert.equal((await second.read(0, 1))[9], 1, "the operation under way was finished before");
  assert.equal((await second.read(1, 1))[9], 0, "the queued one was not executed");
  await second.write(0, blocks(1, 2));
  await second.flush();
  await assert.rejects(async () => await first.write(0, blocks(1, 3)), Fenced);
  await assert.rejects(first.flush(), Fenced);
  assert.equal((await first.read(0, 1))[9], 2);
});

for (
  const [how, broken] of [
    ["by a disk that keeps failing", async (store: RemoteStore, disk: { failing: boolean }) => {
      disk.failing = true;
      await store.write(0, blocks(1, 1));
      await assert.rejects(store.flush(), Broken);
    }],
    ["by a quota, with writes on the way", async (store: RemoteStore) => {
      await store.write(0, blocks(200, 1));
      await store.write(200, blocks(200, 1));
      await assert.rejects(store.flush(), Broken);
    }],
    ["while the server was away", async (store: RemoteStore, _disk: unknown, relay: Relay) => {
      relay.down = true;
      relay.cut();
      await store.write(0, blocks(1, 1));
      await assert.rejects(store.flush(), Broken);
      relay.down = false;
    }],
  ] as const
) {
  Deno.test(`a store that was broken ${how} gives its lease back when it is closed`, strict, async () => {
    const disk = { failing: false, writes: 0 };
    await using server = await startServer({
      maxContainerBytes: 131072 + 100 * BLOCK_BYTES,
      decorate: hookedRoot((operation) => {
        if (operation === "write") disk.writes++;
        if (operation === "sync" && disk.failing) throw new Error("EIO");
      }),
    });
    await using relay = new Relay(server.port);
    const writer = await makeWriter(), options = { port: relay.port, outageSeconds: 0.2 };
    const store = await openOn(server, { mode: "create", ...options, ...writer });
    await broken(store, disk, relay);
    await store.close();
    const { writes } = disk;
    await using next = await openOn(server, { mode: "write", ...await makeWriter(writer) });
    assert.equal(disk.writes, writes, "nothing of the broken store is written any more");
    disk.failing = false;
    await next.write(0, blocks(1, 2));
    await next.flush();
    assert.equal((await next.read(0, 1))[9], 2);
  });
}

Deno.test("a broken store that lost its lease leaves the new writer's alone", strict, async () => {
  let failing = false;
  await using server = await startServer({
    decorate: hookedRoot((operation) => {
      if (operation === "sync" && failing) throw new Error("EIO");
    }),
  });
  const writer = await makeWriter();
  const store = await openOn(server, { mode: "create", ...writer });
  failing = true;
  await store.write(0, blocks(1, 1));
  await assert.rejects(store.flush(), Broken);
  failing = false;
  await using next = await openOn(server, { mode: "write", takeover: true, ...await makeWriter(writer) });
  await store.close();
  await next.write(0, blocks(1, 2));
  await next.flush();
});
