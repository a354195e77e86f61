import {
  type ArgumentRow,
  type CommandRow,
  type CommandTable,
  isLocalFile,
  type OptionRow,
} from "../command_table.ts";

const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
/** Text inside the brackets and between the colons of an `_arguments` specification. */
const plain = (text: string) => text.replace(/[\\[\]:]/g, "\\$&");

function action(name: string, choices: readonly string[]): string {
  if (choices.length > 0) return `(${choices.join(" ")})`;
  return isLocalFile(name) ? "_files" : " ";
}

function optionSpec(option: OptionRow): string {
  const value = option.value === undefined
    ? ""
    : `:${plain(option.value)}:${action(option.value, option.choices)}`;
  const text = `[${plain(option.description)}]${value}`;
  // An option may come again: those that collect do, for the others the last one counts.
  const flags = [option.short, option.long].filter((flag) => flag !== undefined);
  return flags.map((flag) => quoted(`*${flag}${text}`)).join(" ");
}

function argumentSpec(argument: ArgumentRow, index: number): string {
  const place = argument.variadic ? "*" : `${index + 1}`, optional = argument.required ? ":" : "::";
  return quoted(
    `${place}${argument.variadic ? ":" : optional}${plain(argument.name)}:${
      action(argument.name, argument.choices)
    }`,
  );
}

function commandCase(command: CommandRow): string {
  const specs = [...command.options.map(optionSpec), ...command.arguments.map(argumentSpec)];
  return `        ${command.name})\n            _arguments -s \\\n                ${
    specs.join(" \\\n                ")
  }\n            ;;`;
}

/** Completions for zsh. */
export function zshCompletion(table: CommandTable): string {
  const commands = table.commands.map((one) => `        ${quoted(`${one.name}:${one.description}`)}`);
  return `#compdef ${table.name}
# zsh completion of ${table.name}: as a file _${table.name} in a folder of $fpath, or source <(${table.name} completion zsh)
_${table.name}() {
    local curcontext=$curcontext state line
    local -a commands=(
${commands.join("\n")}
    )
    _arguments -C ${table.options.map(optionSpec).join(" ")} '1: :->command' '*:: :->rest'
    case $state in
    command) _describe command commands ;;
    rest)
        case $line[1] in
${table.commands.map(commandCase).join("\n")}
        esac
        ;;
    esac
}
if [[ $funcstack[1] == _${table.name} ]]; then
    _${table.name} "$@"
else
    compdef _${table.name} ${table.name}
fi
`;
}
