/**
 * Mounts a container, has some processes ask for much, and tells what this process has grown by meanwhile:
 *
 *     deno task soak [REQUESTS [WARM-UP [GROWTH]]]
 *
 * It ends with 0 if after so many requests resident memory is at most GROWTH (1.1) times what it was before them, and as many
 * descriptors are open. A million requests, and as many before them, unless told otherwise: by then V8's heap
 * for young objects and the pools of buffers have grown to what they keep.
 */
import process from "node:process";
import { fileURLToPath } from "node:url";
import { mount, type Mounted } from "../../ffi/mod.ts";
import { checkContainer } from "../../fs/fsck.ts";
import { openFileStore } from "../../fs/store/file.ts";
import { ROOT } from "../../fs/types.ts";
import { makeContainer, openVolume, testKeys } from "../fs/fixture.ts";

const PROCESSES = 3;
/** How much memory may grow after the warm-up, unless told otherwise. */
const GROWTH = 1.1;
/** After how many requests it is told what is held. */
const TELL = 250_000;

/** What a process has, in bytes and numbers. */
interface Holdings {
  readonly resident: number;
  readonly heap: number;
  readonly external: number;
  readonly descriptors: number;
}

/** What this process holds; where the garbage collector can be called, what waits for it does not count. */
function holdings(): Holdings {
  (globalThis as { gc?: () => void }).gc?.();
  const { rss: resident, heapUsed: heap, external } = Deno.memoryUsage();
  return { resident, heap, external, descriptors: [...Deno.readDirSync("/proc/self/fd")].length };
}

function describe({ resident, heap, external, descriptors }: Holdings): string {
  const mib = (bytes: number) => (bytes / (1 << 20)).toFixed(1);
  return `resident ${mib(resident)} MiB (V8: heap ${mib(heap)}, buffers ${
    mib(external)
  }), ${descriptors} descriptors`;
}

/**
 * Has the processes ask until the mount has had so many requests more, and tells now and then what is held.
 *
 * @throws if one of them fails
 */
async function ask(mounted: Mounted, requests: number): Promise<Holdings> {
  const program = fileURLToPath(new URL("many_requests.py", import.meta.url));
  const children = Array.from(
    { length: PROCESSES },
    (_, i) =>
      new Deno.Command("python3", { args: ["-IS", program, mounted.mountpoint, `${i}`], stdin: "piped" })
        .spawn(),
  );
  const ends = Promise.all(children.map((child) => child.status));
  let ended = false, told = mounted.activity.requests;
  const last = told + requests;
  ends.then(() => ended = true);
  while (mounted.activity.requests < last && !ended) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    if (mounted.activity.requests < told + TELL) continue;
    told = mounted.activity.requests;
    console.log(`${told} requests: ${describe(holdings())}`);
  }
  for (const child of children) await child.stdin.close().catch(() => {});
  if ((await ends).some(({ success }) => !success)) throw new Error("a process that asked has failed");
  return holdings();
}

async function main(): Promise<number> {
  const [requests = 1_000_000, warmUp = 1_000_000, growth = GROWTH] = Deno.args.map(Number);
  const work = await Deno.makeTempDir({ prefix: "coverfs-soak-" }), mountpoint = `${work}/mnt`;
  await Deno.mkdir(mountpoint);
  const path = `${work}/container`;
  try {
    const empty = await openFileStore(path, "create");
    await makeContainer(empty);
    await empty.close();
    let before: Holdings, after: Holdings, messages = 0;
    const start = performance.now();
    {
      const volume = await openVolume(await openFileStore(path, "write"));
      volume.setAttributes(ROOT, { uid: Deno.uid()!, gid: Deno.gid()! });
      const mounted = await mount(volume, mountpoint, { log: () => messages++ });
      try {
        before = await ask(mounted, warmUp);
        after = await ask(mounted, requests);
      } finally {
        await mounted.unmount();
        await volume.end();
      }
    }
    const keys = await testKeys();
    const { findings } = await checkContainer(await openFileStore(path, "read"), keys, {
      scrub: true,
    });
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(`after ${warmUp} requests: ${describe(before)}`);
    console.log(`after ${requests} more: ${describe(after)}`);
    console.log(`${seconds} s, ${messages} messages of the mount, ${findings.length} findings of fsck`);
    const grown = after.resident > growth * before.resident || after.descriptors !== before.descriptors;
    return grown || messages > 0 || findings.length > 0 ? 1 : 0;
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

if (import.meta.main) process.exitCode = await main();
