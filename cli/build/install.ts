/**
 * `deno task install [DIR]`: a `coverfs` launcher in DIR (default: /usr/local/bin for root, else ~/.local/bin), and
 * beside it `mount.coverfs`, which mount(8) calls. They run this checkout by the deno that installed it, with what
 * `deno install` put into node_modules: no network at start.
 */
import { chmodSync, mkdirSync, realpathSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";

const root = realpathSync(new URL("../../", import.meta.url));
const home = Deno.env.get("HOME");
const folder = Deno.args[0] ?? (Deno.uid() === 0 || !home ? "/usr/local/bin" : join(home, ".local/bin"));
const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

const { success } = await new Deno.Command(Deno.execPath(), {
  args: ["install", "--quiet", "--frozen"],
  cwd: root,
}).spawn().status;
if (!success) Deno.exit(1);
mkdirSync(folder, { recursive: true });
const program =
  `${
    quote(realpathSync(Deno.execPath()))
  } run --quiet --no-prompt --cached-only --no-check --allow-all --config ` +
  `${quote(join(root, "deno.json"))} ${quote(join(root, "main.ts"))}`;
for (const [name, first] of [["coverfs", ""], ["mount.coverfs", " mount.coverfs"]] as const) {
  const launcher = join(folder, name);
  writeFileSync(launcher, `#!/bin/sh\nexec ${program}${first} "$@"\n`);
  chmodSync(launcher, 0o755);
  console.log(`installed: ${launcher}`);
}
const path = (Deno.env.get("PATH") ?? "").split(delimiter);
if (!path.includes(folder)) console.log(`hint: Add ${folder} to PATH`);
// mount(8) looks nowhere else.
if (Deno.uid() === 0 && realpathSync(folder) !== realpathSync("/sbin")) {
  console.log(
    `hint: For mount -t coverfs: ln -s ${quote(join(folder, "mount.coverfs"))} /sbin/mount.coverfs`,
  );
}
