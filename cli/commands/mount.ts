import { resolve } from "node:path";
import { CoverError } from "../../crypto/errors.ts";
import { createSealer, DEFAULT_SUITE } from "../../crypto/mod.ts";
import { mount, type Mounted } from "../../ffi/mod.ts";
import { Container } from "../../fs/container.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { Volume } from "../../fs/volume.ts";
import { inBackground, reportReady, startInBackground } from "../background.ts";
import { bestEngine, withVolume } from "../container.ts";
import { exitCodeOf } from "../exit.ts";
import { chooseLocator, locatorName } from "../locator.ts";
import { mountpointPath, noteMount, refuseBelow } from "../mounts.ts";
import { byteSize, writingCommand } from "../options.ts";
import { printError } from "../output.ts";
import { readPassphrase, withEnvironment } from "../passphrase.ts";
import { stateFolder } from "../state.ts";

/** How often a read-only mount looks for newer commits, and a writing one for room and what to remember, in ms. */
const REFRESH = 4000;

interface MountingOptions {
  readonly readOnly?: true | undefined;
  readonly foreground?: true | undefined;
  readonly allowOther?: true | undefined;
  readonly allowRoot?: true | undefined;
  readonly directIo?: true | undefined;
  readonly noatime?: true | undefined;
  readonly cacheSize?: number | undefined;
  readonly options?: string[] | undefined;
}

/** `coverfs mount`: gives access as a local disk. */
export const mountCommand = () =>
  writingCommand(
    "mount",
    "coverfs mount container /mnt\ncoverfs mount coverfs://host/name /mnt\ncoverfs umount /mnt",
  )
    .description("mount a container")
    .argument("<CONTAINER_OR_MOUNTPOINT>", "the container; the mountpoint if there is one argument")
    .argument("[MOUNTPOINT]", "an empty directory")
    .option("-r, --read-only", "mount for reading; another process may have it open for writing")
    .option("-f, --foreground", "stay in the foreground until it is unmounted")
    .option("--allow-other", "let all users in; permissions still count")
    .option("--allow-root", "let root in too")
    .option("--direct-io", "keep file contents out of the kernel's cache")
    .option("--cache-size <SIZE>", "memory for blocks of a container on a server; default 64M", byteSize)
    .option("--noatime", "never move access times")
    .option("-o, --options <OPT,...>", "further mount options", (text, before: string[] | undefined) => [
      ...before ?? [],
      ...text.split(",").filter((one) => one !== ""),
    ])
    .action(async (first, second, options) => {
      const given = second === undefined ? options.container : first;
      const mountpoint = mountpointPath(second ?? first), locator = chooseLocator(given);
      const { passfile = [] } = withEnvironment(options);
      refuseBelow(mountpoint, [
        ["the container", locator.kind === "file" ? locator.path : undefined],
        ["the folder of state", stateFolder()],
        ...passfile.map((path) => ["the passphrase file", path === "-" ? undefined : path] as const),
        ["the file of authorities", options.ca === "system" ? undefined : options.ca],
      ]);
      if (!options.foreground) {
        const input = locator.kind === "ram" ? "" : await readPassphrase(options, locatorName(locator));
        // The locator may hold a token: the child finds it in its environment, where `ps` shows it to nobody else.
        const container = locator.kind === "file" ? resolve(locator.path) : given ?? options.container!;
        return await startInBackground(childArguments(mountpoint, options), input + "\n", {
          COVERFS_CONTAINER: container,
        });
      }
      await recordExit(mountpoint, async () => {
        if (locator.kind === "ram") return await serveRam(mountpoint, options);
        const mode = options.readOnly ? "read" : "write";
        // The kernel leaves access times of FUSE mounts to this side, so that `-o noatime` is answered here, too.
        const noatime = options.noatime || options.options?.includes("noatime");
        await withVolume(
          options,
          { mode, argument: given, volume: noatime ? { atime: "noatime" } : {} },
          async (volume, { name, memory, keys }) => {
            const remember = () => memory.remember(name, keys.containerId, volume.container.durable);
            const timer = setInterval(() => void remember(), REFRESH);
            try {
              await serveMount(volume, mountpoint, name, options);
            } finally {
              clearInterval(timer);
            }
          },
        );
      });
    });

function childArguments(mountpoint: string, options: Record<string, unknown> & MountingOptions): string[] {
  const args = ["mount", "--foreground", "--passfile", "-"];
  const flags = ["readOnly", "allowOther", "allowRoot", "directIo", "noatime", "takeover", "acceptRollback"];
  for (const flag of flags) {
    if (options[flag]) args.push(`--${flag.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`);
  }
  for (const name of ["fingerprint", "ca"]) {
    const value = options[name];
    if (typeof value === "string") args.push(`--${name}`, value);
  }
  if (options.cacheSize !== undefined) args.push("--cache-size", String(options.cacheSize));
  for (const one of options.options ?? []) args.push("-o", one);
  return [...args, mountpoint];
}

/** Keeps how the mount ended, for `umount`. */
async function recordExit(mountpoint: string, work: () => Promise<void>): Promise<void> {
  let exit = 0;
  try {
    await work();
  } catch (error) {
    exit = exitCodeOf(error);
    throw error;
  } finally {
    await noteMount(mountpoint, { pid: Deno.pid, exit });
  }
}

/** Mounts and waits for the end; commits nothing, that is the caller's. */
async function serveMount(
  volume: Volume,
  mountpoint: string,
  name: string,
  options: MountingOptions,
): Promise<void> {
  await volume.refreshSpace();
  const { promise: stopping, resolve: stop } = Promise.withResolvers<void>();
  const signals: Deno.Signal[] = ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const signal of signals) Deno.addSignalListener(signal, stop);
  const timer = setInterval(() => void keepUp(volume), REFRESH);
  try {
    const mounted = await mount(volume, mountpoint, {
      fsname: name,
      readOnly: options.readOnly === true,
      allowOther: options.allowOther === true,
      allowRoot: options.allowRoot === true,
      directIo: options.directIo === true,
      extra: options.options ?? [],
      log,
    });
    await noteMount(mountpoint, { pid: Deno.pid });
    if (inBackground()) Deno.chdir("/");
    reportReady();
    await untilEnd(mounted, stopping);
  } finally {
    clearInterval(timer);
    for (const signal of signals) Deno.removeSignalListener(signal, stop);
  }
}

async function untilEnd(mounted: Mounted, stopping: Promise<void>): Promise<void> {
  await using _mounted = mounted;
  const end = await Promise.race([mounted.done, stopping]);
  if (end?.reason === "failed") {
    throw new CoverError("failure", "The mount broke", { cause: end.error });
  }
}

async function keepUp(volume: Volume): Promise<void> {
  try {
    if (!volume.readOnly || await volume.refresh()) await volume.refreshSpace();
  } catch (error) {
    log("Cannot ask the store for what is new", error);
  }
}

/** Nobody may be reading any more when a mount in the background has something to say. */
function log(message: string, cause?: unknown): void {
  try {
    printError(`coverfs: ${message}${cause instanceof Error ? `: ${cause.message}` : ""}`);
  } catch {
    // told nobody
  }
}

/** `mount ram: DIR`: an empty container under a random key, gone at the end. */
async function serveRam(mountpoint: string, options: MountingOptions): Promise<void> {
  const containerId = crypto.getRandomValues(new Uint8Array(16));
  const key = crypto.getRandomValues(new Uint8Array(32)), engine = await bestEngine();
  const sealer = await createSealer({ suite: DEFAULT_SUITE, containerId, keys: new Map([[1, key]]), engine });
  const keys = { containerId, sealer, generation: 1, keySequence: 1 }, store = new RamStore();
  const root = { uid: Deno.uid() ?? 0, gid: Deno.gid() ?? 0, mode: 0o755 };
  await Container.create(store, keys, root);
  const session = crypto.getRandomValues(new Uint8Array(16));
  await using volume = new Volume(await Container.open(store, keys, { mode: "write", session }));
  await serveMount(volume, mountpoint, "ram:", options);
}
