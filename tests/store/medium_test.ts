import { Buffer } from "node:buffer";
import assert from "node:assert/strict";
import fc from "fast-check";
import { Medium, MediumStore } from "../../fs/block/medium.ts";
import { sealedBlocks, storeSuite } from "./conformance.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const BLOCK0 = 131072, SEALED = 4128;

storeSuite("medium", ({ quota }) => {
  const store = new MediumStore(new Medium(), quota === undefined ? {} : { quota });
  return Promise.resolve({ open: () => Promise.resolve(store), [Symbol.asyncDispose]: () => store.close() });
}, { persistent: false, runs: 10 });

/** Something to be done to a medium: a write, or a cut. */
const CHANGE = fc.record({
  which: fc.nat(3),
  at: fc.oneof(fc.nat(20_000), fc.integer({ min: BLOCK0 - 9000, max: BLOCK0 + 20_000 })),
  bytes: fc.uint8Array({ maxLength: 9000 }),
  cut: fc.boolean(),
});

Deno.test(
  "forks of a medium are as if each had been copied, and their hashes tell them apart",
  strict,
  () => {
    fc.assert(fc.property(fc.array(CHANGE, { maxLength: 30 }), (changes) => {
      const media = [new Medium()], plain = [new Uint8Array(0)];
      for (const { which, at, bytes, cut } of changes) {
        const i = which % media.length;
        if (media.length < 4) media.push(media[i]!.fork()), plain.push(plain[i]!.slice());
        const old = plain[i]!;
        if (cut) {
          media[i]!.cut(at);
          plain[i] = old.slice(0, at);
        } else {
          media[i]!.write(at, bytes);
          const next = new Uint8Array(Math.max(old.length, at + bytes.length));
          next.set(old);
          next.set(bytes, at);
          plain[i] = next;
        }
      }
      for (const [i, medium] of media.entries()) {
        assert.ok(Buffer.compare(medium.toBytes(), plain[i]!) === 0);
        assert.equal(medium.hash(), Medium.fromBytes(plain[i]!).hash());
        for (const [j, other] of media.entries()) {
          const same = Buffer.compare(plain[i]!, plain[j]!) === 0;
          assert.equal(medium.hash() === other.hash(), same);
        }
      }
    }));
  },
);

Deno.test(
  "a medium's store tells what it was asked for, and its medium what was written",
  strict,
  async () => {
    const medium = new Medium(), asked: unknown[] = [];
    await new MediumStore(medium).write(0, sealedBlocks(4, 1));
    const store = new MediumStore(medium.fork(), { onAsked: (one) => asked.push(one) });
    store.read(1, 2);
    assert.deepEqual(asked.splice(0), [33, 34]);
    await store.readHeader("super", 0);
    await store.size();
    assert.deepEqual(asked.splice(0), [1, 2, "size"]);
    store.write(2, sealedBlocks(1, 2));
    await store.truncate(3);
    assert.deepEqual([32, 33, 34, 35].map((piece) => store.medium.wrote(piece)), [false, false, true, true]);
    assert.equal(medium.length, BLOCK0 + 4 * SEALED);
  },
);
