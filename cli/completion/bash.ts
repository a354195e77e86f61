import { type CommandRow, type CommandTable, isLocalFile, type OptionRow } from "../command_table.ts";

/** The flags of an option, each with the name of its command before it, as patterns of `case`. */
function patterns(command: string, option: OptionRow): string {
  return [option.long, option.short].filter(Boolean).map((flag) => `${command}:${flag}`).join("|");
}

function valueCase(command: string, option: OptionRow): string[] {
  if (option.value === undefined) return [];
  const what = option.choices.length > 0
    ? `COMPREPLY=($(compgen -W "${option.choices.join(" ")}" -- "$cur")); compopt +o default`
    : isLocalFile(option.value)
    ? ":"
    : "compopt +o default";
  return [`        ${patterns(command, option)}) ${what}; return ;;`];
}

function wordsCase(command: CommandRow): string {
  const flags = command.options.flatMap(({ long, short }) => short === undefined ? [long] : [long, short]);
  const choices = command.arguments.flatMap((one) => one.choices).join(" ");
  const files = command.arguments.some((one) => isLocalFile(one.name)) ? "1" : "";
  return `        ${command.name}) flags="${flags.join(" ")}" words="${choices}" files=${files} ;;`;
}

/** Completions for bash 4.4 and newer; file names are bash's own (`-o default`). */
export function bashCompletion(table: CommandTable): string {
  const flags = table.options.map(({ long }) => long).join(" ");
  return `# bash completion of ${table.name}: eval "$(${table.name} completion bash)"
_${table.name}() {
    local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} command= i flags words files
    for ((i = 1; i < COMP_CWORD; i++)); do
        [[ \${COMP_WORDS[i]} == -* ]] && continue
        command=\${COMP_WORDS[i]}
        break
    done
    COMPREPLY=()
    case $command:$prev in
${table.commands.flatMap((one) => one.options.flatMap((option) => valueCase(one.name, option))).join("\n")}
    esac
    case $command in
        "") flags="${flags}" words="${table.commands.map(({ name }) => name).join(" ")}" files= ;;
${table.commands.map(wordsCase).join("\n")}
    esac
    [[ $cur == -* ]] && words=$flags
    [[ $files && $cur != -* ]] || compopt +o default
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _${table.name} ${table.name}
`;
}
