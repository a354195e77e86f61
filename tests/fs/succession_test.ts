/** A writer that another one has replaced. */
import assert from "node:assert/strict";
import type { CoverError } from "../../crypto/errors.ts";
import { StoreDecorator } from "../../fs/block/decorator.ts";
import { RecordingStore } from "../../fs/block/recording.ts";
import { Medium, MediumStore } from "../../fs/block/medium.ts";
import { Fenced, FsError } from "../../fs/errors.ts";
import type { Position } from "../../fs/types.ts";
import { ROOT } from "../../fs/types.ts";
import type { Volume } from "../../fs/volume.ts";
import { spoil } from "./damaged_containers.ts";
import { FILE, inoOf, makeContainer, name, openVolume, pattern } from "./fixture.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };

/** A store whose writer can be replaced. */
class FencingStore extends StoreDecorator {
  readonly #fenced = Promise.withResolvers<Fenced>();
  #reason: Fenced | undefined;

  override get fenced(): Promise<Fenced> {
    return this.#fenced.promise;
  }

  /** From now on nothing can be written by way of this store. */
  fence(): void {
    this.#fenced.resolve(this.#reason = new Fenced("Another writer has taken the container over"));
  }

  override write(position: Position, bytes: Uint8Array): Promise<void> | void {
    return this.#reason ? Promise.reject(this.#reason) : super.write(position, bytes);
  }

  override writeHeader(...header: Parameters<StoreDecorator["writeHeader"]>): Promise<void> | void {
    return this.#reason ? Promise.reject(this.#reason) : super.writeHeader(...header);
  }

  override flush(): Promise<void> {
    return this.#reason ? Promise.reject(this.#reason) : super.flush();
  }
}

/** A writer with a file that is committed, and the medium of its store. */
async function replaceable() {
  const medium = new Medium();
  await makeContainer(new MediumStore(medium));
  const store = new FencingStore(new MediumStore(medium));
  const volume = await openVolume(store, "write", { commitInterval: 3600 });
  const file = volume.create(ROOT, name("file"), FILE);
  volume.hold(file);
  await volume.write(file, 0, pattern(5000, 1));
  await volume.sync();
  return { medium, store, volume, file };
}

/** Resolves when the volume shows what another writer has committed. */
function replaced(volume: Volume): Promise<void> {
  return new Promise((resolve) => volume.onReplaced = () => resolve());
}

const isKind = (kind: string) => (error: unknown) => (error as CoverError).kind === kind;
const isCode = (code: string) => (error: unknown) => error instanceof FsError && error.code === code;

Deno.test(
  "a writer that was replaced with nothing to lose says that it was, and nothing else",
  strict,
  async () => {
    const { store, volume, file } = await replaceable(), shown = replaced(volume);
    store.fence();
    await shown;
    assert.equal(volume.readOnly, true);
    assert.deepEqual(await volume.read(file, 0, 5000), pattern(5000, 1));
    volume.closed(file);
    assert.throws(() => volume.create(ROOT, name("other"), FILE), isCode("EROFS"));
    await assert.rejects(volume.end(), isKind("busy"));
  },
);

Deno.test("a writer that was replaced shows the other's commits, and says what is lost", strict, async () => {
  const { medium, store, volume, file } = await replaceable();
  await volume.write(file, 0, pattern(5000, 2));
  const lost = volume.create(ROOT, name("lost"), FILE);
  await volume.write(lost, 0, pattern(100, 3));
  const shown = replaced(volume);
  const other = await openVolume(new MediumStore(medium), "write");
  const theirs = other.create(ROOT, name("theirs"), FILE);
  assert.equal(theirs, lost, "the id is given again");
  await other.write(theirs, 0, pattern(100, 4));
  await other.sync();
  store.fence();
  await shown;
  assert.equal(volume.lookup(ROOT, name("lost")), undefined);
  assert.deepEqual(await volume.read(inoOf(volume, "/theirs"), 0, 100), pattern(100, 4));
  assert.deepEqual(await volume.read(file, 0, 5000), pattern(5000, 1));
  assert.throws(() => volume.closed(file), isCode("EIO"));
  volume.closed(theirs); // another file than the one that was lost
  await assert.rejects(volume.fsync(file), isCode("EIO"));
  await other.write(theirs, 0, pattern(100, 5));
  await other.end();
  assert.equal(await volume.refresh(), true);
  assert.deepEqual(await volume.read(theirs, 0, 100), pattern(100, 5));
  await assert.rejects(volume.end(), isKind("data-lost"));
});

Deno.test("a successor that has not got what was durable is not followed", strict, async () => {
  const medium = new Medium();
  await makeContainer(new MediumStore(medium));
  const old = medium.fork(), store = new FencingStore(new MediumStore(medium));
  const volume = await openVolume(store, "write", { commitInterval: 3600 });
  volume.create(ROOT, name("file"), FILE);
  await volume.sync();
  medium.write(0, old.toBytes());
  store.fence();
  await Promise.resolve();
  await assert.rejects(volume.refresh(), isKind("rollback"));
  assert.notEqual(volume.lookup(ROOT, name("file")), undefined);
  await assert.rejects(volume.end(), isKind("busy"));
});

Deno.test(
  "a writer that was replaced is told where the journal of the other one is damaged",
  strict,
  async () => {
    const { medium, store, volume } = await replaceable(), shown = replaced(volume), told: string[] = [];
    volume.container.onJournalDamage = (damage) => told.push(damage);
    const recorded = new RecordingStore(new MediumStore(medium)), other = await openVolume(recorded);
    const before = recorded.events.length;
    other.create(ROOT, name("other"), FILE);
    await other.sync();
    const record = recorded.events.slice(before).find((event) => event.kind === "write")!;
    await spoil(new MediumStore(medium), record.position);
    other.create(ROOT, name("another"), FILE);
    await other.sync();
    store.fence();
    await shown;
    assert.deepEqual(told, ["The journal is damaged: commit 2 and later are lost"]);
    await assert.rejects(volume.end(), isKind("busy"));
    await other.end();
  },
);
