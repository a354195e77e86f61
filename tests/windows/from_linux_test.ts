/**
 * The program under Windows' Deno and under Linux' with the same containers, on a terminal, and interrupted. Runs on Linux
 * where `COVERFS_WINDOWS_DENO` names what runs Windows' Deno (`deno task test:windows` sets it).
 */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { type Ran, Workplace } from "../cli/run.ts";
import { onTerminalOf } from "../cli/terminal.ts";
import { pattern } from "../fs/fixture.ts";

const DENO = Deno.env.get("COVERFS_WINDOWS_DENO");
const strict = { sanitizeOps: true, sanitizeResources: true, ignore: DENO === undefined };
const MAIN = fileURLToPath(new URL("../../main.ts", import.meta.url));
const QUICK = ["--kdf-rounds", "210000"];

/** The command line of the program under Windows' Deno. */
const windows = (...args: string[]) => [DENO!, "run", "--quiet", "--no-check", "-A", MAIN, ...args];

function start(place: Workplace, ...args: string[]): Deno.ChildProcess {
  const [command, ...rest] = windows(...args);
  return new Deno.Command(command!, {
    args: rest,
    cwd: place.folder,
    env: { COVERFS_CONTAINER: place.container, COVERFS_PASSFILE: place.path("pass") },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

async function run(place: Workplace, args: string[], input = ""): Promise<Ran> {
  const child = start(place, ...args), writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(input));
  await writer.close();
  const { code, stdout, stderr } = await child.output(), decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), bytes: stdout, error: decoder.decode(stderr) };
}

function assertRan(ran: Ran, code = 0): Ran {
  assert.equal(ran.code, code, ran.out + ran.error);
  return ran;
}

for (const suite of ["aes-256-cbc-hmac-sha256", "aes-256-gcm"]) {
  Deno.test(
    `a container made under Windows opens under Linux, and the other way round: ${suite}`,
    strict,
    async () => {
      await using place = await Workplace.make();
      const onLinux = (args: string[]) => place.run(args);
      const onWindows = (args: string[]) => run(place, args);
      await writeFile(place.path("file"), pattern(300_000));
      const names = ["a?b", "Name", "name", "häß\u{1f600}", "dot."];
      for (
        const [make, other, container] of [[onWindows, onLinux, "w"], [onLinux, onWindows, "l"]] as const
      ) {
        const at = ["-c", container];
        assertRan(await make(["init", "--suite", suite, ...QUICK, container]));
        assertRan(await make(["mkdir", ...at, "/d"]));
        for (const name of names) assertRan(await make(["put", ...at, "file", `/d/${name}`]));
        assertRan(await other(["fsck", "--scrub", container]));
        const listed = assertRan(await other(["ls", ...at, "/d"])).out.trim().split(/\r?\n/);
        assert.deepEqual(listed.sort(), [...names].sort());
        assertRan(await other(["mv", ...at, "/d/name", "/moved"]));
        const got = assertRan(await make(["get", ...at, "/moved", "-"]));
        assert.deepEqual(Uint8Array.from(got.bytes), new Uint8Array(await readFile(place.path("file"))));
        assertRan(await make(["fsck", "--scrub", container]));
      }
    },
  );
}

/** Runs the program with a terminal as standard input and output: Wine gives it a console then. */
function onConsole(args: string[], answers: Parameters<typeof onTerminalOf>[1]) {
  return onTerminalOf(["sh", "-c", 'exec "$@" </dev/tty >/dev/tty', "sh", ...windows(...args)], answers);
}

/** As a terminal sends it: UTF-8, one character for each byte. */
const typed = (text: string) => String.fromCharCode(...new TextEncoder().encode(text));

Deno.test(
  "a passphrase is typed on a console of Windows, shown nowhere, and whatever its characters",
  strict,
  async () => {
    await using place = await Workplace.make("Füße-жук-\u{1f600}");
    const passphrase = typed("Füße-жук-\u{1f600}\r");
    const made = await onConsole(["init", ...QUICK, place.container], [
      ["New passphrase of", passphrase],
      ["The same again:", passphrase],
      ["(yes/no)", "no\r", "shown"],
    ]);
    assert.equal(made.code, 0, made.shown);
    assert.match(made.shown, /Made a container at/);
    assert.doesNotMatch(made.shown, /жук/);
    assertRan(await place.run(["ls"]));
    const refused = await onConsole(["ls", "-c", place.container], [["Passphrase of", "wrong\r"]]);
    assert.equal(refused.code, 12, refused.shown);
    assert.doesNotMatch(refused.shown, /wrong\r/);
  },
);

Deno.test(
  "Ctrl-C under Windows ends a server in order, and a command with 130 and nothing half done",
  strict,
  async () => {
    await using place = await Workplace.make();
    assertRan(await run(place, ["init", ...QUICK]));
    const server = start(place, "serve", "--ram", "--host", "127.0.0.1", "--port", "0");
    const reader = server.stdout.getReader();
    await server.stdin.close();
    for (let said = ""; !said.includes("Link");) {
      said += new TextDecoder().decode(
        (await reader.read()).value,
      );
    }
    server.kill("SIGINT");
    await Promise.all([reader.cancel(), server.stderr.cancel()]);
    assert.equal((await server.status).code, 0);

    const putting = start(place, "put", "--quiet", "-", "/half"), writer = putting.stdin.getWriter();
    for (let i = 0; i < 4; i++) await writer.write(new Uint8Array(1 << 20)); // more than a pipe holds: it is at work
    putting.kill("SIGINT");
    for (;;) if (await writer.write(new Uint8Array(1 << 20)).then(() => false, () => true)) break;
    const { code, stderr } = await putting.output();
    assert.equal(code, 130, new TextDecoder().decode(stderr));
    await writer.close().catch(() => {});
    assert.equal(assertRan(await place.run(["ls"])).out, "");
    assertRan(await place.run(["fsck", "--scrub"]));
  },
);
