/** `key list|add|remove`, key files, recovery keys and key derivations, on local containers and on a server. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { HOST, startServer } from "../net/servers.ts";
import { type Ran, until, Workplace } from "./run.ts";
import { onTerminalOf } from "./terminal.ts";
import { shownMode, WINDOWS } from "../platform.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const QUICK = ["--kdf-rounds", "210000"];
const MAIN = fileURLToPath(new URL("../../main.ts", import.meta.url));

function assertRan(ran: Ran, code: number, error = /^$/): void {
  assert.equal(ran.code, code, ran.out + ran.error);
  assert.match(ran.error, error);
}

/** Slots as `key list --json` shows them: kind, label, whether it is the one that opened. */
async function slots(place: Workplace, container: string, ...how: string[]): Promise<string[]> {
  const ran = await place.run(["key", "-c", container, "list", "--json", ...how]);
  assertRan(ran, 0);
  const all = JSON.parse(ran.out) as { index: number; kind: string; label: string; opened: boolean }[];
  return all.map(({ index, kind, label, opened }) =>
    `${index} ${kind}${label && ` ${label}`}${opened ? " *" : ""}`
  );
}

/** What `--recovery-key` printed. */
function wordsOf(out: string): string {
  const [words = ""] = /(?:^ {2}(?:[a-z]+ ?){6}\n){4}/m.exec(out) ?? [];
  assert.equal(words.trim().split(/\s+/).length, 24, out);
  return words;
}

async function keysOf(place: Workplace, container: string): Promise<void> {
  const key = (...args: string[]) => place.run(["key", "-c", container, ...args]);
  assertRan(await place.run(["init", ...QUICK, container]), 0);
  assert.deepEqual(await slots(place, container), ["0 passphrase *"]);
  assertRan(await key("remove", "0"), 1, /^coverfs: Cannot remove key slot 0: it is the last one\nhint: /);

  const added = await key("add", "--new-key-file", "made.key", "--label", "usb stick", ...QUICK);
  assertRan(added, 0);
  assert.equal(added.out, 'Added key slot 1\nMade the key file "made.key": keep a copy of it elsewhere\n');
  const { size, mode } = await stat(place.path("made.key"));
  assert.deepEqual([size, mode & 0o777], [64, shownMode(0o600)]);
  const recovery = await key("add", "--recovery-key");
  await writeFile(place.path("words"), wordsOf(recovery.out).toUpperCase(), { mode: 0o600 });
  await writeFile(place.path("second"), "nine lamps near a quiet harbour", { mode: 0o600 });
  assertRan(
    await key(
      "add",
      "--new-passfile",
      "second",
      "--label",
      "second",
      "--kdf",
      "argon2id",
      "--kdf-memory",
      "19M",
      "--kdf-passes",
      "2",
    ),
    0,
  );
  assert.deepEqual(await slots(place, container, "--key-file", "made.key"), [
    "0 passphrase",
    "1 key-file usb stick *",
    "2 recovery-key",
    "3 passphrase second",
  ]);
  assert.match(
    (await key("list", "--passfile", "second")).out,
    /^\* 3 {2}passphrase {4}argon2id 2 passes 19456 KiB 4 lanes, made .*, "second"$/m,
  );

  const shown = /^coverfs: Cannot remove key slot 1: it is the one that was unlocked\nhint: /;
  assertRan(await key("remove", "usb stick", "--key-file", "made.key"), 1, shown);
  assertRan(await key("remove", "usb", "--passfile", "words"), 2, /There is no key slot "usb"\nhint: /);
  assertRan(await key("add", "--recovery-key", "--label", "second"), 2, /another key slot has it$/m);
  assertRan(await key("remove", "0", "--passfile", "words"), 0);
  assertRan(await place.run(["ls", "-c", container]), 12, /wrong passphrase$/m);
  assertRan(await key("remove", "second", "--key-file", "made.key"), 0);
  assertRan(await place.run(["ls", "-c", container, "--passfile", "second"]), 12, /wrong passphrase$/m);
  assertRan(await key("remove", "2", "--key-file", "made.key"), 0);
  assertRan(await place.run(["ls", "-c", container, "--passfile", "words"]), 12, /wrong passphrase$/m);
  assertRan(await key("remove", "1", "--key-file", "made.key"), 1, /it is the last one\nhint: /);
  assert.deepEqual(await slots(place, container, "--key-file", "made.key"), ["1 key-file usb stick *"]);
  assertRan(await place.run(["fsck", "--scrub", "--key-file", "made.key", container]), 0);
}

Deno.test(
  "key slots of a container in a file are added, listed and removed, never the last one",
  strict,
  async () => {
    await using place = await Workplace.make("correct horse battery staple");
    await keysOf(place, place.container);
  },
);

Deno.test("key slots of a container on a server likewise, by its plain locator", strict, async () => {
  await using place = await Workplace.make("correct horse battery staple");
  await using server = await startServer();
  await writeFile(place.path("token"), server.firstToken! + "\n", { mode: 0o600 });
  const link = server.link(server.firstToken!, { host: HOST, name: "box" });
  assertRan(await place.run(["ls", link], { plain: true }), 0); // now the server is known
  await keysOf(place, link.replace(/\/\/.*@/, "//").replace(/\?.*/, ""));
});

Deno.test(
  "a key file is taken byte for byte; too short, too long and other files are refused",
  strict,
  async () => {
    await using place = await Workplace.make();
    const content = new Uint8Array(32).fill(10); // newlines: nothing is stripped
    await writeFile(place.path("key"), content, { mode: 0o600 });
    assertRan(
      await place.run(["init", "--key-file", "key", ...QUICK], { env: { COVERFS_PASSFILE: "none" } }),
      0,
    );
    assert.deepEqual(await slots(place, place.container, "--key-file", "key"), ["0 key-file *"]);
    const piped = await place.run(["ls", "--key-file", "-"], { input: content });
    assertRan(piped, 0);
    for (
      const [bytes, code, message] of [
        [new Uint8Array(31).fill(10), 2, /Cannot use key file: it has 31 bytes\nhint: /],
        [new Uint8Array(33).fill(10), 12, /wrong key file$/m],
        [new Uint8Array((8 << 20) + 1), 2, /the key file "other": it is larger than 8 MiB$/m],
      ] as const
    ) {
      await writeFile(place.path("other"), bytes, { mode: 0o600 });
      assertRan(await place.run(["ls", "--key-file", "other"]), code, message);
    }
    assertRan(await place.run(["ls", "--key-file", "none"]), 2, /Cannot read the key file "none": ENOENT$/m);
    assertRan(await place.run(["ls", "--key-file", "key", "--passfile", "pass"]), 2, /do not go together$/m);
    assertRan(await place.run(["ls"]), 12, /no key slot takes|wrong passphrase/);
  },
);

Deno.test(
  "a key file that others may read is told of, and works",
  { ...strict, ignore: WINDOWS },
  async () => {
    await using place = await Workplace.make();
    await writeFile(place.path("key"), new Uint8Array(40).fill(1), { mode: 0o644 });
    const made = await place.run(["init", "--key-file", "key", ...QUICK]);
    assertRan(
      made,
      0,
      /^coverfs: warning: The key file "key" is open to others \(mode 0644, 0600 is right\)\n$/,
    );
  },
);

Deno.test("a key derivation out of bounds is refused, and changes nothing", strict, async () => {
  await using place = await Workplace.make("correct horse battery staple");
  const kdf = (...args: string[]) => place.run(["init", ...args]);
  const argon = ["--kdf", "argon2id"];
  assertRan(await kdf("--kdf-rounds", "209999"), 14, /at least 210000 are needed\nhint: /);
  assertRan(await kdf("--kdf-rounds", "20000001"), 14, /at most 20000000 are taken\nhint: /);
  assertRan(
    await kdf(...argon, "--kdf-memory", "18M"),
    14,
    /Argon2id with 3 passes, 18432 KiB and 4 lanes\nhint: /,
  );
  assertRan(await kdf(...argon, "--kdf-memory", "2G"), 14, /2097152 KiB/);
  assertRan(await kdf(...argon, "--kdf-passes", "1"), 14, /with 1 passes/);
  assertRan(
    await kdf(...argon, "--kdf-memory", "1G", "--kdf-passes", "17"),
    14,
    /at most 16777216 are taken/,
  );
  assertRan(
    await kdf(...argon, ...QUICK),
    2,
    /--kdf-rounds does not go together with the key derivation argon2id$/m,
  );
  assertRan(
    await kdf("--kdf-passes", "2"),
    2,
    /--kdf-passes does not go together with the key derivation pbkdf2$/m,
  );
  assert.equal((await place.run(["info"])).code, 10);
});

Deno.test("a weak passphrase is told of and taken", strict, async () => {
  await using place = await Workplace.make("Summer2024!");
  const weak =
    /^coverfs: warning: The passphrase is weak: about 10\^\d guesses find it, 10\^10 should not; .*\n$/;
  assertRan(await place.run(["init", ...QUICK]), 0, weak);
  for (
    const [text, error] of [["letmein", weak], ["container2", weak], [
      "ochre kettle marsh violin",
      /^$/,
    ]] as const
  ) {
    await writeFile(place.path("new"), text, { mode: 0o600 });
    assertRan(await place.run(["passwd", "--new-passfile", "new", ...QUICK]), 0, error);
    await writeFile(place.path("pass"), text);
  }
});

Deno.test(
  "init on a terminal offers a recovery key",
  { ...strict, ignore: Deno.build.os === "windows" },
  async () => {
    await using place = await Workplace.make();
    const init = (container: string, answer: string) =>
      onTerminalOf(
        [
          Deno.execPath(),
          "run",
          "--quiet",
          "--no-check",
          "-A",
          MAIN,
          "init",
          ...QUICK,
          place.path(container),
        ],
        [
          ["New passphrase", "ochre kettle marsh violin\r"],
          ["again", "ochre kettle marsh violin\r"],
          ["24 words to write down? (yes/no)", answer, "shown"],
        ],
        {
          env: {
            HOME: place.folder,
            DENO_DIR: Deno.env.get("DENO_DIR") ?? `${Deno.env.get("HOME")}/.cache/deno`,
          },
        },
      );
    const yes = await init("one", "yes\n"), no = await init("two", "no\n");
    assert.deepEqual([yes.code, no.code], [0, 0], yes.shown + no.shown);
    await writeFile(place.path("pass"), wordsOf(yes.said));
    assert.deepEqual(await slots(place, place.path("one")), ["0 passphrase", "1 recovery-key *"]);
    assert.doesNotMatch(no.said, /Recovery key/);
  },
);

Deno.test("a mount by a key file goes on when slots change; they change when it has ended", {
  ...strict,
  ignore: Deno.build.os !== "linux",
}, async () => {
  await using place = await Workplace.make("correct horse battery staple");
  assertRan(await place.run(["init", ...QUICK]), 0);
  assertRan(await place.run(["key", "add", "--new-key-file", "key", ...QUICK]), 0);
  await mkdir(place.path("mnt"));
  assertRan(await place.run(["mount", "--key-file", "key", "mnt"]), 0);
  try {
    assert.equal((await slots(place, place.container)).length, 2);
    assertRan(await place.run(["key", "remove", "1"]), 11, /is writing it\nhint: /);
  } finally {
    assertRan(await place.run(["umount", "mnt"]), 0);
  }
  assertRan(await place.run(["mount", "--read-only", "--key-file", "key", "mnt"]), 0);
  try {
    assertRan(await place.run(["key", "remove", "1"]), 0); // by which the mount was made
    assertRan(await place.run(["put", "pass", "/"]), 0);
    const shown = () => readFile(place.path("mnt", "pass"), "utf8").catch(() => undefined);
    await until("the mount shows the file", async () => await shown() === "correct horse battery staple\n");
  } finally {
    assertRan(await place.run(["umount", "mnt"]), 0);
  }
  assertRan(await place.run(["mount", "--key-file", "key", "mnt"]), 12, /no key slot takes a key file$/m);
});
