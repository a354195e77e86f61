import { Broken, Fenced } from "./errors.ts";

/** Runs one thing at a time, in the order of asking; nothing more once one of them was `Fenced` or `Broken`. */
export class Exclusive {
  #before: Promise<void> = Promise.resolve();
  #failure: Error | undefined;

  async run<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#before;
    let open!: () => void;
    this.#before = new Promise((resolve) => open = resolve);
    await before;
    try {
      if (this.#failure) throw this.#failure;
      return await work();
    } catch (error) {
      if (error instanceof Fenced || error instanceof Broken) this.#failure ??= error;
      throw error;
    } finally {
      open();
    }
  }
}
