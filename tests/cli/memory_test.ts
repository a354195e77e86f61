/** What is left of secrets in the memory of running commands. */
import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { newestEncryptionBlock, type Secret, unlockEncryptionBlock } from "../../crypto/mod.ts";
import { stretch } from "../../crypto/kdf.ts";
import { secretInput } from "../../crypto/secrets.ts";
import { deriveSubkey, hkdf } from "../../crypto/subkeys.ts";
import { utf8 } from "../../crypto/bytes.ts";
import { countInMemory } from "./memory.ts";
import { MountProcess } from "./processes.ts";
import { Workplace } from "./run.ts";

const root = Deno.build.os === "linux" && Deno.uid() === 0;
const strict = { sanitizeOps: true, sanitizeResources: true, ignore: !root };
const QUICK = ["--kdf-rounds", "210000"];
const PASSPHRASE = "umbrella-77-passphrase-that-nobody-else-has";

/** All secrets that open a container by one of its slots, by what they are called. */
async function secretsOf(container: string, secret: Secret, index: number) {
  const bytes = new Uint8Array(await readFile(container));
  const { header } = await newestEncryptionBlock(bytes.slice(0, 4096), bytes.slice(65536, 69632));
  using unlocked = await unlockEncryptionBlock(header, secret);
  using input = await secretInput(secret);
  const slot = header.slots[index]!, { containerId, suite } = header;
  const stretched = await stretch(
    input.bytes,
    new Uint8Array(header.bytes).slice(512 + 256 * index + 16, 512 + 256 * index + 48),
    slot.kdf,
  );
  const master = unlocked.masterKeys.get(1)!.bytes.slice();
  const slotKey = (what: string) => hkdf(stretched, containerId, utf8(`coverfs 2 slot ${what}`));
  const subkey = (purpose: "block encryption" | "block mac") =>
    deriveSubkey(master, { purpose, suite, containerId, generation: 1 });
  return {
    "the master key": master,
    "the key derivation's output": stretched,
    "the slot's encryption key": await slotKey("encryption"),
    "the slot's MAC key": await slotKey("mac"),
    "the blocks' encryption key": await subkey("block encryption"),
    "the blocks' MAC key": await subkey("block mac"),
  };
}

/** What must be gone, and what must be there, as otherwise nothing else would be found either. */
async function assertGone(
  pid: number,
  secrets: Record<string, Uint8Array>,
  there: readonly string[],
): Promise<void> {
  const counts = await countInMemory(pid, secrets);
  for (const [name, count] of Object.entries(counts)) {
    if (there.includes(name)) assert(count > 0, `${name} would not be found`);
    else assert.equal(count, 0, `${name} is in memory`);
  }
}

/** A workplace whose container is opened by a passphrase and by a key file, and has a large file. */
async function prepared() {
  const place = await Workplace.make(PASSPHRASE), key = crypto.getRandomValues(new Uint8Array(64));
  await writeFile(place.path("key"), key, { mode: 0o600 });
  await writeFile(place.path("large"), new Uint8Array(8 << 20));
  for (
    const args of [["init", ...QUICK], ["key", "add", "--new-key-file", "key", ...QUICK], [
      "put",
      "large",
      "/",
    ]]
  ) {
    const ran = await place.run(args);
    assert.equal(ran.code, 0, ran.error);
  }
  const ways = [
    { args: [], secret: { kind: "passphrase", text: PASSPHRASE } },
    { args: ["--key-file", "key"], secret: { kind: "key-file", content: key } },
  ] as const;
  const each = ways.map(async ({ args, secret }, index) => ({
    args,
    secrets: { ...await secretsOf(place.container, secret, index), "the key file": key },
  }));
  return { place, ways: await Promise.all(each) };
}

const DERIVED = ["the blocks' encryption key", "the blocks' MAC key"];

Deno.test("a mount has neither the master key nor what leads to it in its memory", strict, async () => {
  const { place, ways } = await prepared();
  await using _place = place;
  await mkdir(place.path("mnt"));
  for (const { args, secrets } of ways) {
    const at = { container: place.container, at: place.path("mnt"), args };
    await using mount = await MountProcess.start(place, at);
    await assertGone(mount.program.pid, secrets, DERIVED);
    assert.equal((await readFile(place.path("mnt/large"))).length, 8 << 20);
    await assertGone(mount.program.pid, secrets, DERIVED);
    assert.equal(await mount.unmount(), 0);
  }
});

Deno.test("a command has no master key in its memory while it is at work", strict, async () => {
  const { place, ways } = await prepared();
  await using _place = place;
  for (const { args, secrets } of ways) {
    const child = place.start(["cat", "/large", ...args]), output = child.stdout.getReader();
    await child.stdin.close();
    assert((await output.read()).value!.length > 0, "it has begun, and waits for who reads the rest");
    await assertGone(child.pid, secrets, DERIVED);
    child.kill("SIGKILL");
    await output.cancel();
    await child.stderr.cancel();
    await child.status;
  }
});
