import assert from "node:assert/strict";
import {
  BLOCK,
  createSealer,
  IntegrityError,
  type RunIdentity,
  SEALED,
  type Sealer,
  SUITE_NAMES,
  webCryptoEngine,
} from "../../crypto/mod.ts";
import type { BlockEngine } from "../../crypto/engine.ts";
import { LibcryptoEngine, openLibcrypto } from "../../ffi/libcrypto.ts";
import { ParallelLibcrypto } from "../../ffi/parallel_libcrypto.ts";

const sanitize = { sanitizeOps: true, sanitizeResources: true };
const BLOCKS = 64;
const run: RunIdentity = {
  session: new Uint8Array(16).fill(3),
  generation: 1,
  position: 5,
  birth: 9,
  kind: 4,
};

function sealer(suite: string, engine: BlockEngine): Promise<Sealer> {
  const containerId = new Uint8Array(16).fill(1), key = new Uint8Array(32).fill(2);
  return createSealer({ suite, containerId, keys: new Map([[1, key]]), engine });
}

/** Room in shared memory, for `count` blocks of so many bytes. */
function shared(count: number, bytes: number): Uint8Array {
  return new Uint8Array(new SharedArrayBuffer(count * bytes));
}

function random(count: number): Uint8Array {
  const plain = shared(count, BLOCK);
  for (let at = 0; at < plain.length; at += 65536) {
    plain.set(crypto.getRandomValues(new Uint8Array(Math.min(65536, plain.length - at))), at);
  }
  return plain;
}

async function engine(): Promise<ParallelLibcrypto> {
  return new ParallelLibcrypto((await openLibcrypto())!, { threads: 2, startBytes: 0 });
}

/** Seals long runs until one goes to a thread: threads take a moment to start. */
async function untilThreads(sealer: Sealer): Promise<void> {
  const plain = random(BLOCKS), sealed = shared(BLOCKS, SEALED);
  for (let tries = 0; tries < 2000; tries++) {
    const later = sealer.seal(run, plain, sealed);
    if (later) return await later;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error("no run went to a thread");
}

for (const suite of SUITE_NAMES) {
  Deno.test(`${suite}: what threads seal WebCrypto opens, and the other way round`, sanitize, async () => {
    using parallel = await engine();
    using threads = await sealer(suite, parallel);
    using web = await sealer(suite, webCryptoEngine);
    await untilThreads(threads);
    const plain = random(BLOCKS), sealed = shared(BLOCKS, SEALED), opened = shared(BLOCKS, BLOCK);
    const sealing = threads.seal(run, plain, sealed);
    assert.ok(sealing instanceof Promise, "a long run goes to a thread");
    await sealing;
    await web.unseal(run, sealed, opened);
    assert.deepEqual(Array.from(opened), Array.from(plain));

    await web.seal(run, plain, sealed);
    opened.fill(0);
    const opening = threads.unseal(run, sealed, opened);
    assert.ok(opening instanceof Promise, "a long run goes to a thread");
    await opening;
    assert.deepEqual(Array.from(opened), Array.from(plain));
  });

  Deno.test(
    `${suite}: a thread names the blocks that do not verify, and gives nothing of the run`,
    sanitize,
    async () => {
      using parallel = await engine();
      using threads = await sealer(suite, parallel);
      await untilThreads(threads);
      const sealed = shared(BLOCKS, SEALED), opened = shared(BLOCKS, BLOCK);
      await threads.seal(run, random(BLOCKS), sealed);
      for (const bad of [7, 40]) sealed[bad * SEALED + 100]! ^= 1;
      await assert.rejects(
        async () => await threads.unseal(run, sealed, opened),
        (error) => error instanceof IntegrityError && error.blocks.join() === "7,40",
      );
      assert.ok(opened.every((byte) => byte === 0));
    },
  );
}

Deno.test(
  "short runs, and those in memory of this thread alone, are answered at once",
  sanitize,
  async () => {
    using parallel = await engine();
    using threads = await sealer(SUITE_NAMES[0]!, parallel);
    await untilThreads(threads);
    assert.equal(threads.seal(run, random(2), shared(2, SEALED)), undefined);
    const own = new Uint8Array(BLOCKS * BLOCK), sealed = new Uint8Array(BLOCKS * SEALED);
    assert.equal(threads.seal(run, own, sealed), undefined);
    assert.equal(threads.unseal(run, sealed, own), undefined);
  },
);

Deno.test("many runs at once come out right, from two ciphers", sanitize, async () => {
  using parallel = await engine();
  using one = await sealer(SUITE_NAMES[0]!, parallel);
  using two = await sealer(SUITE_NAMES[1]!, parallel);
  await untilThreads(one);
  const jobs = Array.from({ length: 40 }, (_, i) => ({
    who: i % 2 === 0 ? one : two,
    run: { ...run, position: i * 1000 },
    plain: random(BLOCKS),
    sealed: shared(BLOCKS, SEALED),
    opened: shared(BLOCKS, BLOCK),
  }));
  await Promise.all(jobs.map((job) => job.who.seal(job.run, job.plain, job.sealed)));
  await Promise.all(jobs.map((job) => job.who.unseal(job.run, job.sealed, job.opened)));
  for (const { plain, opened } of jobs) assert.ok(plain.every((byte, i) => byte === opened[i]));
});

Deno.test("threads end with the last cipher, and start again for the next", sanitize, async () => {
  using parallel = await engine();
  for (let round = 0; round < 2; round++) {
    using threads = await sealer(SUITE_NAMES[0]!, parallel);
    await untilThreads(threads);
  }
});

Deno.test("without threads everything is answered at once", sanitize, async () => {
  using parallel = new ParallelLibcrypto((await openLibcrypto())!, { threads: 0, startBytes: 0 });
  using alone = await sealer(SUITE_NAMES[0]!, parallel);
  assert.equal(alone.parallel, false);
  assert.equal(alone.seal(run, random(BLOCKS), shared(BLOCKS, SEALED)), undefined);
});

Deno.test("where a thread cannot open the library, this thread goes on alone", sanitize, async () => {
  class Misnamed extends LibcryptoEngine {
    override readonly file = "no-such-library.so";
  }
  using sound = (await openLibcrypto())!;
  const parallel = new ParallelLibcrypto(new Misnamed(sound.file), { threads: 1, startBytes: 0 });
  using _engine = parallel;
  using threads = await sealer(SUITE_NAMES[0]!, parallel);
  const failed = Promise.withResolvers<void>();
  parallel.onFailure = () => failed.resolve();
  assert.equal(threads.seal(run, random(BLOCKS), shared(BLOCKS, SEALED)), undefined);
  await failed.promise;
  assert.equal(threads.seal(run, random(BLOCKS), shared(BLOCKS, SEALED)), undefined);
});
