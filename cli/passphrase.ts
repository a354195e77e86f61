/**
 * Where passphrases and key files come from. In this order: `--key-file`, `--passfile`, `--extpass`, `COVERFS_PASSFILE`,
 * the terminal. Never an argument. The terminal is asked by its device, so also when standard input is a pipe; without
 * one nothing waits.
 */
import { CoverError } from "../crypto/errors.ts";
import { readSecretFile } from "./secret_files.ts";
import { decodeText, Terminal } from "./terminal.ts";

/** What unlocks a container: text (a passphrase or the words of a recovery key), or the content of a key file. */
export type GivenSecret = string | Uint8Array<ArrayBuffer>;

/** What the command line says about passphrases. */
export interface PassphraseSource {
  /** Files whose contents make the passphrase, one after another; `-` is standard input. */
  readonly passfile?: readonly string[] | undefined;
  /** A command whose output is the passphrase. */
  readonly extpass?: string | undefined;
  /** A key file; `-` is standard input. */
  readonly keyFile?: string | undefined;
}

/**
 * Gets what unlocks a container that there is.
 *
 * @param name of the container, for the question
 * @returns bytes belong to the caller, who zeroes them
 * @throws {CoverError} "usage" if it can be got from nowhere
 */
export async function readSecret(source: PassphraseSource, name: string): Promise<GivenSecret> {
  const { keyFile } = source;
  if (keyFile === undefined) return await readPassphrase(source, name);
  refuseBoth(source);
  return await readSecretFile(keyFile, "key file");
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
  const file = Deno.env.get("COVERFS_PASSFILE"), { passfile = [], extpass, keyFile } = source;
  const silent = passfile.length === 0 && extpass === undefined && keyFile === undefined;
  return silent && file ? { passfile: [file] } : source;
}

/** Only one way at a time: nobody would know which one counts. */
export function refuseBoth({ passfile = [], extpass, keyFile }: PassphraseSource): void {
  const given = [
    passfile.length > 0 && "--passfile",
    extpass !== undefined && "--extpass",
    keyFile !== undefined && "--key-file",
  ].filter((one) => one !== false);
  if (given.length > 1) throw new CoverError("usage", `${given.join(" and ")} do not go together`);
}

async function readGiven(source: PassphraseSource): Promise<string | undefined> {
  const { passfile = [], extpass } = source;
  refuseBoth(source);
  if (extpass !== undefined) return prepare(await runCommand(extpass));
  if (passfile.length === 0) return undefined;
  let whole = "";
  for (const path of passfile) whole += prepare(await readSecretFile(path, "passphrase file"));
  return whole.normalize("NFC");
}

/** One newline at the end is not part of the passphrase: editors and `echo` put it there. */
function prepare(bytes: Uint8Array): string {
  const text = decodeText(bytes).replace(/\r?\n$/, "").normalize("NFC");
  bytes.fill(0);
  return text;
}

async function runCommand(command: string): Promise<Uint8Array> {
  const windows = Deno.build.os === "windows";
  const output = await new Deno.Command(windows ? "cmd" : "/bin/sh", {
    // cmd takes the outer quotes away and leaves all between them as it is.
    args: windows ? ["/d", "/s", "/c", `"${command}"`] : ["-c", command],
    windowsRawArguments: windows,
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
    hint: "Use --passfile FILE, --extpass COMMAND, --key-file FILE or COVERFS_PASSFILE",
  });
}

function notEmpty(passphrase: string): string {
  if (passphrase !== "") return passphrase;
  throw new CoverError("usage", "The passphrase is empty: nothing was done");
}
