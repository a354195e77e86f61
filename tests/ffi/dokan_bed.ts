/** A mount through a double of Dokan's library (tests/windows/dokan_double.c), where `COVERFS_DOKAN_DOUBLE` names it. */
import assert from "node:assert/strict";
import { mount, type Mounted, type MountOptions } from "../../ffi/mod.ts";
import { BY_HANDLE } from "../../ffi/dokan_structs.ts";
import { STATUS, type StatusName } from "../../ffi/ntstatus.ts";
import { wide } from "../../ffi/wide_strings.ts";
import type { Filesystem } from "../../fs/filesystem.ts";
import { RamStore } from "../../fs/store/ram.ts";
import type { Volume } from "../../fs/volume.ts";
import { makeContainer, openVolume, walk } from "../fs/fixture.ts";

export const DOUBLE = Deno.build.os === "windows" ? Deno.env.get("COVERFS_DOKAN_DOUBLE") : undefined;
export const strict = { sanitizeOps: true, sanitizeResources: true, ignore: DOUBLE === undefined };

const HANDLE = "usize", NAME = "buffer";
export const SYMBOLS = {
  DoubleCreate: {
    parameters: [NAME, "u32", "u32", "u32", "u32", "u32", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  DoubleRead: { parameters: [HANDLE, "buffer", "u32", "i64", "buffer"], result: "i32", nonblocking: true },
  DoubleWrite: {
    parameters: [HANDLE, "buffer", "u32", "i64", "u32", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  DoubleFlush: { parameters: [HANDLE], result: "i32", nonblocking: true },
  DoubleInformation: { parameters: [HANDLE, "buffer"], result: "i32", nonblocking: true },
  DoubleFind: { parameters: [HANDLE, NAME, "buffer", "u32"], result: "i32", nonblocking: true },
  DoubleSetAttributes: { parameters: [HANDLE, "u32"], result: "i32", nonblocking: true },
  DoubleSetTime: { parameters: [HANDLE, "buffer", "buffer", "buffer"], result: "i32", nonblocking: true },
  DoubleSetDelete: { parameters: [HANDLE, "i32"], result: "i32", nonblocking: true },
  DoubleMove: { parameters: [HANDLE, NAME, "i32"], result: "i32", nonblocking: true },
  DoubleSetEnd: { parameters: [HANDLE, "i64"], result: "i32", nonblocking: true },
  DoubleSetAllocation: { parameters: [HANDLE, "i64"], result: "i32", nonblocking: true },
  DoubleClose: { parameters: [HANDLE], result: "void", nonblocking: true },
  DoubleExtensions: { parameters: [], result: "i32", nonblocking: true },
  DoubleSecurity: {
    parameters: [HANDLE, "u32", "buffer", "u32", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  DoubleSetSecurity: { parameters: [HANDLE, "u32", "buffer", "u32"], result: "i32", nonblocking: true },
  DoubleOptions: { parameters: ["buffer", "buffer", "buffer", "buffer"], result: "i32" },
  DoubleSpace: { parameters: ["buffer"], result: "i32", nonblocking: true },
  DoubleVolume: { parameters: ["buffer", "buffer"], result: "i32", nonblocking: true },
  DoubleStress: { parameters: ["u32", "u32"], result: "i32", nonblocking: true },
  DokanRemoveMountPoint: { parameters: [NAME], result: "i32", nonblocking: true },
} as const;

export const READ = 0x8000_0000, WRITE = 0x4000_0000, DELETE = 0x1_0000, ALL_SHARED = 7;
export const OPEN = 1, CREATE = 2, OPEN_IF = 3, OVERWRITE = 4, OVERWRITE_IF = 5;
export const DIRECTORY = 1, NON_DIRECTORY = 0x40, DELETE_ON_CLOSE = 0x1000, REPARSE = 0x20_0000;

interface Opening {
  access?: number;
  share?: number;
  disposition?: number;
  flags?: number;
  attributes?: number;
}

/** A mount of a volume in RAM, and what asks it. */
export class Bed implements AsyncDisposable {
  readonly volume: Volume;
  readonly mounted: Mounted;
  readonly #library = Deno.dlopen(DOUBLE!, SYMBOLS);
  readonly logged: string[] = [];

  private constructor(volume: Volume, mounted: Mounted) {
    this.volume = volume;
    this.mounted = mounted;
  }

  static async make(
    options: MountOptions & { wrap?: (volume: Volume) => Filesystem; at?: string; store?: RamStore } = {},
  ): Promise<Bed> {
    const { wrap, at = "X:", store = new RamStore(), ...rest } = options;
    if (options.store === undefined) await makeContainer(store);
    const volume = await openVolume(store), logged: string[] = [];
    const mounted = await mount(wrap?.(volume) ?? volume, at, {
      library: DOUBLE!,
      fsname: "C:\\boxes\\box",
      log: (message, cause) => logged.push(`${message}: ${cause}`),
      ...rest,
    });
    const bed = new Bed(volume, mounted);
    bed.logged.push(...logged);
    return bed;
  }

  get symbols() {
    return this.#library.symbols;
  }

  /** Opens as told, and expects a status. @returns the handle; 0 where there is none */
  async open(path: string, opening: Opening = {}, expected: StatusName = "SUCCESS"): Promise<bigint> {
    const { access = READ | WRITE, share = ALL_SHARED, disposition = OPEN, flags = 0, attributes = 0 } =
      opening;
    const out = new BigUint64Array(1);
    const status = await this.symbols.DoubleCreate(
      wide(path),
      access >>> 0,
      attributes,
      share,
      disposition,
      flags,
      out,
    );
    assertStatus(status, expected, path);
    return out[0]!;
  }

  async close(...handles: bigint[]): Promise<void> {
    for (const handle of handles) await this.symbols.DoubleClose(handle);
  }

  async write(
    handle: bigint,
    bytes: Uint8Array,
    at: number,
    options: { how?: 0 | 1 | 2; expected?: StatusName } = {},
  ): Promise<number> {
    const put = new Uint32Array(1), { how = 0, expected = "SUCCESS" } = options;
    assertStatus(
      await this.symbols.DoubleWrite(handle, bytes.slice(), bytes.length, BigInt(at), how, put),
      expected,
    );
    return put[0]!;
  }

  async read(
    handle: bigint,
    length: number,
    at: number,
    expected: StatusName = "SUCCESS",
  ): Promise<Uint8Array> {
    const into = new Uint8Array(length), got = new Uint32Array(1);
    assertStatus(await this.symbols.DoubleRead(handle, into, length, BigInt(at), got), expected);
    return into.subarray(0, got[0]);
  }

  async list(path: string, expression = "*", room = 4096): Promise<string[]> {
    const handle = await this.open(path, { access: READ, flags: DIRECTORY }), out = new Uint16Array(room);
    assertStatus(await this.symbols.DoubleFind(handle, wide(expression), out, room), "SUCCESS");
    await this.close(handle);
    const text = String.fromCharCode(...out);
    return text.slice(0, text.indexOf("\0")).split("\n").slice(0, -1);
  }

  async information(handle: bigint): Promise<DataView> {
    const view = new DataView(new ArrayBuffer(BY_HANDLE.bytes));
    assertStatus(await this.symbols.DoubleInformation(handle, view), "SUCCESS");
    return view;
  }

  /** What the library was told at the start. */
  options(): { mountpoint: string; unc: string; flags: number; security: Uint8Array; withoutLocks: boolean } {
    const texts = new Uint16Array(520), numbers = new Uint32Array(2), security = new Uint8Array(16384);
    const withoutLocks = this.symbols.DoubleOptions(
      texts,
      numbers.subarray(0, 1),
      security,
      numbers.subarray(1),
    ) !== 0;
    const text = (at: number) => String.fromCharCode(...texts.subarray(at, at + 260)).replace(/\0.*/s, "");
    return {
      mountpoint: text(0),
      unc: text(260),
      flags: numbers[0]!,
      security: security.slice(0, numbers[1]),
      withoutLocks,
    };
  }

  paths(): string[] {
    return walk(this.volume).map(({ path }) => path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.mounted[Symbol.asyncDispose]();
    this.#library.close();
    await this.volume.end();
  }
}

export function assertStatus(status: number, expected: StatusName, what = ""): void {
  const name = Object.entries(STATUS).find(([, value]) => (value | 0) === status)?.[0] ?? status.toString(16);
  assert.equal(name, expected, what);
}
