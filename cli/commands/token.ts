import { Argument, Command, Option } from "@commander-js/extra-typings";
import { CoverError } from "../../crypto/errors.ts";
import {
  DEFAULT_CONTAINER,
  DEFAULT_PORT,
  formatLink,
  openServerFolder,
  Role,
  type RoleName,
} from "../../net/mod.ts";
import { wholeNumber } from "../options.ts";
import { print, printJson } from "../output.ts";

/** `coverfs token`: who is admitted to a server. Works on the server's folder, also while it runs. */
export const tokenCommand = () =>
  new Command("token")
    .addHelpText(
      "after",
      "\nExample:\n  coverfs token add laptop --root /srv/coverfs --host example.org\n  coverfs token remove laptop --root /srv/coverfs",
    )
    .description("list, add or remove the tokens that a server admits")
    .addArgument(new Argument("<ACTION>", "what to do").choices(["list", "add", "remove"] as const))
    .argument("[LABEL]", "what the token is called")
    .option("--root <DIR>", "the folder of the server", ".")
    .addOption(
      new Option(
        "--role <ROLE>",
        "what it allows: to read, also to write, also to create and remove containers",
      )
        .choices(Object.keys(Role) as RoleName[]).default("rw" as RoleName),
    )
    .option("--host <HOST>", "print a link for clients that reach the server by this name")
    .option("--port <PORT>", "the port in the link", wholeNumber, DEFAULT_PORT)
    .option("--name <NAME>", "the container in the link", DEFAULT_CONTAINER)
    .option("--json", "list as an array of objects")
    .action(async (action, label, options) => {
      const { tokens, fingerprint } = await openServerFolder(options.root);
      if (action === "list") {
        if (label !== undefined) throw new CoverError("usage", "Cannot list one token: list names them all");
        const found = (await tokens.list()).map(({ label, role }) => ({ label, role }));
        if (options.json) return printJson(found);
        for (const token of found) print(`${token.role.padEnd(6)}  ${token.label}`);
        return;
      }
      if (label === undefined) {
        throw new CoverError("usage", `Cannot ${action} a token: its label is missing`);
      }
      if (action === "remove") {
        if (await tokens.remove(label)) return;
        throw new CoverError("usage", `Cannot remove a token: there is none labelled "${label}"`);
      }
      const token = await tokens.add(label, options.role), { host, port, name } = options;
      const pin = fingerprint === undefined ? {} : { fingerprint };
      print(host === undefined ? token : formatLink({ host, port, name, token, ...pin }));
    });
