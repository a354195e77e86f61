/** `deno task install` by root, from folders that nobody else may enter. */
import assert from "node:assert/strict";
import { chmod, copyFile, cp, lstat, mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Workplace } from "./run.ts";

const asRoot = {
  sanitizeOps: true,
  sanitizeResources: true,
  ignore: Deno.build.os !== "linux" || Deno.uid() !== 0,
};
const CHECKOUT = fileURLToPath(new URL("../../", import.meta.url));
const NAMES = ["main.ts", "deno.json", "deno.lock", "cli", "crypto", "ffi", "fs", "net", "node_modules"];

async function output(command: string, args: string[]) {
  const { code, stdout, stderr } = await new Deno.Command(command, { args, cwd: "/" }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

/** Runs a program as a user who has nothing: no groups, no environment. */
function asNobody(...command: string[]): Promise<string> {
  return output("setpriv", [
    ...["--reuid=65534", "--regid=65534", "--clear-groups", "env", "-i", "HOME=/nonexistent"],
    ...command,
  ]);
}

Deno.test(
  "what root installs all users can run and none can change, wherever it came from",
  asRoot,
  async () => {
    await using place = await Workplace.make();
    await chmod(place.folder, 0o755);
    const own = (name: string) => place.path("own", name), bin = place.path("usr", "bin");
    await mkdir(own(""), { mode: 0o700 });
    for (const name of NAMES) {
      await cp(join(CHECKOUT, name), own(name), { recursive: true, verbatimSymlinks: true });
    }
    await copyFile(Deno.execPath(), own("deno"));
    for (const time of ["first", "second"]) {
      const said = await output(own("deno"), ["run", "--no-check", "-A", own("cli/build/install.ts"), bin]);
      assert.match(said, /^copied for all users: .*\/usr\/lib\/coverfs\/deno\n/m, time);
      assert.match(said, /^copied for all users: .*\/usr\/lib\/coverfs\/program\n/m, time);
      assert.match(await asNobody(join(bin, "coverfs"), "--version"), /^\d+\.\d+\.\d+\n$/, time);
    }
    for (const path of ["", ...await readdir(place.path("usr"), { recursive: true })]) {
      const stat = await lstat(place.path("usr", path)),
        writable = stat.isSymbolicLink() ? 0 : stat.mode & 0o022;
      assert.deepEqual([writable, stat.uid], [0, 0], path);
    }
    assert.deepEqual(
      await readdir(place.path("usr", "lib", "coverfs")),
      ["deno", "program"],
      "nothing is left over",
    );
  },
);

Deno.test("what root installs into a folder of its own is run from where it is", asRoot, async () => {
  await using place = await Workplace.make();
  const bin = place.path("bin");
  await output(Deno.execPath(), ["run", "--no-check", "-A", join(CHECKOUT, "cli/build/install.ts"), bin]);
  assert.ok((await readFile(join(bin, "coverfs"), "utf8")).includes(`'${join(CHECKOUT, "main.ts")}'`));
  assert.deepEqual((await readdir(place.folder)).sort(), ["bin", "pass"]);
});
