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
