import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { commandTable } from "../command_table.ts";
import { manPage } from "../man_page.ts";
import { print } from "../output.ts";

/** `coverfs man`: the manual page. */
export const manCommand = (program: () => CommandUnknownOpts) =>
  new Command("man")
    .addHelpText(
      "after",
      "\nExample:\n  coverfs man | man -l -\n  coverfs man > ~/.local/share/man/man1/coverfs.1",
    )
    .description("print the manual page (roff)")
    .action(() => print(manPage(commandTable(program())).trimEnd()));
