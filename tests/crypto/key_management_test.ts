import assert from "node:assert/strict";
import {
  addSlot,
  createEncryptionBlock,
  createSealer,
  forgetPreviousKey,
  hex,
  newRecoveryWords,
  parseEncryptionBlock,
  parseRecoveryWords,
  removeSlot,
  replaceSlot,
  rotateMasterKey,
  type Secret,
  unlockEncryptionBlock,
  utf8,
} from "../../crypto/mod.ts";
import { Field } from "../../crypto/encryption_block.ts";
import { SLOT_BYTES } from "../../crypto/key_slot.ts";
import { keyFile, kind, makeBlock, open, passphrase, rehash, TEST_LIMITS } from "./blocks.ts";
import * as independent from "./independent.ts";

const sanitize = { sanitizeOps: true, sanitizeResources: true };
const words = newRecoveryWords();
const recovery: Secret = { kind: "recovery-key", words };
const another: Secret = { kind: "passphrase", text: "battery staple" };

Deno.test(
  "each kind of secret unlocks the master key, and an independent implementation agrees",
  sanitize,
  async () => {
    const { bytes, masterKey } = await makeBlock([passphrase, keyFile, recovery]);
    const inputs = [
      utf8("correct horse"),
      independent.keyFileSecret(new Uint8Array(40).fill(3)),
      parseRecoveryWords(words).bytes,
    ];
    for (const [i, secret] of [passphrase, keyFile, recovery].entries()) {
      using unlocked = await open(bytes, secret);
      assert.equal(unlocked.slotIndex, i);
      assert.deepEqual([...unlocked.masterKeys.keys()], [1]);
      assert.equal(hex(unlocked.masterKeys.get(1)!.bytes), hex(masterKey.bytes));
      assert.equal(hex(independent.unlock(bytes, i, inputs[i]!).masterKey), hex(masterKey.bytes));
    }
  },
);

Deno.test("a slot with Argon2id unlocks, as an independent implementation does", sanitize, async () => {
  const kdf = { name: "argon2id", passes: 2, memoryKiB: 64, lanes: 2 } as const;
  const { bytes, header, masterKey } = await createEncryptionBlock({
    suite: "aes-256-gcm",
    slots: [passphrase, recovery],
    kdf,
    limits: TEST_LIMITS,
  });
  assert.deepEqual(header.slots[0]!.kdf, kdf);
  assert.equal(header.slots[1]!.kdf.name, "pbkdf2-hmac-sha-512");
  using unlocked = await open(bytes);
  assert.equal(hex(unlocked.masterKeys.get(1)!.bytes), hex(masterKey.bytes));
  assert.equal(hex(independent.unlock(bytes, 0, utf8("correct horse")).masterKey), hex(masterKey.bytes));
  await assert.rejects(parseEncryptionBlock(bytes), kind("unsupported", /Argon2id with 2 passes, 64 KiB/));
});

Deno.test("slots with Argon2id are refused where their work together is too much", sanitize, async () => {
  const { bytes } = await makeBlock([passphrase, another, recovery]);
  /** A block whose first slots have these passes over 1 GiB. */
  const forged = async (...passes: number[]) => {
    const block = bytes.slice(), view = new DataView(block.buffer);
    for (const [i, count] of passes.entries()) {
      const at = Field.slots + i * SLOT_BYTES;
      view.setUint8(at + 1, 2);
      view.setUint32(at + 4, count, true);
      view.setUint32(at + 8, 1 << 20, true);
      view.setUint32(at + 12, 1, true);
    }
    return await parseEncryptionBlock(await rehash(block), TEST_LIMITS);
  };
  assert.equal((await forged(16)).slots[0]!.kdf.name, "argon2id");
  assert.equal((await forged(6, 5, 5)).slots[2]!.kdf.name, "argon2id");
  const tooMuch = kind("unsupported", /Argon2id with \d+ KiB in all passes of all slots, at most 16777216/);
  await assert.rejects(forged(17), tooMuch);
  await assert.rejects(forged(9, 8), tooMuch);
  await assert.rejects(forged(6, 6, 5), tooMuch);
});

Deno.test(
  "a slot with Argon2id opens where the runtime has none, and the other way round",
  sanitize,
  async () => {
    const { subtle } = crypto, importKey = subtle.importKey;
    const kdf = { name: "argon2id", passes: 2, memoryKiB: 64, lanes: 2 } as const;
    const make = () =>
      createEncryptionBlock({ suite: "aes-256-gcm", slots: [passphrase], kdf, limits: TEST_LIMITS });
    const native = await make();
    let refused = 0;
    subtle.importKey = ((...args: Parameters<typeof importKey>) => {
      if (args[2] !== "Argon2id") return importKey.apply(subtle, args);
      refused++;
      return Promise.reject(new DOMException("unknown", "NotSupportedError"));
    }) as typeof importKey;
    let other: Awaited<ReturnType<typeof make>>;
    try {
      (await open(native.bytes))[Symbol.dispose]();
      await assert.rejects(open(native.bytes, another), kind("wrong-passphrase"));
      other = await make();
    } finally {
      subtle.importKey = importKey;
    }
    assert.equal(refused, 3);
    using unlocked = await open(other.bytes);
    assert.equal(unlocked.slotIndex, 0);
  },
);

Deno.test("unlockEncryptionBlock() refuses every wrong secret", sanitize, async () => {
  const { bytes } = await makeBlock([passphrase, keyFile]);
  const wrong: [Secret, RegExp][] = [
    [another, /wrong passphrase/],
    [{ kind: "passphrase", text: "Correct horse" }, /wrong passphrase/],
    [{ kind: "passphrase", text: "correct horse " }, /wrong passphrase/],
    [{ kind: "passphrase", text: "correct horse\n" }, /wrong passphrase/],
    [{ kind: "key-file", content: new Uint8Array(41).fill(3) }, /wrong key file/],
    [recovery, /no key slot takes a recovery key/],
    [{ kind: "recovery-key", words: "abandon" }, /1 words/],
  ];
  for (const [secret, message] of wrong) {
    await assert.rejects(open(bytes, secret), kind("wrong-passphrase", message));
  }
});

Deno.test("a passphrase unlocks however its accents were typed", sanitize, async () => {
  const { bytes } = await makeBlock([{ kind: "passphrase", text: "gr\u00fc\u00dfe" }]);
  using unlocked = await open(bytes, { kind: "passphrase", text: "gru\u0308\u00dfe" });
  assert.equal(unlocked.slotIndex, 0);
});

Deno.test("addSlot() adds a secret and keeps the others", sanitize, async () => {
  const { header, masterKey } = await makeBlock();
  const { bytes, header: changed } = await addSlot(header, masterKey, {
    slot: { ...another, label: "b" },
    rounds: 11,
  });
  assert.equal(changed.sequence, header.sequence + 1);
  assert.equal(changed.slots[1]!.label, "b");
  for (const [i, secret] of [passphrase, another].entries()) {
    using unlocked = await open(bytes, secret);
    assert.equal(unlocked.slotIndex, i);
    assert.equal(hex(unlocked.masterKeys.get(1)!.bytes), hex(masterKey.bytes));
  }
});

Deno.test("addSlot() refuses a ninth slot, and rounds that are too many together", sanitize, async () => {
  const { header, masterKey } = await makeBlock(Array(8).fill(passphrase));
  await assert.rejects(addSlot(header, masterKey, { slot: another }), kind("failure", /all 8/));
  const two = await makeBlock();
  const refused = addSlot(two.header, two.masterKey, { slot: another, rounds: 19_999_981 });
  await assert.rejects(refused, kind("unsupported", /20000001/));
});

Deno.test("a secret gets no second slot, but may take its own place again", sanitize, async () => {
  const { header, masterKey } = await makeBlock([passphrase, keyFile, another]);
  const add = (slot: Secret) => addSlot(header, masterKey, { slot });
  await assert.rejects(add(passphrase), kind("failure", /opens key slot 0 already/));
  await assert.rejects(add(keyFile), kind("failure", /opens key slot 1 already/));
  const replace = (index: number) => replaceSlot(header, masterKey, { slot: another, index, rounds: 11 });
  await assert.rejects(replace(0), kind("failure", /opens key slot 2 already/));
  const { bytes } = await replace(2);
  using unlocked = await open(bytes, another);
  assert.equal(unlocked.slotIndex, 2);
});

Deno.test("replaceSlot() changes a passphrase: the old one opens no more", sanitize, async () => {
  const { header, masterKey } = await makeBlock([passphrase, keyFile]);
  const { bytes } = await replaceSlot(header, masterKey, { slot: another, index: 0 });
  await assert.rejects(open(bytes, passphrase), kind("wrong-passphrase"));
  for (const secret of [another, keyFile]) {
    using unlocked = await open(bytes, secret);
    assert.equal(hex(unlocked.masterKeys.get(1)!.bytes), hex(masterKey.bytes));
  }
  await assert.rejects(replaceSlot(header, masterKey, { slot: another, index: 2 }), kind("usage"));
});

Deno.test("removeSlot() empties a slot without a trace, but never the last one", sanitize, async () => {
  const { header, masterKey } = await makeBlock([passphrase, keyFile]);
  const { bytes, header: changed } = await removeSlot(header, masterKey, 0);
  assert.ok(bytes.subarray(512, 768).every((byte) => byte === 0));
  await assert.rejects(open(bytes), kind("wrong-passphrase", /no key slot takes a passphrase/));
  await assert.rejects(removeSlot(changed, masterKey, 1), kind("failure", /last one/));
  for (const index of [0, 8, -1, 0.5]) {
    await assert.rejects(removeSlot(changed, masterKey, index), kind("usage"));
  }
  const again = await addSlot(changed, masterKey, { slot: another });
  assert.equal(again.header.slots[0]!.kind, "passphrase");
});

Deno.test(
  "changes keep what this version does not know, and need the right master key",
  sanitize,
  async () => {
    const { header, masterKey } = await makeBlock([passphrase, keyFile]);
    await assert.rejects(removeSlot(header, new Uint8Array(32), 0), kind("damaged", /without the key/));
    const changed = await removeSlot(header, masterKey, 1);
    const differing = [...changed.bytes.keys()].filter((i) => changed.bytes[i] !== header.bytes[i]);
    assert.ok(differing.every((i) => i === 40 || (i >= 768 && i < 1024) || i >= 4032));
  },
);

Deno.test(
  "rotateMasterKey() makes a new key that still leads to the one before, until that is forgotten",
  sanitize,
  async () => {
    const { header, masterKey } = await makeBlock([passphrase, keyFile, another]);
    const rotated = await rotateMasterKey(header, masterKey, { slots: [another] });
    assert.deepEqual([rotated.header.generation, rotated.header.previousGeneration], [2, 1]);
    await assert.rejects(open(rotated.bytes, passphrase), kind("wrong-passphrase"));
    {
      using unlocked = await open(rotated.bytes, another);
      assert.equal(hex(unlocked.masterKeys.get(1)!.bytes), hex(masterKey.bytes));
      assert.equal(hex(unlocked.masterKeys.get(2)!.bytes), hex(rotated.masterKey.bytes));
      assert.notEqual(hex(rotated.masterKey.bytes), hex(masterKey.bytes));
      const { suite, containerId } = rotated.header;
      using sealer = await createSealer({ suite, containerId, keys: unlocked.masterKeys });
      assert.equal(sealer.suite, "aes-256-gcm");
    }
    const alone = independent.unlock(rotated.bytes, 0, utf8("battery staple"));
    assert.equal(hex(alone.previous!), hex(masterKey.bytes));
    const second = rotateMasterKey(rotated.header, rotated.masterKey, { slots: [another] });
    await assert.rejects(second, kind("failure", /has not ended/));
    const ended = await forgetPreviousKey(rotated.header, rotated.masterKey);
    using unlocked = await open(ended.bytes, another);
    assert.deepEqual([...unlocked.masterKeys.keys()], [2]);
    assert.ok(ended.bytes.subarray(64, 512).every((byte) => byte === 0));
  },
);

Deno.test("createEncryptionBlock() refuses what would make no sound container", sanitize, async () => {
  const make = (options: Partial<Parameters<typeof createEncryptionBlock>[0]>) =>
    createEncryptionBlock({
      suite: "aes-256-gcm",
      slots: [passphrase],
      rounds: 10,
      limits: TEST_LIMITS,
      ...options,
    });
  await assert.rejects(make({ suite: "aes-256-xts-hmac-sha256" }), kind("unsupported", /suite/));
  await assert.rejects(make({ slots: [] }), kind("usage", /0 secrets/));
  await assert.rejects(make({ slots: Array(9).fill(passphrase) }), kind("usage", /9 secrets/));
  await assert.rejects(make({ slots: [{ kind: "passphrase", text: "" }] }), kind("usage", /empty/));
  await assert.rejects(make({ slots: [{ kind: "passphrase", text: "\ud800" }] }), kind("usage", /Unicode/));
  await assert.rejects(
    make({ slots: [{ kind: "key-file", content: new Uint8Array(31) }] }),
    kind("usage", /31 bytes/),
  );
  const large = new Uint8Array((8 << 20) + 1);
  await assert.rejects(make({ slots: [{ kind: "key-file", content: large }] }), kind("usage", /8388609/));
  for (const label of ["x".repeat(33), "ü".repeat(17), "a\nb", "\u001b[2J"]) {
    await assert.rejects(make({ slots: [{ ...passphrase, label }] }), kind("usage", /label/));
  }
  await assert.rejects(make({ containerId: new Uint8Array(15) }), RangeError);
});

Deno.test("two containers of the same passphrase share nothing", sanitize, async () => {
  const [a, b] = [await makeBlock(), await makeBlock()];
  assert.notEqual(hex(a.header.containerId), hex(b.header.containerId));
  assert.notEqual(hex(a.masterKey.bytes), hex(b.masterKey.bytes));
  const mixed = a.bytes.slice();
  mixed.set(b.bytes.subarray(512, 768), 512);
  const digest = await crypto.subtle.digest("SHA-256", mixed.subarray(0, 4032));
  mixed.set(new Uint8Array(digest), 4032);
  const header = await parseEncryptionBlock(mixed, TEST_LIMITS);
  await assert.rejects(unlockEncryptionBlock(header, passphrase), kind("wrong-passphrase"));
});
