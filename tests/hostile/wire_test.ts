/** Attacks by a server that answers the protocol wrongly. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { CoverError, type ErrorKind } from "../../crypto/errors.ts";
import { blockOffset } from "../../net/backing.ts";
import { buildFrame, type Frame } from "../../net/frames.ts";
import { Op } from "../../net/mod.ts";
import { Status } from "../../net/protocol.ts";
import { equal, pattern } from "../fs/fixture.ts";
import { head, hostileServer, reply } from "../net/hostile_server.ts";
import { BLOCK_BYTES, HOST, makeWriter, openOn, temporaryFolder } from "../net/servers.ts";
import type { Outcome } from "./attacks.ts";
import { Client } from "./client.ts";
import { type History, makeHistory } from "./history.ts";
import { bounded, outcomeOf } from "./judge.ts";
import { backingOf, FilePlace, honest, type Lie, LyingServer } from "./places.ts";

// Libraries that a command loads stay loaded until its end.
const strict = { sanitizeOps: true, sanitizeResources: false };
/** How long anything here may take, in ms: every wait of a client is bounded by less than two seconds. */
const PATIENCE = 15_000;

/** Lies about these operations only. */
function about(operations: readonly number[], lie: Lie): Lie {
  return (request, execute) => (operations.includes(request.operation) ? lie : honest)(request, execute);
}

/** Answers with another body. */
function body(change: (right: Uint8Array, request: Frame) => Uint8Array): Lie {
  return async (request, execute) => [reply(request.id, request.operation, change(await execute(), request))];
}

const status =
  (number: number): Lie => ({ id, operation }) => [reply(id, operation, new Uint8Array(0), number)];
const later = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const longer = body((right) => new Uint8Array([...right, 0]));
const empty = body(() => new Uint8Array(0));
const state = (blocks: number) =>
  body((right) => (new DataView(right.buffer).setBigUint64(right.length - 24, BigInt(blocks), true), right));

/** Answers two requests at a time, the second one first; `mixed`: each with the other's body. */
function inPairs(mixed: boolean): Lie {
  let first: { request: Frame; body: Uint8Array; done: (answers: Uint8Array[]) => void } | undefined;
  const answer = ({ id, operation }: Frame, bytes: Uint8Array) => reply(id, operation, bytes);
  return async (request, execute) => {
    const bytes = await execute(), other = first;
    if (other === undefined) {
      const { promise, resolve } = Promise.withResolvers<Uint8Array[]>();
      first = { request, body: bytes, done: resolve };
      later(30).then(() => {
        if (first?.request !== request) return;
        first = undefined;
        resolve([answer(request, bytes)]);
      });
      return await promise;
    }
    first = undefined;
    other.done([]);
    return [
      answer(request, mixed ? other.body : bytes),
      answer(other.request, mixed ? bytes : other.body),
    ];
  };
}

const READS: readonly number[] = [Op.read, Op.readHeader];

/** What a server says, and what a client that reads and one that writes make of it. */
const LIES: readonly [name: string, lie: () => Lie, reads: readonly Outcome[], writes: readonly Outcome[]][] =
  [
    [
      "replies come late",
      () => async (request, execute) => {
        await later(10);
        return await honest(request, execute);
      },
      ["served"],
      ["served"],
    ],
    ["replies come out of order", () => about(READS, inPairs(false)), ["served"], ["served"]],
    ["replies of two requests are exchanged", () => about(READS, inPairs(true)), [
      "served",
      "damaged",
      "integrity",
    ], [
      "served",
      "damaged",
      "integrity",
    ]],
    [
      "replies come twice",
      () => about(READS, async (...asked) => [...await honest(...asked), ...await honest(...asked)]),
      ["no-connection", "served"],
      ["no-connection", "busy", "refused", "served"],
    ],
    ["reads are never answered", () => about([Op.read], () => []), ["no-connection"], ["no-connection"]],
    ["headers are never answered", () => about([Op.readHeader], () => []), ["no-connection"], [
      "no-connection",
    ]],
    [
      "replies have other ids",
      () =>
        about(READS, async ({ id, operation }, execute) => [reply(id + 1000, operation, await execute())]),
      [
        "no-connection",
      ],
      ["no-connection"],
    ],
    ["replies are said to be huge", () => about(READS, () => [head(0xffff_fff0, Op.read, 1)]), [
      "no-connection",
    ], [
      "no-connection",
    ]],
    [
      "replies are requests",
      () =>
        about(READS, ({ id }) => [
          buildFrame({ operation: Op.read, direction: 0, status: 0, id }, new Uint8Array(9)),
        ]),
      ["no-connection"],
      ["no-connection"],
    ],
    ["replies are noise", () => about(READS, () => [pattern(5000, 3)]), ["no-connection"], ["no-connection"]],
    ["blocks are cut in half", () => about([Op.read], body((right) => right.subarray(0, right.length / 2))), [
      "damaged",
    ], ["damaged"]],
    ["blocks are left out", () => about([Op.read], empty), ["damaged"], ["damaged"]],
    ["headers are left out", () => about([Op.readHeader], empty), ["damaged"], ["damaged"]],
    ["blocks are longer than asked", () => about([Op.read], longer), ["no-connection"], ["no-connection"]],
    ["headers are longer than asked", () => about([Op.readHeader], longer), ["no-connection"], [
      "no-connection",
    ]],
    [
      "blocks are those of other positions",
      () =>
        about(
          [Op.read],
          body((right) => {
            const moved = new Uint8Array(right.length);
            moved.set(right.subarray(0, right.length - BLOCK_BYTES), BLOCK_BYTES);
            return moved;
          }),
        ),
      ["damaged"],
      ["damaged"],
    ],
    ["it is said to have no blocks", () => about([Op.open, Op.lease, Op.size], state(0)), ["served"], [
      "served",
    ]],
    [
      "it is said to have as many blocks as can be",
      () => about([Op.open, Op.lease, Op.size], state(Number.MAX_SAFE_INTEGER)),
      ["served"],
      ["served"],
    ],
    ["its size is out of bounds", () => about([Op.open, Op.lease], body((right) => right.fill(0xff))), [
      "no-connection",
    ], ["no-connection"]],
    ["reads fail", () => about([Op.read], status(Status.failure)), ["failure"], ["failure"]],
    ["reads have a status that nobody knows", () => about([Op.read], status(999)), ["failure"], ["failure"]],
    ["it is always about to shut down", () => about(READS, status(Status.shutdown)), ["no-connection"], [
      "no-connection",
    ]],
    ["there is no such container", () => about([Op.open], status(Status.noContainer)), ["no-container"], [
      "no-container",
    ]],
    ["another writer holds it", () => about([Op.lease], status(Status.busy)), ["served"], ["busy"]],
    ["the proof is refused", () => about([Op.lease], status(Status.proof)), ["served"], ["refused"]],
    [
      "notifications that nobody knows come in floods",
      () => async (request, execute) => {
        const notice = buildFrame(
          { operation: Op.notify, direction: 2, status: 0, id: 0 },
          Uint8Array.of(99),
        );
        return [...Array<Uint8Array>(500).fill(notice), ...await honest(request, execute)];
      },
      ["served"],
      ["served"],
    ],
    ["writes are never answered", () => about([Op.write, Op.writeHeader, Op.flush], () => []), ["served"], [
      "no-connection",
      "data-lost",
    ]],
    ["writes are not answered, but flushes are", () => about([Op.write, Op.writeHeader], () => []), [
      "served",
    ], [
      "no-connection",
      "data-lost",
    ]],
    ["flushes are never answered", () => about([Op.flush], () => []), ["served"], [
      "no-connection",
      "data-lost",
    ]],
    ["flushes always fail", () => about([Op.flush], status(Status.failure)), ["served"], [
      "failure",
      "data-lost",
    ]],
    ["there is never any room", () => about([Op.write, Op.reserve], status(Status.noSpace)), ["served"], [
      "no-space",
      "data-lost",
    ]],
    [
      "another writer is said to have taken over",
      () => about([Op.flush], status(Status.fenced)),
      ["served"],
      [
        "busy",
        "data-lost",
      ],
    ],
  ];

/** A history, and a client that remembers its newest state at a server. */
async function prepared(folder: string, server: LyingServer): Promise<{ history: History; client: Client }> {
  const client = new Client(join(folder, "client"));
  const history = await makeHistory(new FilePlace(folder), client);
  client.forget();
  await server.set(history.newest.image);
  assert.equal(outcomeOf(await client.look(server), history.newest.files), "served");
  return { history, client };
}

/** What came of writing: "served" where all is there afterwards; nothing may be written where it was refused at once. */
async function written(client: Client, server: LyingServer, { newest }: History): Promise<Outcome> {
  const before = await server.get(), file = pattern(5000, 55), { memory } = client;
  const refused = await bounded(() => client.write(server, { written: file }));
  const after = await server.get();
  if (refused !== undefined && !["data-lost"].includes(refused)) client.memory = memory;
  await server.set(after);
  const seen = outcomeOf(
    await client.look(server),
    refused === undefined ? new Map([...newest.files, ["/written", file]]) : newest.files,
  );
  assert.equal(seen, "served", "what is there afterwards");
  if (refused === "damaged" || refused === "rollback" || refused === "integrity") {
    assert(equal(before, after), "something was written");
  }
  return refused ?? "served";
}

/** Fails where something waits for good. */
async function within(work: () => Promise<void>): Promise<void> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`not done within ${PATIENCE} ms`)), PATIENCE);
  try {
    await Promise.race([work(), late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

Deno.test(
  "a server that answers wrongly: each lie is named in bounded time, and nothing is lost",
  strict,
  async (t) => {
    await using folder = await temporaryFolder();
    await using server = await LyingServer.start();
    const { history, client } = await prepared(folder.path, server), { memory } = client;
    for (const [name, lie, reads, writes] of LIES) {
      await t.step(name, () =>
        within(async () => {
          client.memory = memory;
          await server.set(history.newest.image, lie());
          const seen = outcomeOf(await bounded(() => client.look(server)), history.newest.files);
          assert(reads.includes(seen), `to a reader: ${seen}`);
          await server.set(history.newest.image, lie());
          const outcome = await written(client, server, history);
          assert(writes.includes(outcome), `to a writer: ${outcome}`);
        }));
    }
  },
);

const isKind = (kind: ErrorKind) => (error: unknown) => {
  assert(error instanceof CoverError, String(error));
  assert.equal(error.kind, kind, error.message);
  return true;
};

Deno.test(
  "a server that drops writes and acknowledges the flush is found out at the next opening",
  strict,
  async (t) => {
    await using folder = await temporaryFolder();
    await using server = await LyingServer.start();
    const { history: { newest }, client } = await prepared(folder.path, server), { memory } = client;
    const dropped: readonly [string, readonly Op[], ErrorKind][] = [
      ["all", [Op.write, Op.writeHeader], "rollback"],
      ["blocks", [Op.write], "damaged"],
      ["superblocks", [Op.writeHeader], "rollback"],
    ];
    for (const [name, operations, expected] of dropped) {
      await t.step(name, () =>
        within(async () => {
          client.memory = memory;
          await server.set(
            newest.image,
            about(operations, ({ id, operation }) => [reply(id, operation, new Uint8Array(0))]),
          );
          assert.equal(
            await client.write(server, { written: pattern(5000, 55) }),
            undefined,
            "it is believed",
          );
          assert.equal(await client.look(server), expected);
        }));
    }
  },
);

Deno.test(
  "a server that switches states between two readings of one opening has nothing overwritten",
  strict,
  async (t) => {
    await using folder = await temporaryFolder();
    await using server = await LyingServer.start();
    const { history: { newest, parent, lost, forks }, client } = await prepared(folder.path, server),
      { memory } = client;
    /** The first `count` readings are of one state, what comes then, and all writing, of another one. */
    const switched = async (from: Uint8Array, count: number) => {
      const first = await backingOf(from);
      let left = count;
      return {
        lie: (async (request, execute) => {
          const reads = READS.includes(request.operation);
          return [
            reply(request.id, request.operation, await (reads && left-- > 0 ? execute(first) : execute())),
          ];
        }) satisfies Lie,
        done: () => left < 0,
      };
    };
    const pairs = [["newest", newest, "parent", parent], ["parent", parent, "newest", newest], [
      "newest",
      newest,
      "lost",
      lost,
    ], [
      "fork",
      forks[0],
      "newest",
      newest,
    ]] as const;
    for (const [nameOf, from, nameTo, to] of pairs) {
      await t.step(`${nameOf}, then ${nameTo}`, async () => {
        for (let count = 1, done = false; !done; count++) {
          const { lie, done: isDone } = await switched(from.image, count);
          client.memory = memory;
          await server.set(to.image, lie);
          const written = pattern(5000, 55);
          const refused = await bounded(() => client.write(server, { written }));
          done = !isDone();
          if (refused === undefined) {
            // What was written on the other state is lost with the server's word: that shows now, or all is there.
            await server.set(await server.get());
            const seen = await client.look(server);
            if (typeof seen !== "string") {
              assert.equal(outcomeOf(seen, new Map([...newest.files, ["/written", written]])), "served");
            } else assert(["rollback", "damaged"].includes(seen), `after ${count}: ${seen}`);
          } else {
            assert(
              ["rollback", "damaged", "integrity", "wrong-passphrase"].includes(refused),
              `after ${count}: ${refused}`,
            );
            assert(equal(await server.get(), to.image), `after ${count}: something was written (${refused})`);
          }
          assert(count < 200, "an opening has an end");
        }
      });
    }
  },
);

Deno.test(
  "a server that hangs, in TLS or in the handshake, is no connection after a bounded time",
  strict,
  async () => {
    const times = { mode: "read", connectSeconds: 0.3, waitSeconds: 0.3 } as const;
    await within(async () => {
      using listener = Deno.listen({ hostname: HOST, port: 0 });
      const { port } = listener.addr as Deno.NetAddr, taken: Deno.Conn[] = [];
      const accepting = (async () => {
        for await (const conn of listener) taken.push(conn);
      })();
      const silent = { port, fingerprint: "A".repeat(43), firstToken: "A".repeat(43) };
      await assert.rejects(openOn(silent, times), isKind("no-connection"));
      listener.close();
      await accepting;
      for (const conn of taken) conn.close();
    });
    const hello = (request: Frame) => [reply(request.id, Op.hello, new Uint8Array(44)).subarray(0, 20)];
    for (const answer of [() => [], hello, () => [head(4097, Op.hello, 1)]]) {
      await within(async () => {
        await using server = await hostileServer(answer, Op.hello);
        await assert.rejects(openOn(server, times), isKind("no-connection"));
      });
    }
    await within(async () => {
      await using server = await hostileServer(() => []);
      await assert.rejects(openOn(server, times), isKind("no-connection"));
    });
  },
);

Deno.test(
  "a lease that is never answered is no connection after a bounded time, though PING is answered",
  strict,
  () =>
    within(async () => {
      await using server = await LyingServer.start();
      await server.set(new Uint8Array(200_000), about([Op.lease], () => []));
      const writer = { ...await makeWriter(), mode: "write", connectSeconds: 0.3 } as const;
      await assert.rejects(openOn(server.address, writer), isKind("no-connection"));
    }),
);

Deno.test("a flush that is acknowledged before the writes ahead of it covers nothing", strict, async (t) => {
  const written = pattern(3 * BLOCK_BYTES, 7), where = blockOffset(2);
  /** A store on a server that has kept and answered no write, but acknowledges flushes, on so many connections. */
  const opened = async (server: LyingServer, connections: number) => {
    let left = connections;
    await server.set(new Uint8Array(200_000), (request, execute) => {
      if (request.operation === Op.lease) left--;
      return left >= 0 && request.operation === Op.write ? [] : honest(request, execute);
    });
    const store = await openOn(server.address, { mode: "write", ...await makeWriter(), outageSeconds: 10 });
    await store.write(2, written);
    return store;
  };
  await t.step("once: all is sent again, and only then flushed", () =>
    within(async () => {
      await using server = await LyingServer.start();
      await using store = await opened(server, 1);
      await store.flush();
      assert(equal((await server.get()).subarray(where, where + written.length), written), "it is not there");
    }));
  await t.step("always: the store is broken", () =>
    within(async () => {
      await using server = await LyingServer.start();
      await using store = await opened(server, Infinity);
      await assert.rejects(store.flush(), /acknowledges an operation before those ahead of it/);
    }));
});
