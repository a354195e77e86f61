/** The program: its commands, and how it ends. */
import { Command, CommanderError, type CommandUnknownOpts } from "@commander-js/extra-typings";
import denoConfig from "../deno.json" with { type: "json" };
import { benchCommand } from "./commands/bench.ts";
import { catCommand } from "./commands/cat.ts";
import { cloneCommand } from "./commands/clone.ts";
import { compactCommand } from "./commands/compact.ts";
import { completionCommand } from "./commands/completion.ts";
import { fsckCommand } from "./commands/fsck.ts";
import { getCommand } from "./commands/get.ts";
import { headerCommand } from "./commands/header.ts";
import { infoCommand } from "./commands/info.ts";
import { initCommand } from "./commands/init.ts";
import { keyCommand } from "./commands/key.ts";
import { lsCommand } from "./commands/ls.ts";
import { manCommand } from "./commands/man.ts";
import { mkdirCommand } from "./commands/mkdir.ts";
import { mountCommand } from "./commands/mount.ts";
import { mvCommand } from "./commands/mv.ts";
import { passwdCommand } from "./commands/passwd.ts";
import { putCommand } from "./commands/put.ts";
import { rekeyCommand } from "./commands/rekey.ts";
import { rmCommand } from "./commands/rm.ts";
import { serveCommand } from "./commands/serve.ts";
import { statCommand } from "./commands/stat.ts";
import { syncCommand } from "./commands/sync.ts";
import { tokenCommand } from "./commands/token.ts";
import { umountCommand } from "./commands/umount.ts";
import { describeError, EXIT, exitCodeOf, FSCK_EXIT } from "./exit.ts";
import { calledByMountFuse, HELPER, mountExit, parseHelperCall } from "./mount_helper.ts";
import { printError } from "./output.ts";
import { dropPermissions } from "./permissions.ts";
import { warnOfExposedState } from "./state.ts";

const EXAMPLES = `
Examples:
  coverfs init container
  coverfs put -c container todo.txt /
  coverfs cat -c container /todo.txt
  coverfs fsck --scrub container

Set COVERFS_CONTAINER and leave -c out. Exit codes: docs/cli.md`;

/** Makes the program. @param setExitCode told of an exit code that is no failure of the program itself */
export function makeProgram(setExitCode: (code: number) => void) {
  const program = new Command("coverfs")
    .description("a filesystem in one encrypted container, on a server that need not be trusted")
    .version(denoConfig.version, "-V, --version", "print the version")
    .helpOption("-h, --help", "print this help")
    .addHelpText("after", EXAMPLES)
    .exitOverride()
    .configureOutput({
      outputError: (text, write) => write(usageMessage(text)),
    });
  const commands: CommandUnknownOpts[] = [
    initCommand(),
    mountCommand(),
    umountCommand(),
    syncCommand(),
    lsCommand(),
    catCommand(),
    getCommand(),
    putCommand(),
    mkdirCommand(),
    rmCommand(),
    mvCommand(),
    statCommand(),
    infoCommand(),
    fsckCommand(setExitCode),
    compactCommand(),
    cloneCommand(),
    headerCommand(),
    passwdCommand(),
    keyCommand(),
    rekeyCommand(),
    serveCommand(),
    tokenCommand(),
    benchCommand(),
    completionCommand(() => program),
    manCommand(() => program),
  ];
  for (const command of commands) {
    command.copyInheritedSettings(program);
    program.addCommand(command);
  }
  return program;
}

/** What commander says, in the form of this program's errors. */
function usageMessage(text: string): string {
  return text.replace(/^error: /, "coverfs: ").replace(/\(Did you mean (.*)\?\)/, "hint: Did you mean $1?");
}

/**
 * Runs a command line. Prints what there is to say.
 *
 * @returns the exit code
 */
export async function run(args: readonly string[]): Promise<number> {
  let code = EXIT_OK;
  const program = makeProgram((given) => code = given), checking = args[0] === "fsck";
  if (args[0] === HELPER) return await runHelper(args.slice(1));
  if (calledByMountFuse(args, program.commands.map((command) => command.name()))) {
    return await runHelper(args);
  }
  program.hook("preAction", (_program, command) => {
    if (command.options.some(({ long }) => long === "--container")) warnOfExposedState();
    dropPermissions(command);
  });
  try {
    await program.parseAsync(args, { from: "user" });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return EXIT_OK;
      return checking ? FSCK_EXIT.usage : EXIT.usage;
    }
    if ((error as { code?: string }).code === "EPIPE") return EXIT.failure; // whoever read has gone
    printError(describeError(error));
    const own = exitCodeOf(error);
    if (!checking || own === EXIT.interrupted) return own;
    return own === EXIT.usage
      ? FSCK_EXIT.usage
      : own === EXIT.damaged
      ? FSCK_EXIT.uncorrected
      : FSCK_EXIT.operational;
  }
}

async function runHelper(given: readonly string[]): Promise<number> {
  try {
    const { args, fake } = parseHelperCall(given);
    return fake ? EXIT_OK : mountExit(await run(args));
  } catch (error) {
    printError(describeError(error));
    return mountExit(exitCodeOf(error));
  }
}

const EXIT_OK = 0;
