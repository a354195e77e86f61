import assert from "node:assert/strict";
import {
  BLOCK,
  createSealer,
  type RunIdentity,
  SEALED,
  SUITE_NAMES,
  webCryptoEngine,
} from "../../crypto/mod.ts";
import type { BlockCipher, BlockEngine } from "../../crypto/engine.ts";
import { agreesWithWebCrypto, openLibcrypto } from "../../ffi/libcrypto.ts";

const sanitize = { sanitizeOps: true, sanitizeResources: true };
const spec = {
  suite: SUITE_NAMES[0]!,
  containerId: new Uint8Array(16),
  encryptionKey: new Uint8Array(32).fill(1),
  macKey: new Uint8Array(32).fill(2),
};
const run: RunIdentity = { session: new Uint8Array(16), generation: 1, position: 0, birth: 1, kind: 4 };

/** WebCrypto with something wrong about it. */
function faulty(change: (cipher: BlockCipher) => Partial<BlockCipher>): BlockEngine {
  return {
    name: "libcrypto",
    cipher: async (spec) => {
      const cipher = await webCryptoEngine.cipher(spec);
      const sound = {
        seal: cipher.seal.bind(cipher),
        unseal: cipher.unseal.bind(cipher),
        [Symbol.dispose]: () => {},
      };
      return { ...sound, ...change(cipher) };
    },
  };
}

Deno.test(
  "openLibcrypto() finds the library of this machine, which agrees with WebCrypto",
  sanitize,
  async () => {
    using engine = await openLibcrypto();
    assert.equal(engine?.name, "libcrypto");
    assert.equal(await agreesWithWebCrypto(engine), true);
  },
);

Deno.test("the self-test passes a sound engine and refuses a faulty one", sanitize, async () => {
  assert.equal(await agreesWithWebCrypto(faulty(() => ({}))), true);
  const faults: ((cipher: BlockCipher) => Partial<BlockCipher>)[] = [
    (cipher) => ({
      seal: async (run, plain, sealed) => { // a wrong tag
        await cipher.seal(run, plain, sealed);
        sealed[SEALED - 1]! ^= 1;
      },
    }),
    (cipher) => ({ seal: (run, plain, sealed) => cipher.seal({ ...run, birth: 1 }, plain, sealed) }),
    (cipher) => ({ seal: (run, plain, sealed) => cipher.seal({ ...run, position: 1 }, plain, sealed) }),
    () => ({ unseal: () => {} }), // opens nothing
    (cipher) => ({ // verifies nothing
      unseal: async (run, sealed, plain) => {
        try {
          await cipher.unseal(run, sealed, plain);
        } catch {
          plain.fill(0);
        }
      },
    }),
    () => ({
      seal: () => {
        throw new Error("libcrypto failed: EVP_EncryptUpdate");
      },
    }),
  ];
  for (const fault of faults) assert.equal(await agreesWithWebCrypto(faulty(fault)), false);
});

Deno.test(
  "an engine is disposed with all of its ciphers, twice if need be, and not used afterwards",
  sanitize,
  async () => {
    const engine = await openLibcrypto();
    assert.ok(engine);
    const sealer = await createSealer({
      suite: SUITE_NAMES[1]!,
      containerId: spec.containerId,
      keys: new Map([[1, new Uint8Array(32)]]),
      engine,
    });
    const cipher = engine.cipher(spec), closed = engine.cipher(spec);
    const plain = new Uint8Array(BLOCK), sealed = new Uint8Array(SEALED);
    await cipher.seal(run, plain, sealed);
    closed[Symbol.dispose]();
    assert.throws(() => closed.seal(run, plain, sealed), /disposed/);
    engine[Symbol.dispose]();
    engine[Symbol.dispose]();
    assert.throws(() => cipher.seal(run, plain, sealed), /disposed/);
    assert.throws(() => cipher.unseal(run, sealed, plain), /disposed/);
    assert.throws(() => sealer.seal(run, plain, sealed), /disposed/);
    assert.throws(() => engine.cipher(spec), /closed/);
    sealer[Symbol.dispose]();
  },
);
