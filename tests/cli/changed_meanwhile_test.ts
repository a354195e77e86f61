/** Key slots, master key and content that are changed between a command's first look at a container and its opening. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { refuseOlder } from "../../cli/container.ts";
import { changeEncryption } from "../../cli/key_change.ts";
import { RollbackMemory } from "../../cli/state.ts";
import { CoverError } from "../../crypto/errors.ts";
import { addSlot, removeSlot } from "../../crypto/mod.ts";
import { SEALED } from "../../crypto/sealer.ts";
import { StoreDecorator } from "../../fs/block/decorator.ts";
import type { HeaderRegion } from "../../fs/block/store.ts";
import type { DurablePoint } from "../../fs/loading.ts";
import { RamStore } from "../../fs/store/ram.ts";
import type { Volume } from "../../fs/volume.ts";
import { ROOT } from "../../fs/types.ts";
import { blockOffset, HEADER_AT } from "../../fs/block/byte_layout.ts";
import { kind } from "../crypto/blocks.ts";
import { FILE, makeContainer, name, openVolume, testKeys } from "../fs/fixture.ts";
import { Client } from "../hostile/client.ts";
import { FilePlace } from "../hostile/places.ts";
import { hookedRoot, HOST, startServer } from "../net/servers.ts";
import { WINDOWS } from "../platform.ts";
import { ServerProcess } from "./processes.ts";
import { Workplace } from "./run.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const MAIN = fileURLToPath(new URL("../../main.ts", import.meta.url));
const QUICK = ["--kdf-rounds", "210000"];

/** What is changed, by which passphrase the command opens, with which code it ends, and whether writers are tried. */
const CASES: readonly [what: string, change: string[], passfile: string, code: number, writes: boolean][] = [
  ["a slot is added", ["key", "add", "--new-passfile", "new", ...QUICK], "pass", 0, true],
  [
    "the passphrase is changed to the one given",
    ["passwd", "--new-passfile", "new", ...QUICK],
    "new",
    0,
    true,
  ],
  [
    "the passphrase given is changed",
    ["passwd", "--new-passfile", "new", ...QUICK],
    "pass",
    12,
    false,
  ],
  ["the master key is changed", ["rekey", "--yes", "--quiet"], "pass", 0, true],
];

for (const [what, change, passfile, code, writes] of CASES) {
  // The passphrase comes from a command, which runs when the encryption block has been read. A file cannot be changed
  // then by others where it is to be written: it is locked.
  for (const command of writes ? ["ls", "mkdir"] : ["ls"]) {
    const remote = command === "mkdir", where = remote ? "a server" : "a file";
    Deno.test(
      `${what} while ${command} opens a container on ${where}: it ends with ${code}`,
      { ...strict, ignore: WINDOWS },
      async () => {
        await using place = await Workplace.make();
        await using server = remote ? await ServerProcess.start(place) : undefined;
        const env = { COVERFS_CONTAINER: server?.link ?? place.container };
        await writeFile(place.path("new"), "battery staple\n", { mode: 0o600 });
        for (const args of [["init", ...QUICK], ["mkdir", "/before"]]) {
          const ran = await place.run(args, { env });
          assert.equal(ran.code, 0, ran.error);
        }
        const words = [Deno.execPath(), "run", "--quiet", "--no-check", "-A", MAIN, ...change];
        const script = `${words.map((word) => `'${word}'`).join(" ")} >&2 || exit 9\ncat ${passfile}\n`;
        await writeFile(place.path("change.sh"), script);
        const args = command === "ls" ? ["ls", "/"] : ["mkdir", "/after"];
        const ran = await place.run([...args, "--extpass", "sh change.sh"], { env });
        assert.equal(ran.code, code, ran.error);
        if (code !== 0) return;
        const listed = await place.run(["ls", "/", "--passfile", passfile], { env });
        assert.equal(listed.out, command === "ls" ? "before\n" : "after\nbefore\n", listed.error);
      },
    );
  }
}

for (
  const [what, change, code, passfile] of [
    ["the passphrase is changed", ["passwd", "--new-passfile", "new", ...QUICK], 0, "new"],
    ["the master key is changed", ["rekey", "--yes", "--quiet"], 1, "pass"],
  ] as const
) {
  Deno.test(`${what} between clone's opening and its copying: it ends with ${code}`, strict, async () => {
    await using place = await Workplace.make();
    let opened = 0;
    await using server = await startServer({
      decorate: hookedRoot(async (operation, offset) => {
        // Both superblocks are read when the container is opened, and again when its copying begins.
        if (!cloning || operation !== "read" || !HEADER_AT.super.includes(offset) || ++opened !== 3) return;
        const ran = await place.run(change, { env });
        assert.equal(ran.code, 0, ran.error);
      }),
    });
    let cloning = false;
    const link = server.link(server.firstToken!, { host: HOST }), env = { COVERFS_CONTAINER: link };
    await writeFile(place.path("new"), "battery staple\n", { mode: 0o600 });
    for (const args of [["init", ...QUICK], ["mkdir", "/before"]]) {
      const ran = await place.run(args, { env });
      assert.equal(ran.code, 0, ran.error);
    }
    cloning = true;
    const cloned = await place.run(["clone", link, "copy"]);
    assert.ok(opened > 4, `${opened}`);
    assert.equal(cloned.code, code, cloned.error);
    if (code !== 0) return assert.match(cloned.error, /has a new master key\nhint: /);
    const listed = await place.run(["ls", "/", "--passfile", passfile], {
      env: { COVERFS_CONTAINER: place.path("copy") },
    });
    assert.equal(listed.out, "before\n", listed.error);
  });
}

// libcrypto is loaded once for all, and stays.
const loads = { ...strict, sanitizeResources: false };

Deno.test(
  "an encryption block that is changed at each opening is given up, one that is changed twice is not",
  loads,
  async () => {
    const folder = await Deno.makeTempDir(), place = new FilePlace(folder), client = new Client(folder);
    try {
      await using made = await Workplace.make("mine");
      assert.equal((await made.run(["init", ...QUICK])).code, 0);
      await place.set(await Deno.readFile(made.container));
      for (const [changes, seen] of [[1, "two"], [2, "three"], [9, "rollback"]] as const) {
        let openings = 0;
        const saw = await client.opened(place, async (_container, access) => {
          if (openings++ >= changes) return;
          const key = await client.unlocked(
            place,
            (other) =>
              changeEncryption(
                other,
                access,
                (header, masterKey) =>
                  header.slots[1] === undefined
                    ? addSlot(header, masterKey, {
                      slot: { kind: "passphrase", text: "more" },
                      rounds: 210_000,
                    })
                    : removeSlot(header, masterKey, 1),
              ),
          );
          assert.ok(typeof key === "object");
          throw new CoverError("rollback", "its encryption block is an older one");
        });
        assert.equal(saw ?? ["", "one", "two", "three"][openings], seen);
        assert.ok(openings <= 3);
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
);

Deno.test(
  "who has a container open to read is warned of a journal that is damaged meanwhile, once",
  { ...loads, ignore: WINDOWS },
  async () => {
    await using made = await Workplace.make("mine");
    const folder = made.path("client"), place = new FilePlace(folder), client = new Client(folder);
    assert.equal((await made.run(["init", ...QUICK])).code, 0);
    await place.set(await Deno.readFile(made.container));
    const read = async (volume: Volume) => {
      const before = await Deno.readFile(place.locator);
      assert.equal(await client.write(place, { file: new Uint8Array(0) }), undefined);
      const after = await Deno.readFile(place.locator);
      for (let at = blockOffset(0); at < after.length; at += SEALED) {
        const sealed = after.subarray(at, at + SEALED);
        if (sealed.some((byte, i) => byte !== (before[at + i] ?? 0))) sealed.fill(0xee);
      }
      await Deno.writeFile(place.locator, after);
      for (let i = 0; i < 3; i++) await volume.refresh();
    };
    assert.equal(await client.change(place, read, "read"), undefined);
    const warning = /^warning: The journal is damaged: .* are lost; coverfs fsck tells what they changed$/;
    assert.deepEqual(client.said.map((one) => warning.test(one)), [true], client.said.join("\n"));
  },
);

/** Hands on to a store that stays as it was; tells when its superblocks are read for the first time. */
class Snapshot extends StoreDecorator {
  readonly #whenRead: () => void;

  constructor(image: Uint8Array, whenRead: () => void) {
    super(RamStore.fromBytes(image));
    this.#whenRead = whenRead;
  }

  override readHeader(region: HeaderRegion, copy: 0 | 1): Promise<Uint8Array> {
    this.#whenRead();
    return super.readHeader(region, copy);
  }
}

Deno.test("what another process remembers while a container is opened is no rollback", strict, async () => {
  const store = new RamStore(), keys = await testKeys();
  await makeContainer(store);
  const writer = await openVolume(store);
  writer.create(ROOT, name("first"), FILE);
  await writer.sync();
  const image = store.toBytes();
  let remembered: DurablePoint | undefined;
  writer.create(ROOT, name("second"), FILE);
  await writer.sync();
  const memory = new RollbackMemory(undefined, () => {});
  memory.point = () => remembered;
  const open = () =>
    refuseOlder({ store: new Snapshot(image, () => remembered = writer.container.durable), keys, memory }, {
      acceptRollback: undefined,
    });
  const reader = await open();
  assert.ok(!reader.contains(remembered!), "it is what was there when the opening began");
  await assert.rejects(open(), kind("rollback"), "who begins now must see it");
  await writer.end();
});
