import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { mount, type MountOptions } from "../../ffi/mod.ts";
import { MemoryFilesystem } from "../model/memory_filesystem.ts";
import { shell, strict } from "./mounts.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const NOBODY = 65534;

/** A mounting program of its own, in a directory that an ordinary user can reach. */
class MountingProcess implements AsyncDisposable {
  readonly place: string;
  readonly mountpoint: string;
  #child: Deno.ChildProcess | undefined;

  private constructor(place: string) {
    this.place = place;
    this.mountpoint = `${place}/mnt`;
  }

  /** Copies what the program needs: an ordinary user may be unable to read the original. */
  static async prepare(): Promise<MountingProcess> {
    const process = new MountingProcess(await Deno.makeTempDir({ prefix: "coverfs-test-" }));
    const script = `set -e; cd "$2"; mkdir mnt cache code
      (cd "$1"; tar c crypto fs/*.ts ffi tests/model tests/ffi/mounting_process.ts) | tar x -C code
      ln "$3" deno 2>/dev/null || cp "$3" deno; chmod -R a+rX .; [ "$4" != 0 ] || chown ${NOBODY} mnt cache`;
    const { code, stderr } = await shell(script, ROOT, process.place, Deno.execPath(), String(Deno.uid()));
    assert.equal(code, 0, stderr);
    return process;
  }

  /** Starts it. @returns its first line, and what it says after that until it ends. */
  async start(options: MountOptions = {}, user = NOBODY): Promise<{ first: string; rest: Promise<string> }> {
    const program = `${this.place}/code/tests/ffi/mounting_process.ts`;
    const deno = [`${this.place}/deno`, "run", "-A", "--no-check", "--no-config", "-q", program];
    const drop = Deno.uid() === 0 && user !== 0
      ? ["setpriv", `--reuid=${user}`, `--regid=${user}`, "--clear-groups"]
      : [];
    const [command, ...args] = [...drop, ...deno, this.mountpoint, JSON.stringify(options)];
    this.#child = new Deno.Command(command!, {
      args,
      env: { DENO_DIR: `${this.place}/cache`, HOME: this.place, NO_COLOR: "1" },
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const lines = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const first = (await lines.read()).value ?? "";
    const rest = (async () => {
      let text = "";
      for (let chunk = await lines.read(); !chunk.done; chunk = await lines.read()) text += chunk.value;
      return text.trim();
    })();
    return { first: first.trim(), rest };
  }

  /** Ends the program as a crash would. */
  async kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#child?.status;
    this.#child = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await shell('fusermount3 -uzq "$1"', this.mountpoint);
    await this.#child?.status;
    await Deno.remove(this.place, { recursive: true });
  }
}

Deno.test("an ordinary user can mount, and the program ends when it is unmounted", strict, async () => {
  await using process = await MountingProcess.prepare();
  const { first, rest } = await process.start();
  assert.equal(first, "mounted");
  const asUser = Deno.uid() === 0 ? `setpriv --reuid=${NOBODY} --regid=${NOBODY} --clear-groups ` : "";
  const script = `echo hello >"$1/f" && cat "$1/f" && stat -c %u "$1/f" && fusermount3 -u "$1"`;
  const { stdout } = await shell(`${asUser} sh -c '${script}' sh "$1"`, process.mountpoint);
  assert.equal(stdout, `hello\n${Deno.uid() === 0 ? NOBODY : Deno.uid()}\n`);
  assert.equal(await rest, "unmounted 0");
});

Deno.test("allow_other needs the word of /etc/fuse.conf for an ordinary user", strict, async () => {
  await using process = await MountingProcess.prepare();
  const allowed = /^\s*user_allow_other/m.test(await Deno.readTextFile("/etc/fuse.conf").catch(() => ""));
  const { first } = await process.start({ allowOther: true });
  assert.equal(first, allowed ? "mounted" : "Cannot mount with allow_other: only root may");
});

Deno.test("what a crash leaves behind is named, with what removes it", strict, async () => {
  await using process = await MountingProcess.prepare();
  assert.equal((await process.start({}, 0)).first, "mounted");
  await process.kill();
  await assert.rejects(mount(new MemoryFilesystem(), process.mountpoint), {
    kind: "cannot-mount",
    message: /an earlier mount there is dead$/,
    hint: `remove it: fusermount3 -u "${process.mountpoint}"`,
  });
});

Deno.test("permission bits decide who may do what", strict, async () => {
  await using process = await MountingProcess.prepare();
  const { first, rest } = await process.start({ allowOther: Deno.uid() === 0 }, 0);
  assert.equal(first, "mounted");
  const script =
    `umask 077; echo secret >"$1/f"; setpriv --reuid=${NOBODY} --regid=${NOBODY} --clear-groups cat "$1/f"`;
  const { stdout, code } = await shell(script, process.mountpoint);
  assert.deepEqual({ stdout, failed: code !== 0 }, { stdout: "", failed: true });
  assert.equal((await shell('umount "$1"', process.mountpoint)).code, 0);
  assert.equal(await rest, "unmounted 0");
});
