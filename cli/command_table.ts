/** The program's commands and options as plain data, read from commander: what completions and the man page are made of. */
import type { CommandUnknownOpts } from "@commander-js/extra-typings";

/** Something that a command takes besides options. */
export interface ArgumentRow {
  /** As `CONTAINER`. */
  readonly name: string;
  readonly description: string;
  readonly required: boolean;
  readonly variadic: boolean;
  /** The only values; empty if there are others. */
  readonly choices: readonly string[];
}

/** An option. */
export interface OptionRow {
  /** As `-o`. */
  readonly short: string | undefined;
  /** As `--options`. */
  readonly long: string;
  readonly description: string;
  /** What its value is called, as `FILE`; undefined if it takes none. */
  readonly value: string | undefined;
  readonly choices: readonly string[];
}

/** A command. */
export interface CommandRow {
  readonly name: string;
  readonly description: string;
  readonly arguments: readonly ArgumentRow[];
  readonly options: readonly OptionRow[];
  /** Command lines that show it. */
  readonly examples: readonly string[];
}

/** The program: its own options, and all its commands. */
export interface CommandTable extends Omit<CommandRow, "arguments"> {
  readonly version: string;
  readonly commands: readonly CommandRow[];
}

/** Values and arguments that are files of this machine; others lie in the container, or are no files. */
const LOCAL_FILES: ReadonlySet<string> = new Set(
  ["FILE", "DIR", "CONTAINER", "MOUNTPOINT", "CONTAINER_OR_MOUNTPOINT", "PATHS"],
);

/** Tells whether what is called like this is a file of this machine. */
export function isLocalFile(name: string): boolean {
  return LOCAL_FILES.has(name);
}

/** Reads the table of a program. Options that the help hides are left out. */
export function commandTable(program: CommandUnknownOpts): CommandTable {
  return {
    ...rowOf(program),
    version: program.version() ?? "",
    commands: program.createHelp().visibleCommands(program).filter((one) => program.commands.includes(one))
      .map(
        rowOf,
      ),
  };
}

function rowOf(command: CommandUnknownOpts): CommandRow {
  const help = command.createHelp();
  return {
    name: command.name(),
    description: command.description(),
    arguments: command.registeredArguments.map((one) => ({
      name: one.name(),
      description: one.description,
      required: one.required,
      variadic: one.variadic,
      choices: one.argChoices ?? [],
    })),
    options: help.visibleOptions(command).map((one) => ({
      short: one.short,
      long: one.long!,
      description: help.optionDescription(one),
      value: one.required ? /<(.*?)>/.exec(one.flags)?.[1] : undefined,
      choices: one.argChoices ?? [],
    })),
    examples: examplesOf(command),
  };
}

/** What the help says behind "Example:". */
function examplesOf(command: CommandUnknownOpts): string[] {
  let text = "";
  const before = command.configureOutput();
  command.configureOutput({ ...before, writeOut: (part) => text += part });
  command.outputHelp();
  command.configureOutput(before);
  const [, examples = ""] = text.split(/\nExamples?:\n/);
  return examples.split("\n").filter((line) => line.startsWith("  ")).map((line) => line.trim());
}
