/**
 * Crashes at every moment: a workload is recorded, and every prefix of what the store was told is opened again, with
 * every subset of the writes that no flush covers, and with some of them torn. `COVERFS_SEED` replays one run; the
 * long one is `deno task crash`.
 */
import assert from "node:assert/strict";
import { openLibcrypto } from "../../ffi/libcrypto.ts";
import { HEADER_AT } from "../../fs/block/byte_layout.ts";
import { type CrashImage, crashImages } from "../../fs/block/crash.ts";
import { type Medium, MediumStore } from "../../fs/block/medium.ts";
import { RecordingStore } from "../../fs/block/recording.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { SEALED } from "../../crypto/sealer.ts";
import type { ContainerKeys } from "../../fs/loading.ts";
import { ROOT } from "../../fs/types.ts";
import {
  assertOnlyAdded,
  judgeAll,
  judgeRecovery,
  look,
  type Picture,
  record,
  type Recorded,
  whereIs,
  within,
} from "./crash_judge.ts";
import { Examiner, faultOf } from "./damage.ts";
import { ReadMemo } from "./read_memo.ts";
import { FILE, name, openVolume, pattern, SEED, SUITES, testKeys } from "./fixture.ts";

for (const overlapping of [false, true]) {
  const how = overlapping ? "while commits run" : "one after the other";
  Deno.test(`after a crash at any moment there is a commit, none older than was synced: changes ${how} (seed ${SEED})`, async () => {
    using engine = await openLibcrypto();
    const recorded = await record(SEED, overlapping, await testKeys(SUITES[0], engine));
    const share = Number(Deno.env.get("COVERFS_CRASH_SHARE") ?? 0.3);
    await judgeAll(recorded, { seed: SEED, share });
    const { states, pictures } = recorded;
    assert.ok(pictures.size > 20, `${states.size} states of only ${pictures.size} commits`);
    assert.ok(states.size > 3300 * share, `only ${states.size} states`);
  });
}

/** Some of the states that crashes of a workload leave, evenly spread, as a reader sees them. */
async function someStates(
  keys: ContainerKeys,
  count: number,
): Promise<{ recorded: Recorded; some: { image: CrashImage; picture: Picture }[] }> {
  const recorded = await record(SEED, true, keys), all: CrashImage[] = [];
  for (const image of crashImages(recorded.store, { seed: SEED, modes: ["reordered"] })) all.push(image);
  const some = [];
  for (let i = 0; i < count; i++) {
    const image = all[Math.floor((i + 0.5) * all.length / count)]!;
    some.push({ image, picture: (await recorded.looks.of(image.medium)).picture });
  }
  return { recorded, some };
}

Deno.test(`a writer that recovers a crash may crash at any moment, and the next one too (seed ${SEED})`, async () => {
  using engine = await openLibcrypto();
  const keys = await testKeys(SUITES[0], engine), { recorded, some } = await someStates(keys, 3);
  const states = new Set<number>(), modes = ["subset", "torn", "reordered"] as const;
  for (const { image, picture } of some) {
    await judgeRecovery({ ...image, picture }, keys, whereIs(recorded, image), {
      depth: 2,
      again: 3,
      crashes: { seed: SEED, modes },
      onState: (hash) => states.add(hash),
    });
  }
  assert.ok(states.size > 100, `only ${states.size} states`);
});

/** Opens to write, adds files one by one, each synced, and ends. */
async function addFiles(
  store: BlockStore,
  keys: ContainerKeys,
  { called, seed, checkpoint }: { called: string; seed: number; checkpoint: boolean },
): Promise<void> {
  const writer = await openVolume(store, "write", { atime: "noatime", keys });
  for (let i = 0; i < 4; i++) {
    const ino = writer.create(ROOT, name(`${called}${i}`), FILE);
    await writer.write(ino, 0, pattern(9000, seed + i));
    await writer.fsync(ino);
    if (i === 2 && checkpoint) await writer.checkpoint();
  }
  await writer.end();
}

/** The bytes of one medium with the superblocks of another. */
function withSuperblocks(medium: Medium, of: Medium): Medium {
  const mixed = medium.fork();
  for (const at of HEADER_AT.super) {
    const bytes = new Uint8Array(SEALED);
    of.read(at, bytes);
    mixed.write(at, bytes);
  }
  return mixed;
}

Deno.test(`of two writers that come one after the other from one state, nothing of the lost one is ever taken (seed ${SEED})`, async () => {
  using engine = await openLibcrypto();
  const keys = await testKeys(SUITES[0], engine), { recorded, some } = await someStates(keys, 3);
  const examiner = new Examiner(keys);
  let places = 0;
  for (const { image, picture } of some) {
    const where = whereIs(recorded, image), lost = image.medium.fork();
    // Without a checkpoint, after which blocks may be taken that the state before needs.
    await addFiles(new MediumStore(lost), keys, { called: "lost", seed: 100, checkpoint: false });
    // All that the lost writer wrote lies there still, but the superblocks are those from before.
    const parent = withSuperblocks(lost, image.medium);
    assertOnlyAdded((await look(new MediumStore(parent.fork()), keys)).picture, picture, new Map());
    const store = new RecordingStore(new MediumStore(parent.fork()), {
      initial: parent.toBytes(),
      scribble: true,
    });
    await addFiles(store, keys, { called: "kept", seed: 200, checkpoint: true });
    const added = new Map([0, 1, 2, 3].map((i) => [`/kept${i}`, pattern(9000, 200 + i)]));
    const crashes = { seed: SEED, modes: ["subset", "torn", "reordered"] } as const;
    const looks = new ReadMemo(async (image) => {
      const { picture: seen } = await look(image, keys);
      assertOnlyAdded(seen, picture, added);
      return seen;
    });
    let newest = parent, last: Picture | undefined;
    const earlier = new Map<number, Picture>();
    for (const { medium, ...point } of crashImages(store, crashes)) {
      const seen = await within(`${where}, then ${JSON.stringify(point)}`, () => looks.of(medium));
      newest = medium;
      last = seen;
      earlier.set(seen.commit, seen);
    }
    assert.equal([...added.keys()].filter((path) => last!.files.get(path)?.length === 9000).length, 4);
    // A store that plays back single blocks of the lost branch, each where it was written.
    for (let piece = 32; piece < 32 + 2000; piece++) {
      if (lost.hashOf(piece) === image.medium.hashOf(piece) || lost.hashOf(piece) === newest.hashOf(piece)) {
        continue;
      }
      const spliced = newest.fork();
      spliced.grow(lost.length);
      spliced.share(lost, { position: piece - 32, count: 1 });
      const why = faultOf(await examiner.examine(spliced), { newest: last!, earlier: [...earlier.values()] });
      assert.equal(why, undefined, `${where}: block ${piece - 32} of the lost branch: ${why}`);
      places++;
    }
  }
  assert.ok(places > 20, `only ${places} blocks of lost branches`);
});
