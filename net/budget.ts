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
 * Bytes that many share who do not trust each other. Whoever would then hold more than is left waits, and nobody waits
 * behind him: `n` who never give anything back get one part in `n + 1` each, and as much stays for the others.
 */
export class SharedBudget {
  #left: number;
  readonly #limit: number;
  readonly #held = new Map<object, number>();
  readonly #waiting = new Set<{ readonly holder: object; readonly bytes: number; readonly go: () => void }>();

  /** @param limit in bytes */
  constructor(limit: number) {
    this.#left = limit;
    this.#limit = limit;
  }

  /** Takes `bytes`, or half of all at most; resolves when they are there. Give back the same number. */
  take(holder: object, bytes: number): void | Promise<void> {
    const wanted = this.#bounded(bytes);
    if (this.#take(holder, wanted)) return;
    return new Promise((go) => this.#waiting.add({ holder, bytes: wanted, go }));
  }

  #take(holder: object, bytes: number): boolean {
    const held = this.#held.get(holder) ?? 0;
    if (held + bytes > this.#left) return false;
    this.#held.set(holder, held + bytes);
    this.#left -= bytes;
    return true;
  }

  /** Gives back what {@linkcode SharedBudget.take} was asked for. */
  give(holder: object, bytes: number): void {
    const given = this.#bounded(bytes), held = (this.#held.get(holder) ?? 0) - given;
    if (held > 0) this.#held.set(holder, held);
    else this.#held.delete(holder);
    this.#left += given;
    for (const waiting of this.#waiting) {
      if (!this.#take(waiting.holder, waiting.bytes)) continue;
      this.#waiting.delete(waiting);
      waiting.go();
    }
  }

  #bounded(bytes: number): number {
    return Math.min(bytes, this.#limit >> 1);
  }
}
