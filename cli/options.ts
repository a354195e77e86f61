/** Options that many commands share, and the commands' common beginnings. */
import { Command, InvalidArgumentError, Option } from "@commander-js/extra-typings";
import type { PassphraseSource } from "./passphrase.ts";

/** What every command that opens a container may be told. */
export interface Access extends PassphraseSource {
  readonly container?: string | undefined;
  /** A file with the token for a server. */
  readonly tokenFile?: string | undefined;
  readonly acceptRollback?: true | undefined;
  readonly acceptReplaced?: true | undefined;
  readonly fingerprint?: string | undefined;
  readonly ca?: string | undefined;
  /** Only of commands that write. */
  readonly takeover?: true | undefined;
  /** Bytes of sealed blocks that are kept of a container on a server. */
  readonly cacheSize?: number | undefined;
  /** How long a read may wait for a server, in seconds. */
  readonly timeout?: number | undefined;
  /** How often a server is asked for a sign of life, in seconds. */
  readonly keepAlive?: number | undefined;
  /** How long a server may be away with writes outstanding, in seconds. */
  readonly outage?: number | undefined;
  /** Called when another writer wants the container on a server, which waits a few seconds. */
  readonly onLeaseWanted?: (() => void) | undefined;
  /** Where what there is to say meanwhile goes; default, to standard error. */
  readonly log?: ((message: string) => void) | undefined;
}

/** Collects the values of an option that may come several times. */
export const collect = (value: string, before: string[] | undefined) => [...before ?? [], value];

/** A command that may have to do with a server. */
export function reachingCommand(name: string, example: string) {
  return new Command(name)
    .addHelpText("after", `\nExample:\n  ${example.replaceAll("\n", "\n  ")}`)
    .option("--token-file <FILE>", "read the token for the server from FILE; else COVERFS_TOKEN_FILE")
    .option("--fingerprint <SHA256>", "the fingerprint that the server's certificate must have")
    .option(
      "--ca <FILE>",
      "verify the server's host name by these authorities (PEM; `system` for the usual ones)",
    );
}

/** A command that opens a container to read. */
export function readingCommand(name: string, example: string) {
  return reachingCommand(name, example)
    .addOption(new Option("-c, --container <CONTAINER>", "where the container lies").env("COVERFS_CONTAINER"))
    .addOption(
      new Option("--passfile <FILE>", "read the passphrase from FILE (- is standard input)")
        .argParser<string[]>(collect),
    )
    .option("--extpass <COMMAND>", "take the passphrase from the output of COMMAND")
    .option("--key-file <FILE>", "unlock by FILE, whatever its bytes (- is standard input)")
    .option("--accept-rollback", "open an older state of the container than the one remembered")
    .option("--accept-replaced", "open another container than the one remembered in this place");
}

/** A command that opens a container to write. */
export function writingCommand(name: string, example: string) {
  return readingCommand(name, example).option("--takeover", "take the container over from another writer");
}

/** Reads a size: a number of bytes, with K, M or G for powers of 1024. */
export function byteSize(text: string): number {
  const [, digits = "", unit = ""] = /^(\d+)([KMG]?)$/i.exec(text) ?? [];
  const bytes = Number(digits) * 1024 ** " KMG".indexOf(unit.toUpperCase() || " ");
  if (digits === "" || !Number.isSafeInteger(bytes)) {
    throw new InvalidArgumentError("It is not a size like 64M.");
  }
  return bytes;
}

/** Seconds in each unit of a duration. */
const UNIT_SECONDS: Readonly<Record<string, number>> = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86_400 };
/** The longest time that a timer takes (2^31 - 1 ms), in whole days. */
const DURATION_MAX = 24 * 86_400;

/** Reads a duration, as `90`, `30m` or `1h30m`, into seconds. */
export function duration(text: string): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d|$)/g)];
  if (text === "" || parts.map(([part]) => part).join("") !== text) {
    throw new InvalidArgumentError("It is not a duration like 30m or 5s.");
  }
  const seconds = parts.reduce(
    (sum, [, number, unit]) => sum + Number(number) * UNIT_SECONDS[unit || "s"]!,
    0,
  );
  if (seconds > DURATION_MAX) throw new InvalidArgumentError("It is longer than 24 days.");
  return seconds;
}

/** Reads how often a server is asked for a sign of life, into seconds. */
export function keepAlive(text: string): number {
  const seconds = duration(text);
  if (seconds < 0.1) throw new InvalidArgumentError("It is shorter than 100ms.");
  return seconds;
}

/** Reads permission bits to be masked, in octal. */
export function octalMask(text: string): number {
  if (!/^0?[0-7]{1,3}$/.test(text)) throw new InvalidArgumentError("It is not an octal number like 022.");
  return parseInt(text, 8);
}

/** The largest id of a user or group; one more means "no change" to chown(2). */
const ID_MAX = 2 ** 32 - 2;

/** Reads the number of a user or group. */
export function ownerId(text: string): number {
  const id = wholeNumber(text);
  if (id > ID_MAX) throw new InvalidArgumentError("It is too large.");
  return id;
}

/** Reads the name of a network drive, `\\SERVER\SHARE`; slashes do as well. */
export function networkName(text: string): string {
  const name = text.replaceAll("/", "\\");
  if (!/^\\\\[^\\:*?"<>|]+\\[^\\:*?"<>|]+$/.test(name) || name.length > 80) {
    throw new InvalidArgumentError("It is no name like \\\\coverfs\\box.");
  }
  return name;
}

/** Reads a whole number that is not negative. */
export function wholeNumber(text: string): number {
  const number = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(number)) {
    throw new InvalidArgumentError("It is not a whole number.");
  }
  return number;
}
