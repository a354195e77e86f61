/** How fast this machine seals and opens blocks, with each cipher suite and engine. */
import { createSealer, SUITE_NAMES, type SuiteName, webCryptoEngine } from "../../crypto/mod.ts";
import type { BlockEngine } from "../../crypto/engine.ts";
import { BLOCK, Kind, type RunIdentity, SEALED, type Sealer } from "../../crypto/sealer.ts";
import { openLibcrypto } from "../../ffi/libcrypto.ts";
import { ParallelLibcrypto } from "../../ffi/parallel_libcrypto.ts";
import { RUN_BLOCKS, RunBuffers } from "../../fs/block/buffers.ts";
import { median, rate } from "./measure.ts";

/** Runs that are sealed at once where the engine has threads. */
const IN_FLIGHT = 8;

/** What an engine does with a suite: bytes of contents a second in runs of 1 MiB, and one block alone. */
export interface SealingSpeed {
  readonly suite: SuiteName;
  readonly engine: string;
  readonly sealBytesPerSecond: number;
  readonly openBytesPerSecond: number;
  readonly sealBlockSeconds: number;
  readonly openBlockSeconds: number;
}

/** What engines there are on this machine; each is to be disposed where it can be. */
async function* engines(): AsyncGenerator<[name: string, engine: BlockEngine]> {
  yield ["webcrypto", webCryptoEngine];
  for (const threads of [0, Math.min(4, navigator.hardwareConcurrency)]) {
    const found = await openLibcrypto();
    if (found === undefined) return;
    using engine = new ParallelLibcrypto(found, { threads, startBytes: 0 });
    yield [threads === 0 ? "libcrypto" : `libcrypto, ${threads} threads`, engine];
  }
}

/** Measures all suites with all engines that are found. */
export async function* measureSealing(
  options: { readonly milliseconds: number; readonly signal: AbortSignal },
): AsyncGenerator<SealingSpeed> {
  const containerId = new Uint8Array(16), keys = new Map([[1, new Uint8Array(32)]]);
  for await (const [name, engine] of engines()) {
    for (const suite of SUITE_NAMES) {
      using sealer = await createSealer({ suite, containerId, keys, engine });
      yield { suite, engine: name, ...await measureSealer(sealer, options) };
    }
  }
}

async function measureSealer(
  sealer: Sealer,
  { milliseconds, signal }: { readonly milliseconds: number; readonly signal: AbortSignal },
): Promise<Omit<SealingSpeed, "suite" | "engine">> {
  const inFlight = sealer.parallel ? IN_FLIGHT : 1, buffers = new RunBuffers({ shared: sealer.parallel });
  const runs = Array.from({ length: inFlight }, () => [buffers.plain.take(), buffers.sealed.take()] as const);
  const identity: RunIdentity = {
    session: new Uint8Array(16),
    position: 0,
    birth: 1,
    kind: Kind.data,
    generation: 1,
  };
  const seal = (i: number) => sealer.seal(identity, ...runs[i % inFlight]!);
  const open = (i: number) => {
    const [plain, sealed] = runs[i % inFlight]!;
    return sealer.unseal(identity, sealed, plain);
  };
  const plain = new Uint8Array(BLOCK), sealed = new Uint8Array(SEALED);
  const long = { milliseconds, inFlight, signal };
  const bytes = RUN_BLOCKS * BLOCK;
  for (const i of runs.keys()) await seal(i);
  await rate(seal, long); // threads start, code is compiled
  return {
    sealBytesPerSecond: bytes * await rate(seal, long),
    openBytesPerSecond: bytes * await rate(open, long),
    sealBlockSeconds: await median(() => sealer.seal(identity, plain, sealed), { milliseconds, signal }) /
      1000,
    openBlockSeconds: await median(() => sealer.unseal(identity, sealed, plain), { milliseconds, signal }) /
      1000,
  };
}
