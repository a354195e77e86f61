import assert from "node:assert/strict";
import { Broken, FsError } from "../../fs/errors.ts";
import {
  BLOCK_BYTES,
  blocks,
  type DiskOperation,
  gate,
  hookedRoot,
  makeWriter,
  openOn,
  Relay,
  same,
  startServer,
  temporaryFolder,
} from "../net/servers.ts";
import { isCover } from "../errors.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };

for (const medium of ["RAM", "a folder"]) {
  Deno.test(`a store over ${medium} keeps what was written, after closing too`, strict, async () => {
    await using folder = await temporaryFolder();
    await using server = await startServer(medium === "RAM" ? {} : { root: folder.path });
    const writer = await makeWriter();
    {
      await using store = await openOn(server, { mode: "create", ...writer });
      assert.equal(await store.size(), 0);
      await store.reserve(16);
      assert.equal(await store.size(), 16);
      assert(same(await store.read(0, 2), new Uint8Array(2 * BLOCK_BYTES)), "reserved blocks read as zeros");
      const data = blocks(3, 7);
      await store.write(4, data);
      assert(same(await store.read(4, 3), data), "unflushed writes are seen");
      const around = await store.read(3, 5);
      assert(same(around.subarray(BLOCK_BYTES, 4 * BLOCK_BYTES), data));
      assert(same(around.subarray(4 * BLOCK_BYTES), new Uint8Array(BLOCK_BYTES)));
      await store.writeHeader("key", 1, new Uint8Array(4096).fill(9));
      await store.writeHeader("super", 0, new Uint8Array(4128).fill(8));
      assert.equal((await store.readHeader("key", 1))[4095], 9);
      await store.flush();
      assert(same(await store.read(4, 3), data), "and flushed ones too");
      store.discard(4, 1);
      await store.write(20, blocks(1, 5));
      assert.equal(await store.size(), 21);
      await store.truncate(10);
      await store.flush();
      assert.equal(await store.size(), 10);
      assert.equal((await store.read(18, 4)).length, 4 * BLOCK_BYTES, "beyond the end reads, too");
    }
    await using reader = await openOn(server, { mode: "read" });
    assert.equal(await reader.size(), 10);
    assert(same(await reader.read(5, 2), blocks(3, 7).subarray(BLOCK_BYTES)));
    assert.equal((await reader.readHeader("super", 0))[4127], 8);
    assert.equal((await reader.readHeader("super", 1))[0], 0);
    assert.equal((await reader.readHeader("key", 1))[0], 9);
    await assert.rejects(
      async () => await reader.write(0, blocks(1, 1)),
      (e) => e instanceof FsError && e.code === "EROFS",
    );
  });
}

Deno.test("long runs are split, and arrive whole", strict, async () => {
  await using server = await startServer({ limits: { window: 1 << 20 } });
  await using store = await openOn(server, { mode: "create", ...await makeWriter() });
  const data = blocks(2500, 3);
  crypto.getRandomValues(data.subarray(0, 65536));
  await store.write(1, data);
  await store.flush();
  assert(same(await store.read(1, 2500), data));
});

Deno.test("what lies in memory is copied: the writer's buffer is free after the flush", strict, async () => {
  await using server = await startServer();
  await using store = await openOn(server, { mode: "create", ...await makeWriter() });
  const data = blocks(1, 3);
  await store.write(0, data);
  const seen = await store.read(0, 1);
  await store.flush();
  data.fill(0xff);
  assert.equal(seen[100], 3);
  assert.equal((await store.read(0, 1))[100], 3);
});

Deno.test(
  "what no flush has covered is bounded, though nobody asks for one and the disk takes its time",
  strict,
  async () => {
    const disk = gate();
    let syncs = 0;
    const decorate = hookedRoot((operation) =>
      operation === "sync" && syncs++ === 0 ? disk.opened : undefined
    );
    await using server = await startServer({ decorate });
    const flushBytes = 64 * BLOCK_BYTES;
    await using store = await openOn(server, { mode: "create", ...await makeWriter(), flushBytes });
    const data = blocks(16, 3);
    let taken = 0, waiting: Promise<void> | void = undefined;
    while (!waiting && taken < 100) waiting = store.write(16 * taken++, data);
    assert.equal(taken, 8, "more is kept than twice the bytes for a flush");
    assert.equal(
      await Promise.race([waiting!.then(() => "taken"), store.size().then(() => "waits")]),
      "waits",
    );
    disk.open();
    await waiting;
    for (; taken < 100; taken++) await store.write(16 * taken, data);
    await store.flush();
    assert(same(await store.read(16 * 99, 16), data));
  },
);

Deno.test("a flush with nothing to flush, and size() of a writer, send no frame", strict, async () => {
  await using server = await startServer();
  await using store = await openOn(server, { mode: "create", ...await makeWriter() });
  await store.write(0, blocks(2, 1));
  await store.flush();
  const before = store.framesSent;
  await store.flush();
  assert.equal(await store.size(), 2);
  assert.equal(await store.refresh(), false);
  assert.equal(store.framesSent, before);
});

Deno.test("reserve() beyond the quota is EDQUOT and leaves the store usable", strict, async () => {
  await using server = await startServer({ maxContainerBytes: 131072 + 10 * BLOCK_BYTES });
  await using store = await openOn(server, { mode: "create", ...await makeWriter() });
  assert.deepEqual(await store.space(), { free: 10, quota: 10 });
  await assert.rejects(store.reserve(11), (e) => e instanceof FsError && e.code === "EDQUOT");
  await store.reserve(10);
  await store.write(9, blocks(1, 1));
  await store.flush();
  assert.deepEqual(await store.space(), { free: 0, quota: 10 });
  await store.write(10, blocks(1, 1));
  const failed = await store.flush().then(() => undefined, (e) => e);
  assert(failed instanceof Broken && failed.cause instanceof FsError && failed.cause.code === "EDQUOT");
  await assert.rejects(async () => await store.write(0, blocks(1, 1)), Broken);
  assert.equal((await store.read(9, 1))[5], 1, "reading goes on");
});

for (const [what, lost] of [["", false], [" and lost what was not synced", true]] as const) {
  Deno.test(
    `room that was granted breaks nothing when the server comes back with a lower quota${what}`,
    strict,
    async () => {
      await using folder = await temporaryFolder();
      const first = await startServer({ root: folder.path });
      const { fingerprint, firstToken, port } = first;
      const store = await openOn(first, { mode: "create", ...await makeWriter() });
      try {
        await store.write(0, blocks(2, 1));
        await store.flush();
        await store.reserve(20);
        await store.write(1, blocks(1, 2));
        if (!lost) await store.write(12, blocks(1, 3));
        await store.truncate(20); // is answered when all before it is
        await first.shutdown();
        if (lost) await Deno.truncate(`${folder.path}/box`, 131072 + 2 * BLOCK_BYTES);
        await using _second = await startServer({
          root: folder.path,
          port,
          maxContainerBytes: 131072 + 10 * BLOCK_BYTES,
        });
        await store.flush();
        await assert.rejects(store.reserve(21), (e) => e instanceof FsError && e.code === "EDQUOT");
        if (!lost) await store.write(19, blocks(1, 4));
        await store.write(2, blocks(1, 5));
        await store.flush();
        await using reader = await openOn({ port, fingerprint, firstToken }, { mode: "read" });
        assert.equal(await reader.size(), lost ? 3 : 20);
        const seen = await reader.read(0, 20);
        const expected = lost ? [[0, 1], [1, 2], [2, 5]] : [[0, 1], [1, 2], [2, 5], [12, 3], [19, 4]];
        for (const [block, fill] of expected) assert.equal(seen[block! * BLOCK_BYTES + 9], fill);
      } finally {
        await store.close();
        await first.shutdown();
      }
    },
  );
}

Deno.test(
  "room that was asked for and not granted may be refused after a cut: the store goes on",
  strict,
  async () => {
    await using folder = await temporaryFolder();
    const first = await startServer({ root: folder.path });
    const store = await openOn(first, { mode: "create", ...await makeWriter() });
    try {
      await store.write(0, blocks(1, 1));
      await store.flush();
      await first.shutdown();
      const refused = assert.rejects(store.reserve(20), (e) => e instanceof FsError && e.code === "EDQUOT");
      await store.write(1, blocks(1, 2));
      await using second = await startServer({
        root: folder.path,
        port: first.port,
        maxContainerBytes: 131072 + 10 * BLOCK_BYTES,
      });
      assert.equal(second.port, first.port);
      await refused;
      await store.flush();
      assert.equal((await store.read(1, 1))[9], 2);
    } finally {
      await store.close();
      await first.shutdown();
    }
  },
);

Deno.test(
  "a refused reserve() is an answer: a server that says nothing else is not away",
  strict,
  async () => {
    await using server = await startServer({ maxContainerBytes: 131072 + 10 * BLOCK_BYTES });
    await using relay = new Relay(server.port);
    const options = { mode: "create", ...await makeWriter() } as const;
    await using store = await openOn(server, { ...options, outageSeconds: 0.5 });
    await using other = await openOn(server, {
      ...options,
      port: relay.port,
      outageSeconds: 1,
      container: "other",
    });
    await assert.rejects(store.reserve(11), (e) => e instanceof FsError && e.code === "EDQUOT");
    relay.down = true;
    relay.cut();
    await other.write(0, blocks(1, 1));
    await assert.rejects(other.flush(), Broken); // after a longer outage than the first store bears
    await store.write(0, blocks(1, 1));
    await store.flush();
  },
);

Deno.test(
  "reserve() on a full disk is ENOSPC, gives back what it took, and leaves the store usable",
  strict,
  async () => {
    let writes = 0;
    const full = Object.assign(new Error("disk full"), { code: "ENOSPC" });
    await using server = await startServer({
      decorate: hookedRoot((operation) => {
        if (operation === "write" && ++writes === 2) throw full;
      }),
    });
    await using store = await openOn(server, { mode: "create", ...await makeWriter() });
    await assert.rejects(store.reserve(600), (e) => e instanceof FsError && e.code === "ENOSPC");
    await using reader = await openOn(server, { mode: "read" });
    assert.equal(await reader.size(), 0);
    await store.write(0, blocks(1, 1));
    await store.flush();
  },
);

Deno.test("operations run in order: what follows a flush waits for it, reads do not", strict, async () => {
  const seen: DiskOperation[] = [];
  const syncing = gate();
  const go = gate();
  await using server = await startServer({
    decorate: hookedRoot(async (operation) => {
      seen.push(operation);
      if (operation !== "sync") return;
      syncing.open();
      await go.opened;
    }),
  });
  await using store = await openOn(server, { mode: "create", ...await makeWriter() });
  await store.write(0, blocks(1, 1));
  const flushed = store.flush();
  await store.write(1, blocks(1, 2));
  await syncing.opened;
  await store.read(100, 1);
  assert.deepEqual(seen, ["write", "sync", "read"]);
  go.open();
  await flushed;
  await store.flush();
  assert.deepEqual(seen, ["write", "sync", "read", "write", "sync"]);
});

Deno.test(
  "after the server was closed and started again, unflushed writes are sent again",
  strict,
  async () => {
    await using folder = await temporaryFolder();
    const first = await startServer({ root: folder.path });
    const writer = await makeWriter();
    const { fingerprint, firstToken, port } = first;
    const store = await openOn(first, { mode: "create", ...writer });
    try {
      await store.write(0, blocks(2, 1));
      await store.flush();
      await store.write(1, blocks(2, 2));
      await first.shutdown();
      await store.write(5, blocks(1, 3));
      await store.writeHeader("super", 1, new Uint8Array(4128).fill(4));
      const waiting = store.read(0, 1);
      // As if the machine had lost what was not synced: only what the client sends again can bring it back.
      const file = await Deno.open(`${folder.path}/box`, { write: true });
      await file.truncate(131072 + 2 * BLOCK_BYTES);
      await file.seek(131072 + BLOCK_BYTES, Deno.SeekMode.Start);
      await file.write(blocks(1, 0x55));
      file.close();
      await using second = await startServer({ root: folder.path, port });
      assert.equal(second.fingerprint, fingerprint, "the identity stays");
      assert.equal(second.firstToken, undefined, "no second token is made");
      assert.equal((await waiting)[9], 1, "a read waited for the server");
      await store.flush();
      await using reader = await openOn({ port, fingerprint, firstToken }, { mode: "read" });
      assert(same(await reader.read(1, 2), blocks(2, 2)));
      assert(same(await reader.read(5, 1), blocks(1, 3)));
      assert.equal((await reader.readHeader("super", 1))[17], 4);
      await store.close();
    } finally {
      await store.close();
      await first.shutdown();
    }
  },
);

Deno.test(
  "a sync that fails once is not repeated: everything is sent again, and nothing acknowledged is lost",
  strict,
  async () => {
    let fail = false;
    const seen: DiskOperation[] = [];
    await using server = await startServer({
      decorate: hookedRoot((operation) => {
        if (operation !== "read") seen.push(operation);
        if (operation === "sync" && fail) {
          fail = false;
          throw new Error("EIO");
        }
      }),
    });
    await using store = await openOn(server, { mode: "create", ...await makeWriter() });
    await store.write(0, blocks(1, 1));
    await store.flush();
    fail = true;
    await store.write(0, blocks(1, 2));
    const flushed = store.flush();
    await store.write(1, blocks(1, 3)); // behind the failing flush: refused, then sent again
    await flushed;
    await store.flush();
    assert.deepEqual(seen, ["write", "sync", "write", "sync", "write", "sync", "write", "sync"]);
    await using reader = await openOn(server, { mode: "read" });
    assert.equal((await reader.read(0, 1))[9], 2);
    assert.equal((await reader.read(1, 1))[9], 3);
  },
);

Deno.test("a disk that keeps failing breaks the store, which then refuses all writing", strict, async () => {
  let failing = false;
  await using server = await startServer({
    decorate: hookedRoot((operation) => {
      if (operation === "sync" && failing) throw new Error("EIO");
    }),
  });
  await using store = await openOn(server, { mode: "create", ...await makeWriter() });
  failing = true;
  await store.write(0, blocks(1, 1));
  await assert.rejects(store.flush(), Broken);
  await assert.rejects(store.flush(), Broken);
  await assert.rejects(store.truncate(0), Broken);
  await assert.rejects(store.reserve(9), Broken);
});

Deno.test("a cut connection is made again, by the same session", strict, async () => {
  await using server = await startServer();
  await using relay = new Relay(server.port);
  const states: string[] = [];
  await using store = await openOn(server, {
    mode: "create",
    port: relay.port,
    onConnection: (state) => states.push(state),
    ...await makeWriter(),
  });
  for (let round = 0; round < 3; round++) {
    await store.write(round, blocks(1, round + 1));
    relay.cut();
    await store.write(round + 10, blocks(1, round + 1));
    await store.flush();
    assert.equal((await store.read(round, 1))[9], round + 1);
  }
  assert.deepEqual(states.slice(0, 2), ["cut", "restored"]);
});

Deno.test(
  "wherever the connection is cut: after a flush the server holds what a model holds",
  strict,
  async () => {
    let syncs = 0;
    await using server = await startServer({
      decorate: hookedRoot((operation) => {
        if (operation === "sync" && ++syncs % 7 === 0) throw new Error("EIO");
      }),
    });
    await using relay = new Relay(server.port);
    await using store = await openOn(server, { mode: "create", port: relay.port, ...await makeWriter() });
    await using reader = await openOn(server, { mode: "read" });
    let seed = 12345;
    const random = (below: number) => (seed = (seed * 1103515245 + 12345) % 2 ** 31) % below;
    const model = new Map<number, number>();
    for (let round = 0; round < 12; round++) {
      for (let i = 0; i < 12; i++) {
        const position = random(64);
        const count = 1 + random(20);
        const fill = 1 + random(255);
        const data = new Uint8Array(count * BLOCK_BYTES).fill(fill);
        await store.write(position, data);
        for (let block = 0; block < count; block++) model.set(position + block, fill);
        if (random(4) === 0) await Promise.resolve(); // let some frames go
        if (random(10) === 0) relay.cut();
        const seen = random(64);
        assert.equal((await store.read(seen, 1))[7], model.get(seen) ?? 0, `round ${round}`);
      }
      const flushed = store.flush();
      if (random(2) === 0) relay.cut();
      await flushed;
      const all = await reader.read(0, 84);
      for (const [position, fill] of model) {
        assert.equal(
          all[position * BLOCK_BYTES + 7],
          fill,
          `block ${position}`,
        );
      }
    }
  },
);

Deno.test("a read waits a bounded time for the server, then there is no connection", strict, async () => {
  await using server = await startServer();
  await using relay = new Relay(server.port);
  await using store = await openOn(server, {
    mode: "create",
    port: relay.port,
    waitSeconds: 0.2,
    ...await makeWriter(),
  });
  relay.down = true;
  relay.cut();
  await assert.rejects(store.read(0, 1), isCover("no-connection"));
});

Deno.test("a server that stays away breaks a store with unflushed writes", strict, async () => {
  await using server = await startServer();
  await using relay = new Relay(server.port);
  await using store = await openOn(server, {
    mode: "create",
    port: relay.port,
    outageSeconds: 0.3,
    ...await makeWriter(),
  });
  relay.down = true;
  relay.cut();
  await store.write(0, blocks(1, 1));
  await assert.rejects(store.flush(), (e) => e instanceof Broken && isCover("no-connection")(e.cause));
});

Deno.test(
  "a server that stays away longer than it may breaks no store that has nothing to lose",
  strict,
  async () => {
    await using server = await startServer();
    await using relay = new Relay(server.port);
    const options = { mode: "create", port: relay.port, ...await makeWriter() } as const;
    await using store = await openOn(server, { ...options, outageSeconds: 0.5, waitSeconds: 60 });
    await using other = await openOn(server, { ...options, outageSeconds: 1, container: "other" });
    await store.write(0, blocks(3, 1));
    await store.flush();
    store.discard(0, 1); // as after each commit that makes blocks free
    await store.reserve(9);
    await other.write(0, blocks(1, 1));
    relay.down = true;
    relay.cut();
    await assert.rejects(other.flush(), Broken);
    relay.down = false;
    await store.read(0, 1);
    await store.write(5, blocks(1, 2));
    await store.flush();
  },
);

Deno.test("a reader is told once of changes, until it refreshes", strict, async () => {
  await using server = await startServer();
  await using store = await openOn(server, { mode: "create", ...await makeWriter() });
  let told = gate();
  let count = 0;
  await using reader = await openOn(server, { mode: "read", onChanged: () => (count++, told.open()) });
  assert.equal(await reader.refresh(), false);
  for (let i = 0; i < 3; i++) {
    await store.write(0, blocks(1, i));
    await store.flush();
  }
  await told.opened;
  assert.equal(await reader.refresh(), true);
  assert.equal(await reader.refresh(), false);
  assert.equal(count, 1);
  told = gate();
  await store.write(0, blocks(1, 9));
  await store.flush();
  await told.opened;
  assert.equal(await reader.refresh(), true);
});

Deno.test("close() while the server is away ends everything", strict, async () => {
  await using server = await startServer();
  await using relay = new Relay(server.port);
  const store = await openOn(server, { mode: "create", port: relay.port, ...await makeWriter() });
  relay.down = true;
  relay.cut();
  await store.write(0, blocks(1, 1));
  const flushed = store.flush().then(() => undefined, (e) => e);
  const read = store.read(50, 1).then(() => undefined, (e) => e);
  await store.close();
  await store.close();
  assert(await flushed instanceof Broken);
  isCover("no-connection")(await read);
});

/** Breaks a store in one way, closes it, and lets another writer in. */

Deno.test("a container is removed by a store that broke while making it", strict, async () => {
  await using server = await startServer({ maxContainerBytes: 131072 + 2 * BLOCK_BYTES });
  const store = await openOn(server, { mode: "create", ...await makeWriter() });
  await store.write(0, blocks(3, 1));
  await assert.rejects(store.flush(), Broken);
  await store.remove();
  await store.close();
  await assert.rejects(openOn(server, { mode: "read" }), isCover("no-container"));
});
