/** `deno task compile [--target TRIPLE]`: one binary, `coverfs`, beside this project's `main.ts`. */
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));
/** What runs in threads of its own, which nothing imports. */
const workers = readdirSync(`${root}ffi`).filter((name) => name.endsWith("_worker.ts"));
const command = new Deno.Command(Deno.execPath(), {
  args: [
    "compile",
    "--allow-all",
    "--no-prompt",
    "--no-check",
    "--output",
    `${root}coverfs`,
    ...workers.flatMap((name) => ["--include", `${root}ffi/${name}`]),
    ...Deno.args,
    `${root}main.ts`,
  ],
  stdout: "inherit",
  stderr: "piped",
});
const { success, stderr } = await command.output();
const said = new TextDecoder().decode(stderr);
if (success) console.log("made: coverfs");
else if (/denort|dl\.deno\.land/i.test(said)) {
  console.error(
    "Cannot compile: denort cannot be downloaded here; get it elsewhere and set DENORT_BIN to its path",
  );
} else console.error(said.trimEnd());
Deno.exitCode = success ? 0 : 1;
