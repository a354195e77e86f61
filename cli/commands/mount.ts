import { resolve } from "node:path";
import { type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { utf8 } from "../../crypto/bytes.ts";
import { CoverError } from "../../crypto/errors.ts";
import { createSealer, DEFAULT_SUITE } from "../../crypto/mod.ts";
import { checkMount, mount, type Mounted } from "../../ffi/mod.ts";
import { SessionEnd } from "../../ffi/session_end.ts";
import { Container } from "../../fs/container.ts";
import { createContainer } from "../../fs/creating.ts";
import type { Filesystem } from "../../fs/filesystem.ts";
import { OwnerOverride } from "../../fs/owner_override.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { Volume } from "../../fs/volume.ts";
import { inBackground, reportReady, startInBackground } from "../background.ts";
import { bestEngine, withVolume } from "../container.ts";
import { describeError, exitCodeOf, messageOf } from "../exit.ts";
import { whenIdle } from "../idle.ts";
import { ENDING_SIGNALS } from "../interrupt.ts";
import { chooseLocator, locatorName } from "../locator.ts";
import { type Log, type LogOptions, logToTerminal, openLog } from "../log.ts";
import { applyList, splitList } from "../mount_options.ts";
import { MountControl } from "../mount_control.ts";
import { keepLog, mountpointPath, noteMount, refuseBelow } from "../mounts.ts";
import {
  byteSize,
  duration,
  keepAlive,
  networkName,
  octalMask,
  ownerId,
  writingCommand,
} from "../options.ts";
import { type GivenSecret, readSecret, withEnvironment } from "../passphrase.ts";
import { remount } from "../remount.ts";
import { openNotify } from "../service.ts";
import { stateFolder } from "../state.ts";

/** How often a read-only mount looks for newer commits, and a writing one for room and what to remember, in ms. */
const REFRESH = 4000;

interface MountingOptions extends LogOptions {
  readonly readOnly?: true | undefined;
  readonly foreground?: true | undefined;
  readonly allowOther?: true | undefined;
  readonly allowRoot?: true | undefined;
  readonly directIo?: true | undefined;
  readonly writebackCache?: true | undefined;
  readonly noatime?: true | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly umask?: number | undefined;
  /** Seconds. */
  readonly idle?: number | undefined;
  /** Seconds. */
  readonly commitInterval?: number | undefined;
  readonly cacheSize?: number | undefined;
  readonly label?: string | undefined;
  readonly networkDrive?: string | undefined;
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
    .option("--uid <ID>", "show all files as belonging to this user", ownerId)
    .option("--gid <ID>", "show all files as belonging to this group", ownerId)
    .option("--umask <MASK>", "show no file with these permission bits (octal)", octalMask)
    .option(
      "--idle <TIME>",
      "unmount when nothing was asked for so long and nothing is open, as 30m",
      duration,
    )
    .option("--commit-interval <TIME>", "how long a change may wait for its commit; default 5s", duration)
    .option("--direct-io", "keep file contents out of the kernel's cache")
    .option(
      "--writeback-cache",
      "let the kernel collect small writes; no room may then be told at close only",
    )
    .option("--cache-size <SIZE>", "memory for blocks of a container on a server; default 64M", byteSize)
    .option("--timeout <TIME>", "how long a read waits for the server, then EIO; default 30s", duration)
    .option(
      "--outage <TIME>",
      "how long the server may be away before what was written is given up; default 5m",
      duration,
    )
    .option(
      "--keep-alive <TIME>",
      "how often a silent server is asked whether it is there, gone after three times; default 10s",
      keepAlive,
    )
    .option("--noatime", "never move access times")
    .option("--label <NAME>", "what the drive is called (Windows); default the container's name")
    .option(
      "--network-drive <UNC>",
      "a network drive of this name, as \\\\coverfs\\box (Windows)",
      networkName,
    )
    .option("--log-file <FILE>", "append what there is to say to FILE")
    .option("--syslog", "send what there is to say to syslogd")
    .addOption(new Option("--sloppy", "leave out mount options that are not known").hideHelp())
    .option(
      "-o, --options <OPT,...>",
      "any of these options, and those of mount(8) and fstab(5)",
      (text, before: string[] | undefined) => [...before ?? [], ...splitList(text)],
    )
    .action(async (first, second, _options, command) => {
      const { options: items = [], sloppy } = command.opts();
      if (items.includes("remount")) return await remount(mountpointPath(second ?? first), items);
      command.setOptionValue("options", applyList(command as CommandUnknownOpts, items, { sloppy }));
      const options = command.opts();
      const given = second === undefined ? options.container : first;
      const mountpoint = mountpointPath(second ?? first), locator = chooseLocator(given);
      if (locator.kind === "ram" && options.idle !== undefined) {
        throw new CoverError("usage", 'Cannot unmount "ram:" when it is idle: its files would be gone');
      }
      if (options.directIo && options.writebackCache) {
        throw new CoverError("usage", "--writeback-cache and --direct-io do not go together");
      }
      const { passfile = [] } = withEnvironment(options);
      refuseBelow(mountpoint, [
        ["the container", locator.kind === "file" ? locator.path : undefined],
        ["the folder of state", stateFolder()],
        ...passfile.map((path) => ["the passphrase file", path === "-" ? undefined : path] as const),
        ["the key file", options.keyFile === "-" ? undefined : options.keyFile],
        ["the token file", options.tokenFile],
        ["the file of authorities", options.ca === "system" ? undefined : options.ca],
        ["the log file", options.logFile],
      ]);
      await checkMount(mountpoint, { extra: options.options ?? [] });
      if (!options.foreground) {
        const secret = locator.kind === "ram" ? "" : await readSecret(options, locatorName(locator));
        // The locator may hold a token: the child finds it in its environment, where `ps` shows it to nobody else.
        const container = locator.kind === "file" ? resolve(locator.path) : given ?? options.container!;
        const args = [...childArguments(command as CommandUnknownOpts, secret), mountpoint];
        const input = typeof secret === "string" ? utf8(secret + "\n") : secret;
        return await startInBackground(args, input, { COVERFS_CONTAINER: container });
      }
      const mounting = new Mounting(mountpoint, options);
      await mounting.recordEnd(async () => {
        if (locator.kind === "ram") return await serveRam(mounting);
        const mode = options.readOnly ? "read" : "write", { commitInterval } = options;
        const atime = options.noatime ? "noatime" : "relatime";
        await withVolume(
          { ...options, log: mounting.log, onLeaseWanted: () => void mounting.commitAll() },
          { mode, argument: given, volume: { atime, commitInterval } },
          async (volume, { name, memory, keys }) => {
            const remember = () => memory.remember(name, keys.containerId, volume.container.durable);
            const timer = setInterval(() => void remember(), REFRESH);
            try {
              await mounting.serve(volume, name);
              await volume.end(); // what cannot be committed was accepted from programs: it is lost, whatever the reason
            } finally {
              clearInterval(timer);
            }
          },
        );
      });
    });

/** Options that the child in the background gets in another way, or not at all. */
const OWN_OPTIONS: ReadonlySet<string> = new Set([
  "container",
  "passfile",
  "extpass",
  "keyFile",
  "foreground",
  "options",
]);

/** How an option's value is written, where that differs from the value itself. */
const WRITTEN: Readonly<Record<string, (value: never) => string>> = {
  umask: (mask: number) => mask.toString(8),
  idle: (seconds: number) => `${seconds}s`,
  commitInterval: (seconds: number) => `${seconds}s`,
  timeout: (seconds: number) => `${seconds}s`,
  outage: (seconds: number) => `${seconds}s`,
  keepAlive: (seconds: number) => `${seconds}s`,
};

function childArguments(command: CommandUnknownOpts, secret: GivenSecret): string[] {
  const way = typeof secret === "string" ? "--passfile" : "--key-file";
  const args = ["mount", "--foreground", way, "-"], values = command.opts();
  for (const option of command.options) {
    const name = option.attributeName(), value = values[name];
    if (value === undefined || OWN_OPTIONS.has(name)) continue;
    args.push(option.long!, ...(option.required ? [WRITTEN[name]?.(value as never) ?? String(value)] : []));
  }
  for (const one of (values["options"] ?? []) as string[]) args.push("-o", one.replace(/[\\,]/g, "\\$&"));
  return args;
}

/** One mount of this process: how it is served, what it says, and how it ended. */
class Mounting {
  readonly #mountpoint: string;
  readonly #options: MountingOptions;
  readonly #opened: Log | undefined;
  readonly #notify = openNotify();
  /** Where `umount` looks, once there is a mount in the background that has no log of its own. */
  #kept: Log | undefined;
  /** What was said before, which nobody may have read. */
  #early: string[] = [];
  #noted = false;
  #trouble = "";
  readonly #stopping = Promise.withResolvers<void>();
  #mounted: Mounted | undefined;
  #volume: Volume | undefined;
  /** Another writer has taken over. */
  #replaced = false;

  constructor(mountpoint: string, options: MountingOptions) {
    this.#mountpoint = mountpoint;
    this.#options = options;
    this.#opened = openLog(options);
  }

  readonly log: Log = (message) => {
    const log = this.#opened ?? this.#kept;
    if (log === undefined && inBackground()) this.#early.push(message);
    (log ?? logToTerminal)(message);
  };

  /** Keeps how the mount ended, for `umount`; an attempt that did not come so far leaves the mount before alone. */
  async recordEnd(work: () => Promise<void>): Promise<void> {
    let exit = 0;
    try {
      // Until all is committed.
      await using _session = await SessionEnd.watch(this.#stopping.resolve);
      await work();
    } catch (error) {
      exit = exitCodeOf(error);
      const text = describeError(error).replace(/^coverfs: /, "");
      (this.#opened ?? this.#kept)?.(text); // the terminal is told by whoever catches
      throw error;
    } finally {
      if (this.#noted) await noteMount({ pid: Deno.pid, mountpoint: this.#mountpoint, exit });
    }
  }

  /** Mounts and waits for the end; commits nothing then, that is the caller's. */
  async serve(volume: Volume, name: string): Promise<void> {
    const options = this.#options;
    (await bestEngine()).expectWork?.();
    await volume.refreshSpace();
    const { promise: stopping, resolve: stop } = this.#stopping;
    for (const signal of ENDING_SIGNALS) Deno.addSignalListener(signal, stop);
    const timer = setInterval(() => void this.#keepUp(volume), REFRESH);
    try {
      const mounted = await mount(ownersOf(volume, options), this.#mountpoint, {
        fsname: name,
        readOnly: options.readOnly === true,
        label: options.label,
        networkName: options.networkDrive,
        allowOther: options.allowOther === true,
        allowRoot: options.allowRoot === true,
        directIo: options.directIo === true,
        writebackCache: options.writebackCache === true,
        writebackSeconds: options.commitInterval,
        extra: options.options ?? [],
        log: (message, cause) =>
          this.log(
            message +
              (cause instanceof Error && !message.includes(cause.message) ? `: ${cause.message}` : ""),
          ),
      });
      this.#mounted = mounted;
      this.#volume = volume;
      volume.onReplaced = ({ dentries }, lost) => {
        this.#replaced = true;
        this.log(
          "Another writer has taken the container over: it is shown as that one commits it, and read-only",
        );
        void mounted.replaced({ names: (directory) => dentries.list(directory), lost });
      };
      const writes = volume.readOnly ? undefined : name;
      await noteMount({ pid: Deno.pid, mountpoint: this.#mountpoint, writes });
      this.#noted = true;
      await using _control = volume.readOnly
        ? undefined
        : await MountControl.start(this.#mountpoint, { compact: (how) => volume.compact(how) });
      if (inBackground()) {
        if (this.#opened === undefined) this.#kept = await keepLog(this.#mountpoint);
        for (const message of this.#early.splice(0)) this.#kept?.(message);
        Deno.chdir("/");
      }
      this.#opened?.(`mounted ${name} at ${this.#mountpoint}`);
      reportReady();
      this.#notify("READY=1");
      await this.#untilEnd(mounted, volume, stopping);
      this.#opened?.(`unmounted ${this.#mountpoint}`);
    } finally {
      clearInterval(timer);
      for (const signal of ENDING_SIGNALS) Deno.removeSignalListener(signal, stop);
    }
  }

  async #untilEnd(mounted: Mounted, volume: Volume, stopping: Promise<void>): Promise<void> {
    const { idle } = this.#options;
    await using _mounted = mounted;
    using _idle = idle
      ? whenIdle(mounted, { seconds: idle, end: () => this.#endIdle(mounted, volume) })
      : undefined;
    const end = await Promise.race([mounted.done, stopping]);
    this.#notify("STOPPING=1");
    if (end?.reason === "failed") throw new CoverError("failure", "The mount broke", { cause: end.error });
  }

  /** Commits what was written so far, for another writer who is about to take over; where that fails, it is lost to him. */
  async commitAll(): Promise<void> {
    try {
      await this.#mounted?.writeOut();
      await this.#volume?.sync();
    } catch (error) {
      this.log(`Cannot commit for another writer: ${messageOf(error)}`);
    }
  }

  /** What cannot be committed stays mounted: there it can still be read. */
  async #endIdle(mounted: Mounted, volume: Volume): Promise<void> {
    try {
      await volume.sync();
    } catch (error) {
      return this.log(`Cannot unmount though it is idle: ${messageOf(error)}`);
    }
    await mounted.unmount().catch(() => {}); // somebody's working directory: then later
  }

  async #keepUp(volume: Volume): Promise<void> {
    try {
      const writes = !volume.readOnly, changed = await volume.refresh();
      if (writes || changed) await volume.refreshSpace();
      if (changed && this.#replaced) await this.#mounted?.replaced();
      this.#trouble = "";
    } catch (error) {
      const trouble = messageOf(error);
      if (trouble !== this.#trouble) this.log(`Cannot ask the store for what is new: ${trouble}`);
      this.#trouble = trouble; // told once, not each time
    }
  }
}

/** What is mounted: the volume, with other owners where that is asked for. */
function ownersOf(volume: Volume, options: MountingOptions): Filesystem {
  const { uid, gid, umask } = options;
  if (uid === undefined && gid === undefined && umask === undefined) return volume;
  return new OwnerOverride(volume, { uid, gid, umask });
}

/** `mount ram: DIR`: an empty container under a random key, gone at the end. */
async function serveRam(mounting: Mounting): Promise<void> {
  const containerId = crypto.getRandomValues(new Uint8Array(16));
  const key = crypto.getRandomValues(new Uint8Array(32)), engine = await bestEngine();
  const sealer = await createSealer({ suite: DEFAULT_SUITE, containerId, keys: new Map([[1, key]]), engine });
  const keys = { containerId, sealer, generation: 1, keySequence: 1 }, store = new RamStore();
  const root = { uid: Deno.uid() ?? 0, gid: Deno.gid() ?? 0, mode: 0o755 };
  await createContainer(store, keys, root);
  const session = crypto.getRandomValues(new Uint8Array(16));
  await using volume = new Volume(await Container.open(store, keys, { mode: "write", session }));
  await mounting.serve(volume, "ram:");
}
