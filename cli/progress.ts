/** Progress of long work: one line on a terminal's standard error, nothing elsewhere. */
import { writeSync } from "node:fs";
import { escapeControls, humanSize } from "./output.ts";

/** Milliseconds between two drawings. */
const PERIOD = 200;

/** Shows how much of something is done. Nothing is shown within the first moments. */
export class Progress implements Disposable {
  readonly #shown: boolean;
  #next = performance.now() + 2 * PERIOD;
  #drawn = false;

  /** @param options.quiet never show anything */
  constructor(options: { quiet?: boolean | undefined } = {}) {
    this.#shown = !options.quiet && Deno.stderr.isTerminal();
  }

  /** Says how far it is, in bytes. */
  bytes(what: string, done: number, all?: number): void {
    this.show(
      all === undefined
        ? `${what}  ${humanSize(done)}`
        : `${what}  ${percent(done, all)} of ${humanSize(all)}`,
    );
  }

  /** Shows a line in the place of the one before. */
  show(line: string): void {
    if (!this.#shown || performance.now() < this.#next) return;
    this.#next = performance.now() + PERIOD;
    this.#drawn = true;
    this.#write(`\r\x1b[K${escapeControls(line)}`);
  }

  /** Takes the line away. */
  clear(): void {
    if (this.#drawn) this.#write("\r\x1b[K");
    this.#drawn = false;
  }

  #write(text: string): void {
    try {
      writeSync(2, text);
    } catch {
      // whoever looked is gone
    }
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}

function percent(done: number, all: number): string {
  return `${all === 0 ? 100 : Math.floor(done / all * 100)}%`;
}
