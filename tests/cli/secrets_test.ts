/** Secrets are nowhere that they need not be: output, logs, arguments, files, core dumps. */
import assert from "node:assert/strict";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HOST, startServer } from "../net/servers.ts";
import { ServerProcess } from "./processes.ts";
import { type Ran, Workplace } from "./run.ts";

const linux = { sanitizeOps: true, sanitizeResources: true, ignore: Deno.build.os !== "linux" };
const QUICK = ["--kdf-rounds", "210000"];
const PASSPHRASE = "umbrella-77-passphrase-that-nobody-else-has";

/** A secret in the spellings in which it might slip out. */
function spellings(secret: string | Uint8Array): string[] {
  const bytes = typeof secret === "string" ? new TextEncoder().encode(secret) : secret;
  const base64 = bytes.toBase64({ omitPadding: true });
  return [
    new TextDecoder("latin1").decode(bytes),
    bytes.toHex(),
    base64,
    base64.replaceAll("+", "-").replaceAll("/", "_"),
  ];
}

/** Command lines and environments of all processes that can be seen. */
async function processes(what: "cmdline" | "environ"): Promise<string> {
  const ids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const texts = await Promise.all(ids.map((id) => readFile(`/proc/${id}/${what}`, "latin1").catch(() => "")));
  return texts.join("\n");
}

async function contents(folder: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) found.set(entry.name, await readFile(join(entry.parentPath, entry.name), "latin1"));
  }
  return found;
}

Deno.test("no output, log, argument or file tells a passphrase, a key or a token", linux, async () => {
  await using place = await Workplace.make(PASSPHRASE);
  await using server = await ServerProcess.start(place);
  const token = /\/\/(.*)@/.exec(server.link)![1]!, key = crypto.getRandomValues(new Uint8Array(48));
  await mkdir(place.path("secret"));
  await mkdir(place.path("mnt"));
  const file = (name: string, content: string | Uint8Array) =>
    writeFile(place.path("secret", name), content, { mode: 0o600 });
  await file("key", key);
  await file("token", token);
  await file("new", `${PASSPHRASE}-changed`);
  await file("latin1", Uint8Array.of(...key, 0xfc));
  const plain = server.link.replace(/\/\/.*@/, "//").replace(/\?.*/, "");
  const fingerprint = /sha256=(.*)/.exec(server.link)![1]!;
  const env = { COVERFS_CONTAINER: plain, COVERFS_TOKEN_FILE: place.path("secret/token") };
  const said: string[] = [];
  const run = async (code: number, ...args: string[]): Promise<Ran> => {
    const ran = await place.run([...args, "--fingerprint", fingerprint], { env });
    assert.equal(ran.code, code, `${args}: ${ran.out}${ran.error}`);
    said.push(ran.out, ran.error);
    return ran;
  };
  await run(0, "init", ...QUICK);
  await run(0, "key", "add", "--new-key-file", "secret/key", ...QUICK);
  await run(0, "passwd", "--new-passfile", "secret/new", ...QUICK);
  await run(12, "ls");
  await run(12, "ls", "--key-file", "secret/new"); // a passphrase is no key file
  await run(2, "ls", "--passfile", "secret/key"); // and a key file no text
  await run(2, "ls", "--passfile", "secret/latin1");
  await run(2, "ls", "--token-file", "secret/new");
  await run(2, "ls", "--extpass", "cat secret/new; exit 7");
  const words = (await run(0, "key", "add", "--recovery-key", "--key-file", "secret/key")).out.split(
    "\n\n",
  )[2]!
    .trim().split(/\s+/);
  said.splice(said.length - 2); // where the words are to be shown
  await file("words", words.with(3, words[4]!).join(" "));
  await run(12, "ls", "--passfile", "secret/words"); // one that is mistyped
  for (const command of ["info", "fsck"]) await run(0, command, "--key-file", "secret/key");
  await run(0, "key", "list", "--key-file", "secret/key", "--json");
  await run(0, "mount", "--key-file", "secret/key", "--log-file", "log", "mnt");
  const seen = await processes("cmdline");
  assert.match(seen, /mount\0--foreground/);
  assert.equal((await place.run(["umount", "mnt"])).code, 0);
  await server.kill();
  said.push(seen, server.program.said.replace(/^Link, .*$/m, ""));

  const state = await contents(place.path(".local")), served = await contents(place.path("served"));
  const secrets = [PASSPHRASE, key, words.join(" "), words.slice(0, 6).join(" ")].flatMap(spellings);
  for (const secret of [...secrets, token]) {
    for (const text of said) assert(!text.includes(secret), text);
    for (
      const [name, text] of [...state, ...served, [
        "log",
        await readFile(place.path("log"), "latin1"),
      ]] as const
    ) {
      assert(!text.includes(secret) || (name === "servers.json" && secret === token), name);
    }
  }
  assert(state.get("servers.json")!.includes(token), "what is looked for would be found");
});

Deno.test("a token comes from a file, so that no process list shows it", linux, async () => {
  await using place = await Workplace.make(PASSPHRASE);
  await using server = await startServer();
  const link = server.link(server.firstToken!, { host: HOST, name: "box" });
  assert.equal((await place.run(["init", ...QUICK, link])).code, 0);
  const plain = link.replace(/\/\/.*@/, "//"), other = "A".repeat(43);
  const ls = async (args: string[], env: Record<string, string> = {}) => {
    const home = { HOME: place.path(`home${crypto.randomUUID()}`) }; // it knows no server
    return await place.run(["ls", ...args], { env: { ...home, COVERFS_CONTAINER: plain, ...env } });
  };
  const file = async (content: string, mode = 0o600) => {
    const path = place.path(crypto.randomUUID());
    await writeFile(path, content, { mode });
    return path;
  };
  const right = await file(`${server.firstToken}\n`),
    wrong = await file(other),
    none = await file("not a token");
  assert.equal((await ls(["--token-file", right])).code, 0);
  assert.equal((await ls([], { COVERFS_TOKEN_FILE: right })).code, 0);
  assert.equal(
    (await ls(["--token-file", right], { COVERFS_TOKEN_FILE: wrong })).code,
    0,
    "the option counts",
  );
  assert.equal((await ls([plain, "--token-file", right])).code, 0, "also to list what is there");
  assert.equal((await ls([], { COVERFS_TOKEN_FILE: wrong })).code, 22);
  assert.equal(
    (await ls([], { COVERFS_TOKEN_FILE: wrong, COVERFS_CONTAINER: link })).code,
    0,
    "so does a link",
  );
  assert.equal((await ls(["-c", link, "--token-file", right])).code, 2);
  const refused = await ls(["--token-file", none]);
  assert.equal(refused.code, 2);
  assert.match(refused.error, /^coverfs: Cannot use the token file ".*": it does not hold a token\nhint: /);
  assert(!refused.error.includes("not a token"));
  const open = await ls(["--token-file", await file(server.firstToken!, 0o640)]);
  assert.equal(open.code, 0);
  assert.match(
    open.error,
    /^coverfs: warning: The token file ".*" is open to others \(mode 0640, 0600 is right\)\n$/,
  );
});

Deno.test("tokens and a folder of state that others may use are told of", linux, async () => {
  await using place = await Workplace.make(PASSPHRASE);
  await using server = await startServer();
  const link = server.link(server.firstToken!, { host: HOST });
  assert.equal((await place.run(["init", ...QUICK, link])).error, "");
  const state = place.path(".local/state/coverfs");
  await Deno.chmod(join(state, "servers.json"), 0o604);
  await Deno.chmod(state, 0o770);
  const ran = await place.run(["ls", "-c", link]);
  assert.equal(ran.code, 0);
  assert.equal(
    ran.error,
    `coverfs: warning: "${state}" is open to others (mode 0770, 0700 is right)\n` +
      `coverfs: warning: "${state}/servers.json" is open to others (mode 0604, 0600 is right)\n`,
  );
});

Deno.test("a state that cannot be written keeps nobody from a server", linux, async () => {
  await using place = await Workplace.make(PASSPHRASE);
  await using server = await startServer();
  const link = server.link(server.firstToken!, { host: HOST });
  const env = { XDG_STATE_HOME: "/proc/nowhere" }; // where also root can make nothing
  for (const args of [["init", ...QUICK, link], ["ls", "-c", link]]) {
    const ran = await place.run(args, { env });
    assert.equal(ran.code, 0, ran.error);
    assert.match(ran.error, /warning: Cannot remember the server 127\.0\.0\.1: /);
    assert.equal(ran.error.match(/warning: .*rollback/g)?.length, 1, ran.error);
  }
});

/** Where strace is missing or may not trace, nothing can be told. */
function canTrace(): boolean {
  try {
    return new Deno.Command("strace", { args: ["-qq", "-o", "/dev/null", "true"] }).outputSync().success;
  } catch {
    return false;
  }
}

Deno.test("core dumps are forbidden before a secret is read", {
  ...linux,
  ignore: linux.ignore || !canTrace(),
}, async () => {
  await using place = await Workplace.make(PASSPHRASE);
  assert.equal((await place.run(["init", ...QUICK])).code, 0);
  for (
    const args of [["ls"], ["passwd", "--new-passfile", "pass", ...QUICK], [
      "serve",
      "--ram",
      "--cert",
      "none",
      "--key",
      "pass",
    ]]
  ) {
    const child = place.start(args, {
      under: ["strace", "-f", "-qq", "-e", "trace=prctl,open,openat", "-o", place.path("trace")],
    });
    await child.stdin.close();
    await child.output();
    const lines = (await readFile(place.path("trace"), "utf8")).split("\n");
    const forbidden = lines.findIndex((line) =>
      /prctl\(PR_SET_DUMPABLE, SUID_DUMP_DISABLE\) += 0/.test(line)
    );
    const read = lines.findIndex((line) => /open.*["/](pass|none)"/.test(line));
    assert(forbidden >= 0 && read > forbidden, `${args}: ${forbidden} ${read}`);
  }
});
