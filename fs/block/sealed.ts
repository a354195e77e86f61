/** Reading and writing runs of blocks through the sealer. */
import { BLOCK, type RunIdentity, SEALED, type Sealer } from "../../crypto/sealer.ts";
import type { BlockStore } from "./store.ts";

/** Seals `plain` (n × 4096 bytes) and writes it where `run` says. At once where sealer and store answer at once. */
export function writeSealed(
  store: BlockStore,
  sealer: Sealer,
  run: RunIdentity,
  plain: Uint8Array,
): void | Promise<void> {
  const sealed = new Uint8Array(plain.length / BLOCK * SEALED);
  const sealing = sealer.seal(run, plain, sealed);
  if (sealing) return sealing.then(() => store.write(run.position, sealed));
  return store.write(run.position, sealed);
}

/** Reads `plain.length / 4096` blocks and opens them into `plain`. @throws {IntegrityError} */
export function readSealed(
  store: Pick<BlockStore, "read">,
  sealer: Sealer,
  run: RunIdentity,
  plain: Uint8Array,
): void | Promise<void> {
  const sealed = store.read(run.position, plain.length / BLOCK);
  if (sealed instanceof Promise) return sealed.then((bytes) => sealer.unseal(run, bytes, plain));
  return sealer.unseal(run, sealed, plain);
}
