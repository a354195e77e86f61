/** Random operations through the decorator and on a plain model beside it: what differs is what was asked for. */
import assert from "node:assert/strict";
import { FsError } from "../../fs/errors.ts";
import type { AttributeChanges, Attributes, Filesystem } from "../../fs/filesystem.ts";
import { OwnerOverride, type OwnerOverrideOptions } from "../../fs/owner_override.ts";
import { ROOT, S_IFMT } from "../../fs/types.ts";
import { MemoryFilesystem } from "../model/memory_filesystem.ts";
import { FILE, FOLDER, name, openVolume, ramContainer, randomNumbers } from "./fixture.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const seed = Number(Deno.env.get("COVERFS_SEED") ?? crypto.getRandomValues(new Uint32Array(1))[0]! % 1e9);

/** What a file is, without its times and the room that it takes. */
const plain = ({ mode, uid, gid, nlink, size }: Attributes) => ({ mode, uid, gid, nlink, size });

/** The result, or the name of the errno. */
function attempt<T>(work: () => T): T | string {
  try {
    return work();
  } catch (error) {
    if (error instanceof FsError) return error.code;
    throw error;
  }
}

/** Does random operations on both; the model holds what is to be stored. */
function compare(shown: Filesystem, stored: Filesystem, model: Filesystem, own: OwnerOverrideOptions): void {
  const random = randomNumbers(seed), masked = own.umask ?? 0, names = [..."abcdef"].map(name);
  for (let step = 0; step < 600; step++) {
    const which = names[random(names.length)]!, other = names[random(names.length)]!;
    const ids = [shown, model].map((on) => on.lookup(ROOT, which));
    switch (random(6)) {
      case 0:
      case 1: {
        const spec = { ...(random(3) ? FILE : FOLDER), uid: random(3), gid: random(3) };
        spec.mode = spec.mode & S_IFMT | random(0o10000);
        const made = [shown, model].map((on) => attempt(() => void on.create(ROOT, which, spec)));
        assert.equal(made[0], made[1]);
        break;
      }
      case 2: {
        const moved = [shown, model].map((on) => attempt(() => on.rename(ROOT, which, ROOT, other)));
        assert.equal(moved[0], moved[1]);
        break;
      }
      case 3: {
        const gone = [shown, model].map((on) => attempt(() => on.unlink(ROOT, which)));
        assert.equal(gone[0], gone[1]);
        break;
      }
      default: {
        if (ids[0] === undefined || ids[1] === undefined) break;
        const changes: { -readonly [K in keyof AttributeChanges]: AttributeChanges[K] } = {};
        if (random(2)) changes.mode = random(0o10000);
        if (random(2)) changes.uid = random(3);
        if (random(2)) changes.gid = random(3);
        const done = attempt(() => void shown.setAttributes(ids[0]!, changes));
        const refused = (["uid", "gid"] as const).some((one) =>
          own[one] !== undefined && changes[one] !== undefined && changes[one] !== own[one]
        );
        assert.equal(done, refused ? "EPERM" : undefined);
        if (refused) break;
        if (own.uid !== undefined) delete changes.uid;
        if (own.gid !== undefined) delete changes.gid;
        if (changes.mode !== undefined) {
          for (let bit = 1; bit <= 0o400; bit *= 2) {
            if ((masked & bit) === 0) continue;
            changes.mode = changes.mode & ~bit | model.attributes(ids[1]).mode & bit;
          }
        }
        model.setAttributes(ids[1], changes);
      }
    }
    for (const one of names) {
      const ino = shown.lookup(ROOT, one), same = model.lookup(ROOT, one);
      assert.equal(ino === undefined, same === undefined);
      if (ino === undefined || same === undefined) continue;
      const expected = plain(model.attributes(same));
      assert.deepEqual(plain(stored.attributes(ino)), expected, `stored, step ${step}`);
      assert.deepEqual(
        plain(shown.attributes(ino)),
        {
          ...expected,
          mode: expected.mode & ~masked,
          uid: own.uid ?? expected.uid,
          gid: own.gid ?? expected.gid,
        },
        `shown, step ${step}`,
      );
    }
  }
}

for (const own of [{}, { uid: 1 }, { gid: 2 }, { umask: 0o027 }, { uid: 0, gid: 1, umask: 0o777 }]) {
  Deno.test(
    `with ${JSON.stringify(own)} the owners shown differ from those stored (seed ${seed})`,
    strict,
    async () => {
      const memory = new MemoryFilesystem();
      compare(new OwnerOverride(memory, own), memory, new MemoryFilesystem(), own);
      const store = await ramContainer();
      await using volume = await openVolume(store);
      compare(new OwnerOverride(volume, own), volume, new MemoryFilesystem(), own);
    },
  );
}

Deno.test("contents, names and attributes pass an owner override unchanged", strict, async () => {
  const memory = new MemoryFilesystem(), shown = new OwnerOverride(memory, { uid: 7, umask: 0o077 });
  const ino = shown.create(ROOT, name("file"), FILE);
  shown.hold(ino);
  await shown.write(ino, 0, name("content"));
  assert.deepEqual(await shown.read(ino, 0, 100), await memory.read(ino, 0, 100));
  assert.equal(await shown.copy(ino, 0, ino, 4096, 7), 7);
  await shown.allocate(ino, 0, 10_000, 0);
  assert.equal(shown.attributes(ino).size, 10_000);
  assert.equal(shown.seek(ino, 0, "data"), 0);
  shown.setXattr(ino, name("user.x"), name("y"));
  assert.deepEqual(shown.listXattr(ino), [name("user.x")]);
  assert.deepEqual(shown.getXattr(ino, name("user.x")), name("y"));
  shown.removeXattr(ino, name("user.x"));
  assert.equal(shown.getXattr(ino, name("user.x")), undefined);
  shown.link(ino, ROOT, name("second"));
  assert.deepEqual([...shown.list(ROOT)].map((entry) => entry.ino), [ino, ino]);
  const link = shown.create(ROOT, name("link"), { mode: 0o120777, uid: 1, gid: 1, target: name("file") });
  assert.deepEqual(shown.readlink(link), name("file"));
  assert.equal(shown.create(ROOT, name("folder"), FOLDER), shown.lookup(ROOT, name("folder")));
  shown.rmdir(ROOT, name("folder"));
  assert.equal(shown.parent(ROOT), ROOT);
  assert.equal(shown.newest(ROOT), memory.newest(ROOT));
  await shown.fsync(ino);
  assert.equal(await shown.sync(), await memory.sync() - 1);
  assert.deepEqual(shown.statistics(), memory.statistics());
  shown.closed(ino);
  shown.drop(ino);
  assert.equal(shown.attributes(shown.createUnnamed(FILE)).uid, 7);
  assert.equal(shown.readOnly, false);
  assert.equal(shown.admit(), memory.admit());
});
