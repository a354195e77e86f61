/** A reader that goes on to newer commits is not led back to older ones, whatever the store now holds. */
import assert from "node:assert/strict";
import { CoverError } from "../../crypto/errors.ts";
import { SEALED } from "../../crypto/sealer.ts";
import { blockOffset, blocksIn, HEADER_AT } from "../../fs/block/byte_layout.ts";
import { StoreDecorator } from "../../fs/block/decorator.ts";
import { RecordingStore } from "../../fs/block/recording.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { Container } from "../../fs/container.ts";
import { readSuperblock } from "../../fs/loading.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { type Position, ROOT } from "../../fs/types.ts";
import { FILE, makeContainer, name, openVolume, ramContainer, testKeys } from "./fixture.ts";
import { isCover } from "../errors.ts";

/** What an attacker does who has kept an older copy: puts it back under a store that is in use. */
async function playBack(store: RamStore, image: Uint8Array): Promise<void> {
  for (const copy of [0, 1] as const) {
    const at = HEADER_AT.super[copy];
    await store.writeHeader("super", copy, image.slice(at, at + SEALED));
  }
  const blocks = blocksIn(image.length);
  await store.write(0, image.slice(blockOffset(0), blockOffset(blocks)));
}

/** Commits one new file, in a session of its own or in several. */
async function addFile(store: RamStore, file: string, sessions = 1): Promise<void> {
  for (let session = 1; session <= sessions; session++) {
    const volume = await openVolume(store);
    volume.create(ROOT, name(`${file}.${session}`), FILE);
    await volume.end();
  }
}

Deno.test("refresh() refuses a superblock that is older than the one that was read", async () => {
  const store = await ramContainer();
  await addFile(store, "old");
  const older = store.toBytes();
  await addFile(store, "new");
  const reader = await openVolume(store, "read");
  assert.equal(await reader.refresh(), false);
  await playBack(store, older);
  await assert.rejects(reader.refresh(), isCover("rollback"));
  assert.ok(reader.lookup(ROOT, name("new.1")) !== undefined, "what was read stays as it was");
});

Deno.test("refresh() refuses an older superblock though it leads to the newest commit", async () => {
  const store = await ramContainer();
  const writer = await openVolume(store);
  writer.create(ROOT, name("f"), FILE);
  await writer.sync();
  const older = [await store.readHeader("super", 0), await store.readHeader("super", 1)];
  await writer.checkpoint();
  const reader = await openVolume(store, "read");
  await store.writeHeader("super", 0, older[0]!);
  await store.writeHeader("super", 1, older[1]!);
  assert.ok((await openVolume(store, "read")).lookup(ROOT, name("f")) !== undefined);
  await assert.rejects(reader.refresh(), isCover("rollback"));
  await writer.end();
});

Deno.test("refresh() refuses a history that no longer holds what the reader opened with", async () => {
  const store = await ramContainer();
  await addFile(store, "old");
  const older = store.toBytes();
  await addFile(store, "new");
  const reader = await openVolume(store, "read");
  // Somebody else goes on from the older state; the superblock's sequence passes the one that was read.
  await playBack(store, older);
  await addFile(store, "other", 3);
  await assert.rejects(reader.refresh(), isCover("rollback"));
  assert.ok(reader.lookup(ROOT, name("new.1")) !== undefined, "what was read stays as it was");
});

Deno.test("refresh() refuses a history that no longer holds what the reader has followed since", async () => {
  const store = await ramContainer();
  const writer = await openVolume(store);
  writer.create(ROOT, name("first"), FILE);
  await writer.sync();
  const reader = await openVolume(store, "read"), older = store.toBytes();
  for (const file of ["second", "third"]) {
    writer.create(ROOT, name(file), FILE);
    await writer.sync();
    assert.equal(await reader.refresh(), true);
  }
  await writer.end();
  await playBack(store, older);
  await addFile(store, "other", 3);
  await assert.rejects(reader.refresh(), isCover("rollback"));
  assert.ok(reader.lookup(ROOT, name("third")) !== undefined, "what was read stays as it was");
});

/** Does something once, when it is first asked for a certain block, before it answers. */
class Interrupted extends StoreDecorator {
  readonly #at: Position;
  #first: (() => Promise<void>) | undefined;

  constructor(base: BlockStore, at: Position, first: () => Promise<void>) {
    super(base);
    this.#at = at;
    this.#first = first;
  }

  override async read(position: Position, count: number): Promise<Uint8Array> {
    if (position === this.#at) {
      const first = this.#first;
      this.#first = undefined;
      await first?.();
    }
    return await super.read(position, count);
  }
}

for (const ended of [false, true]) {
  const state = ended ? "ended" : "open";
  Deno.test(`a writer that uses blocks again while they are read is no rollback and no damage: its session is ${state}`, async () => {
    const store = new RamStore(), keys = await testKeys();
    await makeContainer(store);
    let writer = await openVolume(store), files = 0;
    const commit = async () => {
      const ino = writer.create(ROOT, name(`file ${files++}`), FILE);
      await writer.write(ino, 0, new Uint8Array(100_000).fill(files));
      await writer.sync();
    };
    for (let i = 0; i < 5; i++) await commit();
    if (ended) {
      await writer.end();
      writer = await openVolume(store);
    }
    const point = writer.container.durable!, journal = writer.container.superblock.sessions[0]!.head;
    let judged = 0;
    const goOn = async () => {
      for (let i = 0; i < 3; i++) await commit(), await writer.checkpoint();
      for (let i = 0; i < 10; i++) await commit();
    };
    const reader = await Container.open(new Interrupted(store, journal, goOn), keys, {
      mode: "read",
      check: (loaded) => {
        judged++;
        if (!loaded.contains(point)) throw new CoverError("rollback", "older");
      },
    });
    assert.equal(judged, 2, "blocks were used again");
    assert.equal(reader.notes.journalDamage, undefined);
    assert.equal(reader.last, writer.container.last);
    await writer.end();
  });
}

Deno.test("who opens to write judges what is written on, before anything is", async () => {
  const store = await ramContainer();
  await addFile(store, "old");
  const older = store.toBytes();
  await addFile(store, "new");
  const point = (await openVolume(store, "read")).container.durable!;
  const open = (recorded: RecordingStore) =>
    Container.open(recorded, keys, {
      mode: "write",
      session: new Uint8Array(16).fill(5),
      check: (loaded) => {
        if (!loaded.contains(point)) throw new CoverError("rollback", "older");
      },
    });
  const keys = await testKeys();
  await (await open(new RecordingStore(store))).session.end();
  await playBack(store, older);
  const recorded = new RecordingStore(store);
  await assert.rejects(open(recorded), isCover("rollback"));
  assert.equal(recorded.events.length, 0, "nothing was written");
});

Deno.test("a session behind damage of the journal is not in the history, though the superblock knows it", async () => {
  const store = new RamStore(), keys = await testKeys();
  await makeContainer(store);
  await addFile(store, "first");
  await addFile(store, "second");
  const { container } = await openVolume(store, "read"), point = container.durable!;
  assert.ok(container.contains(point));
  const { superblock: { sessions } } = await readSuperblock(store, keys);
  await store.write(sessions[sessions.length - 2]!.head, new Uint8Array(SEALED));
  const damaged = await openVolume(store, "read");
  assert.equal(damaged.lookup(ROOT, name("second.1")), undefined);
  assert.equal(damaged.container.contains(point), false);
});
