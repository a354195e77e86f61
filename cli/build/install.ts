/**
 * `deno task install [DIR]`: a `coverfs` launcher in DIR (default: /usr/local/bin for root, else ~/.local/bin), and
 * beside it `mount.coverfs`, which mount(8) calls. They run this checkout by the deno that installed it, with what
 * `deno install` put into node_modules: no network at start. Where root installs for all users, and these may not
 * enter the folders of the checkout or of deno, as below /root, copies in DIR/../lib/coverfs are run.
 */
import {
  chmodSync,
  copyFileSync,
  cpSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";

/** What runs, and nothing of tests and docs. */
const PROGRAM = ["main.ts", "deno.json", "deno.lock", "cli", "crypto", "ffi", "fs", "net", "node_modules"];

const isRoot = Deno.uid() === 0;
if (isRoot) Deno.umask(0o022);
const checkout = realpathSync(new URL("../../", import.meta.url));
const home = Deno.env.get("HOME");
const folder = resolve(Deno.args[0] ?? (isRoot || !home ? "/usr/local/bin" : join(home, ".local/bin")));
const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

/** Whether everybody may read it, and enter the folders on the way to it. */
function isForAll(path: string): boolean {
  const stat = statSync(path), needed = stat.isDirectory() ? 0o005 : 0o004;
  if ((stat.mode & needed) !== needed) return false;
  for (let at = dirname(path); at !== dirname(at); at = dirname(at)) {
    if ((statSync(at).mode & 0o001) === 0) return false;
  }
  return true;
}

/** Lets everybody read what is in a folder, and enter and run what its owner may; only its owner changes it. */
function openForAll(path: string): void {
  const stat = lstatSync(path);
  if (stat.isSymbolicLink()) return;
  chmodSync(path, (stat.mode & 0o100) === 0 ? 0o644 : 0o755);
  if (stat.isDirectory()) { for (const name of readdirSync(path)) openForAll(join(path, name)); }
}

/** Puts a copy at `to`, whole at once, in the place of an earlier one; @returns `to` */
function copied(to: string, copy: (to: string) => void): string {
  const fresh = `${to}.new`, old = `${to}.old`;
  mkdirSync(dirname(to), { recursive: true });
  for (const left of [fresh, old]) rmSync(left, { recursive: true, force: true });
  copy(fresh);
  openForAll(fresh);
  if (statSync(to, { throwIfNoEntry: false })?.isDirectory()) renameSync(to, old);
  renameSync(fresh, to);
  rmSync(old, { recursive: true, force: true });
  console.log(`copied for all users: ${to}`);
  return to;
}

const { success } = await new Deno.Command(Deno.execPath(), {
  args: ["install", "--quiet", "--frozen"],
  cwd: checkout,
}).spawn().status;
if (!success) Deno.exit(1);
mkdirSync(folder, { recursive: true });
let deno = realpathSync(Deno.execPath()), root = checkout;
if (isRoot && isForAll(realpathSync(folder))) {
  const library = join(dirname(realpathSync(folder)), "lib", "coverfs"), from = deno;
  if (!isForAll(deno)) {
    deno = copied(join(library, "deno"), (to) => copyFileSync(from, to));
  }
  if (!PROGRAM.every((name) => isForAll(join(checkout, name)))) {
    root = copied(join(library, "program"), (to) => {
      for (const name of PROGRAM) {
        cpSync(join(checkout, name), join(to, name), { recursive: true, verbatimSymlinks: true });
      }
    });
  }
}
const program = `${quote(deno)} run --quiet --no-prompt --cached-only --no-check --allow-all --config ` +
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
if (isRoot && realpathSync(folder) !== realpathSync("/sbin")) {
  console.log(
    `hint: For mount -t coverfs: ln -s ${quote(join(folder, "mount.coverfs"))} /sbin/mount.coverfs`,
  );
}
