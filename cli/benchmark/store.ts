/** How fast a store takes and gives blocks: latencies of one, throughput of many. */
import { SEALED } from "../../crypto/sealer.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { median, rate } from "./measure.ts";

/** Blocks of one read or write of a stream. */
const RUN = 256;
/** Reads of a stream that are under way at once. */
const IN_FLIGHT = 16;
/** Blocks that are written and read at most: 256 MiB. */
const BLOCKS_MOST = 256 * RUN;
/** Single operations that are timed at most. */
const SINGLES_MOST = 1000;

/** What a store does. */
export interface StoreSpeed {
  /** One block written and made durable. */
  readonly flushSeconds: number;
  /** One block read, from anywhere in what was written. */
  readonly readSeconds: number;
  /** Blocks written one run after the other and made durable in the end, bytes of them a second. */
  readonly writeBytesPerSecond: number;
  readonly readBytesPerSecond: number;
}

/** Measures a store that is empty and open to write, and fills it with what is no container. */
export async function measureStore(
  store: BlockStore,
  options: { readonly milliseconds: number; readonly signal: AbortSignal },
): Promise<StoreSpeed> {
  const singles = { ...options, most: SINGLES_MOST };
  const random = randomRuns(2), block = random[0]!.subarray(0, SEALED);
  await store.write(0, block);
  await store.flush(); // the first one has more to do
  const flushSeconds = await median(async () => {
    await store.write(0, block);
    await store.flush();
  }, singles) / 1000;

  let written = 0;
  const write = async (i: number) => {
    await store.write(i * RUN, random[i % 2]!);
    written = i + 1;
  };
  const start = performance.now();
  await rate(write, { ...options, most: BLOCKS_MOST / RUN });
  await store.flush();
  const writeBytesPerSecond = written * RUN * SEALED / (performance.now() - start) * 1000;

  const into = Array.from({ length: IN_FLIGHT }, () => new Uint8Array(RUN * SEALED));
  const read = async (position: number, count: number, i: number) =>
    void await store.read(position, count, into[i % IN_FLIGHT]!.subarray(0, count * SEALED));
  const anywhere = () => Math.floor(Math.random() * written * RUN);
  const readSeconds = await median((i) => read(anywhere(), 1, i), singles) / 1000;
  const runs = await rate((i) => read(i % written * RUN, RUN, i), { ...options, inFlight: IN_FLIGHT });
  return { flushSeconds, readSeconds, writeBytesPerSecond, readBytesPerSecond: runs * RUN * SEALED };
}

/** Bytes that nothing on the way can compress. */
function randomRuns(count: number): Uint8Array[] {
  return Array.from({ length: count }, () => {
    const bytes = new Uint8Array(RUN * SEALED);
    for (let at = 0; at < bytes.length; at += 65536) {
      crypto.getRandomValues(bytes.subarray(at, Math.min(at + 65536, bytes.length)));
    }
    return bytes;
  });
}
