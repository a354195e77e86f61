/**
 * A thread with a window that nobody sees: Windows tells windows, and no one else, that a user logs off or the system
 * shuts down. What it waits for blocks it, so it is a thread of its own. `session_end.ts` starts it.
 */
import { wide } from "./wide_strings.ts";

/** What the thread is told: a flag that is 1 when the process may be ended. */
export interface ToSessionWorker {
  readonly answer: Int32Array<SharedArrayBuffer>;
}

/** What the thread tells: its window (0: there can be none here), that the session ends, that the window is gone. */
export type FromSessionWorker =
  | { readonly kind: "ready"; readonly window: bigint }
  | { readonly kind: "ending" }
  | { readonly kind: "closed" };

/** The window's class, and its title. */
export const SESSION_WINDOW = "coverfs";

const USER32 = {
  RegisterClassExW: { parameters: ["buffer"], result: "u16" }, // const WNDCLASSEXW *
  CreateWindowExW: {
    parameters: [
      "u32", // DWORD dwExStyle
      "buffer", // LPCWSTR lpClassName
      "buffer", // LPCWSTR lpWindowName
      "u32", // DWORD dwStyle
      "i32", // int X
      "i32", // int Y
      "i32", // int nWidth
      "i32", // int nHeight
      "usize", // HWND hWndParent
      "usize", // HMENU hMenu
      "usize", // HINSTANCE hInstance
      "usize", // LPVOID lpParam
    ],
    result: "usize", // HWND
  },
  DestroyWindow: { parameters: ["usize"], result: "i32" }, // HWND; BOOL
  GetMessageW: {
    parameters: [
      "buffer", // LPMSG lpMsg
      "usize", // HWND hWnd
      "u32", // UINT wMsgFilterMin
      "u32", // UINT wMsgFilterMax
    ],
    result: "i32", // BOOL, or -1
  },
  DispatchMessageW: { parameters: ["buffer"], result: "isize" }, // const MSG *
  PostQuitMessage: { parameters: ["i32"], result: "void" }, // int nExitCode
  DefWindowProcW: {
    parameters: [
      "usize", // HWND hWnd
      "u32", // UINT Msg
      "usize", // WPARAM wParam
      "isize", // LPARAM lParam
    ],
    result: "isize", // LRESULT
  },
  ShutdownBlockReasonCreate: { parameters: ["usize", "buffer"], result: "i32" }, // HWND, LPCWSTR; BOOL
} as const satisfies Deno.ForeignLibraryInterface;

/** LRESULT WNDPROC(HWND, UINT, WPARAM, LPARAM). */
const WINDOW_PROCEDURE = { parameters: ["usize", "u32", "usize", "isize"], result: "isize" } as const;

// winuser.h
const WM_CLOSE = 0x10, WM_QUERYENDSESSION = 0x11, WM_ENDSESSION = 0x16;
/** WNDCLASSEXW and MSG on x64. */
const CLASS = { bytes: 80, size: 0, procedure: 8, name: 64 }, MSG_BYTES = 48;

const thread = globalThis as unknown as {
  onmessage: (event: MessageEvent<ToSessionWorker>) => void;
  postMessage(message: FromSessionWorker): void;
};

// In a worker alone: whoever imports the types is none.
if ("WorkerGlobalScope" in globalThis) {
  thread.onmessage = ({ data: { answer } }) => serve(answer);
}

function serve(answer: Int32Array<SharedArrayBuffer>): void {
  const library = Deno.dlopen("user32.dll", USER32), { symbols } = library;
  const name = wide(SESSION_WINDOW), reason = wide("A container is being closed");
  const procedure = new Deno.UnsafeCallback(WINDOW_PROCEDURE, (window, message, wParam, lParam) => {
    switch (message) {
      case WM_QUERYENDSESSION:
        symbols.ShutdownBlockReasonCreate(window, reason); // so that there is as much time as it takes
        return 1n; // yes
      case WM_ENDSESSION:
        // When this returns, the process may be ended.
        if (wParam !== 0n) {
          thread.postMessage({ kind: "ending" });
          while (Atomics.load(answer, 0) === 0) Atomics.wait(answer, 0, 0);
        }
        return 0n;
      case WM_CLOSE:
        symbols.DestroyWindow(window);
        symbols.PostQuitMessage(0);
        return 0n;
      default:
        return symbols.DefWindowProcW(window, message, wParam, lParam);
    }
  });
  const described = new DataView(new ArrayBuffer(CLASS.bytes));
  described.setUint32(CLASS.size, CLASS.bytes, true);
  described.setBigUint64(CLASS.procedure, Deno.UnsafePointer.value(procedure.pointer), true);
  described.setBigUint64(CLASS.name, Deno.UnsafePointer.value(Deno.UnsafePointer.of(name)), true);
  symbols.RegisterClassExW(described);
  const window = symbols.CreateWindowExW(0, name, name, 0, 0, 0, 0, 0, 0n, 0n, 0n, 0n);
  thread.postMessage({ kind: "ready", window });
  const message = new Uint8Array(MSG_BYTES);
  if (window !== 0n) { while (symbols.GetMessageW(message, 0n, 0, 0) > 0) symbols.DispatchMessageW(message); }
  procedure.close();
  library.close();
  thread.postMessage({ kind: "closed" });
}
