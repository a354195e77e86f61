/** What people and servers may give the program that is not right: its message, its exit code, and nothing changed. */
import assert from "node:assert/strict";
import { copyFile, readFile, writeFile } from "node:fs/promises";
import { readEncryption, unlock } from "../../cli/container.ts";
import { createSealer, webCryptoEngine } from "../../crypto/mod.ts";
import { Field, hashOf } from "../../crypto/encryption_block.ts";
import { blockOffset, HEADER_AT } from "../../fs/block/byte_layout.ts";
import { Container } from "../../fs/container.ts";
import { openFileStore } from "../../fs/store/file.ts";
import { HOST, startServer } from "../net/servers.ts";
import { type Ran, smallDisk, Workplace } from "./run.ts";
import { WINDOWS } from "../platform.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const CONTENT = new Uint8Array(3 * 4096).fill(7);

/** A container with one file `/file`, made once; each case takes a copy. */
let made: Promise<Workplace> | undefined;

function shared(): Promise<Workplace> {
  return made ??= (async () => {
    const place = await Workplace.make();
    for (const args of [["init", "--kdf-rounds", "210000"], ["put", "-", "/file"]]) {
      const ran = await place.run(args, { input: CONTENT });
      assert.equal(ran.code, 0, ran.error);
    }
    return place;
  })();
}

async function workplace(): Promise<Workplace> {
  const copy = await Workplace.make();
  await copyFile((await shared()).container, copy.container);
  return copy;
}

/** Changes both copies of the encryption block, with a hash that fits. */
async function forgeHeader(place: Workplace, change: (view: DataView) => void): Promise<void> {
  const bytes = new Uint8Array(await readFile(place.container));
  for (const at of HEADER_AT.key) {
    const block = bytes.subarray(at, at + 4096);
    change(new DataView(block.buffer, at, 4096));
    block.set(await hashOf(block), Field.hash);
  }
  await writeFile(place.container, bytes);
}

/** Keeps `length` bytes of the container. */
const cut = (length: number) => async (place: Workplace) =>
  await writeFile(place.container, (await readFile(place.container)).subarray(0, length));

const rounds = (count: number) => (place: Workplace) =>
  forgeHeader(place, (view) => view.setUint32(Field.slots + 4, count, true));

const CUT = /: it is cut off before its first block\nhint: Take another copy/;

/** `ls`, `put` and `fsck` on it: one code for the first two, one for the last. */
const CONTAINERS: [
  name: string,
  prepare: (p: Workplace) => Promise<unknown>,
  RegExp,
  code: number,
  fsck: number,
][] = [
  ["a wrong passphrase", (p) => writeFile(p.path("pass"), "wrong"), /: wrong passphrase$/, 12, 8],
  [
    "a text file",
    (p) => writeFile(p.container, "hello ".repeat(50_000)),
    /Cannot open container: this is not a CoverFS container$/,
    13,
    4,
  ],
  [
    "a file of zeros",
    (p) => writeFile(p.container, new Uint8Array(200_000)),
    /only zeros where its encryption/,
    13,
    4,
  ],
  ["an empty file", cut(0), /only zeros where its encryption block should be\nhint: /, 13, 4],
  [
    "a container cut within its header",
    cut(1000),
    /its encryption block is damaged: its hash does not fit$/,
    13,
    4,
  ],
  ["a container cut behind its first header", cut(5000), CUT, 13, 4],
  ["a container cut behind its headers", cut(131072), CUT, 13, 4],
  ["a container cut behind its first block", cut(blockOffset(1)), /: no checkpoint verifies$/, 13, 4],
  [
    "a newer format version",
    (p) => forgeHeader(p, (view) => view.setUint16(Field.version, 3, true)),
    /format version is 3, expected 2\nhint: A newer version/,
    14,
    8,
  ],
  [
    "an unknown cipher suite",
    (p) => forgeHeader(p, (view) => view.setUint8(Field.suite, 77)),
    /cipher suite 77 is not known\nhint: /,
    14,
    8,
  ],
  [
    "an unknown feature flag",
    (p) => forgeHeader(p, (view) => view.setUint32(Field.incompatible, 0x40, true)),
    /unknown feature flags 0x40\nhint: A newer version/,
    14,
    8,
  ],
  [
    "too few rounds of key derivation",
    rounds(209_999),
    /209999 rounds, at least 210000 are needed\nhint: /,
    14,
    8,
  ],
  ["too many rounds of key derivation", rounds(20_000_001), /20000001 rounds .* at most 20000000/, 14, 8],
];

for (const [name, prepare, message, code, fsck] of CONTAINERS) {
  Deno.test(`${name}: ends with ${code}, fsck with ${fsck}, and changes nothing`, strict, async () => {
    await using place = await workplace();
    await prepare(place);
    const before = await readFile(place.container);
    const commands: [string[], number][] = [[["ls"], code], [["put", "pass", "/"], code], [["fsck"], fsck]];
    const runs = await Promise.all(commands.map(([args]) => place.run(args)));
    for (const [i, ran] of runs.entries()) {
      const [args, expected] = commands[i]!;
      assert.equal(ran.code, expected, `${args}: ${ran.error}`);
      assertOneLine(ran, message);
    }
    assert.deepEqual(await readFile(place.container), before);
  });
}

/** A failure is one line, and one more where there is a hint. */
function assertOneLine({ error, out }: Ran, message: RegExp): void {
  assert.match(error, /^coverfs: [^\n]+\n(hint: [^\n]+\n)?$/);
  assert.match(error.trimEnd(), message);
  assert.equal(out, "");
}

Deno.test("a directory, a pipe and a device are no containers: 13, and fsck 4", {
  ...strict,
  ignore: WINDOWS,
}, async () => {
  await using place = await Workplace.make();
  const { success } = await new Deno.Command("mkfifo", { args: [place.path("pipe")] }).output();
  assert(success);
  for (
    const [path, message] of [
      [place.folder, /it is a directory, not a container$/],
      [place.path("pipe"), /it is not a file$/],
      ["/dev/null", /it is not a file$/],
    ] as const
  ) {
    for (const [command, code] of [["ls", 13], ["info", 13], ["fsck", 4]] as const) {
      const ran = await place.run([command, "-c", path]);
      assert.equal(ran.code, code, ran.error);
      assertOneLine(ran, message);
    }
  }
});

/** Paths that cannot be, by command. */
const LONG = "n".repeat(256);
const PATHS: [args: string[], code: number, RegExp][] = [
  [["cat", `/${LONG}`], 1, /^coverfs: "\/n+": a name is longer than 255 bytes$/],
  [["put", "pass", `/${LONG}`], 1, /^coverfs: "\/n+": a name is longer than 255 bytes$/],
  [["mkdir", "-p", `/${LONG}/b`], 1, /": a name is longer than 255 bytes$/],
  [["mv", "/file", `/${"ä".repeat(128)}`], 1, /": a name is longer than 255 bytes$/],
  [["cat", "/file/below"], 4, /^coverfs: "\/file\/below": not a directory$/],
  [["stat", "/file/"], 4, /^coverfs: "\/file\/": not a directory$/],
  [["put", "pass", "/file/below"], 4, /^coverfs: "\/file\/below": not a directory$/],
  [["mkdir", "/file/below"], 4, /^coverfs: "\/file\/below": not a directory$/],
  [["mkdir", "-p", "/file/below"], 4, /": not a directory$/],
  [["rm", "/file/below"], 4, /^coverfs: "\/file\/below": not a directory$/],
  [["rm", "-r", "/"], 1, /^coverfs: "\/": neither the root nor .* can be changed$/],
  [["mv", "/folder", "/folder/below"], 1, /^coverfs: "\/folder\/below": it would lie in itself$/],
  [["mv", "/file", "/file/below"], 4, /^coverfs: "\/file\/below": not a directory$/],
  [["cat", "/"], 1, /^coverfs: "\/": is a directory$/],
];

Deno.test(
  "names that are too long and paths that cannot be are refused, and change nothing",
  strict,
  async () => {
    await using place = await workplace();
    assert.equal((await place.run(["mkdir", "/folder"])).code, 0);
    const before = (await place.run(["ls", "-R", "-a"])).out;
    for (const [args, code, message] of PATHS) {
      const ran = await place.run(args);
      assert.equal(ran.code, code, `${args}: ${ran.error}`);
      assertOneLine(ran, message);
    }
    assert.equal((await place.run(["ls", "-R", "-a"])).out, before);
    assert.deepEqual((await place.run(["cat", "/file"])).bytes, CONTENT);
  },
);

Deno.test(
  "a data block that does not verify ends cat with 24, and fsck --scrub names the file",
  strict,
  async () => {
    await using place = await workplace();
    const position = await positionOf(place, "file"), bytes = await readFile(place.container);
    bytes[blockOffset(position + 1) + 2000]! ^= 1;
    await writeFile(place.container, bytes);
    const ran = await place.run(["cat", "/file"]);
    assert.equal(ran.code, 24, ran.error);
    assert.match(ran.error, /^coverfs: "\/file": [^\n]*does not verify[^\n]*\n(hint: [^\n]+\n)?$/);
    assert.equal((await place.run(["get", "/file", "copy"])).code, 24);
    await assert.rejects(readFile(place.path("copy")), "no half of it");
    assert.equal((await place.run(["ls"])).out, "file\n", "what needs no data works");
    const checked = await place.run(["fsck", "--scrub"]);
    assert.equal(checked.code, 4, checked.error);
    assert.match(checked.out, /\(\/file\)/);
    assert.deepEqual(await readFile(place.container), bytes);
  },
);

/** Where a file in the root begins, in blocks. */
async function positionOf(place: Workplace, name: string): Promise<number> {
  await using store = await openFileStore(place.container, "read");
  const { header } = await readEncryption(store);
  using unlocked = await unlock(header, "correct horse");
  const { suite, containerId, generation, sequence } = header;
  using sealer = await createSealer({
    suite,
    containerId,
    keys: unlocked.masterKeys,
    engine: webCryptoEngine,
  });
  const keys = { containerId, sealer, generation, keySequence: sequence };
  const { tables } = await Container.open(store, keys, { mode: "read" });
  let first: number | undefined;
  const ino = tables.dentries.inoAt(tables.dentries.find(0, new TextEncoder().encode(name)));
  tables.extents.each(ino, (_offset, _length, position) => {
    first ??= position;
  });
  assert(first !== undefined);
  return first;
}

Deno.test(
  "another container in the place of the one that is known ends with 20, fsck with 8",
  strict,
  async () => {
    await using place = await workplace();
    assert.equal((await place.run(["ls"])).code, 0);
    const made = await place.run(["init", "--kdf-rounds", "210000", "other"]);
    assert.equal(made.code, 0, made.error);
    await copyFile(place.path("other"), place.container);
    const before = await readFile(place.container);
    for (
      const [args, code] of [[["ls"], 20], [["put", "pass", "/"], 20], [["info"], 20], [["fsck"], 8]] as const
    ) {
      const ran = await place.run(args);
      assert.equal(ran.code, code, ran.error);
      assertOneLine(
        ran,
        /another container lies in its place\nhint: If that is meant, use --accept-replaced once$/,
      );
    }
    assert.equal((await place.run(["ls", "--accept-rollback"])).code, 20, "that is another thing");
    assert.deepEqual(await readFile(place.container), before);
    assert.equal((await place.run(["ls", "--accept-replaced"])).code, 0);
    assert.equal((await place.run(["ls"])).code, 0, "it is remembered now");
  },
);

Deno.test(
  "a wrong token ends with 22, a wrong fingerprint with 21, a wrong name with 10, and change nothing",
  strict,
  async () => {
    await using place = await Workplace.make("correct horse battery staple");
    const root = place.path("served");
    await using server = await startServer({ root });
    const link = (token: string) => server.link(token, { host: HOST, name: "box" }),
      good = link(server.firstToken!);
    const made = await place.run(["init", "--kdf-rounds", "210000", good]);
    assert.equal(made.code, 0, made.error);
    const before = await readFile(`${root}/box`), other = "A".repeat(43);
    const reader = await server.tokens.add("reader", "ro");
    const cases: [args: string[], code: number, RegExp][] = [
      [["ls", "-c", link(other)], 22, /^coverfs: The server does not know this token$/],
      [
        ["put", "-c", link(reader), "pass", "/"],
        22,
        /The token does not allow this: it takes one with the role "rw"$/,
      ],
      [["init", link(reader).replace("/box", "/new")], 22, /it takes one with the role "create"$/],
      [
        ["ls", "-c", good.replace(/sha256=.*/, `sha256=${other}`)],
        21,
        /is not the one that is known: refusing it\nhint: /,
      ],
      [["ls", "-c", good.replace(/\?.*/, "")], 21, /is unknown: not connecting\nhint: Use the link/],
      [["ls", "-c", good.replace("/box", "/none")], 10, /^coverfs: No container "none" on this server/],
      [["ls", "-c", good.replace(/:\d+\//, ":1/")], 23, /nothing listens at that port\nhint: /],
      [["ls", "-c", link("short")], 2, /the token before @ is damaged\nhint: /],
    ];
    for (const [i, [args, code, message]] of cases.entries()) {
      const ran = await place.run(args, { env: { HOME: place.path(`home${i}`) } }); // it knows no server
      assert.equal(ran.code, code, `${code}: ${ran.error}`);
      assertOneLine(ran, message);
      assert(!ran.error.includes(other) && !ran.error.includes(server.firstToken!), "no secret is shown");
    }
    assert.deepEqual(await readFile(`${root}/box`), before);
    assert.equal((await place.run(["ls", "-c", good.replace(/\/\/.*@/, "//").replace(/\?.*/, "")])).code, 0);
  },
);

Deno.test(
  "serve on a port that is in use ends with 11, and with a bad certificate with 2",
  strict,
  async () => {
    await using place = await Workplace.make();
    await using server = await startServer();
    const port = ["serve", "--ram", "--host", HOST, "--port", String(server.port)];
    const used = await place.run(port);
    assert.equal(used.code, 11, used.error);
    assertOneLine(used, /port \d+.*in use/i);
    const bad = await place.run([...port, "--cert", "pass", "--key", "pass"]);
    assert.equal(bad.code, 2, bad.error);
  },
);

Deno.test("put on a full disk ends with 25; what was there is whole", {
  ...strict,
  ignore: Deno.build.os !== "linux" || Deno.uid() !== 0,
}, async () => {
  await using place = await workplace();
  await using disk = await smallDisk(place, 4 << 20);
  const container = `${disk.path}/container`;
  await copyFile(place.container, container);
  await writeFile(place.path("large"), new Uint8Array(8 << 20).fill(3));
  const full = await place.run(["put", "-c", container, "large", "/"]);
  assert.equal(full.code, 25, full.error);
  assertOneLine(full, /no space left/);
  assert.deepEqual((await place.run(["cat", "-c", container, "/file"])).bytes, CONTENT);
  const checked = await place.run(["fsck", "--scrub", container]);
  assert.equal(checked.code, 0, checked.out + checked.error);
  assert.equal((await place.run(["ls", "-a", "-c", container])).out, "file\n", "no half of it");
  assert.equal((await place.run(["rm", "-c", container, "/file"])).code, 0, "there is always room to delete");
});

Deno.test("the shared container is put away", async () => {
  await (await shared())[Symbol.asyncDispose]();
});
