/** Whose turn it is, among many who keep one processor busy. */

/**
 * How far who asks for much may be ahead of the others, in bytes: some 5 ms. Those who all ask alike come apart by chance,
 * and are to be left alone.
 */
export const AHEAD = 8 << 20;
/** Who waits goes on when it is no more than this ahead: its requests, and its replies, then come several at once. */
const BACK = AHEAD / 2;
/** Turns of the event loop in a row without a request, after which one of those who wait goes on: about 1 ms. */
const QUIET = 200;
/** How much that one may then ask for, in bytes: some 0.15 ms, and twice as much each time that nobody else asked. */
const SPARE = 256 << 10;
/** How often it is counted anew who takes part, in ms. */
const PERIOD = 100;

/**
 * Divides the work of a server among those who ask for it at the same time, as fair queueing does: who has had more
 * than the others on average waits until these have had as much, or there is time left. So who floods gets as much as
 * each of the others, and nothing is left idle.
 */
export class Turns {
  readonly #now: () => number;
  /** What who has asked all the time has had, where all have had the same. */
  #each = 0;
  /** What each has had by that reckoning. Who rests saves nothing up. */
  readonly #had = new WeakMap<object, number>();
  /** Who has asked in this period, and how many did in that before. */
  #asking = new Set<object>();
  #before = 1;
  #begun: number;
  /** Counts requests. */
  #asked = 0;
  /** Who went on last without its turn. */
  #idler: object | undefined;
  /** How much who goes on so next may ask for, in bytes. */
  #extra = SPARE;
  /** Who waits, and what lets it go on. */
  readonly #held = new Map<object, () => void>();

  /** @param now a clock, in ms */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#begun = now();
  }

  /** Counts a request of `holder` that is so much work, in bytes. */
  spend(holder: object, work: number): void {
    const now = this.#now();
    if (now - this.#begun > PERIOD) {
      this.#before = this.#asking.size;
      this.#asking = new Set();
      this.#begun = now;
    }
    this.#asked++;
    if (holder !== this.#idler) this.#extra = SPARE;
    this.#asking.add(holder);
    this.#had.set(holder, Math.max(this.#had.get(holder) ?? 0, this.#each) + work);
    this.#each += work / Math.max(this.#before, this.#asking.size);
  }

  /** Whether `holder` is to wait. */
  ahead(holder: object): boolean {
    return this.#lead(holder) > AHEAD;
  }

  #lead(holder: object): number {
    return (this.#had.get(holder) ?? 0) - this.#each;
  }

  /** Lets others have a turn. @returns when `holder` may ask for more */
  take(holder: object): Promise<void> {
    if (!this.ahead(holder)) return turn();
    return new Promise((go) => {
      this.#held.set(holder, go);
      if (this.#held.size === 1) void this.#watch();
    });
  }

  /** Looks after those who wait, as long as there are any. */
  async #watch(): Promise<void> {
    for (let quiet = 0; this.#held.size > 0;) {
      const before = this.#asked;
      await turn();
      quiet = this.#asked === before ? quiet + 1 : 0;
      for (const [holder, go] of this.#held) {
        if (this.#lead(holder) > BACK) {
          if (quiet < QUIET) continue;
          quiet = 0;
          this.#had.set(holder, this.#each + AHEAD - this.#extra);
          this.#extra = Math.min(2 * this.#extra, AHEAD);
          this.#idler = holder;
        }
        this.#held.delete(holder);
        go();
      }
    }
  }
}

/** A turn of the event loop. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
