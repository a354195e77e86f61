/** Damage in the middle of the journal: what is lost is named, and given up only by a repair. */
import assert from "node:assert/strict";
import { CoverError } from "../../crypto/errors.ts";
import { SEALED } from "../../crypto/sealer.ts";
import { StoreDecorator } from "../../fs/block/decorator.ts";
import { crashImages } from "../../fs/block/crash.ts";
import { RecordingStore } from "../../fs/block/recording.ts";
import { cloneContainer } from "../../fs/clone.ts";
import { checkContainer } from "../../fs/fsck.ts";
import { ChangeLog } from "../../fs/layout/changes.ts";
import { CHUNK_FIRST, JournalReader, JournalWriter } from "../../fs/layout/journal.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { ROOT } from "../../fs/types.ts";
import type { Volume } from "../../fs/volume.ts";
import { check, codesOf, repair, spoil } from "./damaged_containers.ts";
import { equal, FILE, name, openVolume, pattern, ramContainer, SEED, testKeys } from "./fixture.ts";

/** A container of one session with a commit for each file, and where the records of these lie. */
async function commits(count: number, end = true): Promise<{ store: RamStore; records: number[] }> {
  const { base, volume, add } = await written(), records: number[] = [];
  for (let i = 0; i < count; i++) records.push(await add(i));
  if (end) await volume.end();
  else await volume.container.store.flush();
  return { store: base, records };
}

async function assertHolds(volume: Volume, files: number): Promise<void> {
  for (let i = 0; i < files; i++) {
    const bytes = await volume.read(volume.lookup(ROOT, name(`file ${i}`))!, 0, 10_000);
    assert.ok(equal(bytes, pattern(5000, i + 1)), `file ${i}`);
  }
  assert.equal([...volume.list(ROOT)].filter((one) => one.name[0] === 0x66).length, files);
}

function text(names: readonly Uint8Array[] | undefined): string[] {
  return (names ?? []).map((one) => new TextDecoder().decode(one));
}

const CASES:
  readonly (readonly [title: string, count: number, spoiled: readonly number[], readable: string])[] = [
    ["one record", 6, [2], "4 to 6 can still be read"],
    ["two records in a row", 7, [2, 3], "5 to 7 can still be read"],
    ["records here and there", 9, [2, 5], "4 to 5, 7 to 9 can still be read"],
    ["the last record", 4, [3], "commit 4 is lost, it cannot be read"],
    ["the last two records", 5, [3, 4], "commits 4 to 5 are lost, none of them can be read"],
    ["a record before the next chunk's link", 40, [3], "5 to 40 can still be read"],
  ];

for (const [title, count, spoiled, readable] of CASES) {
  Deno.test(`journal: ${title} damaged, after an end in order: what is lost is named, then given up`, async () => {
    const { store, records } = await commits(count), kept = spoiled[0]!;
    for (const one of spoiled) await spoil(store, records[one]!);
    const report = await checkContainer(store, await testKeys());
    const [finding] = report.findings;
    assert.deepEqual(codesOf(report.findings), ["journal"]);
    assert.ok(finding!.message.includes(readable), finding!.message);
    const expected = Array.from({ length: count }, (_, i) => i).filter((i) =>
      i >= kept && !spoiled.includes(i)
    );
    assert.deepEqual(text(finding!.names), expected.map((i) => `/file ${i}`));
    assert.equal(report.lost.at(-1)?.commit, count);
    await assert.rejects(
      openVolume(store),
      (error) => error instanceof CoverError && error.kind === "damaged",
    );
    const { after } = await repair(store);
    assert.deepEqual(after.findings, []);
    const volume = await openVolume(store);
    await assertHolds(volume, kept);
    volume.create(ROOT, name("new"), FILE);
    await volume.end();
    await assertHolds(await openVolume(store, "read"), kept);
    assert.deepEqual(await check(store), []);
  });
}

Deno.test("journal: two damaged records with a good one behind them bar writing, though the segment is open", async () => {
  const { store, records } = await commits(6, false);
  await spoil(store, records[2]!);
  await spoil(store, records[3]!);
  assert.deepEqual(codesOf(await check(store)), ["journal"]);
  await assert.rejects(openVolume(store), (error) => error instanceof CoverError && error.kind === "damaged");
  assert.deepEqual((await repair(store)).after.findings, []);
  await assertHolds(await openVolume(store, "read"), 2);
});

Deno.test("journal: who reads is told of a damaged record with a good one behind it, not of a torn end", async () => {
  const { store, records } = await commits(6, false);
  const damage = async () => (await openVolume(store, "read")).container.notes.journalDamage;
  assert.equal(await damage(), undefined);
  await spoil(store, records[5]!);
  assert.equal(await damage(), undefined, "a crash may leave that");
  await assertHolds(await openVolume(store, "read"), 5);
  await spoil(store, records[2]!);
  assert.match(await damage() ?? "", /^The journal is damaged: commit 3 and later are lost$/);
  await assertHolds(await openVolume(store, "read"), 2);
  const clone = cloneContainer(store, await testKeys(), new RamStore(), {
    encryptionBlock: new Uint8Array(4096),
  });
  await assert.rejects(clone, /Cannot clone container: The journal is damaged/);
});

/** A container with a writer that adds a file, commits it, and tells where the record lies. */
async function written() {
  const base = await ramContainer();
  const store = new RecordingStore(base), volume = await openVolume(store);
  const add = async (i: number): Promise<number> => {
    await volume.write(volume.create(ROOT, name(`file ${i}`), FILE), 0, pattern(5000, i + 1));
    const before = store.events.length;
    await volume.sync();
    return store.events.slice(before).findLast((event) => event.kind === "write")!.position;
  };
  return { base, volume, add };
}

Deno.test("journal: a reader that looks for damage while a writer goes on takes a newer state for none", async () => {
  const { base, volume, add } = await written(), told: string[] = [];
  await add(0);
  let looked = 0;
  class Overtaken extends StoreDecorator {
    override async read(position: number, count: number): Promise<Uint8Array> {
      if (count > 1 && looked++ === 0) { // the rest of the chunk
        const record = await add(1);
        await add(2);
        await volume.checkpoint();
        await spoil(base, record); // nobody needs it any more
      }
      return await super.read(position, count);
    }
  }
  const store = new Overtaken(base);
  looked = 1;
  const reader = await openVolume(store, "read");
  reader.container.onJournalDamage = (damage) => told.push(damage);
  looked = 0;
  assert.equal(await reader.refresh(), false);
  assert.ok(looked > 0);
  assert.deepEqual(told, []);
  assert.equal(await reader.refresh(), true);
  await assertHolds(reader, 3);
  await volume.end();
});

Deno.test("journal: a reader that stays open is told of damage once, and of a repair by silence", async () => {
  const { base, volume, add } = await written(), told: string[] = [];
  await add(0);
  const reader = await openVolume(base, "read"), { container } = reader;
  container.onJournalDamage = (damage) => told.push(damage);
  const refresh = async () => {
    for (let i = 0; i < 20; i++) await reader.refresh();
  };
  await spoil(base, await add(1));
  await refresh();
  assert.deepEqual(told, [], "a crash may leave that");
  await add(2);
  await refresh();
  const open = "The journal is damaged: commit 2 and later are lost";
  assert.deepEqual(told, [open]);
  await add(3);
  await refresh();
  assert.deepEqual([told, container.notes.journalDamage], [[open], open]);
  await volume.end();
  await refresh();
  const closed = "The journal is damaged: the commits 2 to 4 and later are lost";
  assert.deepEqual([told, container.notes.journalDamage], [[open, closed], closed]);
  await assertHolds(reader, 1);
  await repair(base);
  await refresh();
  assert.deepEqual([told.length, container.notes.journalDamage], [2, undefined]);
});

Deno.test("journal: a reader applies nothing of a record that does not decode, nor what follows it", async () => {
  const { base, volume, add } = await written(), told: string[] = [];
  await add(0);
  const reader = await openVolume(base, "read"), { container } = reader;
  container.onJournalDamage = (damage) => told.push(damage);
  const { freeze } = ChangeLog.prototype;
  ChangeLog.prototype.freeze = function (tables, sizeOf) {
    return Uint8Array.of(...freeze.call(this, tables, sizeOf), 0xff);
  };
  try {
    await add(1);
  } finally {
    ChangeLog.prototype.freeze = freeze;
  }
  await add(2);
  for (let i = 0; i < 3; i++) assert.equal(await reader.refresh(), false);
  await assertHolds(reader, 1);
  assert.deepEqual(told, [
    `The journal is damaged: commit ${container.last + 1} and later cannot be decoded`,
  ]);
  assert.deepEqual(container.notes.journalDamage, told[0]);
  await volume.checkpoint();
  await volume.checkpoint();
  assert.equal(await reader.refresh(), true);
  await assertHolds(reader, 3);
  assert.deepEqual([told.length, container.notes.journalDamage], [1, undefined]);
  await volume.end();
});

Deno.test("journal: what a writer adds while somebody looks for damage is none", async () => {
  const store = new RamStore(), { sealer } = await testKeys(), hash = new Uint8Array(32);
  const session = { id: new Uint8Array(16).fill(3), generation: 1 };
  const chunk = { position: 0, count: CHUNK_FIRST, first: 1 };
  const allocate = () => Promise.reject(new Error("one chunk is enough"));
  const writer = new JournalWriter(store, sealer, { session, chunk, hash, allocate });
  const reader = new JournalReader(store, sealer, { session, chunk, commit: 1, hash });
  await writer.append(1, name("one"));
  assert.ok(await reader.next());
  assert.equal(await reader.next(), undefined);
  for (const [i, text] of ["two", "three", "four"].entries()) await writer.append(i + 2, name(text));
  assert.equal(await reader.damaged(), false);
  assert.deepEqual((await reader.next())?.payload, name("two"));
  await spoil(store, 4);
  assert.equal(await reader.next(), undefined);
  assert.equal(await reader.damaged(), true);
});

Deno.test("journal: damage of a session leads to the loss of the sessions after it", async () => {
  const { store, records } = await commits(3);
  for (let i = 3; i < 6; i++) {
    const volume = await openVolume(store);
    await volume.write(volume.create(ROOT, name(`file ${i}`), FILE), 0, pattern(5000, i + 1));
    await volume.end();
  }
  await spoil(store, records[1]!);
  const [finding] = await check(store);
  assert.match(finding!.message, /commits 2 to 6 are lost, 3 to 6 can still be read/);
  assert.deepEqual(text(finding!.names), ["/file 2", "/file 3", "/file 4", "/file 5"]);
  assert.deepEqual((await repair(store)).after.findings, []);
  const volume = await openVolume(store);
  await assertHolds(volume, 1);
  await volume.end();
});

Deno.test("journal: damage that only the previous checkpoint would need costs nothing", async () => {
  const base = await ramContainer();
  const store = new RecordingStore(base), volume = await openVolume(store);
  const add = async (i: number) => {
    await volume.write(volume.create(ROOT, name(`file ${i}`), FILE), 0, pattern(5000, i + 1));
    await volume.sync();
  };
  await add(0);
  await volume.checkpoint();
  await add(1);
  const record = store.events.findLast((event) => event.kind === "write" && event.bytes.length === SEALED)!;
  assert.equal(record.kind, "write");
  await volume.checkpoint();
  await add(2);
  await volume.end();
  await spoil(base, (record as { position: number }).position);
  const found = await check(base);
  assert.deepEqual(codesOf(found), ["checkpoint"]);
  assert.match(
    found.find(({ code }) => code === "checkpoint")!.message,
    /^The journal before the newest checkpoint/,
  );
  assert.deepEqual((await repair(base)).after.findings, []);
  await assertHolds(await openVolume(base, "read"), 3);
});

Deno.test(`journal: giving up lost commits may be interrupted at any moment (seed ${SEED})`, async () => {
  const { store: base, records } = await commits(6);
  await spoil(base, records[2]!);
  const store = new RecordingStore(base, { initial: base.toBytes(), scribble: true });
  await repair(store);
  for (const image of crashImages(store, { seed: SEED })) {
    const crashed = RamStore.fromBytes(image.medium.toBytes());
    assert.deepEqual(
      codesOf((await repair(crashed)).after.findings),
      [],
      `event ${image.events} ${image.mode}`,
    );
    const volume = await openVolume(crashed);
    await assertHolds(volume, 2);
    await volume.end();
  }
});
