/** The end of a user's session on Windows: logging off, and shutting down. */
import type { FromSessionWorker, ToSessionWorker } from "./session_end_worker.ts";

const USER32 = {
  PostMessageW: {
    parameters: [
      "usize", // HWND hWnd
      "u32", // UINT Msg
      "usize", // WPARAM wParam
      "isize", // LPARAM lParam
    ],
    result: "i32", // BOOL
  },
} as const satisfies Deno.ForeignLibraryInterface;
const WM_CLOSE = 0x10;

/**
 * Tells when the session ends, and keeps Windows from ending the process before this is disposed. On other systems it
 * tells nothing: there a signal comes.
 *
 * @example
 * ```ts ignore
 * await using _session = await SessionEnd.watch(() => stop());
 * ```
 */
export class SessionEnd implements AsyncDisposable {
  readonly #worker: Worker | undefined;
  readonly #answer = new Int32Array(new SharedArrayBuffer(4));
  readonly #ready = Promise.withResolvers<bigint>();
  readonly #closed = Promise.withResolvers<void>();

  private constructor(onEnd: () => void) {
    if (Deno.build.os !== "windows") return;
    const worker = new Worker(new URL("./session_end_worker.ts", import.meta.url), { type: "module" });
    worker.onerror = (event) => {
      event.preventDefault(); // then nobody tells; nothing else is worse by it
      this.#ready.resolve(0n);
      this.#closed.resolve();
    };
    worker.onmessage = ({ data }: MessageEvent<FromSessionWorker>) => {
      if (data.kind === "ready") this.#ready.resolve(data.window);
      else if (data.kind === "ending") onEnd();
      else this.#closed.resolve();
    };
    worker.postMessage({ answer: this.#answer } satisfies ToSessionWorker);
    this.#worker = worker;
  }

  /** @param onEnd is called when the session ends; what it starts has the time until this is disposed */
  static async watch(onEnd: () => void): Promise<SessionEnd> {
    const watching = new SessionEnd(onEnd);
    if (watching.#worker !== undefined) await watching.#ready.promise;
    return watching;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#worker === undefined) return;
    const window = await this.#ready.promise;
    Atomics.store(this.#answer, 0, 1);
    Atomics.notify(this.#answer, 0);
    if (window !== 0n) {
      const library = Deno.dlopen("user32.dll", USER32);
      library.symbols.PostMessageW(window, WM_CLOSE, 0n, 0n);
      library.close();
    }
    await this.#closed.promise;
    this.#worker.terminate();
  }
}
