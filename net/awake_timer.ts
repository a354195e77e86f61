/** A bound on waiting that counts only while this process runs. */

/** How often it is looked what time has passed, in ms. A longer step was spent stopped, or asleep. */
const STEP = 1000;
/** How many times as long as told a wait may take in all where there is progress. */
const LONGEST = 10;

/**
 * Calls back when so much time has passed in which this process ran. A process that was stopped, or whose machine was
 * asleep, had no chance to see what it waits for: when it goes on, all of its timers are due at once, before anything
 * that has arrived meanwhile is read.
 */
export class AwakeTimer implements Disposable {
  readonly #whole: number;
  readonly #late: () => void;
  readonly #progress: (() => boolean) | undefined;
  #left: number;
  #most: number;
  #since = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /**
   * @param milliseconds how long
   * @param late called once when they have passed, unless disposed before
   * @param progress asked about once a second; where it says yes, the time begins anew, until ten times as much has
   * passed
   */
  constructor(milliseconds: number, late: () => void, progress?: () => boolean) {
    this.#whole = this.#left = Math.max(0, milliseconds);
    this.#most = LONGEST * this.#whole;
    this.#late = late;
    this.#progress = progress;
    this.#next();
  }

  /** What is left, in ms; 0 when it was late. */
  get left(): number {
    return this.#timer === undefined ? this.#left : Math.max(0, this.#left - this.#passed());
  }

  #passed(): number {
    return Math.min(performance.now() - this.#since, 2 * STEP);
  }

  #next(): void {
    this.#since = performance.now();
    this.#timer = setTimeout(() => this.#tick(), Math.min(STEP, this.#left));
  }

  #tick(): void {
    const passed = this.#passed();
    this.#most -= passed;
    this.#left = Math.min(this.#most, this.#progress?.() ? this.#whole : this.#left - passed);
    if (this.#left > 0) return this.#next();
    this.#left = 0;
    this.#timer = undefined;
    this.#late();
  }

  /** Stops it. May be called twice, also after it was late. */
  [Symbol.dispose](): void {
    this.#left = this.left;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
