/** Completions and the manual page hold every option of every command, because both are made of commander's own table. */
import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { type CommandRow, commandTable } from "../../cli/command_table.ts";
import { bashCompletion } from "../../cli/completion/bash.ts";
import { fishCompletion } from "../../cli/completion/fish.ts";
import { powershellCompletion } from "../../cli/completion/powershell.ts";
import { zshCompletion } from "../../cli/completion/zsh.ts";
import { manPage } from "../../cli/man_page.ts";
import { makeProgram } from "../../cli/program.ts";
import { Workplace } from "./run.ts";
import { WINDOWS } from "../platform.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const program = makeProgram(() => {}) as CommandUnknownOpts, table = commandTable(program);

/** What commander itself parses, hidden options left out: the measure of the table. */
const parsed = new Map(
  program.commands.map((command) => [
    command.name(),
    command.options.filter((one) => !one.hidden).flatMap(({ long, short }) => [long, short]).filter((flag) =>
      flag !== undefined
    ),
  ]),
);

async function has(shell: string): Promise<boolean> {
  if (WINDOWS) return false;
  return (await new Deno.Command("sh", { args: ["-c", `command -v ${shell}`], stdout: "null" }).output())
    .success;
}

/** Runs a script in a shell and returns what it printed. */
async function shell(command: string, args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args, stdin: "null" }).output();
  assert(success, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

const hasBash = await has("bash"),
  hasZsh = await has("zsh"),
  hasFish = await has("fish"),
  hasGroff = await has("groff");

Deno.test("the table has every command and every option, and an example of each command", strict, () => {
  assert.deepEqual(table.commands.map(({ name }) => name), [...parsed.keys()]);
  for (const command of table.commands) {
    const flags = command.options.flatMap(({ long, short }) => [long, short]).filter((flag) =>
      flag !== undefined
    );
    assert.deepEqual(new Set(flags), new Set([...parsed.get(command.name)!, "-h", "--help"]));
    assert(command.examples.some((line) => line.includes(`coverfs ${command.name}`)), command.name);
    assert(!flags.includes("--sloppy"), "hidden");
  }
});

/** The part of a text about one command: from a line that begins it to the next command's. */
function part(text: string, begin: (name: string) => string, command: CommandRow): string {
  const next = table.commands[table.commands.indexOf(command) + 1];
  const from = text.indexOf(begin(command.name)), to = next ? text.indexOf(begin(next.name)) : text.length;
  assert(from >= 0 && to > from, command.name);
  return text.slice(from, to);
}

Deno.test("zsh and PowerShell complete every option of every command", strict, () => {
  const texts: [string, (name: string) => string, (flag: string) => string][] = [
    [zshCompletion(table), (name) => `        ${name})\n`, (flag) => `'*${flag}[`],
    [
      powershellCompletion(table),
      (name) => `        '${name}' = [ordered]@{`,
      (flag) => `            '${flag}' = `,
    ],
  ];
  for (const [text, begin, shown] of texts) {
    for (const command of table.commands) {
      const about = part(text, begin, command);
      for (const flag of parsed.get(command.name)!) {
        assert(about.includes(shown(flag)), `${command.name} ${flag}`);
      }
    }
  }
});

Deno.test("bash completes commands, every option, and the values that it knows", {
  ...strict,
  ignore: !hasBash,
}, async () => {
  const words = async (...line: string[]) => {
    const script = `compopt() { :; }\n${bashCompletion(table)}\n` +
      'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _coverfs; printf "%s\\n" "${COMPREPLY[@]}"';
    return new Set((await shell("bash", ["-uc", script, "bash", "coverfs", ...line])).trim().split("\n"));
  };
  assert.deepEqual(await words(""), new Set(parsed.keys()));
  assert.deepEqual(await words("um"), new Set(["umount"]));
  for (const [name, flags] of parsed) {
    assert.deepEqual(await words(name, "-"), new Set([...flags, "-h", "--help"]), name);
  }
  assert.deepEqual(await words("mount", "--comm"), new Set(["--commit-interval"]));
  assert.deepEqual(await words("init", "--suite", "aes-256-g"), new Set(["aes-256-gcm"]));
  assert.deepEqual(await words("completion", ""), new Set(["bash", "zsh", "fish", "powershell"]));
  assert.deepEqual(await words("mount", "--passfile", ""), new Set([""]), "left to bash's own file names");
});

Deno.test("fish completes commands, every option, and the values that it knows", {
  ...strict,
  ignore: !hasFish,
}, async () => {
  await using place = await Workplace.make();
  await writeFile(place.path("completion.fish"), fishCompletion(table));
  const words = async (line: string) => {
    const script = `source ${place.path("completion.fish")}; complete -C '${line}'`;
    return (await shell("fish", ["--no-config", "-c", script])).trim().split("\n").map((row) =>
      row.split("\t")[0]!
    );
  };
  assert.deepEqual(new Set(await words("coverfs ")), new Set(parsed.keys()));
  for (const [name, flags] of parsed) {
    const longs = flags.filter((flag) => flag.startsWith("--"));
    assert.deepEqual(new Set(await words(`coverfs ${name} --`)), new Set([...longs, "--help"]), name);
  }
  assert.deepEqual(
    new Set(await words("coverfs init --suite ")),
    new Set(table.commands[0]!.options.find((one) => one.long === "--suite")!.choices),
  );
});

Deno.test("zsh takes its script, and completes an option by it", { ...strict, ignore: !hasZsh }, async () => {
  await using place = await Workplace.make();
  await mkdir(place.path("functions"));
  await writeFile(place.path("functions", "_coverfs"), zshCompletion(table));
  // A zsh on a terminal of its own (zpty): what it completes to is read back from its line.
  const script = `
    zmodload zsh/zpty
    zpty z zsh -f -i
    zpty -w z 'fpath=(${
    place.path("functions")
  } $fpath); autoload -Uz compinit; compinit -D -u; PS1=; echo begun-$((1+1))'
    zpty -r -m z line '*begun-2*'
    zpty -w -n z $'coverfs mount --commit-i\\t'
    zpty -r -m z line '*nterval*'
    print -r -- "$line"
    zpty -d z`;
  const said = await shell("timeout", ["30", "zsh", "-f", "-c", script]);
  assert.match(said, /coverfs mount --commit-interval/);
});

Deno.test("the manual page has every option of every command, and no mistakes", strict, async () => {
  const page = manPage(table), escaped = (flag: string) => `\\fB${flag.replaceAll("-", "\\-")}\\fR`;
  for (const command of table.commands) {
    const about = part(page, (name) => `.SS ${name}\n`, command);
    for (const flag of parsed.get(command.name)!) {
      assert(about.includes(escaped(flag)), `${command.name} ${flag}`);
    }
  }
  if (!hasGroff) return;
  await using place = await Workplace.make();
  await writeFile(place.path("coverfs.1"), page);
  const { stdout, stderr } = await new Deno.Command("groff", {
    args: ["-man", "-ww", "-Tutf8", "-P-cbou", place.path("coverfs.1")],
  }).output();
  assert.equal(new TextDecoder().decode(stderr), "");
  const shown = new TextDecoder().decode(stdout);
  assert.match(shown, /--commit-interval TIME/);
  assert.match(shown, /passfile=\/etc\/coverfs.pass,idle=30m/);
});

Deno.test("docs/cli.md has every command, and every option of mount but --help", strict, async () => {
  const page = await Deno.readTextFile(new URL("../../docs/cli.md", import.meta.url));
  for (const name of parsed.keys()) assert.match(page, new RegExp(`^\\| \`${name}\\b`, "m"), name);
  for (const flag of parsed.get("mount")!.filter((one) => one.startsWith("--"))) {
    const item = flag.slice(2).replaceAll("-", "_");
    assert(page.includes(flag) || page.includes(`\`${item}`), flag);
  }
});

Deno.test("the program prints them", strict, async () => {
  await using place = await Workplace.make();
  assert.equal((await place.run(["completion", "bash"])).out, bashCompletion(table));
  assert.equal((await place.run(["man"])).out, manPage(table));
  const unknown = await place.run(["completion", "csh"]);
  assert.equal(unknown.code, 2);
});
