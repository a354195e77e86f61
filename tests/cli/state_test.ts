import assert from "node:assert/strict";
import { chmodSync, mkdirSync, statSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { RollbackMemory, stateFolder } from "../../cli/state.ts";
import { WINDOWS } from "../platform.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const ID = new Uint8Array(16).fill(1), OTHER = new Uint8Array(16).fill(2);
const at = (commit: number, session = 7) => ({ session: new Uint8Array(16).fill(session), commit });

class Folder implements Disposable {
  readonly path = Deno.makeTempDirSync({ prefix: "coverfs-test-" });
  readonly file = join(this.path, "state", "rollback.json");
  readonly warnings: string[] = [];

  memory(): RollbackMemory {
    return new RollbackMemory(this.file, (message) => this.warnings.push(message));
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path, { recursive: true });
  }
}

Deno.test("what was remembered is there for the next run, for its owner only", strict, async () => {
  using folder = new Folder();
  await folder.memory().remember("/box", ID, at(5));
  await folder.memory().remember("/other", OTHER, undefined);
  const again = folder.memory();
  assert.deepEqual(again.point(ID), at(5));
  assert.equal(again.point(OTHER), undefined);
  assert.equal(again.containerAt("/box"), "01".repeat(16));
  assert.equal(again.containerAt("/other"), "02".repeat(16));
  assert.equal(again.containerAt("/none"), undefined);
  if (Deno.build.os !== "windows") {
    assert.equal(statSync(folder.file).mode & 0o777, 0o600);
    assert.equal(statSync(join(folder.path, "state")).mode & 0o777, 0o700);
  }
  const names = [...Deno.readDirSync(join(folder.path, "state"))].map(({ name }) => name).sort();
  assert.deepEqual(names, ["rollback.json", ...WINDOWS ? ["rollback.json.lock"] : []]);
  assert.deepEqual(folder.warnings, []);
});

Deno.test("a later commit takes the place of an earlier one", strict, async () => {
  using folder = new Folder();
  const memory = folder.memory();
  await memory.remember("/box", ID, at(5));
  await memory.remember("/box", ID, at(9, 8));
  assert.deepEqual(memory.point(ID), at(9, 8));
  await memory.remember("/box", ID, undefined);
  assert.deepEqual(memory.point(ID), at(9, 8), "knowing nothing forgets nothing");
});

Deno.test("a damaged file is told of once, locks nobody out and is made anew", strict, async () => {
  const damaged = ["", "{", "[]", '{"version":2}', '{"version":1,"containers":{"x":{}},"locators":{}}'];
  for (const text of damaged) {
    using folder = new Folder();
    mkdirSync(join(folder.path, "state"));
    Deno.writeTextFileSync(folder.file, text);
    const memory = folder.memory();
    assert.equal(memory.point(ID), undefined);
    assert.equal(memory.containerAt("/box"), undefined);
    assert.equal(folder.warnings.length, 1, text);
    await memory.remember("/box", ID, at(3));
    assert.deepEqual(folder.memory().point(ID), at(3), text);
  }
});

Deno.test("a place that cannot be written costs a warning only", strict, async () => {
  using folder = new Folder();
  // A file where the folder should be: also root cannot write below it.
  Deno.writeTextFileSync(join(folder.path, "state"), "");
  const memory = folder.memory();
  await memory.remember("/box", ID, at(3));
  assert.equal(memory.point(ID), undefined);
  assert.equal(folder.warnings.length, 1);
  const none = new RollbackMemory(undefined, (message) => folder.warnings.push(message));
  await none.remember("/box", ID, at(3));
  assert.equal(none.point(ID), undefined);
  assert.equal(folder.warnings.length, 2);
});

Deno.test("locators that look like properties of every object are locators", strict, async () => {
  using folder = new Folder();
  const memory = folder.memory();
  for (const name of ["__proto__", "constructor", "toString"]) {
    assert.equal(memory.containerAt(name), undefined, name);
  }
  await memory.remember("constructor", ID, at(1));
  assert.equal(folder.memory().containerAt("constructor"), "01".repeat(16));
});

Deno.test("a file that only may be read still warns of rollback", strict, async () => {
  using folder = new Folder();
  await folder.memory().remember("/box", ID, at(5));
  chmodSync(folder.file, 0o400);
  chmodSync(join(folder.path, "state"), 0o500);
  try {
    const memory = folder.memory();
    assert.deepEqual(memory.point(ID), at(5));
    await memory.remember("/box", ID, at(6));
  } finally {
    chmodSync(join(folder.path, "state"), 0o700);
  }
});

Deno.test("the folder of state follows the environment", strict, () => {
  if (Deno.build.os === "windows") return assert.match(stateFolder() ?? "", /coverfs$/);
  const names = ["XDG_STATE_HOME", "HOME"], before = names.map((name) => Deno.env.get(name));
  try {
    Deno.env.set("HOME", "/home/someone");
    Deno.env.set("XDG_STATE_HOME", "/state");
    assert.equal(stateFolder(), "/state/coverfs");
    Deno.env.set("XDG_STATE_HOME", "relative"); // to be ignored: XDG Base Directory Specification
    assert.equal(stateFolder(), "/home/someone/.local/state/coverfs");
    Deno.env.delete("XDG_STATE_HOME");
    Deno.env.delete("HOME");
    assert.equal(stateFolder(), join(userInfo().homedir, ".local/state/coverfs")); // as started by init
  } finally {
    names.forEach((name, i) =>
      before[i] === undefined ? Deno.env.delete(name) : Deno.env.set(name, before[i])
    );
  }
});

Deno.test("processes that remember at the same time lose nothing of each other's", strict, async () => {
  using folder = new Folder();
  const state = JSON.stringify(new URL("../../cli/state.ts", import.meta.url).href);
  const known = JSON.stringify(new URL("../../net/known_servers.ts", import.meta.url).href);
  const script = join(folder.path, "remember.ts");
  Deno.writeTextFileSync(
    script,
    `import { RollbackMemory } from ${state};
     import { KnownServers } from ${known};
     const [file, servers, own] = Deno.args, id = new Uint8Array(16).fill(Number(own));
     const memory = new RollbackMemory(file, (message) => console.log(message));
     for (let commit = 1; commit <= 20; commit++) {
       await memory.remember("/" + own, id, { session: id, commit });
       await new KnownServers(servers).remember({ host: "h" + commit, port: Number(own) }, { token: "A".repeat(43) });
     }`,
  );
  const servers = join(folder.path, "state", "servers.json"), all = [1, 2, 3, 4, 5, 6];
  const said = await Promise.all(all.map(async (own) => {
    const args = ["run", "--quiet", "--no-check", "-A", script, folder.file, servers, String(own)];
    const { stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
    return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  }));
  assert.deepEqual(said, all.map(() => ""));
  for (const own of all) {
    assert.deepEqual(folder.memory().point(new Uint8Array(16).fill(own)), at(20, own));
    assert.equal(folder.memory().containerAt(`/${own}`), `0${own}`.repeat(16));
  }
  assert.equal(Object.keys(JSON.parse(Deno.readTextFileSync(servers)).servers).length, 20 * all.length);
});

Deno.test("a state that others may change is told of once, and works", {
  ...strict,
  ignore: Deno.build.os === "windows",
}, async () => {
  using folder = new Folder();
  await folder.memory().remember("/box", ID, at(5));
  chmodSync(folder.file, 0o622);
  const memory = folder.memory();
  assert.deepEqual(memory.point(ID), at(5));
  assert.equal(memory.containerAt("/box"), "01".repeat(16));
  assert.deepEqual(folder.warnings, [`"${folder.file}" is open to others (mode 0622, 0600 is right)`]);
});
