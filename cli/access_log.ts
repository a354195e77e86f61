/** The access log of a server: one line for each event, as text or as JSON. */
import type { AccessEvent } from "../net/mod.ts";
import { appender, logToTerminal } from "./log.ts";

/** How events are written. */
export const ACCESS_FORMATS = ["text", "json"] as const;

/** One event as a line: what it is, then `name=value` of all else, values with other than plain characters quoted. */
export function accessLine(
  event: AccessEvent,
  format: typeof ACCESS_FORMATS[number],
  time: Date = new Date(),
): string {
  const rounded = event.seconds === undefined
    ? event
    : { ...event, seconds: Number(event.seconds.toFixed(3)) };
  if (format === "json") return JSON.stringify({ time: time.toISOString(), ...rounded });
  const { event: what, ...rest } = rounded;
  const fields = Object.entries(rest).filter(([, value]) => value !== undefined).map(([name, value]) =>
    `${name}=${/^[\w.:/-]+$/.test(String(value)) ? value : JSON.stringify(String(value))}`
  );
  return [time.toISOString(), what, ...fields].join(" ");
}

/**
 * Appends events to a file (0600), which is opened for each anew: whoever renames it gets a new one.
 *
 * @throws {CoverError} "failure" if it cannot be written now; what fails later goes to standard error
 */
export function openAccessLog(
  given: string,
  format: typeof ACCESS_FORMATS[number],
): (event: AccessEvent) => void {
  const append = appender(given);
  let failing = false;
  return (event) => {
    try {
      append(accessLine(event, format) + "\n");
      failing = false;
    } catch (error) {
      if (!failing) logToTerminal(`Cannot write the access log: ${(error as Error).message}`);
      failing = true;
    }
  };
}
