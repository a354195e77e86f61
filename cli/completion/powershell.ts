import type { CommandRow, CommandTable, OptionRow } from "../command_table.ts";

const quoted = (text: string) => `'${text.replaceAll("'", "''")}'`;

function optionEntry(option: OptionRow): string {
  return [option.short, option.long].filter((flag) => flag !== undefined).map((flag) =>
    `            ${quoted(flag)} = ${quoted(option.description)}`
  ).join("\n");
}

function table(name: string, rows: readonly string[]): string {
  return `        ${quoted(name)} = [ordered]@{\n${rows.join("\n")}\n        }`;
}

function choicesOf(command: CommandRow): string[] {
  return command.options.filter((one) => one.choices.length > 0).map((one) =>
    `        ${quoted(`${command.name} ${one.long}`)} = ${one.choices.map(quoted).join(", ")}`
  );
}

function argumentsOf(command: CommandRow): string[] {
  return command.arguments.flatMap((one) =>
    one.choices.map((choice) => `            ${quoted(choice)} = ${quoted(choice)}`)
  );
}

/** Completions for PowerShell 5.1 and newer; where nothing fits it completes file names by itself. */
export function powershellCompletion(program: CommandTable): string {
  const commands = program.commands.map((one) =>
    `            ${quoted(one.name)} = ${quoted(one.description)}`
  );
  return `# PowerShell completion of ${program.name}: ${program.name} completion powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName ${quoted(program.name)} -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $tables = @{
${
    [
      table("", [...commands, ...program.options.map(optionEntry)]),
      ...program.commands.map((one) =>
        table(one.name, [...argumentsOf(one), ...one.options.map(optionEntry)])
      ),
    ].join("\n")
  }
    }
    $choices = @{
${program.commands.flatMap(choicesOf).join("\n")}
    }
    $before = @($commandAst.CommandElements | Where-Object { $_.Extent.EndOffset -lt $cursorPosition } |
        Select-Object -Skip 1 | ForEach-Object { $_.ToString() })
    $command = [string]($before | Where-Object { $_ -notlike '-*' } | Select-Object -First 1)
    $words = $choices["$command $($before | Select-Object -Last 1)"]
    if ($words) {
        $words | Where-Object { $_ -like "$wordToComplete*" } | ForEach-Object {
            [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
        }
    } elseif ($tables.ContainsKey($command)) {
        $tables[$command].GetEnumerator() | Where-Object { $_.Key -like "$wordToComplete*" } | ForEach-Object {
            $kind = if ($_.Key -like '-*') { 'ParameterName' } else { 'ParameterValue' }
            [System.Management.Automation.CompletionResult]::new($_.Key, $_.Key, $kind, $_.Value)
        }
    }
}
`;
}
