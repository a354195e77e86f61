/** What Windows sends to windows when a session ends. */
import { SESSION_WINDOW } from "../../ffi/session_end_worker.ts";
import { wide } from "../../ffi/wide_strings.ts";

/** How long a window may take to answer, in ms. */
const TIMEOUT = 200;
const WM_NULL = 0, WM_QUERYENDSESSION = 0x11, WM_ENDSESSION = 0x16;

/** Asks the one window of a program that waits for the end whether the session may end, and then says that it does. */
export class EndingSession implements Disposable {
  readonly #library = Deno.dlopen("user32.dll", {
    FindWindowW: { parameters: ["buffer", "pointer"], result: "usize" },
    SendMessageW: {
      parameters: ["usize", "u32", "usize", "isize"],
      result: "isize",
      nonblocking: true,
    },
    SendMessageTimeoutW: {
      parameters: ["usize", "u32", "usize", "isize", "u32", "u32", "pointer"],
      result: "isize",
      nonblocking: true,
    },
  });

  /** Whether there is such a window. */
  get isWatched(): boolean {
    return this.#window !== 0n;
  }

  get #window(): bigint {
    return this.#library.symbols.FindWindowW(wide(SESSION_WINDOW), null);
  }

  /** @returns whether it agrees */
  async ask(): Promise<boolean> {
    return await this.#library.symbols.SendMessageW(this.#window, WM_QUERYENDSESSION, 0n, 0n) === 1n;
  }

  /** Resolves when the program may be ended. @param really false: another program did not agree */
  async end(really: boolean): Promise<void> {
    await this.#library.symbols.SendMessageW(this.#window, WM_ENDSESSION, really ? 1n : 0n, 0n);
  }

  /** Whether it answers at all: its thread waits for nothing. */
  async answers(): Promise<boolean> {
    const { SendMessageTimeoutW } = this.#library.symbols;
    return await SendMessageTimeoutW(this.#window, WM_NULL, 0n, 0n, 0, TIMEOUT, null) !== 0n;
  }

  [Symbol.dispose](): void {
    this.#library.close();
  }
}
