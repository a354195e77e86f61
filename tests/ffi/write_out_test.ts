/** What programs have written and the kernel keeps: when it comes, and who is told where it cannot be written. */
import assert from "node:assert/strict";
import { syncFilesystem } from "../../ffi/sync_filesystem.ts";
import { FsError } from "../../fs/errors.ts";
import { type Ino, ROOT } from "../../fs/types.ts";
import { MemoryFilesystem } from "../model/memory_filesystem.ts";
import { background, shell, strict, testMount } from "./mounts.ts";

const encode = (text: string) => new TextEncoder().encode(text);

/** More pages than the kernel has under way at a time, none beside another. */
const PAGES = 400, APART = 65536;
const NEVER = { writebackCache: true, writebackSeconds: 3600 };

/** A filesystem that takes its time to write, and tells how much it has written. */
class SlowFilesystem extends MemoryFilesystem {
  written = 0;
  failure: FsError | undefined;
  /** Resolves with the first write. */
  readonly begun = Promise.withResolvers<void>();
  /** What writes wait for. */
  ready: Promise<void> | undefined;

  override write(ino: Ino, offset: number, data: Uint8Array): void {
    const bytes = data.slice();
    this.begun.resolve();
    const later = (this.ready ?? new Promise<void>((resolve) => setTimeout(resolve, 1))).then(() => {
      if (this.failure) throw this.failure;
      super.write(ino, offset, bytes);
      this.written++;
    });
    return later as unknown as void;
  }
}

/** A program that has written those pages, by a mapping or not, and keeps the file open. */
function writer(directory: string, how: "write" | "map" = "write"): Promise<AsyncDisposable> {
  const script = `import mmap, os, sys
fd = os.open(sys.argv[1] + '/f', os.O_RDWR | os.O_CREAT); os.ftruncate(fd, ${PAGES * APART})
if sys.argv[2] == 'map': m = mmap.mmap(fd, ${PAGES * APART})
for i in range(${PAGES}):
    if sys.argv[2] == 'map': m[i * ${APART}] = 120
    else: os.pwrite(fd, b'x' * 4096, i * ${APART})
os.write(1, b'ready\\n'); sys.stdin.read()`;
  return background('exec python3 -c "$1" "$2" "$3"', script, directory, how);
}

for (const how of ["write", "map"] as const) {
  const options = how === "map" ? {} : NEVER, what = how === "map" ? "a mapping" : "its write-back cache";
  Deno.test(`disposal waits for all that the kernel has kept of ${what}`, strict, async () => {
    const filesystem = new SlowFilesystem();
    const test = await testMount(filesystem, options);
    await using _writer = await writer(test.directory, how);
    assert.equal(filesystem.written, 0, "it was kept");
    await test[Symbol.asyncDispose]();
    assert.deepEqual(await test.mounted.done, { reason: "stopped" });
    assert.equal(filesystem.written, PAGES);
  });
}

Deno.test(
  "fsync() of the root directory waits for what the kernel has kept, and keeps nobody waiting",
  strict,
  async () => {
    const filesystem = new SlowFilesystem(), sync = filesystem.sync.bind(filesystem);
    let before: number | undefined;
    filesystem.sync = () => {
      before = filesystem.written;
      return sync();
    };
    await using test = await testMount(filesystem, NEVER);
    await using _writer = await writer(test.directory);
    assert.equal(filesystem.written, 0, "it was kept");
    const { promise, resolve } = Promise.withResolvers<void>();
    filesystem.ready = promise;
    const synced = syncFilesystem(test.directory);
    await filesystem.begun.promise;
    // The root is locked by the kernel, which still has what it was asked for before.
    assert.equal(
      (await shell('stat -c %s "$1/f"; stat -f "$1" >&2', test.directory)).stdout,
      `${PAGES * APART}\n`,
    );
    assert.equal(before, undefined);
    resolve();
    await synced;
    assert.equal(before, PAGES);
  },
);

Deno.test(
  "writeOut() waits for what was written before, also while another one is under way",
  strict,
  async () => {
    const filesystem = new SlowFilesystem();
    await using test = await testMount(filesystem, NEVER);
    const first = test.mounted.writeOut();
    await using _writer = await writer(test.directory);
    await Promise.all([first, test.mounted.writeOut(), test.mounted.writeOut()]);
    assert.equal(filesystem.written, PAGES);
    await test.mounted.writeOut();
    assert.equal(test.mounted.activity.open, 1, "the root is not kept open");
  },
);

Deno.test("while a file is open for writing, the kernel is asked again and again", strict, async () => {
  const filesystem = new SlowFilesystem();
  await using test = await testMount(filesystem, { writebackCache: true, writebackSeconds: 0.05 });
  await using _writer = await writer(test.directory);
  const start = performance.now();
  while (filesystem.written < PAGES) await new Promise((resolve) => setTimeout(resolve, 10));
  // The kernel itself would take half a minute.
  assert(performance.now() - start < 10_000);
});

Deno.test("a connection that is gone ends the waiting for the kernel", strict, async () => {
  const filesystem = new SlowFilesystem(), { promise, resolve } = Promise.withResolvers<void>();
  filesystem.ready = promise;
  await using test = await testMount(filesystem, NEVER);
  await using _writer = await writer(test.directory);
  const out = test.mounted.writeOut(), synced = shell('sync "$1"', test.directory);
  await filesystem.begun.promise;
  assert.equal((await shell('umount -l -f "$1"', test.directory)).stderr, "");
  resolve();
  await out;
  await synced;
  assert.match((await test.mounted.done).reason, /^(unmounted|failed)$/); // as soon as it is seen which of both
  await test.mounted.writeOut();
});

Deno.test("where another mount lies over the mountpoint, there is nothing to wait for", {
  ...strict,
  ignore: Deno.uid() !== 0,
}, async () => {
  await using test = await testMount(new MemoryFilesystem(), NEVER);
  assert.equal((await shell('mount -t tmpfs none "$1"', test.directory)).stderr, "");
  try {
    await test.mounted.writeOut();
  } finally {
    await shell('umount "$1"', test.directory);
  }
  await test.mounted.writeOut();
});

/** Writes, and tells what write, fsync (twice) and close of one handle say, and close of another. */
const TOLD = `import errno, os, sys
def told(work):
    try: work(); return 'ok'
    except OSError as e: return errno.errorcode[e.errno]
a, b = (os.open(sys.argv[1] + '/' + name, os.O_RDWR | os.O_CREAT) for name in ('a', 'b'))
print(told(lambda: os.write(a, b'x')), told(lambda: os.fsync(a)), told(lambda: os.close(a)))
print(told(lambda: os.write(b, b'x')), told(lambda: os.close(b)))`;

for (
  const [code, atFsync, atClose] of [
    ["ENOSPC", "ENOSPC", "ENOSPC"],
    ["EDQUOT", "EDQUOT", "EIO"],
    ["EROFS", "EIO", "EIO"],
    ["ESTALE", "EIO", "EIO"],
  ] as const
) {
  Deno.test(
    `what the kernel has kept and cannot be written (${code}) is told by fsync, close and sync`,
    strict,
    async () => {
      const filesystem = new SlowFilesystem();
      filesystem.failure = new FsError(code);
      await using test = await testMount(filesystem, NEVER);
      const told = await shell('exec python3 -c "$1" "$2"', TOLD, test.directory);
      assert.match(told.stdout, new RegExp(`^ok ${atFsync} \\w+\\nok ${atClose}\\n$`), told.stderr);
      {
        await using _writer = await writer(test.directory);
        await test.mounted.writeOut();
        await assert.rejects(syncFilesystem(test.directory), { code: atFsync }, "nobody has said so yet");
      }
      filesystem.failure = undefined;
      await syncFilesystem(test.directory);
    },
  );
}

Deno.test(
  "after another writer has taken over, the kernel's own idea of a file's size does not count",
  strict,
  async () => {
    const filesystem = new MemoryFilesystem();
    await using test = await testMount(filesystem, NEVER);
    const file = `${test.directory}/f`, names = (of: Ino) => of === ROOT ? filesystem.list(ROOT, 0) : [];
    assert.equal((await shell('echo one >"$1"; cat "$1"', file)).stdout, "one\n");
    await using _reader = await background('exec 3<"$1"; echo ready; cat', file);
    const ino = filesystem.lookup(0, encode("f"))!;
    filesystem.write(ino, 0, encode("another\n"));
    await test.mounted.replaced({ names, lost: new Set() });
    assert.equal((await shell('stat -c %s "$1"; cat "$1"', file)).stdout, "8\nanother\n");
    filesystem.write(ino, 0, encode("and another\n"));
    await test.mounted.replaced();
    await shell("sleep 1.1"); // as long as the kernel trusts a name
    assert.equal((await shell('stat -c %s "$1"; cat "$1"', file)).stdout, "12\nand another\n");
    assert.deepEqual(test.logged, []);
  },
);
