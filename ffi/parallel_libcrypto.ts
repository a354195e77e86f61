/** Sealing on several threads: long runs in shared memory go to workers, all else is done at once on this thread. */
import type { BlockCipher, BlockEngine, CipherSpec } from "../crypto/engine.ts";
import { IntegrityError } from "../crypto/errors.ts";
import { BLOCK, type RunIdentity } from "../crypto/sealer.ts";
import type { LibcryptoEngine } from "./libcrypto.ts";
import type { FromSealingWorker, SharedCipherSpec, ToSealingWorker } from "./sealing_worker.ts";

/** Threads at most; more than four would wait for the one that serves requests. */
const THREADS_MOST = 4;
/** Runs shorter than this are not worth the 25 µs of handing them over. */
const LONG_RUN = 32 * BLOCK;
/** Threads start when so many bytes have gone through long runs: most commands end before that. */
const START_BYTES = 4 << 20;

type Job = Omit<Extract<ToSealingWorker, { job: number }>, "job">;

/**
 * A libcrypto engine with threads, which live from the first much work until the last cipher is disposed. Disposing
 * the engine closes the library too.
 */
export class ParallelLibcrypto implements BlockEngine, Disposable {
  readonly name = "libcrypto";
  readonly parallel: boolean;
  readonly #inner: LibcryptoEngine;
  readonly #threads: number;
  readonly #startBytes: number;
  readonly #ciphers = new Map<number, SharedCipherSpec>();
  #workers: SealingThread[] | undefined;
  /** Told when a thread failed; its work is done on this thread then. */
  onFailure: ((error: Error) => void) | undefined;
  #lastCipher = 0;
  #bytes = 0;

  /**
   * @param inner belongs to this engine from now on
   * @param options `threads`: default, as many as the machine has processors, up to 4; none where it has one.
   * `startBytes`: how much goes through long runs before they are started
   */
  constructor(
    inner: LibcryptoEngine,
    options: { readonly threads?: number; readonly startBytes?: number } = {},
  ) {
    const { hardwareConcurrency } = navigator;
    this.#inner = inner;
    this.#startBytes = options.startBytes ?? START_BYTES;
    this.#threads = options.threads ??
      (hardwareConcurrency > 1 ? Math.min(THREADS_MOST, hardwareConcurrency) : 0);
    this.parallel = this.#threads > 0;
  }

  cipher(spec: CipherSpec): BlockCipher {
    const number = ++this.#lastCipher, keys = new Uint8Array(new SharedArrayBuffer(64));
    keys.set(spec.encryptionKey);
    keys.set(spec.macKey, 32);
    const shared = { suite: spec.suite, containerId: spec.containerId.slice(), keys };
    this.#ciphers.set(number, shared);
    for (const worker of this.#workers ?? []) worker.tell({ kind: "cipher", cipher: number, spec: shared });
    return new ParallelCipher(this.#inner.cipher(spec), {
      submit: (job) => this.#submit({ ...job, cipher: number }),
      closed: () => this.#close(number),
    });
  }

  /** Hands a long run over. @returns undefined where it is to be done on this thread */
  #submit(job: Job): Promise<void> | undefined {
    const { plain, sealed } = job;
    if (!(plain.buffer instanceof SharedArrayBuffer && sealed.buffer instanceof SharedArrayBuffer)) return;
    if (!this.parallel || plain.length < LONG_RUN) return;
    this.#bytes += plain.length;
    if (this.#bytes >= this.#startBytes) this.expectWork();
    let least: SealingThread | undefined;
    for (const worker of this.#workers ?? []) {
      if (worker.ready && (least === undefined || worker.load < least.load)) least = worker;
    }
    return least?.run(job);
  }

  /** Starts the threads, if they have not started; they take some 50 ms. */
  expectWork(): void {
    if (this.#workers !== undefined || this.#ciphers.size === 0) return;
    this.#workers = Array.from(
      { length: this.#threads },
      () => new SealingThread(this.#inner.file, (error) => this.onFailure?.(error)),
    );
    for (const worker of this.#workers) {
      for (const [cipher, spec] of this.#ciphers) worker.tell({ kind: "cipher", cipher, spec });
    }
  }

  #close(number: number): void {
    this.#ciphers.get(number)?.keys.fill(0);
    this.#ciphers.delete(number);
    if (this.#ciphers.size > 0) {
      for (const worker of this.#workers ?? []) worker.tell({ kind: "close", cipher: number });
      return;
    }
    for (const worker of this.#workers ?? []) worker[Symbol.dispose]();
    this.#workers = undefined;
    this.#bytes = 0;
  }

  [Symbol.dispose](): void {
    for (const number of [...this.#ciphers.keys()]) this.#close(number);
    this.#inner[Symbol.dispose]();
  }
}

class ParallelCipher implements BlockCipher {
  readonly #inner: BlockCipher;
  readonly #submit: (job: Omit<Job, "cipher">) => Promise<void> | undefined;
  #closed: (() => void) | undefined;

  constructor(
    inner: BlockCipher,
    owner: { submit: (job: Omit<Job, "cipher">) => Promise<void> | undefined; closed: () => void },
  ) {
    this.#inner = inner;
    this.#submit = owner.submit;
    this.#closed = owner.closed;
  }

  seal(run: RunIdentity, plain: Uint8Array, sealed: Uint8Array): void | Promise<void> {
    return this.#work("seal", { run, plain, sealed });
  }

  unseal(run: RunIdentity, sealed: Uint8Array, plain: Uint8Array): void | Promise<void> {
    return this.#work("unseal", { run, plain, sealed });
  }

  #work(kind: "seal" | "unseal", job: Omit<Job, "kind" | "cipher">): void | Promise<void> {
    const { run, plain, sealed } = job;
    const here = () =>
      kind === "seal" ? this.#inner.seal(run, plain, sealed) : this.#inner.unseal(run, sealed, plain);
    const elsewhere = this.#closed ? this.#submit({ kind, ...job }) : undefined;
    // A thread that failed has changed nothing that matters: neither buffer is used before the answer.
    return elsewhere?.catch((error) => {
      if (error instanceof IntegrityError || this.#closed === undefined) throw error;
      return here();
    }) ?? here();
  }

  [Symbol.dispose](): void {
    this.#inner[Symbol.dispose]();
    this.#closed?.();
    this.#closed = undefined;
  }
}

/** One worker with the runs that it was given and has not answered. */
class SealingThread implements Disposable {
  readonly #worker: Worker;
  readonly #jobs = new Map<number, { resolve: () => void; reject: (error: Error) => void }>();
  #lastJob = 0;
  /** It has opened the library, and has not failed. */
  ready = false;

  constructor(file: string, failed: (error: Error) => void) {
    this.#worker = new Worker(new URL("./sealing_worker.ts", import.meta.url), { type: "module" });
    const fail = (message: string) => {
      const error = new Error(`A sealing thread failed: ${message}`);
      this.#fail(error);
      failed(error);
    };
    this.#worker.onmessage = ({ data }: MessageEvent<FromSealingWorker>) => {
      if (data.kind === "ready") this.ready = true;
      else if (data.kind === "failed") fail(data.error);
      else this.#answer(data);
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      fail(event.message);
    };
    this.tell({ kind: "open", file });
  }

  get load(): number {
    return this.#jobs.size;
  }

  tell(message: ToSealingWorker): void {
    this.#worker.postMessage(message);
  }

  /** @throws {IntegrityError} as `BlockCipher`; {Error} if the thread failed */
  run(job: Job): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>(), number = ++this.#lastJob;
    this.#jobs.set(number, { resolve, reject });
    this.tell({ ...job, job: number });
    return promise;
  }

  #answer({ job: number, bad, error }: Extract<FromSealingWorker, { kind: "done" }>): void {
    const job = this.#jobs.get(number);
    this.#jobs.delete(number);
    if (bad) job?.reject(new IntegrityError("Sealed block does not verify", bad));
    else if (error !== undefined) job?.reject(new Error(error));
    else job?.resolve();
  }

  #fail(error: Error): void {
    this.ready = false;
    for (const { reject } of this.#jobs.values()) reject(error);
    this.#jobs.clear();
  }

  [Symbol.dispose](): void {
    this.#worker.terminate();
    this.#fail(new Error("The sealing threads were ended"));
  }
}
