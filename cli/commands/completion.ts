import { Argument, Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { commandTable } from "../command_table.ts";
import { bashCompletion } from "../completion/bash.ts";
import { fishCompletion } from "../completion/fish.ts";
import { powershellCompletion } from "../completion/powershell.ts";
import { zshCompletion } from "../completion/zsh.ts";
import { print } from "../output.ts";

const SHELLS = {
  bash: bashCompletion,
  zsh: zshCompletion,
  fish: fishCompletion,
  powershell: powershellCompletion,
} as const;

/** `coverfs completion`: what makes a shell complete this program's commands and options. */
export const completionCommand = (program: () => CommandUnknownOpts) =>
  new Command("completion")
    .addHelpText(
      "after",
      '\nExample:\n  eval "$(coverfs completion bash)"\n' +
        "  coverfs completion fish > ~/.config/fish/completions/coverfs.fish",
    )
    .description("print a script by which a shell completes commands and options")
    .addArgument(
      new Argument("<SHELL>", "which shell").choices(Object.keys(SHELLS) as (keyof typeof SHELLS)[]),
    )
    .action((shell) => print(SHELLS[shell](commandTable(program())).trimEnd()));
