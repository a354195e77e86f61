import { Errno } from "../fs/errors.ts";
import type { Replies, Request } from "./libfuse_requests.ts";
import type { Libfuse } from "./libfuse_symbols.ts";

/**
 * Answers requests that wait with EINTR when the kernel says that who asks was interrupted. Without that, the kernel
 * has him wait, even for the signal that kills him, until the answer is there.
 */
export class Interrupts {
  readonly #fuse: Libfuse["fuse"];
  readonly #replies: Replies;
  /** Requests that wait, by their addresses. */
  readonly #waiting = new Map<bigint, Request>();
  /** `fuse_interrupt_func_t`, called in place while the kernel's request to interrupt is processed. */
  readonly #callback: Deno.UnsafeCallback<{ parameters: ["pointer", "pointer"]; result: "void" }>;

  constructor(library: Libfuse, replies: Replies) {
    this.#fuse = library.fuse;
    this.#replies = replies;
    this.#callback = new Deno.UnsafeCallback(
      { parameters: ["pointer", "pointer"], result: "void" },
      (pointer) => {
        const request = this.#waiting.get(Deno.UnsafePointer.value(pointer));
        // libfuse holds the request's lock during this call, and answering frees the request: so answer later.
        if (request) queueMicrotask(() => this.#interrupt(request));
      },
    );
  }

  #interrupt(request: Request): void {
    if (request.answered) return;
    request.interrupted = true;
    this.#replies.error(request, Errno.EINTR);
  }

  /** Watches a request that is not answered yet, until {@linkcode settled}. */
  watch(request: Request): void {
    this.#waiting.set(request.address, request);
    this.#fuse.fuse_req_interrupt_func(request.pointer, this.#callback.pointer, null);
  }

  /** What was to be done for a request is done. */
  settled(request: Request): void {
    // libfuse may have given the address to the next request.
    if (this.#waiting.get(request.address) === request) this.#waiting.delete(request.address);
  }

  /** Frees the callback; the session must be gone by then. */
  close(): void {
    this.#callback.close();
  }
}
