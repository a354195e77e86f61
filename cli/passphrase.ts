/**
 * Where passphrases come from. In this order: `--passfile`, `--extpass`, `COVERFS_PASSFILE`, the terminal. Never an
 * argument. The terminal is asked by its device, so also when standard input is a pipe; without one nothing waits.
 */
import { readFile } from "node:fs/promises";
import { CoverError } from "../crypto/errors.ts";
import { decodeText, Terminal } from "./terminal.ts";

/** What the command line says about passphrases. */
export interface PassphraseSource {
  /** Files whose contents make the passphrase, one after another; `-` is standard input. */
  readonly passfile?: readonly string[] | undefined;
  /** A command whose output is the passphrase. */
  readonly extpass?: string | undefined;
}

/**
 * Gets the passphrase of a container that there is.
 *
 * @param name of the container, for the question
 * @throws {CoverError} "usage" if it can be got from nowhere
 */
export async function readPassphrase(source: PassphraseSource, name: string): Promise<string> {
  const given = await readGiven(withEnvironment(source));
  if (given !== undefined) return given;
  using terminal = openTerminal();
  return (await terminal.askSecret(`Passphrase of ${name}: `)).normalize("NFC");
}

/**
 * Gets a new passphrase: asked for twice on a terminal, never empty.
 *
 * @param what it is for, for the question
 * @throws {CoverError} "usage" if it is empty, differs the second time, or can be got from nowhere
 */
export async function readNewPassphrase(source: PassphraseSource, what: string): Promise<string> {
  const given = await readGiven(source);
  if (given !== undefined) return notEmpty(given);
  using terminal = openTerminal();
  const first = notEmpty((await terminal.askSecret(`New passphrase of ${what}: `)).normalize("NFC"));
  const second = (await terminal.askSecret("The same again: ")).normalize("NFC");
  if (first !== second) throw new CoverError("usage", "The two passphrases differ: nothing was done");
  return first;
}

/** The same source, with `COVERFS_PASSFILE` where the command line says nothing. */
export function withEnvironment(source: PassphraseSource): PassphraseSource {
  const file = Deno.env.get("COVERFS_PASSFILE");
  const silent = (source.passfile?.length ?? 0) === 0 && source.extpass === undefined;
  return silent && file ? { passfile: [file] } : source;
}

async function readGiven({ passfile = [], extpass }: PassphraseSource): Promise<string | undefined> {
  if (passfile.length > 0 && extpass !== undefined) {
    throw new CoverError("usage", "--passfile and --extpass do not go together");
  }
  if (extpass !== undefined) return prepare(await runCommand(extpass));
  if (passfile.length === 0) return undefined;
  let whole = "";
  for (const path of passfile) whole += prepare(await readPassfile(path));
  return whole.normalize("NFC");
}

/** One newline at the end is not part of the passphrase: editors and `echo` put it there. */
function prepare(bytes: Uint8Array): string {
  const text = decodeText(bytes).replace(/\r?\n$/, "").normalize("NFC");
  bytes.fill(0);
  return text;
}

async function readPassfile(path: string): Promise<Uint8Array> {
  if (path === "-") return new Uint8Array(await new Response(Deno.stdin.readable).arrayBuffer());
  try {
    return new Uint8Array(await readFile(path));
  } catch (cause) {
    const reason = (cause as { code?: string }).code ?? "unreadable";
    throw new CoverError("usage", `Cannot read the passphrase file "${path}": ${reason}`, { cause });
  }
}

async function runCommand(command: string): Promise<Uint8Array> {
  const [shell, flag] = Deno.build.os === "windows" ? ["cmd", "/c"] : ["/bin/sh", "-c"];
  const output = await new Deno.Command(shell!, {
    args: [flag!, command],
    stdin: "inherit",
    stdout: "piped",
    stderr: "inherit",
  }).output();
  if (output.success) return output.stdout;
  throw new CoverError("usage", `Cannot get the passphrase: the --extpass command ended with ${output.code}`);
}

function openTerminal(): Terminal {
  const terminal = Terminal.open();
  if (terminal !== undefined) return terminal;
  throw new CoverError("usage", "Cannot ask for the passphrase: there is no terminal", {
    hint: "Use --passfile FILE, --extpass COMMAND or COVERFS_PASSFILE",
  });
}

function notEmpty(passphrase: string): string {
  if (passphrase !== "") return passphrase;
  throw new CoverError("usage", "The passphrase is empty: nothing was done");
}
