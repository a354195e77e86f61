/**
 * The console of a process on Windows, whatever standard input and output are. Read and written as UTF-16: as bytes, what
 * is typed would come in the code page of the console, which has few characters.
 */

import { wide } from "./wide_strings.ts";

const KERNEL32 = {
  CreateFileW: {
    parameters: [
      "buffer", // LPCWSTR lpFileName
      "u32", // DWORD dwDesiredAccess
      "u32", // DWORD dwShareMode
      "pointer", // LPSECURITY_ATTRIBUTES lpSecurityAttributes
      "u32", // DWORD dwCreationDisposition
      "u32", // DWORD dwFlagsAndAttributes
      "usize", // HANDLE hTemplateFile
    ],
    result: "usize", // HANDLE
  },
  CloseHandle: {
    parameters: ["usize"], // HANDLE hObject
    result: "i32", // BOOL
  },
  GetConsoleMode: {
    parameters: [
      "usize", // HANDLE hConsoleHandle
      "buffer", // LPDWORD lpMode
    ],
    result: "i32", // BOOL
  },
  SetConsoleMode: {
    parameters: [
      "usize", // HANDLE hConsoleHandle
      "u32", // DWORD dwMode
    ],
    result: "i32", // BOOL
  },
  // It waits for what is typed.
  ReadConsoleW: {
    parameters: [
      "usize", // HANDLE hConsoleInput
      "buffer", // LPVOID lpBuffer
      "u32", // DWORD nNumberOfCharsToRead
      "buffer", // LPDWORD lpNumberOfCharsRead
      "pointer", // PCONSOLE_READCONSOLE_CONTROL pInputControl
    ],
    result: "i32", // BOOL
    nonblocking: true,
  },
  WriteConsoleW: {
    parameters: [
      "usize", // HANDLE hConsoleOutput
      "buffer", // const VOID *lpBuffer
      "u32", // DWORD nNumberOfCharsToWrite
      "buffer", // LPDWORD lpNumberOfCharsWritten
      "pointer", // LPVOID lpReserved
    ],
    result: "i32", // BOOL
  },
} as const satisfies Deno.ForeignLibraryInterface;

// winbase.h, winnt.h, wincon.h
const GENERIC_READ_WRITE = 0xc000_0000, SHARE_READ_WRITE = 3, OPEN_EXISTING = 3;
const INVALID_HANDLE = 0xffff_ffff_ffff_ffffn;
/** ENABLE_PROCESSED_INPUT (Ctrl-C interrupts), ENABLE_LINE_INPUT, ENABLE_ECHO_INPUT. */
const COOKED = 0x1 | 0x2 | 0x4;
/** UTF-16 units that are read at a time. */
const UNITS = 256;

/** The console, for reading and writing. */
export class WindowsConsole implements Disposable {
  readonly #library: Deno.DynamicLibrary<typeof KERNEL32>;
  readonly #input: bigint;
  readonly #output: bigint;
  /** The mode that it had before. */
  readonly #mode: number;
  /** What was typed and not yet asked for, as UTF-8. */
  #typed = new Uint8Array(0);
  /** The first half of a surrogate pair. */
  #half = "";
  #closed = false;

  private constructor(
    library: Deno.DynamicLibrary<typeof KERNEL32>,
    handles: [bigint, bigint],
    mode: number,
  ) {
    this.#library = library;
    [this.#input, this.#output] = handles;
    this.#mode = mode;
  }

  /** Opens the console that this process belongs to; undefined where there is none. */
  static open(): WindowsConsole | undefined {
    const library = Deno.dlopen("kernel32.dll", KERNEL32), mode = new Uint32Array(1);
    const { CreateFileW, GetConsoleMode, CloseHandle } = library.symbols;
    const [input, output] = ["CONIN$", "CONOUT$"].map((name) =>
      CreateFileW(wide(name), GENERIC_READ_WRITE, SHARE_READ_WRITE, null, OPEN_EXISTING, 0, 0n)
    ) as [bigint, bigint];
    const valid = [input, output].filter((handle) => handle !== INVALID_HANDLE);
    if (valid.length === 2 && GetConsoleMode(input, mode) !== 0) {
      return new WindowsConsole(library, [input, output], mode[0]!);
    }
    for (const handle of valid) CloseHandle(handle);
    library.close();
    return undefined;
  }

  /** Whether each key is read by itself and shown nowhere, Ctrl-C too; or else lines that can be edited. */
  setRaw(raw: boolean): void {
    this.#library.symbols.SetConsoleMode(this.#input, raw ? this.#mode & ~COOKED : this.#mode | COOKED);
  }

  /** Waits for what is typed. @returns how many bytes of UTF-8 there are in `into`; null at the end */
  async read(into: Uint8Array): Promise<number | null> {
    while (this.#typed.length === 0) {
      const units = new Uint16Array(UNITS), count = new Uint32Array(1);
      const done = await this.#library.symbols.ReadConsoleW(this.#input, units, UNITS, count, null);
      if (done === 0 || count[0] === 0) return null;
      const text = this.#half + String.fromCharCode(...units.subarray(0, count[0]));
      units.fill(0);
      const split = /[\ud800-\udbff]$/.test(text) ? text.length - 1 : text.length;
      this.#half = text.slice(split);
      this.#typed = new TextEncoder().encode(text.slice(0, split));
    }
    const part = this.#typed.subarray(0, into.length);
    into.set(part);
    const { length } = part;
    part.fill(0);
    this.#typed = this.#typed.subarray(length);
    return length;
  }

  /** Shows a text, all of it. */
  write(text: string): void {
    const units = wide(text);
    this.#library.symbols.WriteConsoleW(this.#output, units, units.length - 1, new Uint32Array(1), null);
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#library.symbols.SetConsoleMode(this.#input, this.#mode);
    for (const handle of [this.#input, this.#output]) this.#library.symbols.CloseHandle(handle);
    this.#library.close();
  }
}
