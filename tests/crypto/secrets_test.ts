import assert from "node:assert/strict";
import { inspect } from "node:util";
import {
  base64url,
  calibrateRounds,
  concat,
  createSealer,
  equalConstantTime,
  fromBase64url,
  fromHex,
  fromUtf8,
  hex,
  KDF_LIMITS,
  newRecoveryWords,
  parseRecoveryWords,
  SecretBytes,
  utf8,
  verifyProof,
  writerKeyPair,
} from "../../crypto/mod.ts";
import { kind } from "./blocks.ts";

const sanitize = { sanitizeOps: true, sanitizeResources: true };

Deno.test("a recovery key is 24 words that give its bytes back in any spelling", sanitize, () => {
  const words = newRecoveryWords();
  assert.equal(words.split(" ").length, 24);
  assert.notEqual(words, newRecoveryWords());
  const bytes = hex(parseRecoveryWords(words).bytes);
  assert.equal(bytes.length, 64);
  assert.equal(hex(parseRecoveryWords(`  ${words.toUpperCase().replaceAll(" ", " \n ")}\n`).bytes), bytes);
});

Deno.test("parseRecoveryWords() knows the vectors of BIP 39", sanitize, () => {
  const zeros = Array(23).fill("abandon").concat("art").join(" "),
    ones = Array(23).fill("zoo").concat("vote").join(" ");
  assert.equal(hex(parseRecoveryWords(zeros).bytes), "00".repeat(32));
  assert.equal(hex(parseRecoveryWords(ones).bytes), "ff".repeat(32));
});

Deno.test("parseRecoveryWords() says that words do not fit, without repeating them", sanitize, () => {
  const words = Array(23).fill("abandon").concat("art");
  const cases: [string[], RegExp][] = [
    [words.slice(1), /23 words, expected 24/],
    [[...words, "art"], /25 words/],
    [words.with(4, "abandom"), /word 5 is not one of the list$/],
    [words.with(0, "zoo"), /do not fit together$/],
    [words.toReversed(), /do not fit together$/],
    [[], /words/],
  ];
  for (const [wrong, message] of cases) {
    assert.throws(() => parseRecoveryWords(wrong.join(" ")), kind("wrong-passphrase", message));
  }
});

Deno.test("calibrateRounds() stays between the floor and an eighth of the ceiling", sanitize, async () => {
  assert.equal(await calibrateRounds(0.001), KDF_LIMITS.pbkdf2Floor);
  assert.equal(await calibrateRounds(1e6), KDF_LIMITS.pbkdf2Ceiling / 8);
  assert.equal(await calibrateRounds(1) % 1000, 0);
});

Deno.test("SecretBytes prints as [secret] and is zeroed when disposed", sanitize, () => {
  const bytes = fromHex("c0ffee"), secret = new SecretBytes(bytes), copy = secret.clone();
  for (const text of [`${secret}`, JSON.stringify(secret), inspect({ secret }), Deno.inspect({ secret })]) {
    assert.match(text, /\[secret\]/);
    assert.doesNotMatch(text, /c0ffee|192|255/i);
  }
  secret[Symbol.dispose]();
  secret[Symbol.dispose]();
  assert.deepEqual([...bytes], [0, 0, 0]);
  assert.throws(() => secret.bytes, /disposed/);
  assert.equal(hex(copy.bytes), "c0ffee");
});

Deno.test("verifyProof() knows test 2 of RFC 8032", sanitize, async () => {
  const publicKey = fromHex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
  const signature = fromHex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da" +
      "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
  );
  assert.equal(await verifyProof(publicKey, Uint8Array.of(0x72), signature), true);
  assert.equal(await verifyProof(publicKey, Uint8Array.of(0x73), signature), false);
});

Deno.test(
  "writerKeyPair() is the same for the same container, key and generation, and for no other",
  sanitize,
  async () => {
    const masterKey = new Uint8Array(32).fill(1),
      containerId = new Uint8Array(16).fill(2),
      message = utf8("proof");
    const key = await writerKeyPair(masterKey, containerId, { generation: 1 });
    const same = await writerKeyPair(new SecretBytes(masterKey.slice()), containerId, { generation: 1 });
    assert.equal(key.publicKey.length, 32);
    assert.equal(hex(same.publicKey), hex(key.publicKey));
    const signature = await key.sign(message);
    assert.equal(signature.length, 64);
    assert.equal(await verifyProof(key.publicKey, message, signature), true);
    assert.equal(await verifyProof(key.publicKey, utf8("prooF"), signature), false);
    assert.equal(await verifyProof(key.publicKey, message, signature.with(63, signature[63]! ^ 16)), false);
    assert.equal(await verifyProof(key.publicKey, message, signature.subarray(1)), false);
    assert.equal(await verifyProof(key.publicKey.subarray(1), message, signature), false);
    const others = [
      await writerKeyPair(masterKey.with(0, 0), containerId, { generation: 1 }),
      await writerKeyPair(masterKey, containerId.with(0, 0), { generation: 1 }),
      await writerKeyPair(masterKey, containerId, { generation: 2 }),
    ];
    for (const other of others) {
      assert.notEqual(hex(other.publicKey), hex(key.publicKey));
      assert.equal(await verifyProof(other.publicKey, message, signature), false);
    }
  },
);

Deno.test("createSealer() leaves the master keys as they are", sanitize, async () => {
  const key = new Uint8Array(32).fill(7);
  using sealer = await createSealer({
    suite: "aes-256-gcm",
    containerId: new Uint8Array(16),
    keys: new Map([[1, key]]),
  });
  assert.equal(sealer.engine, "webcrypto");
  assert.deepEqual(key, new Uint8Array(32).fill(7));
});

Deno.test("bytes go to text and back, and nothing else is taken", sanitize, () => {
  for (const length of [0, 1, 2, 3, 16, 31, 32]) {
    const bytes = crypto.getRandomValues(new Uint8Array(length));
    assert.deepEqual(fromHex(hex(bytes)), bytes);
    assert.deepEqual(fromBase64url(base64url(bytes)), bytes);
  }
  for (const wrong of ["a", "AB", "A-_", "AA==", "A A", "+/+/", "AAA\n"]) {
    assert.throws(() => fromBase64url(wrong), SyntaxError, wrong);
  }
  for (const wrong of ["0", "0g", " 00"]) assert.throws(() => fromHex(wrong), SyntaxError);
  assert.equal(fromUtf8(utf8("\ufeffgrüße")), "\ufeffgrüße");
  assert.throws(() => fromUtf8(Uint8Array.of(0xc3)), TypeError);
  assert.deepEqual(concat(Uint8Array.of(1), new Uint8Array(0), Uint8Array.of(2, 3)), Uint8Array.of(1, 2, 3));
  assert.equal(equalConstantTime(Uint8Array.of(1, 2), Uint8Array.of(1, 2)), true);
  assert.equal(equalConstantTime(Uint8Array.of(1, 2), Uint8Array.of(1, 3)), false);
  assert.equal(equalConstantTime(Uint8Array.of(1, 2), Uint8Array.of(1)), false);
});
