import assert from "node:assert/strict";
import {
  BLOCK,
  type BlockEngine,
  CoverError,
  createSealer,
  hex,
  IntegrityError,
  Kind,
  type RunIdentity,
  SEALED,
  SecretBytes,
  SUITE_NAMES,
} from "../../crypto/mod.ts";
import { withEngines } from "./engines.ts";
import { unsealBlock } from "./independent.ts";
import { masterKeys, readVectors } from "./vectors.ts";

const sanitize = { sanitizeOps: true, sanitizeResources: true };
const containerId = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
const masterKey = Uint8Array.from({ length: 32 }, (_, i) => 255 - i);
const session = Uint8Array.from({ length: 16 }, (_, i) => 3 * i);
const run: RunIdentity = { session, generation: 1, position: 2 ** 32 - 5, birth: 77, kind: Kind.data };

function makeSealer(suite: string, engine: BlockEngine) {
  return createSealer({ suite, containerId, keys: new Map([[1, masterKey]]), engine });
}

function randomBlocks(count: number): Uint8Array {
  const plain = new Uint8Array(count * BLOCK);
  for (let i = 0; i < count; i++) crypto.getRandomValues(plain.subarray(i * BLOCK, (i + 1) * BLOCK));
  return plain;
}

async function badBlocks(work: () => void | Promise<void>): Promise<readonly number[]> {
  let bad: readonly number[] = [];
  await assert.rejects(async () => await work(), (error) => {
    assert.ok(error instanceof IntegrityError);
    assert.equal(error.message, "Sealed block does not verify");
    bad = error.blocks;
    return true;
  });
  return bad;
}

Deno.test("vectors: an independent implementation seals to the recorded bytes", sanitize, async () => {
  const opening = readVectors().filter((vector) => vector.expect === "opens");
  assert.equal(opening.length, 6);
  for (const { name, sealed, sha256, tag } of opening) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", sealed.slice()));
    assert.equal(hex(digest), sha256, name);
    assert.equal(hex(sealed.subarray(4112)), tag, name);
  }
});

Deno.test(
  "vectors: every engine opens what must open and refuses what must be refused",
  sanitize,
  async () => {
    await withEngines(async (engine) => {
      for (const { name, suite, containerId, run, sealed, expect, plain } of readVectors()) {
        using sealer = await createSealer({ suite, containerId, keys: masterKeys, engine });
        const opened = new Uint8Array(BLOCK).fill(0xaa), message = `${engine.name}: ${name}`;
        const work = async () => await sealer.unseal(run, sealed, opened);
        if (expect === "opens") {
          await work();
          assert.deepEqual(opened, plain, message);
        } else if (expect === "length") {
          await assert.rejects(work, RangeError, message);
        } else {
          await assert.rejects(work, IntegrityError, message);
          assert.ok(opened.every((byte) => byte === 0), message);
        }
      }
    });
  },
);

Deno.test(
  "seal() gives blocks that an independent implementation opens, in runs of any length",
  sanitize,
  async () => {
    await withEngines(async (engine) => {
      for (const suite of SUITE_NAMES) {
        using sealer = await makeSealer(suite, engine);
        assert.equal(sealer.engine, engine.name);
        assert.equal(sealer.suite, suite);
        for (const count of [0, 1, 31, 32, 33, 300]) {
          const plain = randomBlocks(count), before = plain.slice(), sealed = new Uint8Array(count * SEALED);
          await sealer.seal(run, plain, sealed);
          assert.deepEqual(plain, before);
          const opened = new Uint8Array(plain.length);
          await sealer.unseal(run, sealed, opened);
          assert.deepEqual(opened, plain);
          for (const i of [0, 1, 31, 32, 63, 64, 255, 256, 299].filter((i) => i < count)) {
            const identity = { ...run, suite, containerId, masterKey, position: run.position + i };
            const block = unsealBlock(identity, sealed.slice(i * SEALED, (i + 1) * SEALED));
            assert.deepEqual(block, plain.subarray(i * BLOCK, (i + 1) * BLOCK));
          }
        }
      }
    });
  },
);

Deno.test("seal() draws a fresh IV for every block", sanitize, async () => {
  await withEngines(async (engine) => {
    for (const suite of SUITE_NAMES) {
      using sealer = await makeSealer(suite, engine);
      const plain = new Uint8Array(300 * BLOCK),
        sealed = new Uint8Array(300 * SEALED),
        seen = new Set<string>();
      for (let turn = 0; turn < 2; turn++) {
        await sealer.seal(run, plain, sealed);
        for (let i = 0; i < 300; i++) seen.add(hex(sealed.subarray(i * SEALED, i * SEALED + 16)));
      }
      assert.equal(seen.size, 600);
    }
  });
});

Deno.test("unseal() names the blocks of a run that do not verify and hands out none", sanitize, async () => {
  await withEngines(async (engine) => {
    for (const suite of SUITE_NAMES) {
      using sealer = await makeSealer(suite, engine);
      const sealed = new Uint8Array(100 * SEALED), opened = new Uint8Array(100 * BLOCK).fill(1);
      await sealer.seal(run, randomBlocks(100), sealed);
      sealed[3 * SEALED + 20]! ^= 128;
      sealed[99 * SEALED + 4127]! ^= 1;
      sealed.copyWithin(50 * SEALED, 51 * SEALED, 52 * SEALED); // moved by one
      assert.deepEqual(await badBlocks(() => sealer.unseal(run, sealed, opened)), [3, 50, 99]);
      assert.ok(opened.every((byte) => byte === 0));
    }
  });
});

Deno.test("a sealer may be used by calls that overlap", sanitize, async () => {
  await withEngines(async (engine) => {
    for (const suite of SUITE_NAMES) {
      using sealer = await makeSealer(suite, engine);
      await Promise.all(Array.from({ length: 6 }, async (_, i) => {
        const own = { ...run, position: 1000 * i, birth: i, session: session.map((byte) => byte ^ i) };
        const plain = randomBlocks(10),
          sealed = new Uint8Array(10 * SEALED),
          opened = new Uint8Array(10 * BLOCK);
        await sealer.seal(own, plain, sealed);
        await sealer.unseal(own, sealed, opened);
        assert.deepEqual(opened, plain);
      }));
    }
  });
});

Deno.test("a sealer works on shared memory and on parts of larger buffers", sanitize, async () => {
  await withEngines(async (engine) => {
    for (const suite of SUITE_NAMES) {
      using sealer = await makeSealer(suite, engine);
      const plain = new Uint8Array(new SharedArrayBuffer(3 * BLOCK + 7), 7, 2 * BLOCK),
        opened = plain.slice();
      plain.set(randomBlocks(2));
      const sealed = new Uint8Array(new SharedArrayBuffer(3 * SEALED), 5, 2 * SEALED);
      await sealer.seal(run, plain, sealed);
      await sealer.unseal(run, sealed, opened);
      assert.deepEqual([...opened], [...plain]);
    }
  });
});

Deno.test("libcrypto answers at once, WebCrypto by a promise", sanitize, async () => {
  await withEngines(async (engine) => {
    using sealer = await makeSealer("aes-256-gcm", engine);
    const answer = sealer.seal(run, new Uint8Array(BLOCK), new Uint8Array(SEALED));
    assert.equal(answer instanceof Promise, engine.name === "webcrypto");
    await answer;
  });
});

Deno.test("createSealer() refuses suites that it does not know", sanitize, async () => {
  for (const suite of ["aes-256-xts-hmac-sha256", "", "toString", "AES-256-GCM"]) {
    await assert.rejects(
      createSealer({ suite, containerId, keys: new Map() }),
      (error) => error instanceof CoverError && error.kind === "unsupported",
    );
  }
});

Deno.test(
  "a sealer refuses wrong lengths, numbers and generations, and any use after it was disposed",
  sanitize,
  async () => {
    await withEngines(async (engine) => {
      using key = new SecretBytes(masterKey.slice());
      const suite = "aes-256-cbc-hmac-sha256";
      const sealer = await createSealer({ suite, containerId, keys: new Map([[1, key]]), engine });
      const plain = new Uint8Array(BLOCK), sealed = new Uint8Array(SEALED);
      assert.throws(() => sealer.seal(run, plain.subarray(1), sealed), RangeError);
      assert.throws(() => sealer.seal(run, plain, new Uint8Array(2 * SEALED)), RangeError);
      assert.throws(() => sealer.unseal(run, sealed.subarray(1), plain), RangeError);
      for (
        const wrong of [
          { position: -1 },
          { position: 0.5 },
          { position: Number.MAX_SAFE_INTEGER },
          { birth: 2 ** 53 },
          { birth: NaN },
          { session: new Uint8Array(15) },
          { kind: 256 as Kind },
        ]
      ) {
        assert.throws(() => sealer.seal({ ...run, ...wrong }, plain, sealed), RangeError);
        assert.throws(() => sealer.unseal({ ...run, ...wrong }, sealed, plain), RangeError);
      }
      assert.throws(() => sealer.seal({ ...run, generation: 2 }, plain, sealed), CoverError);
      assert.deepEqual(await badBlocks(() => sealer.unseal({ ...run, generation: 2 }, sealed, plain)), [0]);
      assert.equal(hex(key.bytes), hex(masterKey));
      sealer[Symbol.dispose]();
      sealer[Symbol.dispose]();
      assert.throws(() => sealer.seal(run, plain, sealed), /disposed/);
      assert.throws(() => sealer.unseal(run, sealed, plain), /disposed/);
    });
  },
);
