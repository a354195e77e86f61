/**
 * What many files, and many extents, cost:
 *
 *     deno task bench:scale [FILES [EXTENTS [FOLDER]]]
 *
 * a million and 2.6 million unless told otherwise. Prints "name value unit" lines. Containers lie in FOLDER (default:
 * the folder for temporary files), which needs 4096 bytes for each extent. Needs root.
 */
import { fileURLToPath } from "node:url";
import { withUnlocked, withVolume } from "../cli/container.ts";
import { mount } from "../ffi/mod.ts";
import { StoreDecorator } from "../fs/block/decorator.ts";
import { Container } from "../fs/container.ts";
import { type Ino, type Position, ROOT, S_IFDIR, S_IFREG } from "../fs/types.ts";
import { Volume } from "../fs/volume.ts";
import { MountedContainer, run } from "../tests/mounted/mounted_container.ts";
import { randomNumbers } from "../tests/fs/fixture.ts";
import { Link } from "./link.ts";

const [files = 1_000_000, extents = 2_600_000] = Deno.args.map(Number);
const SMALL = 1000, PER_DIRECTORY = 1000, ROUNDS = 3, BLOCK = 4096;
/** 20 Mbit/s, 20 ms of round trip. */
const SLOW = { delay: 10, rate: 2_500_000 };
const OWNER = { uid: Deno.uid() ?? 0, gid: Deno.gid() ?? 0 };
const FILE = { mode: S_IFREG | 0o644, ...OWNER }, FOLDER = { mode: S_IFDIR | 0o755, ...OWNER };
const PROGRAM = fileURLToPath(new URL("scale.py", import.meta.url));
const CIPHER = "aes-256-cbc-hmac-sha256";

const name = (text: string) => new TextEncoder().encode(text);
const say = (what: string, value: number, unit: string) => console.log(`${what} ${value.toFixed(2)} ${unit}`);

async function timed(work: () => unknown): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

/** A container that is not mounted yet, in a folder of its own. */
async function make(
  work: string,
  remote?: { by: (port: number) => Promise<number> },
): Promise<MountedContainer> {
  await Deno.mkdir(work);
  const made = await MountedContainer.create(work, {
    cipher: CIPHER,
    ...(remote && { remote: true, ...remote }),
  });
  await made.unmount();
  return made;
}

/** Works on the volume of a container that is not mounted. */
function withContainer(container: MountedContainer, work: (volume: Volume) => Promise<void>): Promise<void> {
  const access = { passfile: [container.passfile] };
  return withVolume(access, { mode: "write", argument: container.locator }, work);
}

/** Directories of a thousand files each, and one of a tenth of all where there are many. */
async function fill(volume: Volume, count: number): Promise<void> {
  const large = count > SMALL ? count / 10 : 0;
  let directory: Ino = ROOT;
  for (let i = 0; i < count; i++) {
    const number = i - large;
    if (i === 0 && large > 0) directory = volume.create(ROOT, name("large"), FOLDER);
    if (number >= 0 && number % PER_DIRECTORY === 0) {
      directory = volume.create(ROOT, name(`d${number / PER_DIRECTORY}`), FOLDER);
    }
    volume.create(directory, name(`file ${i}`), FILE);
    if (i % 10_000 === 0) await volume.sync();
  }
}

/** Rates of system calls, of several rounds, in turns. */
async function operations(containers: Readonly<Record<string, MountedContainer>>): Promise<void> {
  const rates = new Map<string, number>();
  for (let round = 0; round < ROUNDS; round++) {
    for (const [size, container] of Object.entries(containers)) {
      await container.mount();
      const { code, stdout, stderr } = await run(["python3", PROGRAM, "operations", container.mountpoint]);
      if (code !== 0) throw new Error(stderr);
      await container.unmount();
      for (const line of stdout.trim().split("\n")) {
        const [what, value] = line.split(" "), key = `${what}-${size}`;
        rates.set(key, Math.max(rates.get(key) ?? 0, Number(value)));
      }
    }
  }
  for (const [key, rate] of rates) say(key, rate, "/s");
  for (const what of ["create", "stat", "rename", "unlink"]) {
    say(
      `${what}-cost`,
      rates.get(`${what}-small`)! / rates.get(`${what}-large`)!,
      "times that of a small container",
    );
  }
}

/** The slowest request while checkpoints are written. */
async function pauses(container: MountedContainer): Promise<void> {
  await withContainer(container, async (volume) => {
    const mounted = await mount(volume, container.mountpoint);
    const child = new Deno.Command("python3", {
      args: [PROGRAM, "pauses", container.mountpoint],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const said = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    await said.read();
    for (let i = 0; i < 3; i++) {
      const directory = volume.lookup(ROOT, name("d1"))!;
      volume.setAttributes(directory, { mode: 0o700 + i });
      say("checkpoint", await timed(() => volume.checkpoint()), "s");
    }
    await child.stdin.close();
    for (let text = await said.read(); !text.done; text = await said.read()) console.log(text.value.trim());
    if (!(await child.status).success) throw new Error("the program that asked has failed");
    await mounted.unmount();
  });
}

/** Counts the blocks that are written. */
class CountingStore extends StoreDecorator {
  blocks = 0;

  override write(position: Position, bytes: Uint8Array): Promise<void> | void {
    this.blocks += bytes.length / 4128;
    return this.base.write(position, bytes);
  }
}

/** Blocks of one small change that is committed. */
async function smallChange(container: MountedContainer): Promise<void> {
  const access = { passfile: [container.passfile] };
  await withUnlocked(
    access,
    { mode: "write", argument: container.locator },
    async ({ store, keys, session }) => {
      const counting = new CountingStore(store);
      const volume = new Volume(await Container.open(counting, keys, { mode: "write", session }));
      const directory = volume.lookup(ROOT, name("d0"))!;
      counting.blocks = 0;
      volume.setAttributes(volume.lookup(directory, name(`file ${files / 10}`))!, { mode: 0o600 });
      await volume.sync();
      say("blocks-of-a-small-change", counting.blocks, "blocks");
      await volume.end();
    },
  );
}

/** Overwriting single blocks of a file with many extents, and of one with few. */
async function overwriting(container: MountedContainer): Promise<void> {
  await withContainer(container, async (volume) => {
    const random = randomNumbers(3), page = new Uint8Array(BLOCK).fill(7), fresh = 65_536;
    const make = async (text: string, count: number, step: number) => {
      const ino = volume.create(ROOT, name(text), FILE);
      volume.hold(ino);
      for (let i = 0; i < count; i++) {
        const wait = volume.write(ino, i * step * BLOCK, page);
        if (wait) await wait;
      }
      await volume.sync();
      return ino;
    };
    const many = await make("many", extents, 2), few = await make("few", fresh, 1);
    const cost = async (ino: Ino, count: number, step: number) => {
      const times = 20_000;
      const whole = await timed(async () => {
        for (let i = 0; i < times; i++) {
          const wait = volume.write(ino, random(count) * step * BLOCK, page);
          if (wait) await wait;
        }
        await volume.fsync(ino);
      });
      return whole / times * 1e6;
    };
    const [a, b]: [number[], number[]] = [[], []];
    for (let round = 0; round < ROUNDS; round++) {
      a.push(await cost(many, extents, 2));
      b.push(await cost(few, fresh, 1));
    }
    say("overwrite-many-extents", Math.min(...a), "µs");
    say("overwrite-few-extents", Math.min(...b), "µs");
    volume.drop(many);
    volume.drop(few);
  });
}

const work = await Deno.makeTempDir({ prefix: "coverfs-scale-", ...(Deno.args[2] && { dir: Deno.args[2] }) });
Deno.env.set("XDG_STATE_HOME", `${work}/state`);
try {
  {
    await using small = await make(`${work}/small`), large = await make(`${work}/large`);
    await withContainer(small, (volume) => fill(volume, SMALL));
    say("fill", await timed(() => withContainer(large, (volume) => fill(volume, files))), "s");
    say("container", (await Deno.stat(large.locator)).size / 1e6, "MB");
    say("mount", await timed(() => large.mount()), "s");
    say("memory", await large.memory("VmRSS"), "MB");
    await run(["sh", "-c", `exec ls -lR "$0" >/dev/null`, large.mountpoint]);
    say("memory-after-listing", await large.memory("VmRSS"), "MB");
    await large.unmount();
    await operations({ small, large });
    await pauses(large);
    await smallChange(large);
    await using stack = new AsyncDisposableStack();
    const by = async (port: number) => stack.use(await Link.open(port, SLOW)).port;
    const remote = stack.use(await make(`${work}/remote`, { by }));
    await withContainer(remote, (volume) => fill(volume, files));
    say("mount-over-20-Mbit/s", await timed(() => remote.mount()), "s");
  }
  await using container = await make(`${work}/extents`);
  await overwriting(container);
} catch (error) {
  for (let one: unknown = error; one !== undefined; one = (one as SuppressedError).suppressed) {
    console.error(one);
  }
  Deno.exitCode = 1;
} finally {
  await Deno.remove(work, { recursive: true });
}
