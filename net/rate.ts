/** A bound on how often something may be done. */

/** So many a second, and after a rest so many at once. */
export class Rate {
  readonly #perSecond: number;
  readonly #atOnce: number;
  #left: number;
  #at: number;

  /** @param now in ms, as for all methods */
  constructor(perSecond: number, now: number, atOnce: number) {
    this.#perSecond = perSecond;
    this.#left = this.#atOnce = atOnce;
    this.#at = now;
  }

  #refill(now: number): void {
    this.#left = Math.min(this.#atOnce, this.#left + (now - this.#at) / 1000 * this.#perSecond);
    this.#at = now;
  }

  /** Takes one. @returns false if there is none */
  take(now: number): boolean {
    this.#refill(now);
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }

  /** Takes `count`, also where there are not as many: up to as many as may be at once are owed then. */
  spend(count: number, now: number): void {
    this.#refill(now);
    this.#left = Math.max(-this.#atOnce, this.#left - count);
  }

  /** Gives one back. */
  give(now: number): void {
    this.#refill(now);
    this.#left = Math.min(this.#atOnce, this.#left + 1);
  }

  /** How long it takes until nothing is owed, in ms. */
  owed(now: number): number {
    this.#refill(now);
    return Math.max(0, -this.#left / this.#perSecond * 1000);
  }

  /** Whether it is as it was at first. */
  rested(now: number): boolean {
    this.#refill(now);
    return this.#left >= this.#atOnce;
  }
}
