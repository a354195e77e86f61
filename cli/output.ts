/** What commands print: sizes, times, names, JSON. */
import { writeSync } from "node:fs";
import type { Time } from "../fs/types.ts";
import {
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  S_ISGID,
  S_ISUID,
  S_ISVTX,
} from "../fs/types.ts";

const UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB"];

/** A size for people: `512 B`, `1.5 KiB`, `12 MiB`. */
export function humanSize(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  let value = bytes / 1024, unit = 0;
  while (value >= 1023.5 && unit < UNITS.length - 1) value /= 1024, unit++;
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

/**
 * Control characters as `\n`, `\t` or `\xNN`, so that a name cannot steer a terminal; bidirectional overrides too,
 * which make a text look like another one.
 */
export function escapeControls(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (character) => {
    if (character === "\n") return "\\n";
    if (character === "\t") return "\\t";
    const code = character.charCodeAt(0);
    return code < 0x100
      ? `\\x${code.toString(16).padStart(2, "0")}`
      : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

const lossy = new TextDecoder("utf-8", { ignoreBOM: true });

/** A name as text; bytes that are not UTF-8 become replacement characters. */
export function nameText(name: Uint8Array): string {
  return lossy.decode(name as Uint8Array<ArrayBuffer>);
}

/** A name as standard output is to get it: escaped on a terminal, byte for byte otherwise. */
export function nameForOutput(name: Uint8Array): Uint8Array {
  return Deno.stdout.isTerminal() ? new TextEncoder().encode(escapeControls(nameText(name))) : name;
}

/** Writes all of `bytes` to standard output. */
export function writeOut(bytes: Uint8Array): void {
  writeAll(1, bytes);
}

/** Writes a line to standard output. */
export function print(text: string): void {
  writeAll(1, new TextEncoder().encode(text + "\n"));
}

/** Writes a line to standard error. */
export function printError(text: string): void {
  writeAll(2, new TextEncoder().encode(text + "\n"));
}

/** Writes JSON, one document, two spaces of indentation. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value, undefined, 2));
}

function writeAll(descriptor: number, bytes: Uint8Array): void {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (let at = 0; at < bytes.length;) {
    try {
      at += writeSync(descriptor, bytes, at, bytes.length - at);
    } catch (error) {
      // A pipe that somebody made non-blocking: wait a moment for its reader.
      if ((error as { code?: string }).code !== "EAGAIN") throw error;
      Atomics.wait(pause, 0, 0, 5);
    }
  }
}

const TYPES: ReadonlyMap<number, readonly [letter: string, word: string]> = new Map([
  [S_IFREG, ["-", "file"]],
  [S_IFDIR, ["d", "directory"]],
  [S_IFLNK, ["l", "symlink"]],
  [S_IFIFO, ["p", "fifo"]],
  [S_IFSOCK, ["s", "socket"]],
  [S_IFCHR, ["c", "character device"]],
  [S_IFBLK, ["b", "block device"]],
]);

/** The type of a file in one word. */
export function typeWord(mode: number): string {
  return TYPES.get(mode & S_IFMT)?.[1] ?? "unknown";
}

/** Type and permissions as `ls -l` shows them. */
export function modeText(mode: number): string {
  const letters = [..."rwxrwxrwx"].map((letter, i) => mode & (0o400 >> i) ? letter : "-");
  const special = (bit: number, at: number, letter: string) => {
    if (mode & bit) letters[at] = letters[at] === "-" ? letter.toUpperCase() : letter;
  };
  special(S_ISUID, 2, "s");
  special(S_ISGID, 5, "s");
  special(S_ISVTX, 8, "t");
  return (TYPES.get(mode & S_IFMT)?.[0] ?? "?") + letters.join("");
}

/** A time as ISO 8601 in UTC with nanoseconds. */
export function timeIso(time: Time): string {
  const seconds = new Date(time.seconds * 1000);
  if (Number.isNaN(seconds.getTime())) return `@${time.seconds}`;
  return `${seconds.toISOString().slice(0, -5)}.${String(time.nanoseconds).padStart(9, "0")}Z`;
}

/** A time as `ls -l` shows it: local, to the minute. */
export function timeText(time: Time): string {
  const date = new Date(time.seconds * 1000), two = (n: number) => String(n).padStart(2, "0");
  if (Number.isNaN(date.getTime())) return `@${time.seconds}`;
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
    `${two(date.getHours())}:${two(date.getMinutes())}`;
}
