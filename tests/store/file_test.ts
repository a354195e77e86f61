import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { join } from "node:path";
import { Broken, FsError } from "../../fs/errors.ts";
import { openFileStore } from "../../fs/store/file.ts";
import { lockContainer } from "../../fs/store/file_lock.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { STORE_BEDS } from "./beds.ts";
import { sealedBlocks, storeSuite } from "./conformance.ts";
import { HAS_SYMLINKS, WINDOWS } from "../platform.ts";
import { isCover } from "../errors.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const BLOCK0 = 131072, SEALED = 4128;

function temporaryFolder(): AsyncDisposable & { path: string } {
  const path = Deno.makeTempDirSync({ prefix: "coverfs-test-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

const maxBytes = (blocks: number) => BLOCK0 + blocks * SEALED;

storeSuite("file", STORE_BEDS.file, { persistent: true });

Deno.test("the file has the layout of the format, and only its owner may read it", strict, async () => {
  await using folder = temporaryFolder();
  const path = join(folder.path, "container"), ram = new RamStore();
  await using store = await openFileStore(path, "create");
  for (const one of [store, ram]) {
    await one.write(1, sealedBlocks(3, 1));
    await one.writeHeader("key", 0, new Uint8Array(4096).fill(1));
    await one.writeHeader("super", 0, new Uint8Array(4128).fill(2));
    await one.writeHeader("key", 1, new Uint8Array(4096).fill(3));
    await one.writeHeader("super", 1, new Uint8Array(4128).fill(4));
  }
  await store.flush();
  assert(Buffer.from(await Deno.readFile(path)).equals(ram.toBytes()));
  if (Deno.build.os !== "windows") assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
});

Deno.test(
  "create never overwrites: not a file, an empty one, a folder or a dangling link",
  strict,
  async () => {
    await using folder = temporaryFolder();
    const at = (name: string) => join(folder.path, name);
    await Deno.writeTextFile(at("text"), "dear diary");
    await Deno.writeTextFile(at("empty"), "");
    await Deno.mkdir(at("folder"));
    if (HAS_SYMLINKS) await Deno.symlink(at("nowhere"), at("link"));
    for (const name of ["text", "empty", "folder", ...HAS_SYMLINKS ? ["link"] : []]) {
      await assert.rejects(openFileStore(at(name), "create"), isCover("failure", /there is something/));
    }
    assert.equal(await Deno.readTextFile(at("text")), "dear diary");
    await assert.rejects(Deno.stat(at("nowhere")), Deno.errors.NotFound);
    await assert.rejects(openFileStore(at("none/container"), "create"), isCover("no-such-path"));
  },
);

Deno.test("what is not there or not a file is told apart", strict, async () => {
  await using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  await Deno.writeTextFile(at("text"), "");
  for (const mode of ["read", "write"] as const) {
    await assert.rejects(openFileStore(at("none"), mode), isCover("no-container"));
    await assert.rejects(openFileStore(at("text/none"), mode), isCover("no-container"));
    await assert.rejects(openFileStore(folder.path, mode), isCover("damaged", /not a file/));
    const device = WINDOWS ? "NUL" : "/dev/null";
    await assert.rejects(openFileStore(device, mode), isCover(WINDOWS ? "failure" : "damaged"));
  }
  await assert.rejects(Deno.stat(at("none")), Deno.errors.NotFound, "opening creates nothing");
});

Deno.test("a pipe is refused at once", { ...strict, ignore: WINDOWS }, async () => {
  await using folder = temporaryFolder();
  const path = join(folder.path, "pipe");
  assert((await new Deno.Command("mkfifo", { args: [path] }).output()).success);
  await assert.rejects(openFileStore(path, "read"), isCover("damaged"));
});

Deno.test("the holder of the lock is named, and a reader needs none", strict, async () => {
  await using folder = temporaryFolder();
  const path = join(folder.path, "container");
  await using store = await openFileStore(path, "create");
  await store.write(0, sealedBlocks(1, 1));
  const who = Deno.build.os === "linux" ? new RegExp(`process ${Deno.pid} `) : /another process/;
  await assert.rejects(openFileStore(path, "write"), isCover("busy", who));
  await using reader = await openFileStore(path, "read");
  assert.equal(await reader.size(), 1);
  await store.write(1, sealedBlocks(1, 1));
  assert.equal(await reader.size(), 2);
  assert.equal(await reader.refresh(), true);
  await store.close();
  await using second = await openFileStore(path, "write");
  assert.equal(await second.refresh(), false);
});

Deno.test("a lock on a file beside goes with who has it, and is nobody else's", {
  ...strict,
  ignore: !WINDOWS,
}, async () => {
  await using folder = temporaryFolder();
  const path = join(folder.path, "container"),
    names = () => [...Deno.readDirSync(folder.path)].map(({ name }) => name);
  const first = await openFileStore(path, "create");
  assert.deepEqual(names().sort(), ["container", "container.lock"]);
  await assert.rejects(openFileStore(path, "write"), isCover("busy"));
  await first.close();
  assert.deepEqual(names(), ["container"]);
  await Deno.writeTextFile(`${path}.lock`, ""); // of a process that was killed
  const second = lockContainer(path);
  second[Symbol.dispose]();
  using _third = lockContainer(path);
  second[Symbol.dispose]();
  await assert.rejects(openFileStore(path, "write"), isCover("busy"));
});

Deno.test("another process is refused too, and let in when the first one is killed", strict, async () => {
  await using folder = temporaryFolder();
  const path = join(folder.path, "container");
  await (await openFileStore(path, "create")).close();
  const script = `
    import { openFileStore } from ${JSON.stringify(new URL("../../fs/store/file.ts", import.meta.url).href)};
    await openFileStore(${JSON.stringify(path)}, "write");
    console.log("open");
    await Deno.stdin.read(new Uint8Array(1));`;
  const file = join(folder.path, "holder.ts");
  await Deno.writeTextFile(file, script);
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", "--allow-all", file],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const output = child.stdout.getReader();
  assert.match(new TextDecoder().decode((await output.read()).value), /open/);
  await assert.rejects(openFileStore(path, "write"), isCover("busy"));
  child.kill("SIGKILL");
  await child.status;
  await output.cancel();
  await child.stdin.close().catch(() => {});
  await using store = await openFileStore(path, "write");
  await store.flush();
});

Deno.test("reading needs no right to write: not to the file, not to the folder", strict, async () => {
  await using folder = temporaryFolder();
  const path = join(folder.path, "container");
  {
    await using store = await openFileStore(path, "create");
    await store.write(0, sealedBlocks(1, 1));
    await store.flush();
  }
  await Deno.chmod(path, 0o400);
  if (!WINDOWS) await Deno.chmod(folder.path, 0o500); // a folder has no such bits there
  try {
    await using reader = await openFileStore(path, "read");
    assert.deepEqual(await reader.read(0, 1), sealedBlocks(1, 1));
    if (Deno.uid() !== 0 && !WINDOWS) { // Wine lets root write all the same
      await assert.rejects(openFileStore(path, "write"), isCover("failure", /permission/));
    }
  } finally {
    await Deno.chmod(WINDOWS ? path : folder.path, 0o700);
  }
});

Deno.test("reserving makes room that a full disk cannot take back", strict, async () => {
  await using folder = temporaryFolder();
  const path = join(folder.path, "container");
  await using store = await openFileStore(path, "create");
  await store.reserve(600);
  const { size, blocks } = await Deno.stat(path);
  assert.equal(size, maxBytes(600));
  assert(blocks! * 512 >= size - 65536, `${blocks} sectors for ${size} bytes`);
  await store.truncate(0);
  assert.equal((await Deno.stat(path)).size, BLOCK0);
});

Deno.test("fallocate is used for large growth where it works; else zeros are written", strict, async () => {
  await using folder = temporaryFolder();
  const calls: [number, number][] = [];
  const works = (fd: number, offset: number, length: number) => {
    calls.push([offset, length]);
    fs.ftruncateSync(fd, offset + length);
  };
  {
    await using store = await openFileStore(join(folder.path, "a"), "create", { fallocate: works });
    await store.reserve(1000);
    assert.equal(await store.size(), 1000);
    await store.reserve(1001);
    await store.reserve(2001);
    assert.deepEqual(calls, [[0, maxBytes(1000)], [maxBytes(1001), 1000 * SEALED]]);
    assert.equal((await Deno.stat(join(folder.path, "a"))).size, maxBytes(2001));
  }
  let asked = 0;
  const fallocate = () => {
    asked++;
    throw Object.assign(new Error("not supported"), { code: "EOPNOTSUPP" });
  };
  await using store = await openFileStore(join(folder.path, "b"), "create", { fallocate });
  await store.reserve(1000);
  await store.reserve(2000);
  assert.equal((await Deno.stat(join(folder.path, "b"))).size, maxBytes(2000));
  assert.equal(asked, 1);
});

for (const code of ["ENOSPC", "EDQUOT"] as const) {
  Deno.test(`a reservation that fails with ${code} gives back what it had taken`, strict, async () => {
    await using folder = temporaryFolder();
    const path = join(folder.path, "container");
    await using store = await openFileStore(path, "create", {
      fallocate: (fd, offset, length) => {
        fs.ftruncateSync(fd, offset + Math.floor(length / 2));
        throw Object.assign(new Error("no room"), { code });
      },
    });
    await store.write(0, sealedBlocks(3, 1));
    await assert.rejects(store.reserve(1000), (e) => e instanceof FsError && e.code === code);
    assert.equal((await Deno.stat(path)).size, maxBytes(3));
    await store.write(3, sealedBlocks(1, 2));
    await store.flush();
    assert.equal(await store.size(), 4);
  });
}

Deno.test("more than the disk has is refused before anything is written", strict, async () => {
  await using folder = temporaryFolder();
  const path = join(folder.path, "container");
  await using store = await openFileStore(path, "create");
  const { free, quota } = await store.space();
  assert(free > 0 && Number.isFinite(free) && quota === Infinity);
  await assert.rejects(store.reserve(2 * free + 1000), (e) => e instanceof FsError && e.code === "ENOSPC");
  assert.equal((await Deno.stat(path)).size, 0);
});

Deno.test("a write while room is being made is not overwritten", strict, async () => {
  await using folder = temporaryFolder();
  await using store = await openFileStore(join(folder.path, "container"), "create");
  const reserving = store.reserve(2000);
  await store.write(1500, sealedBlocks(2, 1));
  const more = store.reserve(2100);
  await Promise.all([reserving, more]);
  assert.equal(await store.size(), 2100);
  assert(Buffer.from(await store.read(1500, 2)).equals(sealedBlocks(2, 1)));
});

Deno.test("a quota breaks no flush that came before", strict, async () => {
  await using folder = temporaryFolder();
  const path = join(folder.path, "container");
  const store = await openFileStore(path, "create", { maxBytes: maxBytes(2) });
  await store.write(0, sealedBlocks(1, 1));
  const flushed = store.flush();
  const refused = store.write(2, sealedBlocks(1, 1));
  await assert.rejects(
    async () => await refused,
    (e) => e instanceof Broken && e.cause instanceof FsError && e.cause.code === "EDQUOT",
  );
  await flushed;
  await assert.rejects(store.flush(), Broken);
  await store.close();
  assert.equal((await Deno.stat(path)).size, maxBytes(1));
});

Deno.test("closing waits for what still reads, then nothing works any more", strict, async () => {
  await using folder = temporaryFolder();
  const store = await openFileStore(join(folder.path, "container"), "create");
  await store.write(0, sealedBlocks(500, 1));
  const read = store.read(0, 500), flushed = store.flush();
  const closed = store.close();
  assert(Buffer.from(await read).equals(sealedBlocks(500, 1)));
  await flushed;
  await closed;
  await assert.rejects(async () => await store.read(0, 1), FsError);
  await assert.rejects(store.readHeader("key", 0), FsError);
  await assert.rejects(store.flush(), Broken);
});

Deno.test("a file that ends within a block or a header is read as far as it goes", strict, async () => {
  await using folder = temporaryFolder();
  const path = join(folder.path, "container");
  {
    await using store = await openFileStore(path, "create");
    await store.write(0, sealedBlocks(2, 1));
    await store.flush();
  }
  await Deno.truncate(path, maxBytes(1) + 100);
  {
    await using store = await openFileStore(path, "write");
    assert.equal(await store.size(), 1);
    const expected = sealedBlocks(2, 1).fill(0, SEALED + 100);
    assert(Buffer.from(await store.read(0, 2)).equals(expected));
    await store.reserve(2);
    assert.equal(await store.size(), 2);
  }
  await Deno.truncate(path, 5000);
  await using reader = await openFileStore(path, "read");
  assert.equal(await reader.size(), 0);
  assert.equal((await reader.readHeader("super", 0)).length, 4128);
  assert.deepEqual(await reader.read(2 ** 55, 1), new Uint8Array(SEALED));
});

Deno.test("remove deletes the file and ends the writing", strict, async () => {
  await using folder = temporaryFolder();
  const path = join(folder.path, "container");
  await using store = await openFileStore(path, "create");
  await store.remove();
  await assert.rejects(store.flush(), Broken);
  if (WINDOWS) await store.close(); // names of open files may stay until then
  await assert.rejects(Deno.stat(path), Deno.errors.NotFound);
});

Deno.test("a relative path means the same file after the working directory has changed", strict, async () => {
  await using folder = temporaryFolder();
  const before = Deno.cwd();
  try {
    Deno.chdir(folder.path);
    await using store = await openFileStore("container", "create");
    Deno.chdir(before);
    assert(Number.isFinite((await store.space()).free));
    await store.remove();
    await store.close();
    assert.deepEqual([...Deno.readDirSync(folder.path)], []);
  } finally {
    Deno.chdir(before);
  }
});
