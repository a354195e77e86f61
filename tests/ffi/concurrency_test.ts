/** Many at once on a mount, and those who give up waiting. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import type { MountOptions } from "../../ffi/mod.ts";
import { checkContainer } from "../../fs/fsck.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { ROOT, S_IFREG } from "../../fs/types.ts";
import { until } from "../cli/run.ts";
import { FILE, FOLDER, makeContainer, name, openVolume, ramContainer, testKeys } from "../fs/fixture.ts";
import { delayed } from "../model/delayed_filesystem.ts";
import { MemoryFilesystem } from "../model/memory_filesystem.ts";
import { shell, strict, testMount } from "./mounts.ts";

const program = (file: string) => fileURLToPath(new URL(`../mounted/${file}`, import.meta.url));

for (const directIo of [true, false]) {
  for (const files of [1, 12]) {
    const where = files === 1 ? "one file" : "many files";
    const claim = directIo ? "no page is half written" : "nothing is read that was not written";
    const cache = directIo ? "without" : "with";
    Deno.test(`many read and write ${where} at once, ${cache} the page cache: ${claim}`, strict, async () => {
      const store = await ramContainer();
      // So little may be dirty that it is written, and read from the store, all the time.
      await using volume = await openVolume(store, "write", { dirtyBytes: 1 << 16 });
      volume.setAttributes(ROOT, { uid: Deno.uid()!, gid: Deno.gid()! });
      {
        await using test = await testMount(delayed(volume), { directIo });
        const script = 'cd "$1" && python3 -IS "$2" "$3" 4 "$4" $5';
        const how = [`${files}`, "400", directIo ? "whole" : ""];
        const done = await shell(script, test.directory, program("pages.py"), ...how);
        assert.deepEqual(done, { code: 0, stdout: "done\n", stderr: "" });
        await test.mounted.unmount();
        assert.deepEqual(test.logged, []);
      }
      await volume.end();
      assert.deepEqual((await checkContainer(store, await testKeys(), { scrub: true })).findings, []);
    });
  }
}

Deno.test(
  "50 000 entries are listed rightly while others come and go, from any position",
  strict,
  async () => {
    const store = new RamStore(), entries = 50_000;
    await makeContainer(store);
    await using volume = await openVolume(store);
    const folder = volume.create(ROOT, name("folder"), { ...FOLDER, mode: FOLDER.mode | 0o777 });
    for (let i = 0; i < entries; i++) {
      await volume.admit();
      volume.create(folder, name(`stay-${i}`), FILE);
    }
    await using test = await testMount(volume);
    const script = 'python3 -IS "$1" "$2/folder" "$3"';
    const listed = await shell(script, program("listing.py"), test.directory, `${entries}`);
    assert.deepEqual(listed, { code: 0, stdout: "listed\n", stderr: "" });
    assert.deepEqual(test.logged, []);
  },
);

/** A file whose reads wait until they are let go. */
class SlowFile implements AsyncDisposable {
  readonly filesystem = new MemoryFilesystem();
  readonly #gate = Promise.withResolvers<void>();
  readonly #asked = Promise.withResolvers<void>();
  #underWay = 0;

  constructor() {
    const { filesystem } = this;
    const ino = filesystem.create(0, name("slow"), { mode: S_IFREG | 0o644, uid: 0, gid: 0 });
    filesystem.write(ino, 0, new Uint8Array(8192).fill(120));
    const read = filesystem.read.bind(filesystem);
    filesystem.read = (async (...parameters: Parameters<typeof read>) => {
      this.#underWay++;
      this.#asked.resolve();
      await this.#gate.promise;
      this.#underWay--;
      return read(...parameters);
    }) as unknown as typeof filesystem.read;
  }

  /** Resolves when the first one reads. */
  get asked(): Promise<void> {
    return this.#asked.promise;
  }

  /** How many reads wait or are being answered. */
  get underWay(): number {
    return this.#underWay;
  }

  /** Lets them go. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#gate.resolve();
    return Promise.resolve();
  }
}

/** After how long reads are let go though nobody should wait for that, in milliseconds. */
const PATIENCE = 20_000;

/** Starts a script in which `$1` is the slow file; interrupts it when it reads. @returns how it ended, while reads wait */
async function interrupted(
  script: string,
  options: MountOptions,
): Promise<{ signal: string | null; said: string }> {
  const slow = new SlowFile();
  await using test = await testMount(slow.filesystem, options);
  await using _released = slow;
  const child = new Deno.Command("python3", {
    args: ["-IS", "-c", script, `${test.directory}/slow`],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  await slow.asked;
  child.kill("SIGINT");
  const patience = setTimeout(() => slow[Symbol.asyncDispose](), PATIENCE);
  const { signal, stdout } = await child.output();
  clearTimeout(patience);
  assert.ok(slow.underWay > 0, "it ended without an answer from below");
  // Through the page cache, the kernel keeps the file open until it has the pages that it asked for.
  if (options.directIo) await until("its file is closed", () => test.mounted.activity.open === 0);
  assert.equal((await shell('stat -c %s "$1/slow"', test.directory)).stdout, "8192\n", "others get on");
  await slow[Symbol.asyncDispose]();
  await until("what it asked for came too late", () => slow.underWay === 0);
  await until("nothing is open", () => test.mounted.activity.open === 0);
  assert.equal((await shell('wc -c <"$1/slow"', test.directory)).stdout, "8192\n", "the next one can read");
  await test.mounted.unmount();
  assert.deepEqual(slow.filesystem.held, { inodes: 0, references: 0 });
  assert.deepEqual(test.logged, []);
  return { signal, said: new TextDecoder().decode(stdout) };
}

/** Reads by read(2) itself: Python would begin again after EINTR. */
const READ = `
import ctypes, errno, os, signal, sys
fd = os.open(sys.argv[1], os.O_RDONLY); libc = ctypes.CDLL(None, use_errno=True); buffer = ctypes.create_string_buffer(4096)
`;

Deno.test(
  "a reader past the page cache that is interrupted gets EINTR, and leaves nothing behind",
  strict,
  async () => {
    const handled = `${READ}signal.signal(signal.SIGINT, lambda *_: None)
print(libc.read(fd, buffer, 4096), errno.errorcode[ctypes.get_errno()])`;
    assert.deepEqual(await interrupted(handled, { directIo: true }), { signal: null, said: "-1 EINTR\n" });
  },
);

for (const directIo of [true, false]) {
  const cache = directIo ? "past" : "through";
  Deno.test(`a reader ${cache} the page cache can be killed, and leaves nothing behind`, strict, async () => {
    const fatal = `${READ}signal.signal(signal.SIGINT, signal.SIG_DFL); libc.read(fd, buffer, 4096)`;
    assert.deepEqual(await interrupted(fatal, { directIo }), { signal: "SIGINT", said: "" });
  });
}

Deno.test(
  "100 000 requests leave no descriptor behind, and less than 0.4 KiB of memory each",
  strict,
  async () => {
    // Before V8 and the pools of buffers have all that they keep, memory grows somewhat: `deno task soak` goes beyond.
    const args = [
      "run",
      "-A",
      "--no-check",
      "--v8-flags=--expose-gc",
      program("soak.ts"),
      "100000",
      "50000",
      "1.4",
    ];
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
    assert.ok(success, new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr));
  },
);
