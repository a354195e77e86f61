/** Changes of the master key: crashes at each write, the key before, readers that were there, and what stays behind. */
import assert from "node:assert/strict";
import { bestEngine, containerKeys } from "../../cli/container.ts";
import { changeMasterKey, type MasterKeyChanged } from "../../cli/rekeying.ts";
import {
  createEncryptionBlock,
  KDF_LIMITS,
  newestEncryptionBlock,
  type Secret,
  unlockEncryptionBlock,
} from "../../crypto/mod.ts";
import { crashImages } from "../../fs/block/crash.ts";
import { MediumStore } from "../../fs/block/medium.ts";
import { RecordingStore } from "../../fs/block/recording.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { createContainer } from "../../fs/creating.ts";
import { checkContainer } from "../../fs/fsck.ts";
import { RamStore } from "../../fs/store/ram.ts";
import type { Volume } from "../../fs/volume.ts";
import { keyFile, kind, makeBlock, passphrase, TEST_LIMITS } from "../crypto/blocks.ts";
import { content, equal, FILE, name, openVolume, pattern, SEED } from "../fs/fixture.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
await bestEngine(); // which stays loaded

const BYTES = 30_000;

async function newest(store: BlockStore) {
  return await newestEncryptionBlock(
    await store.readHeader("key", 0),
    await store.readHeader("key", 1),
    TEST_LIMITS,
  );
}

/** A container with a file, that a passphrase and a key file open. */
async function container(
  making: ReturnType<typeof makeBlock> = makeBlock([passphrase, keyFile]),
): Promise<RamStore> {
  const store = new RamStore(), made = await making;
  const keys = await containerKeys(made.header, new Map([[1, made.masterKey]]));
  await createContainer(store, keys, { uid: 0, gid: 0, mode: 0o755 });
  for (const copy of [0, 1] as const) store.writeHeader("key", copy, made.bytes);
  await store.flush();
  const volume = await openVolume(store, "write", { keys });
  await volume.write(volume.create(0, name("file"), FILE), 0, pattern(BYTES));
  await volume.end();
  return store;
}

/** Does something with the keys that a secret gives; what `newest` says is unlocked. */
async function unlocking<T>(
  store: BlockStore,
  secret: Secret,
  use: (keys: Awaited<ReturnType<typeof containerKeys>>) => Promise<T>,
): Promise<T> {
  const { header } = await newest(store);
  using unlocked = await unlockEncryptionBlock(header, secret);
  const keys = await containerKeys(header, unlocked.masterKeys);
  using _sealer = keys.sealer;
  return await use(keys);
}

const assertFile = async (volume: Volume) =>
  assert(equal(await content(volume, volume.lookup(0, name("file"))!), pattern(BYTES)));

/** Opens by a secret, and reads all. */
const opens = (store: BlockStore, secret: Secret) =>
  unlocking(store, secret, async (keys) => await assertFile(await openVolume(store, "read", { keys })));

/** Changes the master key, or goes on; only the key file keeps its slot. */
async function rekey(store: BlockStore, rounds = TEST_LIMITS.pbkdf2Floor): Promise<MasterKeyChanged> {
  const encryption = await newest(store), session = crypto.getRandomValues(new Uint8Array(16));
  using unlocked = await unlockEncryptionBlock(encryption.header, keyFile);
  const kdf = { name: "pbkdf2-hmac-sha-512", rounds } as const;
  const slots = () => Promise.resolve([{ ...keyFile, label: "kept", kdf }]);
  const onBegun = () => {
    for (const key of unlocked.masterKeys.values()) assert.throws(() => key.bytes, /disposed/);
  };
  return await changeMasterKey({ store, encryption, unlocked, session }, { slots, onBegun });
}

/** How far a change is. */
async function stageOf(store: BlockStore): Promise<"before" | "under way" | "after"> {
  const { header: { generation, previousGeneration } } = await newest(store);
  return generation === 1 ? "before" : previousGeneration === 1 ? "under way" : "after";
}

async function assertDone(store: BlockStore): Promise<void> {
  assert.equal(await stageOf(store), "after");
  assert.equal((await newest(store)).other, "same");
  await opens(store, keyFile);
  await assert.rejects(opens(store, passphrase), kind("wrong-passphrase"));
  await unlocking(store, keyFile, async (keys) => {
    assert.deepEqual((await checkContainer(store, keys, { scrub: true })).findings, []);
  });
}

Deno.test(
  "a changed master key: only what was given opens it, and the key before opens nothing",
  strict,
  async () => {
    const store = await container(), before = RamStore.fromBytes(store.toBytes());
    assert.deepEqual(await rekey(store), { moved: Math.ceil(BYTES / 4096), left: 0 });
    await assertDone(store);
    const { header } = await newest(store);
    assert.deepEqual(header.slots.map((slot) => slot?.label).slice(0, 2), ["kept", undefined]);
    // The old header with the old passphrase: of the blocks themselves see tests/fs/rekey_test.ts.
    const now = store.toBytes();
    for (const regions of [["key"], ["key", "super"]] as const) {
      const forged = RamStore.fromBytes(now);
      for (const region of regions) {
        for (const copy of [0, 1] as const) {
          await forged.writeHeader(region, copy, await before.readHeader(region, copy));
        }
      }
      for (const secret of [passphrase, keyFile]) {
        await assert.rejects(
          opens(forged, secret),
          kind("damaged"),
        );
      }
    }
    await opens(before, passphrase); // the old copy is what it was
  },
);

Deno.test(
  `a crash at any write of it leaves a container that opens, and goes on (seed ${SEED})`,
  strict,
  async () => {
    const base = await container();
    // As a crash of an earlier change of slots may have left it.
    await base.writeHeader("key", 1, new Uint8Array(4096));
    const initial = base.toBytes(), recording = new RecordingStore(RamStore.fromBytes(initial), { initial });
    await rekey(recording);
    const seen = new Set<string>();
    // Each moment of the changes of the encryption block, and some of the long work in between.
    const [, begun = 0, ending = 0] = recording.events.flatMap(({ kind, ...event }, i) =>
      kind === "header" && "region" in event && event.region === "key" ? [i] : []
    );
    const each = { seed: SEED, modes: ["subset", "torn", "reordered"] } as const;
    const parts = [
      { ...each, to: begun + 4 },
      { seed: SEED, modes: ["kept", "torn", "reordered"], from: begun + 5, to: ending - 1, share: 0.05 },
      { ...each, from: ending },
    ] as const;
    for (const image of parts.flatMap((part) => [...crashImages(recording, part)])) {
      const store = new MediumStore(image.medium), stage = await stageOf(store);
      seen.add(stage);
      await opens(store, keyFile);
      if (stage === "before") await opens(store, passphrase);
      else await assert.rejects(opens(store, passphrase), kind("wrong-passphrase"));
      if (stage === "after") continue;
      assert.equal((await rekey(store)).left, 0);
      await assertDone(store);
    }
    assert.deepEqual([...seen].sort(), ["after", "before", "under way"]);
  },
);

Deno.test("what does not verify keeps the key before; when it is given up, that goes", strict, async () => {
  const store = await container();
  const position = await unlocking(store, keyFile, async (keys) => {
    let third = -1;
    const volume = await openVolume(store, "read", { keys });
    volume.container.tables.extents.each(volume.lookup(0, name("file"))!, (_offset, _length, position) => {
      third = position + 2;
    });
    return third;
  });
  const whole = (await store.read(position, 1)).slice();
  await store.write(position, new Uint8Array(whole.length).fill(7));
  assert.equal((await rekey(store)).left, 1);
  await store.writeHeader("key", 0, new Uint8Array(4096));
  assert.equal((await rekey(store)).left, 1);
  assert.equal((await newest(store)).other, "same");
  assert.equal(await stageOf(store), "under way");
  await unlocking(store, keyFile, async (keys) => {
    const reader = await openVolume(store, "read", { keys });
    await store.write(position, whole); // it was the disk's fault, and another copy had it
    assert.deepEqual(await rekey(store), { moved: 1, left: 0 });
    assert.equal(await reader.refresh(), true, "who has both keys goes on");
    await assertFile(reader);
  });
  await assertDone(store);
});

Deno.test(
  "who has read the container before is told of the new master key, not of damage",
  strict,
  async () => {
    const slots = [passphrase, keyFile],
      store = await container(createEncryptionBlock({ suite: "aes-256-gcm", slots }));
    await unlocking(store, passphrase, async (keys) => {
      const reader = await openVolume(store, "read", { keys }),
        again = await openVolume(store, "read", { keys });
      await rekey(store, KDF_LIMITS.pbkdf2Floor);
      const told = kind("failure", /^The container has a new master key$/);
      await assert.rejects(reader.refresh(), told);
      await assert.rejects(assertFile(again), told); // whose blocks are overwritten
      await assert.rejects(openVolume(store, "read", { keys }), told);
      // Where nothing in the container says so, it is damage.
      for (const copy of [0, 1] as const) await store.writeHeader("key", copy, new Uint8Array(4096));
      await assert.rejects(reader.refresh(), kind("damaged"));
    });
    await assert.rejects(opens(store, keyFile), kind("damaged"));
  },
);
