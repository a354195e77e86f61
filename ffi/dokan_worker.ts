/**
 * A thread that is called by Dokan and has to answer before it returns, so it can await nothing: it hands what it was
 * called with to the thread that owns the filesystem, and sleeps until that has answered. `dokan.ts` starts some.
 */
import { DOKAN_OPERATIONS, type DokanOperation, OPERATION_NAMES } from "./dokan_symbols.ts";
import { STATUS } from "./ntstatus.ts";

/** What the thread is told: which callbacks it has, and where answers come: a flag and the status. */
export interface ToDokanWorker {
  readonly operations: readonly DokanOperation[];
  readonly answer: Int32Array<SharedArrayBuffer>;
}

/** What the thread tells: the addresses of its callbacks, then each call. */
export type FromDokanWorker =
  | { readonly kind: "ready"; readonly addresses: readonly (readonly [DokanOperation, bigint])[] }
  | { readonly kind: "call"; readonly operation: number; readonly args: readonly bigint[] };

const thread = globalThis as unknown as {
  onmessage: (event: MessageEvent<ToDokanWorker>) => void;
  postMessage(message: FromDokanWorker): void;
};
/** They are called as long as the mount lives. */
const callbacks: unknown[] = [];

// In a worker alone: whoever imports the types is none.
if ("WorkerGlobalScope" in globalThis) {
  thread.onmessage = ({ data: { operations, answer } }) => {
    const addresses = operations.map((name) => {
      const operation = OPERATION_NAMES.indexOf(name), silent = name === "Cleanup" || name === "CloseFile";
      const call = (...args: (number | bigint)[]): number => {
        try {
          Atomics.store(answer, 0, 0);
          thread.postMessage({ kind: "call", operation, args: args.map(BigInt) });
          while (Atomics.load(answer, 0) === 0) Atomics.wait(answer, 0, 0);
          return answer[1]!;
        } catch {
          return STATUS.IO_DEVICE_ERROR | 0; // thrown, it would be 0 to the caller: success
        }
      };
      const { parameters } = DOKAN_OPERATIONS[name], result = silent ? "void" as const : "i32" as const;
      const callback = Deno.UnsafeCallback.threadSafe(
        { parameters: [...parameters], result } as const,
        call as never,
      );
      callbacks.push(callback);
      return [name, Deno.UnsafePointer.value(callback.pointer)] as const;
    });
    thread.postMessage({ kind: "ready", addresses });
  };
}
