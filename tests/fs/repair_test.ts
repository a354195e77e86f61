/** Each kind of damage: what a check finds, what a repair leaves, and that all that was whole is as it was. */
import assert from "node:assert/strict";
import { crashImages } from "../../fs/block/crash.ts";
import { OverlayStore } from "../../fs/block/overlay.ts";
import { RecordingStore } from "../../fs/block/recording.ts";
import type { ChangeLog } from "../../fs/layout/changes.ts";
import type { Tables } from "../../fs/layout/tables.ts";
import type { DamagedData } from "../../fs/repair.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { type Ino, inodeNumber, ROOT, S_IFIFO, S_IFLNK } from "../../fs/types.ts";
import type { Volume } from "../../fs/volume.ts";
import {
  assertFiles,
  blocksOfFile,
  check,
  codesOf,
  contentOf,
  corrupt,
  FILES,
  pathsOf,
  repair,
  spoil,
  treeStore,
} from "./damaged_containers.ts";
import { equal, inoOf, name, openVolume, SEED, testKeys } from "./fixture.ts";
import { readSuperblock } from "../../fs/loading.ts";

const ALL = Object.keys(FILES);
const ignore = () => {};

/** A container that is damaged, and what is expected of it. */
interface Damage {
  readonly title: string;
  /** Makes the damage with the key: by a record, and again by a checkpoint with the same tables. */
  readonly change?: (tables: Tables, log: ChangeLog, find: (path: string) => Ino) => void;
  /** Makes the damage without keys. */
  readonly edit?: (store: RamStore) => Promise<void>;
  readonly codes: readonly string[];
  /** The codes where it was made by a record, if others: replaying does more than writing down. */
  readonly replayed?: readonly string[];
  /** Default, `keep`. */
  readonly damaged?: DamagedData;
  /** Files that must be whole afterwards under their names; default, all. */
  readonly whole?: readonly string[];
  /** What else must be so afterwards. */
  readonly then?: (volume: Volume) => Promise<void> | void;
}

/** The superblock's pointers, to know where a checkpoint lies. */
async function superblockOf(store: RamStore) {
  return (await readSuperblock(store, await testKeys())).superblock;
}

const without = (...paths: string[]) => ALL.filter((path) => !paths.includes(path));

async function lostFile(volume: Volume, ino: Ino, path: string): Promise<void> {
  const found = inoOf(volume, `/lost+found/#${inodeNumber(ino)}`);
  assert.ok(equal(await volume.read(found, 0, 1 << 20), contentOf(path)), "found with its content");
}

const DAMAGES: readonly Damage[] = [
  {
    title: "superblock A",
    edit: (store) => Promise.resolve(store.writeHeader("super", 0, new Uint8Array(4128).fill(1))),
    codes: ["superblock"],
  },
  {
    title: "superblock B",
    edit: (store) => Promise.resolve(store.writeHeader("super", 1, new Uint8Array(4128))),
    codes: ["superblock"],
  },
  {
    title: "the newest checkpoint's index",
    edit: async (store) => await spoil(store, (await superblockOf(store)).current.runs[0]!.position),
    codes: ["checkpoint"],
  },
  {
    title: "the previous checkpoint's index",
    edit: async (store) => await spoil(store, (await superblockOf(store)).previous!.runs[0]!.position),
    codes: ["checkpoint"],
  },
  {
    title: "a table of the newest checkpoint",
    edit: async (store) => await spoil(store, (await superblockOf(store)).current.runs[0]!.position - 1),
    codes: ["checkpoint"],
  },
  {
    title: "a link count that is too high",
    change: ({ inodes }, log, find) => {
      inodes.nlink[find("/a")] = 7;
      log.inode(find("/a"));
    },
    codes: ["links"],
    then: (volume) => assert.equal(volume.attributes(inoOf(volume, "/a")).nlink, 1),
  },
  {
    title: "a file with a name and no links",
    change: ({ inodes }, log, find) => {
      inodes.nlink[find("/a")] = 0;
      log.inode(find("/a"));
    },
    codes: ["links"],
  },
  {
    title: "a file without a name",
    change: ({ dentries }, log) => {
      dentries.remove(dentries.find(ROOT, name("a")));
      log.removeEntry(ROOT, name("a"));
    },
    codes: ["orphan"],
    whole: without("/a"),
    then: (volume) => lostFile(volume, volume.lookup(inoOf(volume, "/lost+found"), name("#2"))!, "/a"),
  },
  {
    title: "a directory without a name",
    change: ({ dentries }, log) => {
      dentries.remove(dentries.find(ROOT, name("folder")));
      log.removeEntry(ROOT, name("folder"));
    },
    codes: ["links", "orphan"],
    whole: ["/a", "/b", "/other/e"],
    then: async (volume) => {
      const [folder] = [...volume.list(inoOf(volume, "/lost+found"))];
      assert.match(new TextDecoder().decode(folder!.name), /^#\d+$/);
      const c = volume.lookup(folder!.ino, name("c"))!;
      assert.ok(equal(await volume.read(c, 0, 1 << 20), contentOf("/folder/c")));
    },
  },
  {
    title: "an entry that names nothing",
    change: ({ dentries }, log) => {
      dentries.insert(ROOT, name("nothing"), 900);
      log.entry(ROOT, name("nothing"), 900, false);
    },
    codes: ["entry"],
    then: (volume) => assert.equal(volume.lookup(ROOT, name("nothing")), undefined),
  },
  {
    title: "an entry in a file",
    change: ({ dentries, inodes }, log, find) => {
      dentries.insert(find("/a"), name("below"), find("/b"));
      log.entry(find("/a"), name("below"), find("/b"), false);
      inodes.nlink[find("/b")] = 2;
      log.inode(find("/b"));
    },
    codes: ["entry", "links"],
  },
  {
    title: "entries called . and ..",
    change: ({ dentries, inodes }, log, find) => {
      for (const dots of [".", ".."]) {
        dentries.insert(find("/other"), name(dots), find("/b"));
        log.entry(find("/other"), name(dots), find("/b"), false);
      }
      inodes.nlink[find("/b")] = 3;
      log.inode(find("/b"));
    },
    codes: ["entry", "links"],
  },
  {
    title: "a directory with two names",
    change: ({ dentries, inodes }, log, find) => {
      dentries.insert(find("/other"), name("twice"), find("/folder"), { directory: true });
      log.entry(find("/other"), name("twice"), find("/folder"), true);
      inodes.nlink[find("/other")]!++;
      log.inode(find("/other"));
    },
    codes: ["entry"],
  },
  {
    title: "an entry that takes a directory for a file",
    change: ({ dentries }, log, find) => {
      const slot = dentries.find(ROOT, name("folder"));
      dentries.setIno(slot, find("/folder"), { directory: false });
      log.entry(ROOT, name("folder"), find("/folder"), false);
    },
    codes: ["entry"],
  },
  {
    title: "a circle of directories",
    change: ({ dentries, inodes }, log, find) => {
      const folder = find("/folder"), inner = find("/folder/inner");
      dentries.remove(dentries.find(ROOT, name("folder")));
      log.removeEntry(ROOT, name("folder"));
      dentries.insert(inner, name("folder"), folder, { directory: true });
      log.entry(inner, name("folder"), folder, true);
      inodes.nlink[inner]!++;
      inodes.nlink[ROOT]!--;
      log.inode(inner);
      log.inode(ROOT);
    },
    codes: ["cycle"],
    whole: ["/a", "/b", "/other/e"],
    then: (volume) => {
      const paths = pathsOf(volume);
      for (const file of ["/c", "/d"]) {
        assert.ok(paths.some((path) => path.startsWith("/lost+found/") && path.endsWith(file)));
      }
    },
  },
  {
    title: "the root is not there",
    change: (tables, log) => {
      tables.inodes.remove(ROOT);
      log.removeInode(ROOT, 0);
    },
    codes: ["entry", "orphan", "root"],
  },
  {
    title: "an inode of no type",
    change: ({ inodes, extents }, log, find) => {
      inodes.mode[find("/a")] = 0o644;
      log.inode(find("/a"));
      extents.each(find("/a"), (...extent) => log.extent(find("/a"), ...extent));
    },
    codes: ["type"],
  },
  {
    title: "a symlink without a target",
    change: ({ inodes, dentries }, log) => {
      const ino = inodes.allocate();
      inodes.mode[ino] = S_IFLNK | 0o777;
      inodes.nlink[ino] = 1;
      log.inode(ino);
      dentries.insert(ROOT, name("link"), ino);
      log.entry(ROOT, name("link"), ino, false);
    },
    codes: ["target"],
    then: (volume) => assert.equal(volume.lookup(ROOT, name("link")), undefined),
  },
  {
    title: "attributes of an inode that is not there",
    change: ({ inodes }, log) => {
      inodes.xattrs.set(700, new Map([["user.x", name("y")]]));
      log.xattr(700, name("user.x"), name("y"));
    },
    codes: ["attribute"],
  },
  {
    title: "data past a file's size",
    change: ({ inodes }, log, find) => {
      inodes.size[find("/a")] = 5000;
      log.inode(find("/a"));
    },
    codes: ["extent"],
    whole: without("/a"),
    then: async (volume) =>
      assert.ok(equal(await volume.read(inoOf(volume, "/a"), 0, 1 << 20), contentOf("/a").subarray(0, 5000))),
  },
  {
    title: "data of what is no file",
    change: ({ inodes, extents }, log) => {
      const ino = inodes.allocate();
      inodes.mode[ino] = S_IFIFO | 0o600;
      log.inode(ino);
      extents.set(ino, 0, 100, 5000, 1, ignore);
      log.extent(ino, 0, 100, 5000, 1);
    },
    codes: ["extent"],
  },
  {
    title: "data of an inode that is not there",
    change: ({ extents }, log, find) => {
      const a = find("/a");
      let first = { position: 0, birth: 0 };
      extents.each(a, (_offset, _length, position, birth) => {
        first = { position, birth };
      });
      extents.clear(a, ignore);
      log.truncate(a, 0);
      extents.set(800, 0, 20_000, first.position, first.birth, ignore);
      log.extent(800, 0, 20_000, first.position, first.birth);
    },
    codes: ["extent"],
    replayed: ["orphan", "type"],
    whole: without("/a"),
    then: (volume) => lostFile(volume, 800, "/a"),
  },
  {
    title: "two files with the same blocks",
    change: ({ extents }, log, find) => {
      const from = find("/folder/inner/d"), to = find("/a");
      const copy: [number, number, number, number][] = [];
      extents.each(from, (...extent) => void copy.push(extent));
      const [, , position, birth] = copy[0]!;
      extents.set(to, 4096, 8192, position + 2, birth, ignore);
      log.extent(to, 4096, 8192, position + 2, birth);
    },
    codes: ["overlap"],
    whole: without("/a"),
    then: async (volume) => {
      const a = await volume.read(inoOf(volume, "/a"), 4096, 8192);
      assert.ok(equal(a, contentOf("/folder/inner/d").subarray(8192, 16384)), "both have the content");
      assert.ok(equal(await volume.read(inoOf(volume, "/a"), 0, 4096), contentOf("/a").subarray(0, 4096)));
    },
  },
  {
    title: "two files with the same blocks, of which one is not meant",
    change: ({ extents }, log, find) => {
      const to = find("/a");
      let place = 0;
      extents.each(find("/b"), (_offset, _length, position) => {
        place = position;
      });
      extents.set(to, 0, 8192, place, 1, ignore);
      log.extent(to, 0, 8192, place, 1);
    },
    codes: ["data", "overlap"],
    damaged: "zero",
    whole: without("/a"),
  },
  {
    title: "an extent behind the container's end",
    change: ({ extents }, log, find) => {
      extents.set(find("/b"), 4096, 4904, 2 ** 40, 3, ignore);
      log.extent(find("/b"), 4096, 4904, 2 ** 40, 3);
    },
    codes: ["extent"],
    damaged: "zero",
    whole: without("/b"),
    then: async (volume) => {
      const b = await volume.read(inoOf(volume, "/b"), 0, 1 << 20);
      assert.ok(
        equal(b.subarray(0, 4096), contentOf("/b").subarray(0, 4096)) &&
          b.subarray(4096).every((x) => x === 0),
      );
    },
  },
  {
    title: "blocks of a file, which are zeroed",
    edit: async (store) => await spoil(store, (await blocksOfFile(store, "/folder/inner/d"))[3]!, 2),
    codes: ["data"],
    damaged: "zero",
    whole: without("/folder/inner/d"),
    then: async (volume) => {
      const expected = contentOf("/folder/inner/d").slice().fill(0, 3 * 4096, 5 * 4096);
      assert.ok(equal(await volume.read(inoOf(volume, "/folder/inner/d"), 0, 1 << 20), expected));
    },
  },
  {
    title: "the last block of a file, which is removed",
    edit: async (store) => await spoil(store, (await blocksOfFile(store, "/b")).at(-1)!),
    codes: ["data"],
    damaged: "remove",
    whole: without("/b"),
    then: (volume) => assert.equal(volume.lookup(ROOT, name("b")), undefined),
  },
];

async function damagedStore({ change, edit }: Damage, checkpoint: boolean): Promise<RamStore> {
  const store = await treeStore();
  if (change) await corrupt(store, change, { checkpoint });
  await edit?.(store);
  return store;
}

for (const damage of DAMAGES) {
  for (const checkpoint of damage.change ? [false, true] : [false]) {
    const how = checkpoint ? ", in a checkpoint too" : "";
    Deno.test(`repair: ${damage.title}${how}`, async () => {
      const store = await damagedStore(damage, checkpoint), before = store.toBytes();
      const found = await check(store);
      assert.deepEqual(codesOf(found), checkpoint ? damage.codes : damage.replayed ?? damage.codes);
      assert.ok(found.every(({ severity, remedy }) => (severity === "note") === (remedy === "none")));
      const planned = await repair(new OverlayStore(store), { damaged: damage.damaged });
      assert.ok(equal(store.toBytes(), before), "trying it changed the container");
      const { mended, after } = await repair(store, { damaged: damage.damaged });
      assert.deepEqual(planned.mended, mended, "what was planned is what was done");
      assert.deepEqual(after.findings, []);
      const volume = await openVolume(store);
      await assertFiles(volume, damage.whole ?? ALL);
      await damage.then?.(volume);
      await volume.end();
      assert.deepEqual(await check(store), []);
    });
  }
}

Deno.test("repair: a container that is whole is not touched", async () => {
  const store = await treeStore(), before = store.toBytes();
  const { mended } = await repair(store, { damaged: "zero" });
  assert.deepEqual(mended, []);
  assert.ok(equal(store.toBytes(), before));
});

Deno.test("repair: damaged data stays as it is until it is given up, and reading it fails", async () => {
  const store = await treeStore();
  await spoil(store, (await blocksOfFile(store, "/a"))[1]!);
  await store.writeHeader("super", 0, new Uint8Array(4128));
  const { after } = await repair(store);
  assert.deepEqual(codesOf(after.findings), ["data"]);
  const [finding] = after.findings;
  assert.deepEqual([finding!.from, finding!.to, finding!.remedy], [4096, 8192, "discard"]);
  const volume = await openVolume(store), a = inoOf(volume, "/a");
  await assert.rejects(async () => await volume.read(a, 4096, 10), /verify/);
  assert.ok(equal(await volume.read(a, 8192, 4096), contentOf("/a").subarray(8192, 12288)));
  await volume.end();
});

/** With which probability a moment without an acknowledged flush is taken. */
const SHARE = Number(Deno.env.get("COVERFS_CRASH_SHARE") ?? 0.05);

Deno.test(`repair: interrupted at any moment, it can be begun anew (seed ${SEED})`, async () => {
  let images = 0;
  for (const damage of DAMAGES) {
    const base = await damagedStore(damage, false);
    const store = new RecordingStore(base, { initial: base.toBytes(), scribble: true });
    await repair(store, { damaged: damage.damaged });
    for (const image of crashImages(store, { seed: SEED, share: SHARE })) {
      const where = `${damage.title}, event ${image.events} of ${store.events.length}, ${image.mode}`;
      const crashed = RamStore.fromBytes(image.medium.toBytes());
      const { after } = await repair(crashed, { damaged: damage.damaged });
      assert.deepEqual(codesOf(after.findings), [], where);
      const volume = await openVolume(crashed);
      await assertFiles(volume, damage.whole ?? ALL, where);
      await volume.end();
      images++;
    }
  }
  assert.ok(images > 10 * DAMAGES.length);
});

Deno.test("a repair asks what it may write on, before anything is written", async () => {
  const store = await treeStore();
  await store.writeHeader("super", 0, new Uint8Array(4128).fill(1));
  const recorded = new RecordingStore(store),
    check = () => {
      throw new Error("went back");
    };
  await assert.rejects(repair(recorded, { check }), /went back/);
  assert.equal(recorded.events.length, 0);
});
