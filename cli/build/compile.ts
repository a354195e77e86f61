/** `deno task compile [--target TRIPLE]`: one binary, `coverfs`, beside this project's `main.ts`. */
const root = new URL("../../", import.meta.url).pathname;
const command = new Deno.Command(Deno.execPath(), {
  args: [
    "compile",
    "--allow-all",
    "--no-prompt",
    "--no-check",
    "--output",
    `${root}coverfs`,
    "--include",
    `${root}ffi/sealing_worker.ts`,
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
