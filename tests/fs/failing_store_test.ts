/**
 * Files that are written, cut and punched at the same time, over a store that takes its time and fails at some moment:
 * what fsync and sync have acknowledged is there after a crash before or after the failure, nothing is torn, and the
 * end of the session does not say that all is well.
 */
import assert from "node:assert/strict";
import { CoverError } from "../../crypto/errors.ts";
import { CachedStore } from "../../fs/block/cache.ts";
import { crashImage, type CrashMode } from "../../fs/block/crash.ts";
import { StoreDecorator } from "../../fs/block/decorator.ts";
import { FaultStore } from "../../fs/block/fault.ts";
import { Medium, MediumStore } from "../../fs/block/medium.ts";
import { RecordingStore } from "../../fs/block/recording.ts";
import type { BlockStore, StoreTraits } from "../../fs/block/store.ts";
import { breathe } from "../../fs/clock.ts";
import { FsError } from "../../fs/errors.ts";
import { checkContainer } from "../../fs/fsck.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../../fs/filesystem.ts";
import { type Ino, ROOT } from "../../fs/types.ts";
import type { Volume } from "../../fs/volume.ts";
import { FILE, makeContainer, name, openVolume, randomNumbers, SEED, testKeys } from "./fixture.ts";

const PAGE = 4096, PAGES = 40, STEPS = 25, ROUNDS = 16, IMAGES = 8;
const MODES: readonly CrashMode[] = ["kept", "dropped", "torn", "reordered", "subset"];
type Random = (n: number) => number;

/** Takes short runs, and its time. */
class LazyStore extends StoreDecorator {
  readonly #random: Random;
  readonly #runBlocks: number;

  constructor(base: BlockStore, random: Random) {
    super(base);
    this.#random = random;
    this.#runBlocks = 1 + random(30);
  }

  override get traits(): StoreTraits {
    return { ...super.traits, runBlocks: this.#runBlocks };
  }

  async #wait(): Promise<void> {
    for (let turns = this.#random(6); turns > 0; turns--) await breathe();
  }

  override write(position: number, bytes: Uint8Array): Promise<void> | void {
    const written = super.write(position, bytes);
    return this.#random(3) === 0 ? Promise.resolve(written).then(() => this.#wait()) : written;
  }

  override async flush(): Promise<void> {
    await this.#wait();
    await super.flush();
  }

  override async reserve(blocks: number): Promise<void> {
    await this.#wait();
    await super.reserve(blocks);
  }
}

/** What a file has been: the number of the write that each page is of, 0 for none, and how many pages it had. */
interface State {
  readonly pages: number[];
  size: number;
}

/** A file, and all states that it has had; none before `synced` may be found after a crash. */
interface Written {
  readonly ino: Ino;
  readonly now: State;
  readonly states: State[];
  synced: number;
}

/** Each page is whole, and of one of these states; so is the size, or between two. */
function assertOneOf(states: readonly State[], bytes: Uint8Array): void {
  const sizes = states.map(({ size }) => size), size = bytes.length / PAGE;
  assert.ok(size >= Math.min(...sizes) && size <= Math.max(...sizes), `${size} pages, not ${sizes}`);
  for (let page = 0; page < size; page++) {
    const content = new Uint32Array(bytes.slice(page * PAGE, (page + 1) * PAGE).buffer), number = content[0]!;
    assert.ok(content.every((one) => one === number), `page ${page} is torn`);
    const possible = states.map(({ pages, size }) => page < size ? pages[page] : 0);
    assert.ok(possible.includes(number), `page ${page} is of write ${number}, not of ${possible}`);
  }
}

/** Does something to a file; tells whether its state is another one then. */
async function step(volume: Volume, file: Written, random: Random, count: () => number): Promise<boolean> {
  const { ino, now } = file, what = random(20), page = random(PAGES);
  if (what < 10) {
    const end = Math.min(PAGES, page + 1 + random(random(3) > 0 ? 3 : 30)), number = count();
    await volume.admit();
    await volume.write(
      ino,
      page * PAGE,
      new Uint8Array(new Uint32Array((end - page) * PAGE / 4).fill(number).buffer),
    );
    now.pages.fill(number, page, end);
    now.size = Math.max(now.size, end);
  } else if (what < 12) {
    volume.setAttributes(ino, { size: page * PAGE });
    now.pages.fill(0, page);
    now.size = page;
  } else if (what < 14) {
    const end = Math.min(PAGES, page + 1 + random(5)), mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    await volume.allocate(ino, page * PAGE, (end - page) * PAGE, mode);
    now.pages.fill(0, page, end);
  } else if (what < 18) {
    const synced = file.states.length - 1;
    await (random(3) === 0 ? volume.sync() : volume.fsync(ino));
    file.synced = Math.max(file.synced, synced);
    return false;
  } else if (what === 18) {
    await volume.checkpoint();
    return false;
  } else {
    assertOneOf([now], await volume.read(ino, 0, now.size * PAGE));
    await breathe();
    return false;
  }
  return true;
}

/** Goes through one history. @returns how many fsyncs were acknowledged, and whether the store failed */
async function live(seed: number): Promise<{ acknowledged: number; failed: boolean }> {
  const random = randomNumbers(seed), base = new MediumStore(new Medium());
  await makeContainer(base);
  const recorded = new RecordingStore(new MediumStore(base.medium), { initial: base.medium.toBytes() });
  const store = new FaultStore(new LazyStore(recorded, random));
  const volume = await openVolume(random(2) ? new CachedStore(store, { bytes: 60 * 4128 }) : store, "write", {
    dirtyBytes: (20 + random(100)) * PAGE,
    commitInterval: random(2) ? 0.003 : 1000,
  });
  const files = Array.from({ length: 3 }, (_, i): Written => {
    const first = { pages: new Array(PAGES).fill(0), size: 0 };
    return {
      ino: volume.create(ROOT, name(`f${i}`), FILE),
      now: structuredClone(first),
      states: [first],
      synced: 0,
    };
  });
  await volume.sync();
  const broken = new Error("the disk failed"), failure = { nth: 1 + random(100), error: broken };
  const at = random(3);
  if (at > 0) store.fail({ ...failure, at: at === 1 ? "write" : "flush", late: at === 1 && random(2) === 0 });
  /** Moments of a crash: how many events there were, and what then must be there. */
  const moments: { events: number; synced: number[] }[] = [];
  const moment = () =>
    moments.push({ events: recorded.events.length, synced: files.map(({ synced }) => synced) });
  let number = 0;
  const using = files.map(async (file) => {
    for (let i = 0; i < STEPS; i++) {
      const before = file.synced;
      if (await step(volume, file, random, () => ++number)) file.states.push(structuredClone(file.now));
      else if (file.synced > before) moment();
    }
  });
  if (random(4) === 0) using.push(breathe().then(() => volume.compact()).then(() => {}));
  const results = await Promise.allSettled(using), acknowledged = moments.length;
  const errors = results.flatMap((one) => one.status === "rejected" ? [one.reason] : []);
  for (const error of errors) {
    if (error !== broken && !(error instanceof CoverError || error instanceof FsError)) throw error;
  }
  moment();
  const ended = await volume.end().then(() => true, () => false);
  if (ended) { for (const file of files) file.synced = file.states.push(structuredClone(file.now)) - 1; }
  else await assert.rejects(store.flush(), "the end of the session fails, and the store does not");
  moment();
  for (let image = 0; image < IMAGES; image++) {
    const which = image === 0 ? moments.length - 1 : random(moments.length),
      { events: from, synced } = moments[which]!;
    const events = from + random((moments[which + 1]?.events ?? recorded.events.length) - from + 1);
    const point = {
      events,
      mode: MODES[random(MODES.length)]!,
      seed: random(1e9),
      sector: 512,
      garbage: "own",
    } as const;
    const { medium } = crashImage(recorded, point), left = new MediumStore(medium);
    const { findings } = await checkContainer(left, await testKeys(), { scrub: true });
    assert.deepEqual(findings.filter(({ severity }) => severity === "damage"), []);
    const again = await openVolume(left);
    for (const [i, { ino, states, now }] of files.entries()) {
      const bytes = await again.read(ino, 0, again.attributes(ino).size);
      assertOneOf([...states.slice(synced[i]), now], bytes);
    }
    await again.end();
  }
  return { acknowledged, failed: !ended };
}

Deno.test(`what was acknowledged outlives a store that fails, whenever that is (seed ${SEED})`, async () => {
  let acknowledged = 0, failed = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const lived = await live(SEED + round).catch((cause) => {
      throw new Error(`With seed ${SEED + round}`, { cause });
    });
    acknowledged += lived.acknowledged;
    if (lived.failed) failed++;
  }
  assert.ok(
    acknowledged > ROUNDS && failed > 0 && failed < ROUNDS,
    `${acknowledged} acknowledged, ${failed} failed`,
  );
});
