import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { readNewPassphrase, readPassphrase, withEnvironment } from "../../cli/passphrase.ts";
import { type OnTerminal, onTerminalOf } from "./terminal.ts";
import { WINDOWS } from "../platform.ts";
import { isCover } from "../errors.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
/** On Windows: tests/windows. */
const onPosix = { ...strict, ignore: WINDOWS };

class Folder implements Disposable {
  readonly path = Deno.makeTempDirSync({ prefix: "coverfs-test-" });

  file(name: string, content: string | Uint8Array): string {
    const path = join(this.path, name);
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    Deno.writeFileSync(path, bytes, { mode: 0o600 });
    return path;
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path, { recursive: true });
  }
}

Deno.test("one newline at the end of a file is not part of the passphrase, all else is", strict, async () => {
  using folder = new Folder();
  const contents: [string, string][] = [
    ["secret", "secret"],
    ["secret\n", "secret"],
    ["secret\r\n", "secret"],
    ["secret\n\n", "secret\n"],
    [" a b \t\n", " a b \t"],
    ["\ufeffbom", "\ufeffbom"],
  ];
  for (const [content, passphrase] of contents) {
    const passfile = [folder.file("pass", content)];
    assert.equal(await readPassphrase({ passfile }, "box"), passphrase, JSON.stringify(content));
  }
});

Deno.test("text comes as NFC, also across two files", strict, async () => {
  using folder = new Folder();
  const decomposed = "Gru\u0308ße";
  assert.equal(await readPassphrase({ passfile: [folder.file("a", decomposed)] }, "box"), "Gr\u00fcße");
  const halves = [folder.file("b", "Gru\n"), folder.file("c", "\u0308ße\n")];
  assert.equal(await readPassphrase({ passfile: halves }, "box"), "Gr\u00fcße");
});

Deno.test(
  "a command gives a passphrase; one that fails does not, and its output is not shown",
  strict,
  async () => {
    assert.equal(await readPassphrase({ extpass: "echo from-command" }, "box"), "from-command");
    using folder = new Folder();
    const path = folder.file("a b", "quoted\n"), extpass = `${WINDOWS ? "type" : "cat"} "${path}"`;
    assert.equal(await readPassphrase({ extpass }, "box"), "quoted");
    await assert.rejects(
      readPassphrase({ extpass: `echo from-command${WINDOWS ? "&" : ";"} exit 3` }, "box"),
      (error) => isCover("usage", /ended with 3/)(error) && !String(error).includes("from-command"),
    );
  },
);

Deno.test("what cannot be read is wrong usage, without the content", strict, async () => {
  using folder = new Folder();
  const latin1 = folder.file("latin1", Uint8Array.of(0x47, 0xfc, 0x52));
  await assert.rejects(readPassphrase({ passfile: [latin1] }, "box"), isCover("usage", /not UTF-8/));
  const none = join(folder.path, "none");
  await assert.rejects(readPassphrase({ passfile: [none] }, "box"), isCover("usage", /ENOENT/));
  await assert.rejects(
    readPassphrase({ passfile: [latin1], extpass: "echo x" }, "box"),
    isCover("usage", /do not go together/),
  );
});

Deno.test("a new passphrase is not empty", strict, async () => {
  using folder = new Folder();
  for (const content of ["", "\n", "\r\n"]) {
    const passfile = [folder.file("pass", content)];
    await assert.rejects(readNewPassphrase({ passfile }, "box"), isCover("usage", /empty/));
  }
  assert.equal(await readNewPassphrase({ passfile: [folder.file("pass", "x\n")] }, "box"), "x");
});

Deno.test("the environment counts only where the command line is silent", onPosix, () => {
  const before = Deno.env.get("COVERFS_PASSFILE");
  try {
    Deno.env.set("COVERFS_PASSFILE", "/from/environment");
    assert.deepEqual(withEnvironment({}), { passfile: ["/from/environment"] });
    assert.deepEqual(withEnvironment({ passfile: ["a"] }), { passfile: ["a"] });
    assert.deepEqual(withEnvironment({ extpass: "b" }), { extpass: "b" });
  } finally {
    if (before === undefined) Deno.env.delete("COVERFS_PASSFILE");
    else Deno.env.set("COVERFS_PASSFILE", before);
  }
});

async function onTerminal(
  call: string,
  answers: readonly (readonly [string, string])[],
): Promise<OnTerminal> {
  using folder = new Folder();
  const url = (path: string) => JSON.stringify(new URL(`../../cli/${path}`, import.meta.url).href);
  const script = folder.file(
    "ask.ts",
    `import { readNewPassphrase, readPassphrase } from ${url("passphrase.ts")};
     import { describeError, exitCodeOf } from ${url("exit.ts")};
     try { console.log(JSON.stringify(await ${call})); }
     catch (error) { console.log(describeError(error)); Deno.exitCode = exitCodeOf(error); }`,
  );
  const config = fileURLToPath(new URL("../../deno.json", import.meta.url));
  const command = [
    Deno.execPath(),
    "run",
    "--quiet",
    "--no-check",
    "--allow-all",
    "--config",
    config,
    script,
  ];
  return await onTerminalOf(command, answers);
}

Deno.test(
  "the terminal is asked though standard input is a pipe, and shows nothing that is typed",
  onPosix,
  async () => {
    const { shown, said, code } = await onTerminal('readPassphrase({}, "/srv/box")', [
      ["Passphrase of /srv/box: ", "wrong\x15secXX\x7f\x7fret\r"],
    ]);
    assert.deepEqual({ said, code }, { said: '"secret"\n', code: 0 });
    assert.equal(shown.trim(), "Passphrase of /srv/box:");
  },
);

Deno.test(
  "a new passphrase is asked for twice; two that differ and an empty one are refused",
  onPosix,
  async () => {
    const ask = (first: string, second: string) =>
      onTerminal('readNewPassphrase({}, "box")', [["New passphrase", first], ["again", second]]);
    assert.equal((await ask("secret\r", "secret\r")).said, '"secret"\n');
    const differ = await ask("secret\r", "secre\r");
    assert.equal(differ.code, 2);
    assert.match(differ.said, /differ/);
    const empty = await ask("\r", "\r");
    assert.equal(empty.code, 2);
    assert.match(empty.said, /empty/);
  },
);

Deno.test("Ctrl-C at the question ends with 130, the end of input with 2", onPosix, async () => {
  assert.equal((await onTerminal('readPassphrase({}, "box")', [["Passphrase", "abc\x03"]])).code, 130);
  assert.equal((await onTerminal('readPassphrase({}, "box")', [["Passphrase", "\x04"]])).code, 2);
});
