/** Mounts through Dokan, on Windows. */
import { lstatSync, readdirSync } from "node:fs";
import { CoverError } from "../crypto/errors.ts";
import type { Filesystem } from "../fs/filesystem.ts";
import { DokanOperations } from "./dokan_operations.ts";
import { OPTION, OPTIONS } from "./dokan_structs.ts";
import {
  DOKAN_OPERATIONS,
  DOKAN_VERSION,
  type DokanLibrary,
  type DokanOperation,
  FILL_FIND_DATA,
  openDokan,
  OPERATION_NAMES,
  OPERATIONS_BYTES,
} from "./dokan_symbols.ts";
import type { FromDokanWorker, ToDokanWorker } from "./dokan_worker.ts";
import type { Mounted, MountEnd, MountOptions } from "./mount.ts";
import { STATUS, statusOf } from "./ntstatus.ts";
import { wide } from "./wide_strings.ts";
import { WindowsSecurity } from "./windows_security.ts";

/** How long the driver waits for an answer, in seconds; then it takes the mount away. */
const TIMEOUT = 60;
/** How often in that time whoever still waits is given more. */
const EXTENSIONS = 4;
const INFINITE = 0xffff_ffff, UNIT = 4096, SECTOR = 512;
/** Characters of a path that the library has room for (MAX_PATH, with the zero). */
const MAX_PATH = 260;

/** Reading and writing wait for the network most: each has a thread of its own, and all else a third one. */
const THREADS: readonly ReadonlySet<DokanOperation>[] = [
  new Set(["ReadFile"]),
  new Set(["WriteFile", "FlushFileBuffers"]),
  new Set(OPERATION_NAMES.filter((one) => !["ReadFile", "WriteFile", "FlushFileBuffers"].includes(one))),
];

/** What DokanCreateFileSystem answers (dokan.h, DOKAN_*_ERROR). */
const CREATE_ERRORS: Readonly<Record<number, string>> = {
  [-2]: "there is no such drive letter",
  [-3]: "the driver cannot be installed",
  [-4]: "the driver does not start",
  [-5]: "the driver refuses, or the mountpoint is in use",
  [-6]: "the mountpoint is not valid",
  [-7]: "the versions of library and driver differ",
};

const cannot = (mountpoint: string, why: string, hint: string) =>
  new CoverError("cannot-mount", `Cannot mount "${mountpoint}": ${why}`, { hint });

/** @throws {CoverError} cannot-mount, usage: what the library would only answer with a number to, or crash by */
function checkMountpoint(mountpoint: string, { networkName }: MountOptions): void {
  if (/^.:[\\/]?$/.test(mountpoint)) return;
  if (networkName !== undefined) {
    throw new CoverError("usage", `Cannot mount "${mountpoint}" as a network drive: it is a folder`, {
      hint: "A network drive has a letter, such as X:",
    });
  }
  if (mountpoint.length >= MAX_PATH) {
    throw cannot(mountpoint, "its path is too long", "Choose one of at most 259 characters");
  }
  let entries: string[];
  try {
    entries = readdirSync(mountpoint);
  } catch {
    // What is left of a mount that was killed leads nowhere, and is taken again.
    if (lstatSync(mountpoint, { throwIfNoEntry: false })?.isSymbolicLink()) return;
    throw cannot(
      mountpoint,
      "there is no such folder",
      "Choose a free drive letter such as X:, or an empty folder on NTFS",
    );
  }
  if (entries.length > 0) throw cannot(mountpoint, "the folder is not empty", "Choose an empty one");
}

/** Mounts at a drive letter (`X:`) or an empty folder on NTFS; as {@linkcode mount} says. */
export async function mountDokan(
  filesystem: Filesystem,
  mountpoint: string,
  options: MountOptions = {},
): Promise<Mounted> {
  checkMountpoint(mountpoint, options);
  // As elsewhere a mount is its user's alone unless it is said to be everybody's.
  const security = options.allowOther ? undefined : new WindowsSecurity();
  const library = openDokan(options.library),
    mount = new DokanMount(library, { filesystem, mountpoint, options, security });
  try {
    await mount.start();
  } catch (error) {
    await mount.discard();
    throw error;
  }
  return mount;
}

/** Unmounts what another process has mounted. @returns whether there was something */
export async function unmountDokan(mountpoint: string): Promise<boolean> {
  const library = openDokan(), { symbols } = library;
  try {
    await symbols.DokanInit();
    const done = await symbols.DokanRemoveMountPoint(wide(mountpoint));
    await symbols.DokanShutdown();
    return done !== 0;
  } finally {
    library.close();
  }
}

class DokanMount implements Mounted {
  readonly mountpoint: string;
  readonly done: Promise<MountEnd>;
  readonly #library: DokanLibrary;
  readonly #options: MountOptions;
  readonly #operations: DokanOperations;
  readonly #workers: Worker[] = [];
  /** Calls that are not answered yet, by the address of their DOKAN_FILE_INFO. */
  readonly #waiting = new Set<bigint>();
  readonly #mounted = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<MountEnd>();
  // Kept by the library.
  readonly #table = new BigUint64Array(OPERATIONS_BYTES / 8);
  readonly #dokanOptions = new Uint8Array(OPTIONS.bytes);
  readonly #point: Uint16Array<ArrayBuffer>;
  readonly #networkName: Uint16Array<ArrayBuffer>;
  /** In ms. */
  readonly #timeout: number;
  #timer: ReturnType<typeof setInterval> | undefined;
  #handle = 0n;
  #requests = 0;
  #unmounting = false;
  #forced = false;
  #fill:
    | { readonly address: bigint; readonly call: (data: Uint8Array<ArrayBuffer>, info: bigint) => number }
    | undefined;

  constructor(
    library: DokanLibrary,
    of: {
      filesystem: Filesystem;
      mountpoint: string;
      options: MountOptions;
      security: WindowsSecurity | undefined;
    },
  ) {
    this.#library = library;
    this.mountpoint = of.mountpoint;
    this.#options = of.options;
    this.#timeout = (of.options.answerTimeout ?? TIMEOUT) * 1000;
    this.#point = wide(of.mountpoint);
    // The library has it with one backslash at the start.
    this.#networkName = wide(of.options.networkName?.slice(1) ?? "");
    const { security } = of;
    this.done = this.#ended.promise;
    this.#operations = new DokanOperations(of.filesystem, {
      label: labelOf(of.options.label ?? lastPart(of.options.fsname ?? "coverfs")),
      security: security && ((parts, options) => security.of(parts, options)),
      fill: (fill, data, info) => this.#fillFunction(fill)(data, info) === 0,
      matches: (pattern, name) => library.symbols.DokanIsNameInExpression(wide(pattern), wide(name), 1) !== 0,
      onMounted: () => this.#mounted.resolve(),
    });
    const view = new DataView(this.#dokanOptions.buffer),
      readOnly = of.options.readOnly || of.filesystem.readOnly;
    const addressOf = (memory: Uint16Array<ArrayBuffer>) =>
      BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(memory)));
    const network = of.options.networkName !== undefined;
    view.setUint16(OPTIONS.version, DOKAN_VERSION, true);
    view.setUint32(
      OPTIONS.options,
      (readOnly ? OPTION.writeProtect : 0) | (of.options.allowOther ? 0 : OPTION.currentSession) |
        (network ? OPTION.network | OPTION.unmountNetwork : 0),
      true,
    );
    view.setBigUint64(OPTIONS.mountPoint, addressOf(this.#point), true);
    if (network) view.setBigUint64(OPTIONS.uncName, addressOf(this.#networkName), true);
    if (security !== undefined) {
      view.setUint32(OPTIONS.securityLength, security.volume.length, true);
      this.#dokanOptions.set(security.volume, OPTIONS.security);
    }
    view.setUint32(OPTIONS.timeout, this.#timeout, true);
    view.setUint32(OPTIONS.allocationUnitSize, UNIT, true);
    view.setUint32(OPTIONS.sectorSize, SECTOR, true);
  }

  get activity() {
    return { requests: this.#requests, open: this.#operations.open };
  }

  async start(): Promise<void> {
    for (const operations of THREADS) await this.#startWorker([...operations]);
    const { symbols } = this.#library, handle = new BigUint64Array(1);
    await symbols.DokanInit();
    const table = BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(this.#table)));
    const code = await symbols.DokanCreateFileSystem(this.#dokanOptions, table, handle);
    if (code !== 0) {
      await symbols.DokanShutdown();
      throw cannot(
        this.mountpoint,
        CREATE_ERRORS[code] ?? `error ${code}`,
        "Choose a free drive letter such as X:, or an empty folder on NTFS; see that Dokan's driver runs (dokanctl /l)",
      );
    }
    this.#handle = handle[0]!;
    this.#timer = setInterval(() => this.#extend(), this.#timeout / EXTENSIONS);
    const { signal } = this.#options;
    const onAbort = () => void this[Symbol.asyncDispose]();
    signal?.addEventListener("abort", onAbort, { once: true });
    void this.#untilClosed().finally(() => signal?.removeEventListener("abort", onAbort));
    if (signal?.aborted) onAbort();
    await Promise.race([this.#mounted.promise, this.done]);
  }

  async #startWorker(operations: DokanOperation[]): Promise<void> {
    const worker = new Worker(new URL("./dokan_worker.ts", import.meta.url), { type: "module" });
    this.#workers.push(worker);
    const answer = new Int32Array(new SharedArrayBuffer(8)), ready = Promise.withResolvers<void>();
    worker.onerror = (event) => {
      event.preventDefault();
      ready.reject(new Error(event.message));
      this.#options.log?.("A thread of the mount has failed", new Error(event.message));
    };
    worker.onmessage = ({ data }: MessageEvent<FromDokanWorker>) => {
      if (data.kind === "call") return void this.#answer(data, answer);
      for (const [name, address] of data.addresses) {
        this.#table[DOKAN_OPERATIONS[name].at / 8] = BigInt(address);
      }
      ready.resolve();
    };
    worker.postMessage({ operations, answer } satisfies ToDokanWorker);
    await ready.promise;
  }

  /** Never rejects: whoever called waits for the flag. */
  async #answer(
    call: FromDokanWorker & { kind: "call" },
    answer: Int32Array<SharedArrayBuffer>,
  ): Promise<void> {
    const operation = OPERATION_NAMES[call.operation]!, info = call.args[call.args.length - 1]!;
    let status: number = STATUS.IO_DEVICE_ERROR;
    this.#requests++;
    this.#waiting.add(info);
    try {
      const done = await this.#operations.run(operation, call.args);
      status = done === undefined ? STATUS.SUCCESS : STATUS[done];
    } catch (error) {
      const known = statusOf(error);
      if (known === undefined || known === "IO_DEVICE_ERROR") {
        this.#options.log?.(`Cannot answer ${operation}`, error);
      }
      if (known !== undefined) status = STATUS[known];
    }
    this.#waiting.delete(info);
    answer[1] = status | 0;
    Atomics.store(answer, 0, 1);
    Atomics.notify(answer, 0);
  }

  /** Who waits for a slow store is not given up by the driver. */
  #extend(): void {
    for (const info of this.#waiting) this.#library.symbols.DokanResetTimeout(this.#timeout, info);
  }

  #fillFunction(address: bigint) {
    if (this.#fill?.address !== address) {
      const pointer = Deno.UnsafePointer.create(address)!;
      const fill = new Deno.UnsafeFnPointer(
        pointer as Deno.PointerObject<typeof FILL_FIND_DATA>,
        FILL_FIND_DATA,
      );
      this.#fill = { address, call: (data, info) => fill.call(data, info) };
    }
    return this.#fill.call;
  }

  async #untilClosed(): Promise<void> {
    const { symbols } = this.#library;
    let error: unknown;
    try {
      await symbols.DokanWaitForFileSystemClosed(this.#handle, INFINITE);
      await symbols.DokanCloseHandle(this.#handle);
      await symbols.DokanShutdown();
    } catch (cause) {
      error = cause;
    }
    clearInterval(this.#timer);
    this.#unmounting = true; // there is nothing left that could be taken away
    const inUse = this.#operations.open > 0 || this.#forced;
    this.#operations.end();
    for (const worker of this.#workers) worker.terminate();
    this.#library.close();
    this.#ended.resolve(
      error !== undefined ? { reason: "failed", error } : { reason: inUse ? "stopped" : "unmounted" },
    );
  }

  /** Takes away what an attempt to mount has left. */
  // deno-lint-ignore require-await
  async discard(): Promise<void> {
    for (const worker of this.#workers) worker.terminate();
    this.#library.close();
  }

  /** The names that the kernel knows of here are asked for again each time anyway. */
  // deno-lint-ignore require-await
  async replaced(): Promise<void> {
    this.#operations.replaced();
  }

  /** Writes are asked for at once here, but those of mappings, which come when they come. */
  async writeOut(): Promise<void> {}

  async unmount(options: { readonly lazy?: boolean } = {}): Promise<void> {
    if (this.#operations.open > 0 && !options.lazy) {
      throw new CoverError(
        "failure",
        `Cannot unmount "${this.mountpoint}": ${this.#operations.open} files are open`,
        {
          hint: "End the programs that use it",
        },
      );
    }
    await this.#remove();
    if (!options.lazy) await this.done;
  }

  async #remove(): Promise<void> {
    if (this.#unmounting) return;
    this.#unmounting = true;
    await this.#library.symbols.DokanRemoveMountPoint(this.#point);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#forced ||= this.#operations.open > 0;
    await this.#remove();
    await this.done;
  }
}

const lastPart = (name: string) => name.split(/[\\/]/).findLast((part) => part !== "") ?? "coverfs";

/** A label: at most 32 characters that Windows allows. */
function labelOf(name: string): string {
  return name.replace(/["*+,./:;<=>?[\\\]|]/g, "_").slice(0, 32);
}
