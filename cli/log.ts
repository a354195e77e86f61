/** Where what a mount has to say goes: the terminal, a file, syslogd. Messages hold no plaintext names. */
import { appendFileSync, renameSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { CoverError } from "../crypto/errors.ts";
import { sendDatagram } from "../ffi/datagram.ts";
import { printError } from "./output.ts";

/** Takes a message: one or several lines, without the program's name. */
export type Log = (message: string) => void;

/** What the command line says about logs. */
export interface LogOptions {
  readonly logFile?: string | undefined;
  readonly syslog?: true | undefined;
}

/** Where syslogd listens (syslog(3)). */
const SYSLOG_SOCKET = "/dev/log";
/** Facility "daemon" (3) and severity "warning" (4), as RFC 3164 section 4.1.1 puts them together. */
const SYSLOG_PRIORITY = 3 * 8 + 4;

/** To standard error. Nobody may be reading any more when a mount has something to say. */
export function logToTerminal(message: string): void {
  try {
    printError(`coverfs: ${message}`);
  } catch {
    // told nobody
  }
}

/**
 * Opens the logs that are asked for.
 *
 * @returns undefined if none is
 * @throws {CoverError} "failure" if one cannot be written
 */
export function openLog(options: LogOptions): Log | undefined {
  const logs: Log[] = [];
  if (options.logFile !== undefined) logs.push(logToFile(options.logFile));
  if (options.syslog) logs.push(logToSyslog());
  if (logs.length === 0) return undefined;
  return (message) => logs.forEach((log) => log(message));
}

/**
 * Appends lines with the time to a file (0600), which is opened for each anew: whoever renames it gets a new one.
 *
 * @param options `bytes`: from this size on the file becomes `FILE.1`, in place of the one before. Default, never
 * @throws {CoverError} "failure" if it cannot be written now; what fails later goes to standard error
 */
export function logToFile(given: string, options: { readonly bytes?: number } = {}): Log {
  const path = resolve(given), append = appender(path);
  return (message) => {
    const time = new Date().toISOString();
    try {
      if (options.bytes !== undefined && statSync(path).size >= options.bytes) renameSync(path, `${path}.1`);
      append(message.split("\n").map((line) => `${time} coverfs[${Deno.pid}]: ${line}\n`).join(""));
    } catch {
      logToTerminal(message);
    }
  };
}

/**
 * What appends text to a file (0600), which is opened for each anew.
 *
 * @throws {CoverError} "failure" if it cannot be written now
 */
export function appender(given: string): (text: string) => void {
  const path = resolve(given); // the program may leave this folder
  const append = (text: string) => appendFileSync(path, text, { mode: 0o600 });
  try {
    append("");
  } catch (cause) {
    const reason = (cause as { code?: string }).code ?? "unknown";
    throw new CoverError("failure", `Cannot write the log file "${given}": ${reason}`, { cause });
  }
  return append;
}

/**
 * Sends lines to syslogd, as facility "daemon" and severity "warning".
 *
 * @throws {CoverError} "failure" if there is none now; what fails later goes to standard error
 */
function logToSyslog(): Log {
  try {
    statSync(SYSLOG_SOCKET);
  } catch (cause) {
    throw new CoverError("failure", `Cannot log to syslog: there is no ${SYSLOG_SOCKET}`, {
      hint: "Use --log-file FILE",
      cause,
    });
  }
  return (message) => {
    try {
      for (const line of message.split("\n")) {
        const text = `<${SYSLOG_PRIORITY}>coverfs[${Deno.pid}]: ${line}`;
        sendDatagram(SYSLOG_SOCKET, new TextEncoder().encode(text));
      }
    } catch {
      logToTerminal(message);
    }
  };
}
