/** The terminal itself, whatever standard input and output are: asking without echo, and yes or no. */
import { CoverError } from "../crypto/errors.ts";
import { WindowsConsole } from "../ffi/windows_console.ts";

const DEVICE = "/dev/tty";

/** Longest line that is taken, in bytes. */
const LINE_MAX = 4096;

/** What a terminal is read from and written to. */
interface TerminalDevice extends Disposable {
  setRaw(raw: boolean): void;
  read(into: Uint8Array): Promise<number | null>;
  write(text: string): void | Promise<void>;
}

/** The terminal of a POSIX system. Opened once to read, and once to write unless that was done before. */
class PosixTerminal implements TerminalDevice {
  /** The device to write to, where it was opened in advance. */
  static #prepared: Deno.FsFile | undefined;
  readonly #input: Deno.FsFile;
  readonly #output: Deno.FsFile;

  private constructor(input: Deno.FsFile, output: Deno.FsFile) {
    this.#input = input;
    this.#output = output;
  }

  static prepare(): void {
    try {
      this.#prepared ??= Deno.openSync(DEVICE, { read: true, write: true });
    } catch {
      // no terminal
    }
  }

  static open(): PosixTerminal | undefined {
    let input: Deno.FsFile | undefined;
    try {
      input = Deno.openSync(DEVICE, { read: true });
      if (input.isTerminal()) {
        const output = this.#prepared ?? Deno.openSync(DEVICE, { read: true, write: true });
        return new PosixTerminal(input, output);
      }
    } catch {
      // no terminal
    }
    input?.close();
    return undefined;
  }

  setRaw(raw: boolean): void {
    this.#input.setRaw(raw);
  }

  read(into: Uint8Array): Promise<number | null> {
    return this.#input.read(into);
  }

  async write(text: string): Promise<void> {
    const bytes = new TextEncoder().encode(text);
    for (let at = 0; at < bytes.length;) at += await this.#output.write(bytes.subarray(at));
  }

  [Symbol.dispose](): void {
    this.#input.close();
    if (this.#output !== PosixTerminal.#prepared) this.#output.close();
  }
}

/** A terminal to ask on. */
export class Terminal implements Disposable {
  readonly #device: TerminalDevice;

  private constructor(device: TerminalDevice) {
    this.#device = device;
  }

  /**
   * Has {@linkcode Terminal.open} work when permissions have been given up: to write to a terminal takes all of them, to
   * read from one does not (`check_special_file`, Deno 2.9).
   */
  static prepare(): void {
    PosixTerminal.prepare();
  }

  /** Opens the terminal that this process belongs to; undefined where there is none. */
  static open(): Terminal | undefined {
    const device = Deno.build.os === "windows" ? WindowsConsole.open() : PosixTerminal.open();
    return device && new Terminal(device);
  }

  /**
   * Asks for a line that is not shown.
   *
   * @throws {CoverError} "interrupted" on Ctrl-C, "usage" on end of input
   */
  async askSecret(question: string): Promise<string> {
    const line = new Uint8Array(LINE_MAX), one = new Uint8Array(1);
    let length = 0;
    // Before the question: what is typed as soon as it shows must not be echoed.
    this.#device.setRaw(true);
    try {
      await this.#device.write(question);
      while (true) {
        const count = await this.#device.read(one), byte = one[0]!;
        if (count === null || (byte === 4 && length === 0)) {
          throw new CoverError("usage", "Cannot read the passphrase: end of input");
        }
        if (byte === 3) throw new CoverError("interrupted", "Interrupted");
        if (byte === 10 || byte === 13) break;
        if (byte === 0x15) length = 0;
        else if (byte === 8 || byte === 0x7f) length = withoutLast(line, length);
        else if (length < LINE_MAX) line[length++] = byte;
      }
      return decodeText(line.subarray(0, length));
    } finally {
      line.fill(0);
      one.fill(0);
      this.#device.setRaw(false);
      await this.#device.write("\n");
    }
  }

  /** Asks a question that only `yes` agrees to. */
  async confirm(question: string): Promise<boolean> {
    await this.#device.write(`${question} (yes/no) `);
    const line = new Uint8Array(LINE_MAX), count = await this.#device.read(line) ?? 0;
    return new TextDecoder().decode(line.subarray(0, count)).trim().toLowerCase() === "yes";
  }

  [Symbol.dispose](): void {
    this.#device[Symbol.dispose]();
  }
}

/** The length without the last UTF-8 character. */
function withoutLast(line: Uint8Array, length: number): number {
  let at = length - 1;
  while (at > 0 && (line[at]! & 0xc0) === 0x80) at--;
  return Math.max(0, at);
}

/** Reads UTF-8 that a person gave. @throws {CoverError} "usage" if it is not */
export function decodeText(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
      bytes as Uint8Array<ArrayBuffer>,
    );
  } catch (cause) {
    throw new CoverError("usage", "Cannot read the passphrase: it is not UTF-8", { cause });
  }
}
