/**
 * Rules of commits that random crashes meet seldom or never: the order of what a store is told, and what holds against
 * somebody who may write to it.
 */
import assert from "node:assert/strict";
import { BLOCK, Kind, SEALED } from "../../crypto/sealer.ts";
import { StoreDecorator } from "../../fs/block/decorator.ts";
import { RecordingStore, type StoreEvent } from "../../fs/block/recording.ts";
import { Container } from "../../fs/container.ts";
import { checkContainer } from "../../fs/fsck.ts";
import { CHUNK_FIRST, JournalReader, JournalWriter, RECORD_MAX } from "../../fs/layout/journal.ts";
import { loadState } from "../../fs/loading.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { ROOT, S_IFLNK, SECONDS_MAX } from "../../fs/types.ts";
import { equal, FILE, makeContainer, name, openVolume, pattern, ramContainer, testKeys } from "./fixture.ts";
import { isCover } from "../errors.ts";

Deno.test("a record that does not carry the hash of the one before is not read", async () => {
  const store = new RamStore(), { sealer } = await testKeys();
  const session = { id: new Uint8Array(16).fill(3), generation: 1 };
  const chunk = { position: 0, count: CHUNK_FIRST, first: 1 }, hash = new Uint8Array(32);
  const writer = () =>
    new JournalWriter(store, sealer, { session, chunk, hash, allocate: () => Promise.reject(new Error()) });
  const reader = () => new JournalReader(store, sealer, { session, chunk, commit: 1, hash });

  const first = writer();
  await first.append(1, name("one"));
  await first.append(2, name("two"));
  const whole = reader();
  assert.deepEqual((await whole.next())?.payload, name("one"));
  assert.deepEqual((await whole.next())?.payload, name("two"));

  // Another first record of the same session, at the same place and of the same number: it verifies by itself.
  await writer().append(1, name("another one"));
  const forked = reader();
  assert.deepEqual((await forked.next())?.payload, name("another one"));
  assert.equal(await forked.next(), undefined);
  assert.equal(forked.commit, 2);

  const elsewhere = new JournalReader(store, sealer, {
    session,
    chunk,
    commit: 1,
    hash: new Uint8Array(32).fill(1),
  });
  assert.equal(await elsewhere.next(), undefined);
});

Deno.test("changes that are longer than a record are refused, as nobody would read it", async () => {
  const store = new RamStore(), { sealer } = await testKeys();
  const session = { id: new Uint8Array(16).fill(3), generation: 1 }, chunk = { position: 0, count: 300 };
  const hash = new Uint8Array(32), allocate = () => Promise.reject(new Error());
  const writer = new JournalWriter(store, sealer, { session, chunk, hash, allocate });
  await assert.rejects(writer.append(1, new Uint8Array(RECORD_MAX + 1)), /longer than a record/);
  await writer.append(1, new Uint8Array(RECORD_MAX));
  const reader = new JournalReader(store, sealer, { session, chunk, commit: 1, hash });
  assert.equal((await reader.next())?.payload.length, RECORD_MAX);
});

Deno.test("data of more files than a record has room for is committed in several", async () => {
  const store = new RamStore(), files = 15_000;
  await makeContainer(store);
  const volume = await openVolume(store, "write", { commitInterval: 1000 });
  // All numbers of their inodes take the most bytes. Their names are committed, their data is not yet.
  const time = { seconds: -SECONDS_MAX, nanoseconds: 1 };
  for (let i = 0; i < files; i++) {
    const ino = volume.create(ROOT, name(`f${i}`), { ...FILE, uid: 0xffff_fffe, gid: 0xffff_fffe });
    await volume.write(ino, 0, name(`content of ${i}`));
    volume.setAttributes(ino, { atime: time, mtime: time, ctime: time });
    if (i % 500 === 499) await volume.fsync(ROOT);
  }
  await volume.sync();
  await volume.end();
  const again = await openVolume(store, "read");
  assert.equal(again.container.notes.journalDamage, undefined);
  for (const i of [0, 5_000, files - 1]) {
    const ino = again.lookup(ROOT, name(`f${i}`))!, content = name(`content of ${i}`);
    assert.deepEqual(await again.read(ino, 0, 100), content);
  }
});

/** Flushes when it is let. */
class HeldFlush extends StoreDecorator {
  held: Promise<void> | undefined;

  override async flush(): Promise<void> {
    await this.held;
    await super.flush();
  }
}

Deno.test("access times of more than a record has room for do not break a commit that takes its time", async () => {
  const store = new HeldFlush(new RamStore()), links: number[] = [];
  await makeContainer(store);
  const volume = await openVolume(store), spec = { ...FILE, mode: S_IFLNK | 0o777, target: name("x") };
  for (let i = 0; i < 25_000; i++) {
    await volume.admit();
    links.push(volume.create(ROOT, name(`l${i}`), { ...spec, uid: 0xffff_fffe, gid: 0xffff_fffe }));
  }
  await volume.sync();
  const held = Promise.withResolvers<void>();
  store.held = held.promise;
  volume.setAttributes(ROOT, { mode: 0o700 });
  const syncing = volume.fsync(ROOT);
  for (const link of links) volume.readlink(link);
  held.resolve();
  await syncing;
  await volume.sync();
  await volume.end();
  assert.equal((await openVolume(store, "read")).container.notes.journalDamage, undefined);
});

Deno.test("changes that waited for room in the record are not all let in at once when there is some", async () => {
  const store = new HeldFlush(new RamStore()), value = new Uint8Array(60_000);
  await makeContainer(store);
  const volume = await openVolume(store);
  const files = Array.from({ length: 40 }, (_, i) => volume.create(ROOT, name(`f${i}`), FILE));
  await volume.sync();
  const held = Promise.withResolvers<void>();
  store.held = held.promise;
  volume.setAttributes(ROOT, { mode: 0o700 });
  const syncing = volume.fsync(ROOT);
  const changing = files.map(async (ino) => {
    const admitted = volume.admit();
    if (admitted) await admitted;
    volume.setXattr(ino, name("user.x"), value);
  });
  held.resolve();
  await Promise.all([syncing, ...changing]);
  await volume.end();
  const again = await openVolume(store, "read");
  for (const ino of files) assert.deepEqual(again.getXattr(ino, name("user.x")), value);
});

for (const damaged of [0, 1] as const) {
  Deno.test(`with superblock slot ${damaged} damaged, it is made good and durable before the other is touched`, async () => {
    const base = await ramContainer();
    await base.writeHeader("super", damaged, new Uint8Array(SEALED).fill(0xee));
    const store = new RecordingStore(base), volume = await openVolume(store);
    const slots = store.events.filter((event) => event.kind === "header").map((event) => event.copy);
    assert.deepEqual(slots, [damaged, 1 - damaged]);
    const [first, second] = headersAt(store.events);
    assert.ok(flushed(store.events, first!, second!), "no flush between the slots");
    await volume.end();
  });
}

Deno.test("what a killed writer left is made durable before the superblock counts on it", async () => {
  const base = await ramContainer();
  const killed = await openVolume(base);
  await killed.write(killed.create(ROOT, name("f"), FILE), 0, pattern(5000));
  await killed.sync();
  const store = new RecordingStore(RamStore.fromBytes(base.toBytes())), volume = await openVolume(store);
  const first = store.events.findIndex((event) => event.kind === "header");
  assert.ok(store.events.slice(0, first).some((event) => event.kind === "flush-acknowledged"));
  await volume.end();
  await killed.end();
});

Deno.test("a checkpoint is durable before a superblock names it, though nothing is left to commit", async () => {
  const base = await ramContainer();
  const store = new RecordingStore(base), volume = await openVolume(store);
  await volume.write(volume.create(ROOT, name("f"), FILE), 0, pattern(5000));
  await volume.sync();
  const before = store.events.length;
  await volume.checkpoint();
  const events = store.events.slice(before), named = headersAt(events)[0]!;
  const written = events.slice(0, named).findLastIndex((event) => event.kind === "write");
  assert.ok(written >= 0, "no checkpoint was written");
  assert.ok(flushed(events, written, named), "the checkpoint was not flushed");
  await volume.end();
});

Deno.test("much data is durable before the record that names it is written, and that before sync() resolves", async () => {
  const base = await ramContainer();
  const store = new RecordingStore(base), volume = await openVolume(store);
  await volume.write(volume.create(ROOT, name("f"), FILE), 0, pattern(65 * 4096));
  const before = store.events.length;
  await volume.sync();
  const events = store.events.slice(before);
  const written = [...events.keys()].filter((i) => events[i]!.kind === "write");
  const record = written.pop()!, data = written.pop()!;
  assert.ok(flushed(events, data, record), "the data was not flushed before the record");
  assert.ok(flushed(events, record, events.length), "the record was not flushed");
  await volume.end();
});

Deno.test("a commit never records a size whose data is not written", async () => {
  const store = await ramContainer();
  const volume = await openVolume(store);
  const grown = volume.create(ROOT, name("grown"), FILE), other = volume.create(ROOT, name("other"), FILE);
  await volume.write(grown, 0, pattern(5000));
  await volume.sync();
  await volume.write(grown, 5000, pattern(20_000, 2));
  await volume.write(other, 0, pattern(100));
  await volume.fsync(other);
  const reader = await openVolume(store, "read"); // what a crash now would leave
  assert.equal(reader.attributes(other).size, 100);
  assert.equal(reader.attributes(grown).size, 5000);
  assert.deepEqual(await reader.read(grown, 0, 30_000), pattern(5000));
  await volume.end();
});

Deno.test("a damaged record with a good one behind it bars writing: acknowledged commits would be lost", async () => {
  const base = await ramContainer();
  const store = new RecordingStore(base), volume = await openVolume(store);
  volume.create(ROOT, name("one"), FILE);
  const before = store.events.length;
  await volume.sync();
  const record = store.events.slice(before).findLast((event) => event.kind === "write")!;
  volume.create(ROOT, name("two"), FILE);
  await volume.sync();
  await base.write(record.position, new Uint8Array(SEALED).fill(0xee));
  assert.equal((await openVolume(base, "read")).lookup(ROOT, name("one")), undefined);
  await assert.rejects(openVolume(base), isCover("damaged"));
  await volume.end();
});

Deno.test("an encryption block that is older than the superblock says is refused", async () => {
  const store = await ramContainer();
  const keys = { ...await testKeys(), keySequence: 0 };
  await assert.rejects(Container.open(store, keys, { mode: "read" }), isCover("rollback"));
});

/** A container in which one small commit was made, without a flush between data and record. */
async function smallCommit() {
  const base = await ramContainer();
  const store = new RecordingStore(base), volume = await openVolume(store), before = store.events.length;
  await volume.write(volume.create(ROOT, name("f"), FILE), 0, pattern(5000));
  await volume.sync();
  const events = store.events.slice(before), flushes = events.filter(({ kind }) => kind === "flush-begin");
  const data = events.find((event) => event.kind === "write")!;
  return { base, volume, flushes, data };
}

/** The container's bytes with a block replaced. */
async function withBlock(base: RamStore, position: number, bytes: Uint8Array): Promise<RamStore> {
  const copy = RamStore.fromBytes(base.toBytes());
  await copy.write(position, bytes);
  return copy;
}

Deno.test("a small commit takes one flush, and after a crash it counts only if its data arrived", async () => {
  const { base, volume, flushes, data } = await smallCommit();
  assert.equal(flushes.length, 1);
  const whole = await openVolume(RamStore.fromBytes(base.toBytes()), "read");
  assert.deepEqual(await whole.read(whole.lookup(ROOT, name("f"))!, 0, 5000), pattern(5000));

  const lost = await withBlock(base, data.position + 1, new Uint8Array(SEALED));
  const reader = await openVolume(lost, "read");
  assert.equal(reader.lookup(ROOT, name("f")), undefined);
  assert.deepEqual((await checkContainer(lost, await testKeys(), { scrub: true })).findings, []);
  const writer = await openVolume(lost);
  await writer.write(writer.create(ROOT, name("g"), FILE), 0, pattern(100));
  await writer.end();
  assert.deepEqual((await checkContainer(lost, await testKeys(), { scrub: true })).findings, []);
  await volume.end();
});

Deno.test("a small commit that another one follows counts though its blocks are others by now", async () => {
  const { base, volume, data } = await smallCommit();
  const file = volume.lookup(ROOT, name("f"))!;
  await volume.write(file, 0, pattern(5000, 2)); // elsewhere: the first blocks are free then
  await volume.sync();
  volume.create(ROOT, name("g"), FILE);
  await volume.sync();
  const reused = await withBlock(base, data.position, new Uint8Array(2 * SEALED).fill(0xdb));
  const reader = await openVolume(reused, "read");
  assert.deepEqual(await reader.read(reader.lookup(ROOT, name("f"))!, 0, 5000), pattern(5000, 2));
  assert.notEqual(reader.lookup(ROOT, name("g")), undefined);
  await volume.end();
});

Deno.test("a small commit does not rest on a block that it has itself replaced: that may be used again at once", async () => {
  const base = await ramContainer();
  const store = new RecordingStore(base), volume = await openVolume(store, "write", { dirtyBytes: 4096 });
  const file = volume.create(ROOT, name("f"), FILE), other = volume.create(ROOT, name("g"), FILE);
  const before = store.events.length;
  await volume.write(file, 0, pattern(4096));
  await volume.write(other, 0, pattern(4096)); // there is room for one dirty page: the first one is written
  await volume.write(file, 0, pattern(4096, 2));
  const replaced = store.events.slice(before).find((event) => event.kind === "write")!.position;
  await volume.sync();
  const reused = await withBlock(base, replaced, new Uint8Array(SEALED).fill(0xdb));
  const reader = await openVolume(reused, "read");
  assert.deepEqual(await reader.read(reader.lookup(ROOT, name("f"))!, 0, 4096), pattern(4096, 2));
  await volume.end();
});

Deno.test("a small commit behind which the session ended needs no proof: its damaged data is damage", async () => {
  const { base, volume, data } = await smallCommit();
  await volume.end();
  const damaged = await withBlock(base, data.position, new Uint8Array(SEALED));
  const reader = await openVolume(damaged, "read"), file = reader.lookup(ROOT, name("f"))!;
  assert.equal(reader.attributes(file).size, 5000);
  await assert.rejects(async () => await reader.read(file, 0, 5000), isCover("integrity"));
});

Deno.test("a record with a flag that this version does not know is refused", async () => {
  const { base, volume } = await smallCommit(), keys = await testKeys();
  const { sessions } = volume.container.superblock, { id, generation, head, first } = sessions[0]!;
  const run = { session: id, generation, position: head, birth: first, kind: Kind.journal };
  const sealed = base.read(head, 1), plain = new Uint8Array(BLOCK);
  await keys.sealer.unseal(run, sealed, plain);
  plain[36]! |= 2;
  await keys.sealer.seal(run, plain, sealed);
  await assert.rejects(
    async () => await openVolume(await withBlock(base, head, sealed), "read"),
    isCover("unsupported"),
  );
  await volume.end();
});

Deno.test("a superblock names no chunk of journal that was given back, however many checkpoints a session writes", async () => {
  const store = await ramContainer();
  const volume = await openVolume(store);
  for (let checkpoint = 0; checkpoint < 4; checkpoint++) {
    volume.create(ROOT, name(`f${checkpoint}`), FILE);
    await volume.sync();
    await volume.checkpoint();
    const { found: { superblock: { sessions, previous } }, chunks } = await loadState(
      store,
      await testKeys(),
    );
    const { head, headBlocks, headCommit } = sessions[0]!;
    const named = chunks.find(({ position }) => position === head);
    assert.deepEqual(named, { position: head, count: headBlocks, first: headCommit });
    assert.ok(headCommit <= previous!.start + 1, "the previous checkpoint needs an earlier chunk");
  }
  await volume.end();
});

/** Where the superblock was written. */
function headersAt(events: readonly StoreEvent[]): number[] {
  return [...events.keys()].filter((i) => events[i]!.kind === "header");
}

/** Tells whether a flush began after one event and was acknowledged before another. */
function flushed(events: readonly StoreEvent[], after: number, before: number): boolean {
  const between = events.slice(after + 1, before);
  return between.some((begin) =>
    begin.kind === "flush-begin" &&
    between.some((end) => end.kind === "flush-acknowledged" && end.flush === begin.flush)
  );
}

Deno.test("sessions that were killed before they committed hide no other one from those who read", async () => {
  const store = new RamStore(), files: number[] = [];
  await makeContainer(store);
  const write = async (checkpoint: boolean) => {
    const writer = await openVolume(store), ino = writer.create(ROOT, name(`file ${files.length}`), FILE);
    await writer.write(ino, 0, pattern(5000, ino));
    await writer.sync();
    if (checkpoint) await writer.checkpoint();
    await writer.end();
    files.push(ino);
  };
  for (let round = 0; round < 8; round++) {
    await write(false);
    await openVolume(store); // killed at once
    await write(true);
    const reader = await openVolume(store, "read");
    for (const one of files) {
      assert.ok(equal(await reader.read(one, 0, 5000), pattern(5000, one)), `round ${round}, file ${one}`);
    }
  }
});
