import assert from "node:assert/strict";
import { FaultStore } from "../../fs/block/fault.ts";
import { Broken, Fenced, FsError } from "../../fs/errors.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { assertRefuses, sealedBlocks, storeSuite } from "./conformance.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };

storeSuite("without a fault", ({ quota }) => {
  const store = new FaultStore(new RamStore(quota === undefined ? {} : { quota }));
  return Promise.resolve({ open: () => Promise.resolve(store), [Symbol.asyncDispose]: () => store.close() });
}, { persistent: false, runs: 10 });

const isBroken = (error: unknown) => error instanceof Broken;
const eio = () => new FsError("EIO", "the disk fails");

Deno.test(
  "the nth write fails with the error that was given, and everything later with Broken",
  strict,
  async () => {
    const base = new RamStore(), error = eio();
    const store = new FaultStore(base).fail({ at: "write", nth: 3, error });
    await store.write(0, sealedBlocks(1, 1));
    await store.write(1, sealedBlocks(1, 2));
    await assert.rejects(async () => await store.write(2, sealedBlocks(1, 3)), (e) => e === error);
    await assertRefuses(store, (e) => e instanceof Broken && e.cause === error);
    assert.equal(await base.size(), 2, "nothing more reaches the store below");
    assert.deepEqual(await store.read(0, 1), sealedBlocks(1, 1));
  },
);

for (const at of ["flush", "truncate", "header"] as const) {
  Deno.test(`a ${at} that fails breaks the store`, strict, async () => {
    const error = eio(), store = new FaultStore(new RamStore()).fail({ at, nth: 2, error });
    const calls = {
      flush: () => store.flush(),
      truncate: () => store.truncate(1),
      header: async () => await store.writeHeader("key", 0, new Uint8Array(4096)),
    };
    await calls[at]();
    await assert.rejects(calls[at](), (e) => e === error);
    await assertRefuses(store, isBroken);
  });
}

Deno.test(
  "a reservation without room leaves the store usable, one that fails otherwise does not",
  strict,
  async () => {
    const store = new FaultStore(new RamStore());
    store.fail({ at: "reserve", nth: 1, error: new FsError("ENOSPC") });
    await assert.rejects(store.reserve(4), (e) => e instanceof FsError && e.code === "ENOSPC");
    await store.reserve(4);
    await store.flush();
    store.fail({ at: "reserve", nth: 1, error: new Error("gone") });
    await assert.rejects(store.reserve(5), /gone/);
    await assertRefuses(store, isBroken);
  },
);

Deno.test("a late fault is told by the next flush, and what was written is lost", strict, async () => {
  const base = new RamStore(), error = eio();
  const store = new FaultStore(base).fail({ at: "write", nth: 1, error, late: true });
  await store.write(0, sealedBlocks(1, 1));
  await store.write(1, sealedBlocks(1, 2));
  await assert.rejects(store.flush(), (e) => e === error);
  await assertRefuses(store, isBroken);
  assert.equal(await base.size(), 0);
});

Deno.test("a failed read breaks nothing", strict, async () => {
  const store = new FaultStore(new RamStore()).fail({ at: "read", nth: 2, error: eio() });
  await store.write(0, sealedBlocks(1, 1));
  await store.read(0, 1);
  await assert.rejects(async () => await store.read(0, 1), FsError);
  assert.deepEqual(await store.read(0, 1), sealedBlocks(1, 1));
  await store.flush();
});

Deno.test("who was fenced off stays so", strict, async () => {
  const error = new Fenced("Another writer has taken the container over");
  const store = new FaultStore(new RamStore()).fail({ at: "flush", nth: 1, error });
  await assert.rejects(store.flush(), Fenced);
  await assertRefuses(store, (e) => e === error);
});

Deno.test("faults count from when they were armed, each on its own", strict, async () => {
  const store = new FaultStore(new RamStore());
  await store.write(0, sealedBlocks(1, 1));
  store.fail({ at: "write", nth: 2, error: eio() }).fail({ at: "flush", nth: 2, error: eio() });
  await store.write(0, sealedBlocks(1, 1));
  await store.flush();
  await assert.rejects(async () => await store.write(0, sealedBlocks(1, 1)), FsError);
});
