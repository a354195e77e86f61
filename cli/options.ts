/** Options that many commands share, and the commands' common beginnings. */
import { Command, InvalidArgumentError, Option } from "@commander-js/extra-typings";
import type { PassphraseSource } from "./passphrase.ts";

/** What every command that opens a container may be told. */
export interface Access extends PassphraseSource {
  readonly container?: string | undefined;
  readonly acceptRollback?: true | undefined;
  readonly fingerprint?: string | undefined;
  readonly ca?: string | undefined;
  /** Only of commands that write. */
  readonly takeover?: true | undefined;
  /** Bytes of sealed blocks that are kept of a container on a server. */
  readonly cacheSize?: number | undefined;
}

const collect = (value: string, before: string[] | undefined) => [...before ?? [], value];

/** A command that opens a container to read. */
export function readingCommand(name: string, example: string) {
  return new Command(name)
    .addHelpText("after", `\nExample:\n  ${example.replaceAll("\n", "\n  ")}`)
    .addOption(new Option("-c, --container <CONTAINER>", "where the container lies").env("COVERFS_CONTAINER"))
    .addOption(
      new Option("--passfile <FILE>", "read the passphrase from FILE (- is standard input)")
        .argParser<string[]>(collect),
    )
    .option("--extpass <COMMAND>", "take the passphrase from the output of COMMAND")
    .option("--accept-rollback", "open an older or another container than the one remembered")
    .option("--fingerprint <SHA256>", "the fingerprint that the server's certificate must have")
    .option(
      "--ca <FILE>",
      "verify the server's host name by these authorities (PEM; `system` for the usual ones)",
    );
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

/** Reads a whole number that is not negative. */
export function wholeNumber(text: string): number {
  const number = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(number)) {
    throw new InvalidArgumentError("It is not a whole number.");
  }
  return number;
}
