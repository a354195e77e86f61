/** A store that fails on demand, for the tests of what lies above. */
import { Broken, Fenced, FsError } from "../errors.ts";
import type { Position } from "../types.ts";
import { StoreDecorator } from "./decorator.ts";
import type { HeaderRegion } from "./store.ts";

/** The calls that can be made to fail. */
export type FaultPoint = "read" | "write" | "header" | "truncate" | "flush" | "reserve";

/** A failure to come. */
export interface Fault {
  readonly at: FaultPoint;
  /** Which call fails, counted from 1 since the fault was armed. */
  readonly nth: number;
  /** What that call rejects with. */
  readonly error: Error;
  /**
   * For "write" and "header": the call seems to succeed and its bytes are lost, as in a kernel's write-back; the
   * next flush rejects with the error.
   */
  readonly late?: boolean;
}

/**
 * Fails chosen calls. As the contract of `BlockStore` says, after a failed write, header write, truncate or flush
 * (and a reserve that failed by anything but `FsError`) every later one rejects with `Broken`, or with the `Fenced`
 * that was given; reads go on, and nothing more reaches the store below.
 */
export class FaultStore extends StoreDecorator {
  #armed: (Fault & { left: number })[] = [];
  #failure: Error | undefined;
  /** The error of a late fault, until a flush reports it. */
  #pending: Error | undefined;

  /** Arms a fault; several may be armed, each counts on its own. */
  fail(fault: Fault): this {
    this.#armed.push({ ...fault, left: fault.nth });
    return this;
  }

  #due(at: FaultPoint): Fault | undefined {
    const due: Fault[] = [];
    for (const fault of this.#armed) {
      if (fault.at === at && --fault.left === 0) due.push(fault);
    }
    this.#armed = this.#armed.filter((fault) => fault.left > 0);
    return due[0];
  }

  #break(error: Error): Error {
    this.#failure ??= error instanceof Broken || error instanceof Fenced
      ? error
      : new Broken("The store is broken: an earlier operation failed", { cause: error });
    return error;
  }

  /** What a changing call must reject with; undefined if it goes on to the store below. */
  #refusal(at: FaultPoint): Error | undefined {
    if (this.#failure) return this.#failure;
    const fault = this.#due(at);
    return fault && this.#break(fault.error);
  }

  #change(at: "write" | "header", work: () => Promise<void> | void): Promise<void> | void {
    if (this.#failure) return Promise.reject(this.#failure);
    const fault = this.#due(at);
    if (fault === undefined) return this.#pending ? undefined : work();
    if (!fault.late) return Promise.reject(this.#break(fault.error));
    this.#pending ??= fault.error;
  }

  override read(position: Position, count: number, into?: Uint8Array): Uint8Array | Promise<Uint8Array> {
    const fault = this.#due("read");
    return fault ? Promise.reject(fault.error) : super.read(position, count, into);
  }

  override write(position: Position, bytes: Uint8Array): Promise<void> | void {
    return this.#change("write", () => super.write(position, bytes));
  }

  override writeHeader(region: HeaderRegion, copy: 0 | 1, bytes: Uint8Array): Promise<void> | void {
    return this.#change("header", () => super.writeHeader(region, copy, bytes));
  }

  override discard(position: Position, count: number): void {
    if (this.#failure === undefined && this.#pending === undefined) super.discard(position, count);
  }

  override truncate(blocks: number): Promise<void> {
    const refusal = this.#refusal("truncate");
    return refusal ? Promise.reject(refusal) : super.truncate(blocks);
  }

  override flush(): Promise<void> {
    const refusal = this.#refusal("flush") ?? (this.#pending && this.#break(this.#pending));
    return refusal ? Promise.reject(refusal) : super.flush();
  }

  override reserve(blocks: number): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    const fault = this.#due("reserve");
    if (fault === undefined) return super.reserve(blocks);
    return Promise.reject(fault.error instanceof FsError ? fault.error : this.#break(fault.error));
  }
}
