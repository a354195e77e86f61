import assert from "node:assert/strict";
import { IntegrityError } from "../../crypto/errors.ts";
import { mount } from "../../ffi/mod.ts";
import { KERNEL_OPTIONS } from "../../ffi/mountpoint.ts";
import { syncFilesystem } from "../../ffi/sync_filesystem.ts";
import { FsError } from "../../fs/errors.ts";
import { S_IFREG } from "../../fs/types.ts";
import { MemoryFilesystem } from "../model/memory_filesystem.ts";
import { background, memoryMount, shell, strict, testMount } from "./mounts.ts";

const encode = (text: string) => new TextEncoder().encode(text);
const NOTHING_HELD = { inodes: 0, references: 0 };

/** Makes a file straight in the filesystem, not through the mount. */
function put(filesystem: MemoryFilesystem, name: string, content = ""): number {
  const ino = filesystem.create(0, encode(name), { mode: S_IFREG | 0o644, uid: 0, gid: 0 });
  if (content !== "") filesystem.write(ino, 0, encode(content));
  return ino;
}

Deno.test("unmount() ends the mount, and what was held is given back", strict, async () => {
  await using test = await memoryMount();
  assert.equal((await shell('echo x >"$1/f"; cat "$1/f"', test.directory)).stdout, "x\n");
  assert.ok(test.filesystem.held.references > 0);
  await test.mounted.unmount();
  assert.deepEqual(await test.mounted.done, { reason: "unmounted" });
  assert.deepEqual(test.filesystem.held, NOTHING_HELD);
  assert.equal((await shell('ls "$1"', test.directory)).stdout, "");
  await test.mounted.unmount();
});

for (const command of ["umount", "fusermount3 -u"]) {
  Deno.test(`${command} from outside ends the mount`, strict, async () => {
    await using test = await memoryMount();
    assert.equal((await shell(`${command} "$1"`, test.directory)).code, 0);
    assert.deepEqual(await test.mounted.done, { reason: "unmounted" });
    assert.deepEqual(test.filesystem.held, NOTHING_HELD);
  });
}

Deno.test("unmount() writes back what the kernel has kept in its cache", strict, async () => {
  await using test = await memoryMount({ writebackCache: true });
  await shell('head -c 3000000 /dev/zero | tr "\\0" x >"$1/f"', test.directory);
  await test.mounted.unmount();
  const ino = test.filesystem.lookup(0, encode("f"))!;
  assert.ok(test.filesystem.read(ino, 0, 3000001).every((byte) => byte === 120));
  assert.equal(test.filesystem.attributes(ino).size, 3000000);
});

Deno.test("unmount() refuses while files are open, and the mount goes on", strict, async () => {
  await using test = await memoryMount();
  {
    await using _user = await background('exec 3>"$1/f"; echo ready; cat; echo more >&3', test.directory);
    await assert.rejects(test.mounted.unmount(), { kind: "failure", message: /in use/ });
    assert.equal((await shell('echo y >"$1/g"; cat "$1/g"', test.directory)).stdout, "y\n");
  }
  assert.equal((await shell('cat "$1/f"', test.directory)).stdout, "more\n");
  await test.mounted.unmount();
});

Deno.test("a lazy unmount leaves the mount to those who are on it", strict, async () => {
  await using test = await memoryMount();
  {
    await using _user = await background('exec 3>"$1/f"; echo ready; cat; echo late >&3', test.directory);
    await test.mounted.unmount({ lazy: true });
    assert.equal((await shell('ls "$1"', test.directory)).stdout, "");
  }
  assert.deepEqual(await test.mounted.done, { reason: "unmounted" });
  const ino = test.filesystem.lookup(0, encode("f"))!;
  assert.equal(new TextDecoder().decode(test.filesystem.read(ino, 0, 9)), "late\n");
});

Deno.test("disposal ends a mount that is in use, and loses nothing that was written", strict, async () => {
  const test = await memoryMount({ writebackCache: true });
  await using _user = await background('exec 3>"$1/f"; echo data >&3; echo ready; cat', test.directory);
  await test[Symbol.asyncDispose]();
  assert.deepEqual(await test.mounted.done, { reason: "stopped" });
  assert.equal(test.filesystem.attributes(test.filesystem.lookup(0, encode("f"))!).size, 5);
  assert.deepEqual(test.filesystem.held, NOTHING_HELD);
});

Deno.test("a signal ends the mount", strict, async () => {
  const controller = new AbortController();
  await using test = await memoryMount({ signal: controller.signal });
  controller.abort();
  assert.deepEqual(await test.mounted.done, { reason: "unmounted" });
});

Deno.test("timers and promises get on while requests stream in", strict, async () => {
  await using test = await memoryMount({ attrTimeout: 0, entryTimeout: 0 });
  const script =
    'head -c 4000000 /dev/zero >"$1/f"; for i in 1 2 3 4 5 6; do dd if="$1/f" bs=4k iflag=direct; done';
  const started = performance.now();
  let longest = 0, last = started, turns = 0;
  const timer = setInterval(() => {
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
    turns++;
  }, 1);
  const { code } = await shell(script, test.directory);
  clearInterval(timer);
  assert.equal(code, 0);
  assert.ok(turns > (performance.now() - started) / 50, `${turns} turns`);
  assert.ok(longest < 200, `one turn took ${longest} ms`);
});

Deno.test("requests that wait for their answer hold up nobody else", strict, async () => {
  const filesystem = new MemoryFilesystem();
  const slow = put(filesystem, "slow", "s");
  put(filesystem, "quick", "q");
  const { promise, resolve } = Promise.withResolvers<void>();
  const read = filesystem.read.bind(filesystem);
  filesystem.read = ((ino: number, offset: number, length: number) =>
    ino === slow
      ? promise.then(() =>
        read(ino, offset, length)
      )
      : read(ino, offset, length)) as typeof read;
  await using test = await testMount(filesystem);
  const waiting = shell('cat "$1/slow"', test.directory);
  assert.equal((await shell('cat "$1/quick"', test.directory)).stdout, "q");
  resolve();
  assert.equal((await waiting).stdout, "s");
});

Deno.test(
  "an error that is no refusal becomes EIO and is logged by inode and offset, without names",
  strict,
  async () => {
    const filesystem = new MemoryFilesystem();
    for (const name of ["secret-now", "secret-late", "secret-bug"]) put(filesystem, name, "x");
    const failures: Record<number, () => Promise<Uint8Array>> = {
      1: () => {
        throw new IntegrityError("block 7 of secret");
      },
      2: () => Promise.reject(new IntegrityError("block 7 of secret")),
      3: () => undefined as unknown as Promise<Uint8Array>,
    };
    filesystem.read = ((ino: number) => failures[ino]!()) as unknown as typeof filesystem.read;
    await using test = await testMount(filesystem);
    for (const name of ["secret-now", "secret-late", "secret-bug"]) {
      const { code, stderr } = await shell('cat "$1/$2"', test.directory, name);
      assert.equal(code, 1);
      assert.match(stderr, /Input\/output error/);
    }
    assert.ok(
      test.logged.includes("Cannot read inode 2 at offset 0: a block does not verify"),
      test.logged.join(),
    );
    assert.ok(test.logged.includes("Cannot read inode 3 at offset 0: a block does not verify"));
    assert.ok(test.logged.some((line) => line.startsWith("Cannot read inode 4 at offset 0: ")));
    assert.ok(!test.logged.some((line) => line.includes("secret")));
    assert.equal((await shell('ls "$1"', test.directory)).stdout.split("\n").length, 4);
  },
);

Deno.test(
  "refusals of the filesystem reach the program as they are, and are not logged",
  strict,
  async () => {
    const filesystem = new MemoryFilesystem({ blocks: 10 });
    await using test = await testMount(filesystem);
    assert.match(
      (await shell('head -c 100000 /dev/zero >"$1/f"', test.directory)).stderr,
      /No space left on device/,
    );
    filesystem.admit = () => Promise.reject(new FsError("EDQUOT"));
    assert.match((await shell('mkdir "$1/d"', test.directory)).stderr, /Disk quota exceeded/);
    filesystem.closed = () => {
      throw new FsError("ENOSPC");
    };
    const close = `python3 -IS -c 'import os, sys; os.close(os.open(sys.argv[1], os.O_WRONLY))' "$1/f"`;
    assert.match((await shell(close, test.directory)).stderr, /No space left on device/);
    assert.equal(
      (await shell('cat "$1/f"', test.directory)).stderr,
      "",
      "who only reads is told of no write",
    );
    assert.deepEqual(test.logged, []);
  },
);

Deno.test(
  "a further write is one request, and who has only read asks nothing at the end",
  strict,
  async () => {
    await using test = await memoryMount();
    await shell('head -c 4096 /dev/zero >"$1/f"', test.directory);
    const asked = async (script: string) => {
      const before = test.mounted.activity.requests;
      const program = `import os, sys; f = sys.argv[1]; ${script}`;
      assert.equal((await shell(`python3 -IS -c '${program}' "$1/f"`, test.directory)).stderr, "");
      return test.mounted.activity.requests - before;
    };
    // A few more are asked by the script as a whole, and what comes late is counted with the next one.
    const about = (asked: number, expected: number) =>
      assert.ok(Math.abs(asked - expected) < 10, `${asked} requests, not ${expected}`);
    about(await asked('fd = os.open(f, 1); [os.pwrite(fd, b"x", i) for i in range(100)]'), 100);
    about(await asked("[os.close(os.open(f, 0)) for _ in range(100)]"), 200); // to open and to release
  },
);

Deno.test("where root alone has access, a change of a directory asks nothing else", strict, async () => {
  await using test = await memoryMount();
  const script = `import os, subprocess, sys
os.chdir(sys.argv[1]); os.mkdir('d'); f = 'd/f'
for i in range(100): open(f'd/{i}', 'w').close()
print(len([os.rename(f'd/{i}', f'd/{i}x') for i in range(100)]))`;
  assert.equal((await shell('python3 -IS -c "$1" "$2"', script, test.directory)).stdout, "100\n");
  const before = test.mounted.activity.requests;
  assert.equal((await shell('rm "$1"/d/*', test.directory)).stderr, "");
  const asked = test.mounted.activity.requests - before;
  // For each its attributes, as rm(1) wants them, and that it be removed: with the directory's it would be half as much again.
  assert.ok(asked < 240, `${asked} requests`);
  const probe = `import os, sys
os.chdir(sys.argv[1]); os.mkdir('e', 0); open('e/f', 'w').close(); os.chmod('e/f', 0)
print([os.access(p, m) for p in ('e', 'e/f') for m in (os.R_OK, os.W_OK, os.X_OK)]); os.chmod('e/f', 0o001)
print(os.access('e/f', os.X_OK))`;
  const answer = await shell('python3 -IS -c "$1" "$2"', probe, test.directory);
  assert.equal(answer.stdout, "[True, True, True, True, True, False]\nTrue\n");
});

Deno.test("where root alone has access, who acts for another user is refused", strict, async () => {
  await using test = await memoryMount();
  const script = `import ctypes, os, sys
os.chdir(sys.argv[1]); open('f', 'w').write('open'); os.mkdir('d'); fd = os.open('f', os.O_RDWR)
libc = ctypes.CDLL(None); libc.setfsgid(2000); libc.setfsuid(2000)
for work in (lambda: open('f'), lambda: os.listdir('d'), lambda: os.truncate('f', 0), lambda: os.stat('g'),
        lambda: os.unlink('f'), lambda: os.rename('f', 'g'), lambda: os.mkdir('e'), lambda: os.chmod('f', 0o777)):
    try: print('allowed', work())
    except PermissionError: pass
print(os.pread(fd, 9, 0), os.write(fd, b'more'), os.fsync(fd), os.close(fd))
libc.setfsuid(0); print(open('f').read(), sorted(os.listdir('.')))`;
  const { stdout, stderr } = await shell('python3 -IS -c "$1" "$2"', script, test.directory);
  assert.equal(stderr + stdout, "b'open' 4 None None\nmore ['d', 'f']\n");
});

Deno.test(
  "with default_permissions they count for root too, where it has given up capabilities",
  { ...strict, ignore: Deno.uid() !== 0 },
  async () => {
    await using test = await memoryMount({ extra: ["default_permissions"] });
    const prepare = 'echo secret >"$1/f"; chown 1000:1000 "$1/f"; chmod 600 "$1/f"';
    assert.equal((await shell(prepare, test.directory)).stderr, "");
    const without =
      `setpriv --inh-caps=-all --bounding-set=-chown,-dac_override,-dac_read_search,-fowner sh -c '
cat "$0/f" || chown 0 "$0/f" || chmod 644 "$0/f" || : >"$0/g"' "$1"; true`;
    const { stdout, stderr } = await shell(without, test.directory);
    assert.equal(stdout, "");
    assert.equal(stderr.match(/denied|not permitted/g)?.length, 3, stderr);
  },
);

Deno.test("what is not supported is refused by name", strict, async () => {
  await using test = await memoryMount();
  const script = `import errno, os, struct, sys, ctypes
os.chdir(sys.argv[1]); open('f', 'w').close(); libc = ctypes.CDLL(None, use_errno=True); fd = os.open('f', os.O_RDWR)
assert libc.fallocate(fd, 8, ctypes.c_long(0), ctypes.c_long(4096)) == -1 and ctypes.get_errno() == errno.EOPNOTSUPP
entries = ((1, 6, -1), (2, 6, 1000), (4, 4, -1), (16, 6, -1), (32, 4, -1))
acl = struct.pack('<I', 2) + b''.join(struct.pack('<HHi', *entry) for entry in entries)
try: os.setxattr('f', 'system.posix_acl_access', acl)
except OSError as e: assert e.errno == errno.EOPNOTSUPP, e
else: raise AssertionError`;
  assert.deepEqual(await shell('python3 -c "$1" "$2"', script, test.directory), {
    code: 0,
    stdout: "",
    stderr: "",
  });
});

Deno.test("fsync() and fdatasync() reach the filesystem, and directories too", strict, async () => {
  const filesystem = new MemoryFilesystem();
  const calls: [number, boolean | undefined][] = [];
  filesystem.fsync = (ino: number, options?: { dataOnly?: boolean }) => {
    calls.push([ino, options?.dataOnly]);
    return Promise.resolve();
  };
  await using test = await testMount(filesystem);
  const script =
    "import os,sys; os.chdir(sys.argv[1]); f=os.open('f',65); os.fdatasync(f); os.fsync(f); os.mkdir('d'); os.fsync(os.open('d',0))";
  assert.deepEqual(await shell('python3 -c "$1" "$2"', script, test.directory), {
    code: 0,
    stdout: "",
    stderr: "",
  });
  assert.deepEqual(calls, [[1, true], [1, false], [2, false]]);
});

Deno.test("fsync() of the root directory makes everything durable, or says why not", strict, async () => {
  const filesystem = new MemoryFilesystem(), sync = filesystem.sync.bind(filesystem);
  let synced = 0, failure: FsError | undefined;
  filesystem.sync = () => {
    synced++;
    return failure ? Promise.reject(failure) : sync();
  };
  await using test = await testMount(filesystem);
  await syncFilesystem(test.directory);
  assert.equal(synced, 1);
  assert.deepEqual((await shell('sync "$1"', test.directory)).code, 0);
  assert.equal(synced, 2);
  for (const code of ["EIO", "ENOSPC"] as const) {
    failure = new FsError(code);
    await assert.rejects(syncFilesystem(test.directory), { code });
  }
});

Deno.test("a program that is interrupted while it waits does no harm", strict, async () => {
  const filesystem = new MemoryFilesystem();
  put(filesystem, "slow", "content");
  const { promise, resolve } = Promise.withResolvers<void>();
  const read = filesystem.read.bind(filesystem);
  filesystem.read = ((...range: Parameters<typeof read>) =>
    promise.then(() => read(...range))) as unknown as typeof read;
  await using test = await testMount(filesystem);
  const waiting = shell('timeout -s INT 0.1 cat "$1/slow"', test.directory);
  await shell("sleep 0.3");
  resolve();
  assert.equal((await waiting).code, 124);
  assert.equal((await shell('cat "$1/slow"', test.directory)).stdout, "content");
  assert.deepEqual(test.logged, []);
});

Deno.test("a read-only mount lets nobody change anything", strict, async () => {
  const writable = new MemoryFilesystem();
  put(writable, "f", "x");
  for (
    const [filesystem, readOnly] of [[writable, true], [
      new MemoryFilesystem({ readOnly: true }),
      false,
    ]] as const
  ) {
    await using test = await testMount(filesystem, { readOnly });
    assert.match((await shell('touch "$1/new"', test.directory)).stderr, /Read-only file system/);
    assert.match((await shell('findmnt -no OPTIONS "$1"', test.directory)).stdout, /\bro\b/);
  }
});

Deno.test("a reader sees what another process has changed, after the timeout", strict, async () => {
  const filesystem = new MemoryFilesystem();
  const ino = put(filesystem, "f", "old");
  await using test = await testMount(filesystem, { readOnly: true, attrTimeout: 0, entryTimeout: 0 });
  assert.equal((await shell('cat "$1/f"', test.directory)).stdout, "old");
  filesystem.write(ino, 0, encode("new"));
  put(filesystem, "g", "more");
  assert.equal((await shell('cat "$1/f" "$1/g"', test.directory)).stdout, "newmore");
});

Deno.test("a mount shows its source, type and options", strict, async () => {
  await using test = await memoryMount({ fsname: "a,b \\c", extra: ["noatime", "x-gvfs-hide", "_netdev"] });
  const { stdout } = await shell('findmnt -rnvo SOURCE,FSTYPE,OPTIONS "$1"', test.directory);
  assert.match(stdout, /^a,b\\x20\\x5cc fuse\.coverfs .*noatime/);
});

Deno.test("every option that may be in a list can be mounted with", strict, async () => {
  const others = "relatime nostrictatime nodiratime diratime user users noauto nofail _netdev x-a=b comment=c"
    .split(" ");
  for (const option of [...KERNEL_OPTIONS, ...others]) {
    await using test = await memoryMount({ extra: [option] });
    assert.equal(test.mounted.mountpoint, await Deno.realPath(test.directory), option);
  }
  await assert.rejects(memoryMount({ extra: ["strictatime"] }), { kind: "usage" });
});

Deno.test("two mounts of one process do not disturb each other", strict, async () => {
  await using a = await memoryMount();
  await using b = await memoryMount();
  const copy = await shell(
    'head -c 5000000 /dev/urandom >"$1/f"; cp "$1/f" "$2/f"; cmp "$1/f" "$2/f"',
    a.directory,
    b.directory,
  );
  assert.deepEqual(copy, { code: 0, stdout: "", stderr: "" });
  await a.mounted.unmount();
  assert.equal((await shell('ls "$1"', b.directory)).stdout, "f\n");
});

Deno.test("mount() says what is wrong with the mountpoint and the options", strict, async () => {
  const directory = await Deno.makeTempDir({ prefix: "coverfs-test-" });
  const refused = async (mountpoint: string, options: Parameters<typeof mount>[2], error: object) => {
    await assert.rejects(mount(new MemoryFilesystem(), mountpoint, options), error);
  };
  try {
    await refused(`${directory}/none`, {}, { kind: "cannot-mount", message: /there is no such directory$/ });
    await Deno.writeTextFile(`${directory}/file`, "");
    await refused(`${directory}/file`, {}, { kind: "cannot-mount", message: /it is not a directory$/ });
    await refused(directory, {}, { kind: "cannot-mount", message: /the directory is not empty$/ });
    await refused(directory, { extra: ["nonsense"] }, { kind: "usage", message: /"nonsense"/ });
    await refused(directory, { subtype: "a,b" }, { kind: "usage", message: /"a,b"/ });
    const aborted = AbortSignal.abort(new Error("no more"));
    await refused(directory, { signal: aborted }, { message: "no more" });
    await using _mounted = await mount(new MemoryFilesystem(), directory, { extra: ["nonempty"] });
    assert.equal((await shell('ls "$1"', directory)).stdout, "");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("who opens a file that was written past the page cache reads it anew, once", strict, async () => {
  const filesystem = new MemoryFilesystem();
  put(filesystem, "f", "x".repeat(8192));
  let reads = 0;
  const read = filesystem.read.bind(filesystem);
  filesystem.read = (...range: Parameters<typeof read>) => {
    reads++;
    return read(...range);
  };
  await using test = await testMount(filesystem);
  // While it is open for direct writing, others fill the cache again: with pages that may be old.
  const script = `import mmap, os, sys
name = sys.argv[1] + '/f'; fd = os.open(name, os.O_RDWR | os.O_DIRECT); page = mmap.mmap(-1, 4096); page.write(b'y' * 4096)
assert os.pwrite(fd, page, 0) == 4096; assert open(name, 'rb').read() == b'y' * 4096 + b'x' * 4096`;
  assert.deepEqual(await shell('python3 -c "$1" "$2"', script, test.directory), {
    code: 0,
    stdout: "",
    stderr: "",
  });
  // The kernel says a little later that the last handle is gone.
  while (test.mounted.activity.open > 0) await new Promise((resolve) => setTimeout(resolve, 1));
  const cat = async () => {
    const before = reads;
    assert.equal((await shell('cat "$1/f"', test.directory)).stdout.length, 8192);
    return reads - before;
  };
  assert.equal(await cat(), 1);
  assert.equal(await cat(), 0);
});
