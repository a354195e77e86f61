import { type CommandRow, type CommandTable, isLocalFile, type OptionRow } from "../command_table.ts";

const quoted = (text: string) => `'${text.replace(/[\\']/g, "\\$&")}'`;

function optionLine(program: string, condition: string, option: OptionRow): string {
  const parts = ["complete", "-c", program, "-n", quoted(condition)];
  if (option.short !== undefined) parts.push("-s", option.short.slice(1));
  parts.push("-l", option.long.slice(2));
  if (option.value !== undefined) parts.push(isLocalFile(option.value) ? "-r -F" : "-x");
  if (option.choices.length > 0) parts.push("-a", quoted(option.choices.join(" ")));
  return [...parts, "-d", quoted(option.description)].join(" ");
}

function commandLines(program: string, command: CommandRow): string[] {
  const within = `__fish_seen_subcommand_from ${command.name}`;
  const choices = command.arguments.flatMap((one) => one.choices).join(" ");
  return [
    `complete -c ${program} -n __fish_use_subcommand -a ${command.name} -d ${quoted(command.description)}`,
    ...command.options.map((option) => optionLine(program, within, option)),
    ...(choices === "" ? [] : [`complete -c ${program} -n ${quoted(within)} -a ${quoted(choices)}`]),
    ...(command.arguments.some((one) => isLocalFile(one.name))
      ? [`complete -c ${program} -n ${quoted(within)} -F`]
      : []),
  ];
}

/** Completions for fish. */
export function fishCompletion(table: CommandTable): string {
  const { name } = table;
  return [
    `# fish completion of ${name}: ${name} completion fish > ~/.config/fish/completions/${name}.fish`,
    `complete -c ${name} -f`,
    ...table.options.map((option) => optionLine(name, "__fish_use_subcommand", option)),
    ...table.commands.flatMap((command) => commandLines(name, command)),
    "",
  ].join("\n");
}
