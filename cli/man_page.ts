/** The manual page, in the macros of man(7). */
import { type ArgumentRow, type CommandRow, type CommandTable, type OptionRow } from "./command_table.ts";
import { EXIT, EXIT_MEANING } from "./exit.ts";

/** Text as roff shows it: no escapes, no line that begins like a request. */
function text(plain: string): string {
  return plain.replaceAll("\\", "\\e").replaceAll("-", "\\-").replace(/^(?=[.'])/gm, "\\&");
}

const bold = (plain: string) => `\\fB${text(plain)}\\fR`;
const italic = (plain: string) => `\\fI${text(plain)}\\fR`;

function argumentText({ name, required, variadic }: ArgumentRow): string {
  const shown = italic(name) + (variadic ? " ..." : "");
  return required ? shown : `[${shown}]`;
}

function optionLines({ short, long, value, description }: OptionRow): string[] {
  const flags = [short, long].filter((flag) => flag !== undefined).map(bold).join(", ");
  return [".TP", flags + (value === undefined ? "" : ` ${italic(value)}`), text(description)];
}

function commandLines(program: string, command: CommandRow): string[] {
  const synopsis = [bold(`${program} ${command.name}`), "[options]", ...command.arguments.map(argumentText)];
  return [
    `.SS ${text(command.name)}`,
    synopsis.join(" "),
    ".PP",
    text(sentence(command.description)),
    ...command.arguments.flatMap((one) => [".TP", italic(one.name), text(sentence(one.description))]),
    ...command.options.flatMap(optionLines),
    ...exampleLines(command.examples),
  ];
}

function exampleLines(examples: readonly string[]): string[] {
  return [".PP", "Example:", ".PP", ".RS 4", ".nf", ...examples.map(text), ".fi", ".RE"];
}

function sentence(words: string): string {
  return words.charAt(0).toUpperCase() + words.slice(1) + ".";
}

/** Writes the page coverfs(1): all commands with all their options. */
export function manPage(table: CommandTable): string {
  const { name } = table;
  const exits = Object.entries(EXIT_MEANING).map((
    [kind, meaning],
  ) => [EXIT[kind as keyof typeof EXIT], meaning]);
  return [
    `.TH ${name.toUpperCase()} 1 "" "${name} ${table.version}" "User Commands"`,
    ".SH NAME",
    `${name} \\- ${text(table.description)}`,
    ".SH SYNOPSIS",
    `${bold(name)} ${italic("COMMAND")} [options] [arguments]`,
    ".PP",
    `${bold("mount.coverfs")} ${italic("CONTAINER MOUNTPOINT")} [${bold("-sfnv")}] [${bold("-o")} ${
      italic("OPT,...")
    }]`,
    ".SH DESCRIPTION",
    "CoverFS keeps a whole filesystem in one encrypted container: a file, or a file on a server that knows no keys.",
    `A container is written as a path, as ${bold("coverfs://HOST[:PORT]/NAME")}, or as ${bold("ram:")}.`,
    ".SH OPTIONS",
    ...table.options.flatMap(optionLines),
    ".SH COMMANDS",
    ...table.commands.flatMap((command) => commandLines(name, command)),
    ".SH FSTAB",
    `${bold("mount.coverfs")} is how mount(8) mounts what fstab(5) has under the type ${
      bold("fuse.coverfs")
    }. ` +
    "Its options are those of mount(8), and every long option of",
    `${bold(`${name} mount`)}, with or without an underscore for the hyphen:`,
    ".PP",
    ".RS 4",
    ".nf",
    text("/srv/container /mnt fuse.coverfs noauto,user,passfile=/etc/coverfs.pass,idle=30m 0 0"),
    ".fi",
    ".RE",
    ".SH EXIT STATUS",
    ".TP",
    bold("0"),
    "done",
    ...exits.flatMap(([code, meaning]) => [".TP", bold(`${code}`), text(`${meaning}`)]),
    ".PP",
    `${bold(`${name} fsck`)} has the codes of fsck(8), ${bold("mount.coverfs")} those of mount(8).`,
    ".SH ENVIRONMENT",
    ".TP",
    bold("COVERFS_CONTAINER"),
    "the container, where none is named",
    ".TP",
    bold("COVERFS_PASSFILE"),
    "file of the passphrase, where no option says otherwise",
    ".SH EXAMPLES",
    ".nf",
    ...table.examples.map(text),
    ".fi",
    ".SH SEE ALSO",
    ".BR mount (8),",
    ".BR fstab (5),",
    ".BR fuse (4)",
    "",
  ].join("\n");
}
