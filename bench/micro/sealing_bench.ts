/** Sealing and opening, by suite and engine: a run of 1 MiB, and one block alone. */
import { createSealer, SUITE_NAMES, webCryptoEngine } from "../../crypto/mod.ts";
import { BLOCK, Kind, type RunIdentity, SEALED } from "../../crypto/sealer.ts";
import { openLibcrypto } from "../../ffi/libcrypto.ts";

const identity: RunIdentity = {
  session: new Uint8Array(16),
  generation: 1,
  position: 0,
  birth: 1,
  kind: Kind.data,
};
const libcrypto = await openLibcrypto();

for (const engine of [webCryptoEngine, ...(libcrypto ? [libcrypto] : [])]) {
  for (const suite of SUITE_NAMES) {
    const keys = new Map([[1, new Uint8Array(32)]]);
    const sealer = await createSealer({ suite, containerId: new Uint8Array(16), keys, engine });
    for (const blocks of [1, 256]) {
      const plain = new Uint8Array(blocks * BLOCK), sealed = new Uint8Array(blocks * SEALED);
      await sealer.seal(identity, plain, sealed);
      const group = `${blocks} ${blocks === 1 ? "block" : "blocks"}`;
      const name = `${suite}, ${engine.name}`;
      // An answer that is there at once is not waited for, as nobody who seals would.
      const seal = () => sealer.seal(identity, plain, sealed),
        open = () => sealer.unseal(identity, sealed, plain);
      const promised = seal() !== undefined;
      Deno.bench(
        `seal: ${name}`,
        { group: `seal ${group}` },
        promised ? async () => await seal() : () => void seal(),
      );
      Deno.bench(
        `open: ${name}`,
        { group: `open ${group}` },
        promised ? async () => await open() : () => void open(),
      );
    }
  }
}
