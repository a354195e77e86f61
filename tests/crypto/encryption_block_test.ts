import assert from "node:assert/strict";
import fc from "fast-check";
import {
  addSlot,
  type CoverError,
  createEncryptionBlock,
  type ErrorKind,
  hex,
  newestEncryptionBlock,
  parseEncryptionBlock,
  provenEncryptionBlock,
  removeSlot,
  unlockEncryptionBlock,
} from "../../crypto/mod.ts";
import { keyFile, kind, makeBlock, open, passphrase, rehash, TEST_LIMITS } from "./blocks.ts";
import frozen from "./encryption_block.json" with { type: "json" };

const sanitize = { sanitizeOps: true, sanitizeResources: true };

/** Counts the calls of the key derivation while `work` runs. */
async function countDerivations(work: () => Promise<unknown>): Promise<number> {
  const { subtle } = crypto, derive = subtle.deriveBits;
  let calls = 0;
  subtle.deriveBits = function (...given) {
    calls++;
    return derive.apply(subtle, given);
  };
  try {
    await work();
  } finally {
    subtle.deriveBits = derive;
  }
  return calls;
}

Deno.test("an encryption block made by an earlier build still unlocks", sanitize, async () => {
  const header = await parseEncryptionBlock(Uint8Array.fromBase64(frozen.block));
  assert.equal(header.slots[0]?.label, "frozen");
  using unlocked = await unlockEncryptionBlock(header, { kind: "passphrase", text: frozen.passphrase });
  assert.equal(hex(unlocked.masterKeys.get(1)!.bytes), frozen.masterKey);
});

Deno.test("parseEncryptionBlock() tells what a new block says", sanitize, async () => {
  const containerId = new Uint8Array(16).fill(5);
  const { bytes, masterKey } = await createEncryptionBlock({
    suite: "aes-256-cbc-hmac-sha256",
    slots: [{ ...passphrase, label: "laptop ü" }, keyFile],
    rounds: 30,
    containerId,
    limits: TEST_LIMITS,
  });
  using _ = masterKey;
  const header = await parseEncryptionBlock(bytes, TEST_LIMITS);
  assert.equal(bytes.length, 4096);
  assert.deepEqual(header.containerId, containerId);
  assert.equal(header.suite, "aes-256-cbc-hmac-sha256");
  assert.equal(header.sequence, 1);
  assert.equal(header.generation, 1);
  assert.equal(header.previousGeneration, undefined);
  assert.equal(header.readOnly, false);
  assert.ok(Math.abs(header.created - Date.now() / 1000) < 60);
  assert.deepEqual(header.slots.map((slot) => slot?.kind), [
    "passphrase",
    "key-file",
    ...Array(6).fill(undefined),
  ]);
  assert.equal(header.slots[0]!.label, "laptop ü");
  assert.deepEqual(header.slots[0]!.kdf, { name: "pbkdf2-hmac-sha-512", rounds: 30 });
});

Deno.test("parseEncryptionBlock() says what is no container at all", sanitize, async () => {
  const { bytes } = await makeBlock(), other = bytes.slice(), torn = bytes.slice();
  other.set(new TextEncoder().encode("COVERFS1"));
  torn.fill(0, 2048);
  const cases: [Uint8Array, RegExp][] = [
    [new Uint8Array(4096), /only zeros/],
    [new Uint8Array(4096).fill(255), /not a CoverFS container/],
    [other, /not a CoverFS container/],
    [new Uint8Array(0), /0 bytes/],
    [bytes.subarray(0, 4095), /4095 bytes/],
    [torn, /hash/],
  ];
  for (const [wrong, message] of cases) {
    await assert.rejects(parseEncryptionBlock(wrong, TEST_LIMITS), kind("damaged", message));
  }
});

const u32 = (value: number) => [...new Uint8Array(Uint32Array.of(value).buffer)];
const SLOT = 512, EMPTY_SLOT = 512 + 256 * 2;
/** Field, offset, new bytes, what is expected where the hash was made to fit; `unlock`: only seen by the MACs. */
const FIELDS: [string, number, number[], ErrorKind, "parse" | "unlock"][] = [
  ["magic", 0, [0x58], "damaged", "parse"],
  ["version 3", 8, [3], "unsupported", "parse"],
  ["version 1", 8, [1], "unsupported", "parse"],
  ["header bytes, too few", 10, [167, 0], "damaged", "parse"],
  ["header bytes, too many", 10, [1, 2], "damaged", "parse"],
  ["header bytes, more", 10, [180, 0], "damaged", "unlock"],
  ["compatible flag", 12, [1], "damaged", "unlock"],
  ["read-only compatible flag", 16, [1], "damaged", "unlock"],
  ["incompatible flag", 20, [1], "unsupported", "parse"],
  ["incompatible flag 31", 23, [128], "unsupported", "parse"],
  ["container id", 24, [1, 2, 3], "wrong-passphrase", "unlock"],
  ["sequence", 40, [9], "damaged", "unlock"],
  ["sequence beyond 2^53", 47, [1], "damaged", "parse"],
  ["suite 1 instead of 2", 48, [1], "damaged", "unlock"],
  ["suite 3, kept for XTS", 48, [3], "unsupported", "parse"],
  ["suite 0", 48, [0], "unsupported", "parse"],
  ["slot count", 49, [9], "damaged", "parse"],
  ["reserved", 50, [1], "damaged", "unlock"],
  ["generation 0", 52, [0], "damaged", "parse"],
  ["generation 2", 52, [2], "damaged", "unlock"],
  ["time of creation", 56, [1], "damaged", "unlock"],
  ["previous generation not before the current", 64, [1], "damaged", "parse"],
  ["previous key", 72, [1], "damaged", "unlock"],
  ["gap before the slots", 300, [1], "damaged", "unlock"],
  ["slot kind unknown", SLOT, [4], "unsupported", "parse"],
  ["slot kind changed", SLOT, [2], "wrong-passphrase", "unlock"],
  ["slot emptied by its kind", SLOT, [0], "damaged", "parse"],
  ["KDF unknown", SLOT + 1, [3], "unsupported", "parse"],
  ["KDF Argon2id without its parameters", SLOT + 1, [2], "unsupported", "parse"],
  ["label too long", SLOT + 2, [33], "damaged", "parse"],
  ["label with a control character", SLOT + 2, [1, 0], "damaged", "parse"],
  ["rounds below the floor", SLOT + 4, u32(9), "unsupported", "parse"],
  ["rounds above the ceiling", SLOT + 4, u32(20_000_001), "unsupported", "parse"],
  ["rounds changed within the bounds", SLOT + 4, u32(21), "wrong-passphrase", "unlock"],
  ["memory", SLOT + 8, [1], "wrong-passphrase", "unlock"],
  ["salt", SLOT + 16, [1, 2, 3], "wrong-passphrase", "unlock"],
  ["label bytes behind its end", SLOT + 79, [1], "damaged", "unlock"],
  ["slot's time of creation", SLOT + 80, [1], "damaged", "unlock"],
  ["wrapping IV", SLOT + 88, [1, 2, 3], "wrong-passphrase", "unlock"],
  ["wrapped key", SLOT + 104, [1, 2, 3], "wrong-passphrase", "unlock"],
  ["wrapping MAC", SLOT + 152, [1, 2, 3], "wrong-passphrase", "unlock"],
  ["rest of the slot", SLOT + 255, [1], "damaged", "unlock"],
  ["the other slot", SLOT + 256 + 20, [1, 2, 3], "damaged", "unlock"],
  ["something in an empty slot", EMPTY_SLOT + 9, [1], "damaged", "parse"],
  ["gap behind the slots", 3000, [1], "damaged", "unlock"],
  ["MAC", 4064, [1, 2, 3], "damaged", "unlock"],
];

Deno.test(
  "every changed field is refused: by the hash, and as it should be where the hash was made to fit",
  sanitize,
  async () => {
    const { bytes } = await makeBlock([passphrase, keyFile]);
    for (const [name, offset, value, expected, when] of FIELDS) {
      const changed = bytes.slice();
      changed.set(value, offset);
      if (name !== "MAC" && name !== "version 3") {
        await assert.rejects(parseEncryptionBlock(changed, TEST_LIMITS), kind("damaged"), name);
      }
      await rehash(changed);
      if (when === "parse") {
        await assert.rejects(parseEncryptionBlock(changed, TEST_LIMITS), kind(expected), name);
      } else {
        const header = await parseEncryptionBlock(changed, TEST_LIMITS);
        await assert.rejects(unlockEncryptionBlock(header, passphrase), kind(expected), name);
      }
    }
  },
);

Deno.test("a newer version is named as such even where its hash does not fit", sanitize, async () => {
  const { bytes } = await makeBlock();
  bytes[8] = 3;
  await assert.rejects(
    parseEncryptionBlock(bytes, TEST_LIMITS),
    kind("unsupported", /version is 3, expected 2/),
  );
});

Deno.test(
  "unknown read-only compatible flags open for reading only, unknown compatible ones also for writing",
  sanitize,
  async () => {
    const { bytes, masterKey } = await makeBlock();
    using _ = masterKey;
    bytes[16] = 1;
    const header = await parseEncryptionBlock(await rehash(bytes), TEST_LIMITS);
    assert.equal(header.readOnly, true);
    await assert.rejects(addSlot(header, masterKey, { slot: keyFile }), kind("unsupported", /forbid/));
    bytes[16] = 0, bytes[12] = 1;
    assert.equal((await parseEncryptionBlock(await rehash(bytes), TEST_LIMITS)).readOnly, false);
  },
);

Deno.test(
  "any flipped bit of an encryption block is found, before or after unlocking",
  sanitize,
  async () => {
    const { bytes } = await makeBlock([passphrase, keyFile]);
    const quick = { ...TEST_LIMITS, pbkdf2Ceiling: 10_000 }; // or flipped rounds would take minutes
    const bit = (from: number, to: number) => fc.integer({ min: from * 8, max: to * 8 - 1 });
    const place = fc.oneof(bit(0, 4096), bit(0, 168), bit(512, 768), bit(4032, 4096));
    await fc.assert(
      fc.asyncProperty(place, fc.boolean(), async (place, fit) => {
        const changed = bytes.slice();
        changed[place >> 3]! ^= 1 << (place & 7);
        if (fit && place < 4032 * 8) await rehash(changed);
        await assert.rejects(open(changed, passphrase, quick), (error) => {
          return ["damaged", "unsupported", "wrong-passphrase"].includes((error as CoverError).kind);
        });
      }),
      { numRuns: 400 },
    );
  },
);

Deno.test("rounds out of bounds are refused before anything is derived", sanitize, async () => {
  const make = (rounds: number, slots = 1) =>
    createEncryptionBlock({
      suite: "aes-256-gcm",
      slots: Array(slots).fill(passphrase),
      rounds,
      limits: { ...TEST_LIMITS, pbkdf2Ceiling: Infinity },
    });
  const low = await make(100), weak = await make(209_999);
  const high = (await make(10, 2)).bytes, view = new DataView(high.buffer);
  for (const slot of [512, 768]) view.setUint32(slot + 4, 10_000_001, true); // only together too many
  await rehash(high);
  const calls = await countDerivations(async () => {
    for (const { bytes } of [low, weak]) {
      await assert.rejects(parseEncryptionBlock(bytes), kind("unsupported", /at least 210000/));
    }
    const limits = TEST_LIMITS;
    await assert.rejects(
      parseEncryptionBlock(high, limits),
      kind("unsupported", /20000002 rounds.* at most 20000000/),
    );
    await assert.rejects(
      createEncryptionBlock({ suite: "aes-256-gcm", slots: [passphrase], rounds: 209_999 }),
      kind("unsupported", /at least 210000/),
    );
    await assert.rejects(
      createEncryptionBlock({ suite: "aes-256-gcm", slots: Array(8).fill(passphrase), rounds: 2_500_001 }),
      kind("unsupported", /at most/),
    );
  });
  assert.equal(calls, 0);
  assert.ok(await countDerivations(() => open(low.bytes)) > 0); // the counting works
});

Deno.test("newestEncryptionBlock() takes the valid copy with the highest sequence", sanitize, async () => {
  const first = await makeBlock([passphrase, keyFile]), stranger = await makeBlock();
  const second = await removeSlot(first.header, first.masterKey, 1);
  const a = first.bytes, b = second.bytes, torn = b.slice().fill(0, 100), zeros = new Uint8Array(4096);
  const cases: [Uint8Array, Uint8Array, number, 0 | 1, string][] = [
    [a, a, 1, 0, "same"],
    [a, b, 2, 1, "older"],
    [b, a, 2, 0, "older"],
    [b, b, 2, 0, "same"],
    [a, torn, 1, 0, "damaged"],
    [torn, a, 1, 1, "damaged"],
    [zeros, b, 2, 1, "damaged"],
    [b, stranger.bytes, 2, 0, "damaged"],
    [a, stranger.bytes, 1, 0, "damaged"],
  ];
  for (const [copyA, copyB, sequence, copy, other] of cases) {
    const found = await newestEncryptionBlock(copyA, copyB, TEST_LIMITS);
    assert.deepEqual([found.header.sequence, found.copy, found.other], [sequence, copy, other]);
  }
});

Deno.test(
  "of two copies that differ in the MAC alone the one counts that the key proves",
  sanitize,
  async () => {
    const { bytes: whole } = await makeBlock(), damaged = whole.slice();
    damaged[4095]! ^= 1;
    for (const copies of [[whole, damaged], [damaged, whole]] as const) {
      const chosen = await newestEncryptionBlock(...copies, TEST_LIMITS);
      using unlocked = await unlockEncryptionBlock(chosen.header, passphrase);
      const { header, copy, other } = provenEncryptionBlock(chosen, unlocked.header);
      assert.deepEqual([header.bytes, copy, other], [whole, copies.indexOf(whole), "damaged"]);
    }
    const { header } = await newestEncryptionBlock(damaged, damaged, TEST_LIMITS);
    await assert.rejects(unlockEncryptionBlock(header, passphrase), kind("damaged", /without the key/));
  },
);

Deno.test("newestEncryptionBlock() says why neither copy will do", sanitize, async () => {
  const { bytes } = await makeBlock(), zeros = new Uint8Array(4096), torn = bytes.slice().fill(0, 100);
  const newer = bytes.slice(), text = zeros.slice().fill(65);
  newer[8] = 3;
  const newest = (a: Uint8Array, b: Uint8Array) => newestEncryptionBlock(a, b, TEST_LIMITS);
  await assert.rejects(newest(zeros, zeros), kind("damaged", /only zeros/));
  await assert.rejects(newest(zeros, text), kind("damaged", /not a CoverFS/));
  await assert.rejects(newest(text, zeros), kind("damaged", /not a CoverFS/));
  await assert.rejects(newest(torn, zeros), kind("damaged", /hash/));
  await assert.rejects(newest(torn, newer), kind("unsupported", /version/));
});

Deno.test(
  "newestEncryptionBlock() does not go back to an older copy when the newest is for a later version",
  sanitize,
  async () => {
    const { bytes } = await makeBlock(), later = bytes.slice(), flipped = bytes.slice();
    later[40] = 2, later[20] = 1;
    await rehash(later);
    flipped[8] = 3; // a flipped bit is no newer version: its hash does not fit
    const newest = (a: Uint8Array, b: Uint8Array) => newestEncryptionBlock(a, b, TEST_LIMITS);
    await assert.rejects(newest(bytes, later), kind("unsupported", /flags/));
    await assert.rejects(newest(later, bytes), kind("unsupported", /flags/));
    assert.equal((await newest(flipped, bytes)).copy, 1);
    later[40] = 1;
    assert.equal((await newest(await rehash(later), bytes)).copy, 1);
  },
);
