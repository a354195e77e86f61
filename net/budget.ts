/** Bytes that may be in flight: who wants more than is left waits, in order. */
export class Budget {
  #left: number;
  readonly #limit: number;
  readonly #waiting: { readonly bytes: number; readonly go: () => void }[] = [];

  /** @param limit in bytes */
  constructor(limit: number) {
    this.#left = limit;
    this.#limit = limit;
  }

  /** Takes `bytes`, or as many as there can be at all; resolves when they are there. Give back the same number. */
  take(bytes: number): void | Promise<void> {
    const wanted = Math.min(bytes, this.#limit);
    if (this.#waiting.length === 0 && wanted <= this.#left) {
      this.#left -= wanted;
      return;
    }
    return new Promise((go) => this.#waiting.push({ bytes: wanted, go }));
  }

  /** Gives back what {@linkcode Budget.take} was asked for. */
  give(bytes: number): void {
    this.#left += Math.min(bytes, this.#limit);
    for (
      let first = this.#waiting[0];
      first !== undefined && first.bytes <= this.#left;
      first = this.#waiting[0]
    ) {
      this.#waiting.shift();
      this.#left -= first.bytes;
      first.go();
    }
  }
}

/**
 * Bytes that many share who do not trust each other. Half of them is divided: each has its part for itself, whatever the
 * others do. Of the other half whoever would then have more than is left waits, and nobody waits behind him: `n` who
 * never give anything back get one part in `n + 1` of it each, and as much stays for the others.
 */
export class SharedBudget {
  readonly #common: number;
  /** What each has for itself. */
  readonly #own: number;
  #left: number;
  readonly #held = new Map<object, number>();
  readonly #waiting = new Set<{ readonly holder: object; readonly bytes: number; readonly go: () => void }>();

  /** @param limit in bytes. @param holders how many there are at most */
  constructor(limit: number, holders: number) {
    this.#left = this.#common = Math.floor(limit / 2);
    this.#own = Math.floor(this.#common / holders);
  }

  /** Takes `bytes`, or half of all at most; resolves when they are there. Give back the same number. */
  take(holder: object, bytes: number): void | Promise<void> {
    const wanted = Math.min(bytes, this.#common);
    if (this.#take(holder, wanted)) return;
    return new Promise((go) => this.#waiting.add({ holder, bytes: wanted, go }));
  }

  #take(holder: object, bytes: number): boolean {
    const held = this.#held.get(holder) ?? 0, before = this.#beyond(held), after = this.#beyond(held + bytes);
    if (after > 0 && after > this.#left) return false;
    this.#held.set(holder, held + bytes);
    this.#left -= after - before;
    return true;
  }

  /** Gives back what {@linkcode SharedBudget.take} was asked for. */
  give(holder: object, bytes: number): void {
    const before = this.#held.get(holder) ?? 0, held = before - Math.min(bytes, this.#common);
    if (held > 0) this.#held.set(holder, held);
    else this.#held.delete(holder);
    this.#left += this.#beyond(before) - this.#beyond(held);
    for (const waiting of this.#waiting) {
      if (!this.#take(waiting.holder, waiting.bytes)) continue;
      this.#waiting.delete(waiting);
      waiting.go();
    }
  }

  /** What of so many bytes is of the common half. */
  #beyond(held: number): number {
    return Math.max(0, held - this.#own);
  }
}
