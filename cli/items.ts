/** Commands over several items: one that fails does not keep the others from being done. */
import { describeError, kindOf, partial } from "./exit.ts";
import { printError } from "./output.ts";

/** Failures that concern the container, not one item: going on would only repeat them. */
const FATAL: ReadonlySet<string> = new Set([
  "interrupted",
  "busy",
  "no-space",
  "data-lost",
  "no-connection",
  "rollback",
]);

/** Counts what was done and what failed. */
export class Items {
  #all = 0;
  #failed = 0;
  #only: unknown;

  /** Does one item; a failure is printed at once where there are more, and counted. */
  async run(work: () => void | Promise<void>): Promise<void> {
    this.#all++;
    try {
      await work();
    } catch (error) {
      if (FATAL.has(kindOf(error))) throw error;
      if (this.#failed++ === 0) this.#only = error;
      else {
        if (this.#failed === 2) printError(describeError(this.#only));
        printError(describeError(error));
      }
    }
  }

  /** @throws the only error of a single item, else CoverError "partial" if anything failed */
  finish(): void {
    if (this.#failed === 0) return;
    if (this.#all === 1) throw this.#only;
    if (this.#failed === 1) printError(describeError(this.#only));
    throw partial(this.#failed, this.#all);
  }
}

/** Does something for each of several items. */
export async function forEachItem<T>(
  items: readonly T[],
  work: (item: T) => void | Promise<void>,
): Promise<void> {
  const all = new Items();
  for (const item of items) await all.run(() => work(item));
  all.finish();
}
