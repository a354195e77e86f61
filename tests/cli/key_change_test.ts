/** Changes of the encryption block: crashes at each of their writes, and readers that go on meanwhile. */
import assert from "node:assert/strict";
import { findSlot, refuseLabel, storeEncryption } from "../../cli/key_change.ts";
import {
  addSlot,
  type ChangedBlock,
  createSealer,
  type EncryptionHeader,
  newestEncryptionBlock,
  removeSlot,
  replaceSlot,
  type Secret,
  type SecretBytes,
  unlockEncryptionBlock,
} from "../../crypto/mod.ts";
import { CoverError } from "../../crypto/errors.ts";
import { crashImages } from "../../fs/block/crash.ts";
import { Medium, MediumStore } from "../../fs/block/medium.ts";
import { RecordingStore } from "../../fs/block/recording.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { createContainer } from "../../fs/creating.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { keyFile, kind, makeBlock, passphrase, TEST_LIMITS } from "../crypto/blocks.ts";
import { FILE, name, openVolume, SEED } from "../fs/fixture.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const another: Secret = { kind: "passphrase", text: "battery staple" };
const session = () => crypto.getRandomValues(new Uint8Array(16));

async function newest(store: BlockStore) {
  return await newestEncryptionBlock(
    await store.readHeader("key", 0),
    await store.readHeader("key", 1),
    TEST_LIMITS,
  );
}

async function keysOf(header: EncryptionHeader, masterKeys: ReadonlyMap<number, SecretBytes>) {
  const { suite, containerId, generation, sequence } = header;
  return {
    containerId,
    sealer: await createSealer({ suite, containerId, keys: masterKeys }),
    generation,
    keySequence: sequence,
  };
}

/** A container with a file, that a passphrase and a key file open. */
async function container(): Promise<RamStore> {
  const store = new RamStore(), made = await makeBlock([passphrase, keyFile]);
  const keys = await keysOf(made.header, new Map([[1, made.masterKey]]));
  await createContainer(store, keys, { uid: 0, gid: 0, mode: 0o755 });
  for (const copy of [0, 1] as const) store.writeHeader("key", copy, made.bytes);
  await store.flush();
  const volume = await openVolume(store, "write", { keys });
  volume.create(0, name("file"), FILE);
  await volume.end();
  return store;
}

/** Opens by a secret, to write, and looks for the file. */
async function opens(store: BlockStore, secret: Secret): Promise<void> {
  const { header } = await newest(store);
  using unlocked = await unlockEncryptionBlock(header, secret);
  const volume = await openVolume(store, "write", { keys: await keysOf(header, unlocked.masterKeys) });
  assert.deepEqual([...volume.list(0)].map((entry) => new TextDecoder().decode(entry.name)), ["file"]);
  await volume.end();
}

const refuses = (store: BlockStore, secret: Secret) =>
  assert.rejects(opens(store, secret), kind("wrong-passphrase"));

type Change = (header: EncryptionHeader, key: SecretBytes) => Promise<ChangedBlock>;

/** Changes, what opened before and not after, and the other way round. */
const CHANGES: [name: string, change: Change, gone: Secret[], come: Secret[]][] = [
  [
    "a changed passphrase",
    (header, key) => replaceSlot(header, key, { slot: another, index: 0, rounds: 20 }),
    [
      passphrase,
    ],
    [another],
  ],
  ["a new slot", (header, key) => addSlot(header, key, { slot: another, rounds: 20 }), [], [another]],
  ["a removed slot", (header, key) => removeSlot(header, key, 0), [passphrase], []],
];

/** Makes the change with the container recorded; `first` copy older, as a crash may have left it, where that is given. */
async function recorded(change: Change, first?: 0 | 1): Promise<RecordingStore> {
  const base = await container();
  if (first !== undefined) base.writeHeader("key", first, new Uint8Array(4096));
  await base.flush();
  const initial = base.toBytes(), store = new RecordingStore(RamStore.fromBytes(initial), { initial });
  const found = await newest(store);
  using unlocked = await unlockEncryptionBlock(found.header, keyFile);
  const changed = await change(found.header, unlocked.masterKeys.get(1)!);
  const keys = await keysOf(found.header, unlocked.masterKeys);
  await storeEncryption(store, { newest: found.copy, changed, keys, session: session() });
  return store;
}

for (const [what, change, gone, come] of CHANGES) {
  Deno.test(
    `${what}: a crash at any write leaves the slots before or the new ones, whole`,
    strict,
    async () => {
      for (const damaged of [undefined, 0, 1] as const) {
        const recording = await recorded(change, damaged), seen = new Set<number>();
        const old = (await newest(new MediumStore(Medium.fromBytes(recording.initial)))).header.sequence;
        for (
          const image of crashImages(recording, {
            seed: SEED,
            modes: ["subset", "torn", "reordered"],
            variants: 2,
          })
        ) {
          const store = new MediumStore(image.medium), { sequence } = (await newest(store)).header;
          assert(sequence === old || sequence === old + 1);
          seen.add(sequence);
          await opens(store, keyFile);
          for (const secret of sequence === old ? gone : come) await opens(store, secret);
          for (const secret of sequence === old ? come : gone) await refuses(store, secret);
        }
        assert.equal(seen.size, 2);
        assert.equal((await newest(recording)).other, "same");
      }
    },
  );
}

Deno.test(
  "a removed slot is nowhere in the container, and its block cannot be played back",
  strict,
  async () => {
    const recording = await recorded((header, key) => removeSlot(header, key, 0));
    const before = new MediumStore(Medium.fromBytes(recording.initial)),
      store = RamStore.fromBytes(recording.initial);
    const old = await before.readHeader("key", 0), salt = old.slice(512 + 16, 512 + 48);
    const medium = Medium.fromBytes(recording.initial);
    for (const event of recording.events) {
      if (event.kind === "header") await store.writeHeader(event.region, event.copy, event.bytes);
      if (event.kind === "write") await store.write(event.position, event.bytes);
    }
    await store.flush();
    const holds = (bytes: Uint8Array) =>
      new TextDecoder("latin1").decode(bytes).includes(new TextDecoder("latin1").decode(salt));
    assert(holds(medium.toBytes()));
    assert(!holds(store.toBytes()));
    await refuses(store, passphrase);
    for (const copy of [0, 1] as const) await store.writeHeader("key", copy, old);
    await assert.rejects(opens(store, passphrase), kind("rollback", /an older one played back/));
  },
);

Deno.test("a reader that has the container open goes on when a key slot changes", strict, async () => {
  const store = await container(), { header, copy } = await newest(store);
  using unlocked = await unlockEncryptionBlock(header, keyFile);
  const reader = await openVolume(store, "read", { keys: await keysOf(header, unlocked.masterKeys) });
  const changed = await removeSlot(header, unlocked.masterKeys.get(1)!, 1); // by which the reader came in
  const keys = await keysOf(header, unlocked.masterKeys);
  await storeEncryption(store, { newest: copy, changed, keys, session: session() });
  const writer = await openVolume(store, "write", {
    keys: { ...keys, keySequence: changed.header.sequence },
  });
  writer.create(0, name("other"), FILE);
  await writer.end();
  assert.equal(await reader.refresh(), true);
  assert.equal([...reader.list(0)].length, 2);
});

Deno.test("a slot is named by its number or by a label that no other has", strict, async () => {
  const { header } = await makeBlock([
    { ...passphrase, label: "mine" },
    { ...keyFile, label: "twice" },
    { ...another, label: "twice" },
    another,
  ]);
  assert.deepEqual(["0", "mine", "2", "3"].map((one) => findSlot(header, one)), [0, 0, 2, 3]);
  for (const wrong of ["4", "-1", "", "none", "twice", "1e0", "9999999999999999999"]) {
    assert.throws(() => findSlot(header, wrong), kind("usage"), wrong);
  }
  for (const wrong of ["7", "123", "mine"]) assert.throws(() => refuseLabel(header, wrong), CoverError);
  for (const right of ["", "my laptop", "7a"]) refuseLabel(header, right);
});
