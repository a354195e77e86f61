/** How often something can be done, and how long it takes. */

/** How long each figure is measured, in milliseconds, unless enough was done before. */
export interface MeasureOptions {
  readonly milliseconds: number;
  /** Times at most. */
  readonly most?: number;
  /** How many are under way at once, where they answer by a promise. */
  readonly inFlight?: number;
  /** Ends the measuring with its reason. */
  readonly signal?: AbortSignal;
}

/** Does something again and again. @returns how often a second */
export async function rate(
  work: (index: number) => void | Promise<void>,
  options: MeasureOptions,
): Promise<number> {
  const { milliseconds, most = Infinity, inFlight = 1, signal } = options, start = performance.now();
  const goesOn = () => started < most && performance.now() - start < milliseconds;
  let started = 0;
  const worker = async () => {
    while (goesOn()) {
      signal?.throwIfAborted();
      const done = work(started++);
      if (done) await done;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
  return started / (performance.now() - start) * 1000;
}

/** Does something again and again, one after the other. @returns the median of the times, in milliseconds */
export async function median(
  work: (index: number) => void | Promise<void>,
  options: MeasureOptions,
): Promise<number> {
  const times: number[] = [];
  await rate(async (index) => {
    const start = performance.now();
    await work(index);
    times.push(performance.now() - start);
  }, options);
  times.sort((a, b) => a - b);
  return times[times.length >> 1]!;
}
