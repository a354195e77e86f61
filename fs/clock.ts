let lastMilliseconds = 0, within = 0;

/**
 * The time of day as nanoseconds within the second and whole seconds. The runtime's clock has milliseconds; calls
 * within the same one count up by a nanosecond, so that a later change never has an earlier or equal time.
 *
 * @returns [seconds, nanoseconds]
 */
export function now(): [number, number] {
  const milliseconds = Date.now();
  within = milliseconds === lastMilliseconds ? Math.min(within + 1, 999_999) : 0;
  lastMilliseconds = milliseconds;
  const seconds = Math.floor(milliseconds / 1000);
  return [seconds, (milliseconds - seconds * 1000) * 1_000_000 + within];
}

/** Waits until other work of the event loop had its turn; a message comes sooner than a timer (0.05 against 1 ms). */
export function breathe(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      port2.close();
      resolve();
    };
    port2.postMessage(0);
  });
}
