/** Giving memory back to the system that libc keeps for what may come. */

/** How soon after something was done it is looked whether there is something to give back, in ms. */
const SOON = 500;
/** How much more memory than after the last time makes it worth while, in bytes. */
const WORTH = 16 << 20;

/**
 * Gives back what lies free in libc's heap, at most twice a second and only while something is done. Buffers of a mebibyte
 * that come and go leave gaps there, which libc gives back by itself only from the heap's end: while files of 3 GiB were
 * streamed, a quarter of a process's memory were such gaps.
 */
export class SpareMemory {
  readonly #trim: ((pad: bigint) => number) | undefined;
  readonly #resident: () => number;
  readonly #soon: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** What was resident after the last time, in bytes. */
  #before = 0;

  /**
   * @param trim `malloc_trim` of libc, which has it not everywhere
   * @param system how much is resident, in bytes, and how soon to look, in ms; a test has others
   */
  constructor(
    trim: ((pad: bigint) => number) | null | undefined,
    system: { readonly resident?: () => number; readonly soon?: number } = {},
  ) {
    this.#trim = trim ?? undefined;
    this.#resident = system.resident ?? (() => Deno.memoryUsage().rss);
    this.#soon = system.soon ?? SOON;
  }

  /** Something is done, which may take memory. */
  touch(): void {
    if (this.#timer === undefined && this.#trim !== undefined) {
      this.#timer = setTimeout(() => this.#look(), this.#soon);
    }
  }

  #look(): void {
    this.#timer = undefined;
    const resident = this.#resident();
    this.#before = Math.min(this.#before, resident);
    if (resident < this.#before + WORTH) return;
    this.#trim!(0n);
    this.#before = this.#resident();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
