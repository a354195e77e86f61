/** Noticing that nobody uses a mount any more. */
import type { Mounted } from "../ffi/mod.ts";

/** How often it is looked, as a part of the time that counts as idle, and the bounds of that in ms. */
const LOOKS = 8, PERIOD_MIN = 50, PERIOD_MAX = 5000;

/**
 * Calls `end` each time that a mount has had no request for so long, with nothing open. When `end` resolves and the
 * mount is still there, it begins anew.
 *
 * @param options `seconds` of idleness; `end` must not reject
 * @returns what stops it
 */
export function whenIdle(
  mounted: Mounted,
  options: { readonly seconds: number; readonly end: () => Promise<void> },
): Disposable {
  const limit = options.seconds * 1000;
  const period = Math.min(PERIOD_MAX, Math.max(PERIOD_MIN, limit / LOOKS));
  let before = mounted.activity.requests, since = performance.now(), ending = false;
  const timer = setInterval(async () => {
    if (ending) return;
    const { requests, open } = mounted.activity;
    if (requests !== before || open > 0) before = requests, since = performance.now();
    if (performance.now() - since < limit) return;
    ending = true;
    await options.end();
    ending = false;
    before = mounted.activity.requests, since = performance.now();
  }, period);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
