/** A store whose network is slow, or silent, or brings things late. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Broken, Fenced } from "../../fs/errors.ts";
import {
  BLOCK_BYTES,
  blocks,
  makeWriter,
  openOn,
  Relay,
  same,
  startServer,
  temporaryFolder,
} from "../net/servers.ts";
import { Stranger } from "../net/stranger.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };

Deno.test("a half-open connection is found out, and what was on it is sent again", strict, async () => {
  await using server = await startServer();
  await using relay = new Relay(server.port);
  const states: string[] = [];
  await using store = await openOn(server, {
    mode: "create",
    port: relay.port,
    pingSeconds: 0.1,
    onConnection: (state) => states.push(state),
    ...await makeWriter(),
  });
  await store.write(0, blocks(2, 1));
  await store.flush();
  relay.hold();
  await store.write(1, blocks(2, 2));
  const read = store.read(0, 1);
  await store.flush();
  assert.equal((await read)[9], 1, "a read that was under way is asked again");
  assert.deepEqual(states, ["cut", "restored"]);
  relay.release(); // what was held arrives now, from a connection that is over
  await store.write(3, blocks(1, 3));
  await store.flush();
  assert(same((await store.read(0, 4)).subarray(BLOCK_BYTES, 3 * BLOCK_BYTES), blocks(2, 2)));
});

Deno.test(
  "frames of a writer that was replaced change nothing, however late they arrive",
  strict,
  async () => {
    await using server = await startServer();
    await using relay = new Relay(server.port);
    const writer = await makeWriter();
    await using first = await openOn(server, { mode: "create", port: relay.port, ...writer });
    await first.write(0, blocks(4, 1));
    await first.flush();
    relay.hold();
    await first.write(0, blocks(2, 2));
    const lost = [first.truncate(1), first.flush()].map((one) => one.then(() => undefined, (error) => error));
    await using second = await openOn(server, { mode: "write", takeover: true, ...await makeWriter(writer) });
    await second.write(1, blocks(1, 3));
    await second.flush();
    relay.release();
    for (const error of await Promise.all(lost)) assert(error instanceof Fenced, String(error));
    await assert.rejects(async () => await first.write(0, blocks(1, 4)), Fenced);
    await second.flush();
    const now = await second.read(0, 4);
    assert.equal(await second.size(), 4);
    assert.deepEqual([0, 1, 2, 3].map((i) => now[i * BLOCK_BYTES + 9]), [1, 3, 1, 1]);
  },
);

Deno.test(
  "who answers in the server's place is told nothing, and when the server is back what waited is written",
  strict,
  async () => {
    await using server = await startServer();
    await using stranger = await Stranger.start();
    await using relay = new Relay(server.port);
    const states: string[] = [];
    await using store = await openOn(server, {
      mode: "create",
      port: relay.port,
      onConnection: (state) => states.push(state),
      ...await makeWriter(),
    });
    relay.target = stranger.port;
    relay.cut();
    await store.write(0, blocks(2, 1));
    const flushed = store.flush();
    await stranger.visited(4);
    relay.target = server.port;
    await flushed;
    assert(same(await store.read(0, 2), blocks(2, 1)));
    assert.deepEqual(states, ["cut", "refused", "restored"], "told once");
    assert.equal(stranger.bytesRead, 0);
  },
);

Deno.test("who answers in the server's place counts as an outage, and reading says so", strict, async () => {
  await using server = await startServer();
  await using stranger = await Stranger.start();
  await using relay = new Relay(server.port);
  const restored = Promise.withResolvers<void>();
  await using store = await openOn(server, {
    mode: "create",
    port: relay.port,
    outageSeconds: 0.5,
    waitSeconds: 0.2,
    onConnection: (state) => state === "restored" && restored.resolve(),
    ...await makeWriter(),
  });
  const refused = (error: unknown) => (error as { kind?: string }).kind === "identity";
  relay.target = stranger.port;
  relay.cut();
  await stranger.visited(1);
  await assert.rejects(async () => await store.read(0, 1), refused);
  await store.write(0, blocks(1, 1)); // only now is there something to lose
  await assert.rejects(store.flush(), (error) => error instanceof Broken && refused(error.cause));
  relay.target = server.port;
  await restored.promise;
  assert(same(await store.read(0, 1), new Uint8Array(BLOCK_BYTES)), "reading goes on, with nothing written");
});

Deno.test("a token that the server does not know for a while is tried again", strict, async () => {
  await using folder = await temporaryFolder();
  const options = { root: folder.path }, first = await startServer(options), { port } = first;
  const tokens = join(folder.path, ".coverfs", "tokens.json");
  const refused = Promise.withResolvers<string>();
  await using store = await openOn(first, {
    mode: "create",
    ...await makeWriter(),
    onConnection: (state, reason) => state === "refused" && refused.resolve(reason!.kind),
  });
  await first.shutdown();
  const known = await Deno.readFile(tokens);
  await Deno.remove(tokens);
  const forgetful = await startServer({ ...options, port });
  await store.write(0, blocks(1, 1));
  const flushed = store.flush();
  assert.equal(await refused.promise, "refused");
  await forgetful.shutdown();
  await Deno.writeFile(tokens, known);
  await using _server = await startServer({ ...options, port });
  await flushed;
});

Deno.test("over a link that takes seconds for a frame nobody takes the other for dead", strict, async () => {
  await using server = await startServer({ limits: { idleSeconds: 1.2, takeoverSeconds: 1.2 } });
  await using relay = new Relay(server.port, { rate: 500_000, delay: 50 });
  const writer = await makeWriter();
  await using store = await openOn(server, {
    mode: "create",
    port: relay.port,
    pingSeconds: 0.3,
    waitSeconds: 1,
    ...writer,
  });
  const before = relay.connections, data = blocks(250, 7);
  crypto.getRandomValues(data.subarray(0, 65536));
  await store.write(0, data);
  await store.flush();
  assert(same(await store.read(0, 250), data));
  assert.equal(relay.connections, before, "the connection was ended, and made anew");
});
