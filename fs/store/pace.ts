/** How much is on its way to a server at once: enough to keep the link busy, and not so much that others wait for it. */

/** What may wait in front of the link, in ms, besides what is on it. */
const QUEUE = 50;
/** Least time to measure a rate over, in ms. */
const MEASURE = 100;
/** Never less than this, in bytes: four requests of the usual size. */
const LEAST = 1 << 20;

/**
 * Follows how fast a server answers. As long as more is to be sent than the limit admits, the rate of the answers is that
 * of the link; the limit is what passes at that rate in twice the round trip and {@linkcode QUEUE}. Where the limit itself
 * was too low for the link, twice the round trip lets it grow. (The idea of BBR, without its probing: the window that the
 * server grants is where it begins.)
 */
export class Pace {
  readonly #window: number;
  readonly #now: () => number;
  #limit: number;
  /** Since when the limit has held something back, in ms. */
  #since: number | undefined;
  #answered = 0;

  /**
   * @param window bytes that the server grants; the limit is never more
   * @param now a clock, in ms
   */
  constructor(window: number, now: () => number = () => performance.now()) {
    this.#window = this.#limit = window;
    this.#now = now;
  }

  /** Bytes that may be on their way. */
  get limit(): number {
    return this.#limit;
  }

  /** Call after sending all that the limit admits: tells whether it holds something back. */
  holds(back: boolean): void {
    if (!back) this.#since = undefined;
    else if (this.#since === undefined) {
      this.#since = this.#now();
      this.#answered = 0;
    }
  }

  /** So many bytes were answered. @param roundTrip the shortest so far, in ms */
  answered(bytes: number, roundTrip: number): void {
    if (this.#since === undefined) return;
    this.#answered += bytes;
    const took = this.#now() - this.#since;
    if (took < Math.max(MEASURE, 2 * roundTrip)) return;
    const wanted = this.#answered / took * (2 * roundTrip + QUEUE);
    this.#limit = Math.round(Math.min(this.#window, Math.max(LEAST, wanted)));
    this.#since = this.#now();
    this.#answered = 0;
  }
}
