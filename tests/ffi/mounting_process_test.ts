import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { mount, type MountOptions } from "../../ffi/mod.ts";
import { MemoryFilesystem } from "../model/memory_filesystem.ts";
import { shell, strict } from "./mounts.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const NOBODY = 65534;

/** Lets an ordinary user stand in for root, where root runs the tests. */
const DROP = Deno.uid() === 0 ? ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"] : [];

/**
 * A mounting program of its own, in a directory that an ordinary user can reach. Where root runs the tests, an
 * ordinary user's program sees a /dev/fuse with the usual rights, in a mount namespace of its own.
 */
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
      (cd "$1"; tar c crypto fs ffi tests/model tests/ffi/mounting_process.ts) | tar x -C code
      ln "$3" deno 2>/dev/null || cp "$3" deno; chmod -R a+rX .
      [ "$(id -u)" != 0 ] || { chown ${NOBODY} mnt cache; mknod fuse c 10 229; chmod 666 fuse; }`;
    const { code, stderr } = await shell(script, ROOT, process.place, Deno.execPath());
    assert.equal(code, 0, stderr);
    return process;
  }

  /** Starts it. @returns its first line, and what it says after that until it ends. */
  async start(options: MountOptions = {}, who: "user" | "tester" = "user") {
    const program = `${this.place}/code/tests/ffi/mounting_process.ts`;
    const deno = [`${this.place}/deno`, "run", "-A", "--no-check", "--no-config", "-q", program];
    const bind = 'mount --bind "$0" /dev/fuse && exec "$@"';
    const drop = who === "user" && DROP.length > 0
      ? ["unshare", "--mount", "sh", "-c", bind, `${this.place}/fuse`, ...DROP]
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

  /** Runs a shell script as the ordinary user who mounts; `$1` is the mountpoint. */
  async asUser(script: string): Promise<string> {
    const enter = DROP.length > 0 ? ["nsenter", "--mount", `--target=${this.#child!.pid}`, ...DROP] : [];
    const [command, ...args] = [...enter, "sh", "-c", script, "sh", this.mountpoint];
    const { stdout, stderr } = await new Deno.Command(command!, { args }).output();
    return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  }

  /** Ends the program as a crash would. */
  async kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#child?.status;
    this.#child = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await shell('fusermount3 -uzq "$1"', this.mountpoint);
    if (this.#child) {
      const timer = setTimeout(() => this.#child?.kill("SIGKILL"), 5000);
      await this.#child.status;
      clearTimeout(timer);
    }
    await Deno.remove(this.place, { recursive: true });
  }
}

Deno.test("an ordinary user can mount, and the program ends when it is unmounted", strict, async () => {
  await using process = await MountingProcess.prepare();
  const { first, rest } = await process.start();
  assert.equal(first, "mounted");
  const said = await process.asUser(
    'echo hello >"$1/f" && cat "$1/f" && stat -c %u "$1/f"; fusermount3 -u "$1"',
  );
  assert.equal(said, `hello\n${Deno.uid() === 0 ? NOBODY : Deno.uid()}\n`);
  assert.equal(await rest, "unmounted 0");
});

Deno.test("allow_other needs the word of /etc/fuse.conf for an ordinary user", strict, async () => {
  await using process = await MountingProcess.prepare();
  const allowed = /^\s*user_allow_other/m.test(await Deno.readTextFile("/etc/fuse.conf").catch(() => ""));
  const { first } = await process.start({ allowOther: true });
  assert.equal(first, allowed ? "mounted" : "Cannot mount with allow_other: only root may");
});

Deno.test("a user who may not open /dev/fuse is told so", strict, async () => {
  await using process = await MountingProcess.prepare();
  if (DROP.length > 0) await Deno.chmod(`${process.place}/fuse`, 0o600);
  const { first } = await process.start();
  const free = DROP.length === 0;
  assert.equal(first, free ? "mounted" : "Cannot mount: this user may not open /dev/fuse");
});

Deno.test(
  "a mounting program that an ordinary user tells to unmount does so by fusermount3",
  strict,
  async () => {
    await using process = await MountingProcess.prepare();
    const { first, rest } = await process.start({ fsname: "until-told" });
    assert.equal(first, "mounted");
    assert.equal(await process.asUser('mkdir "$1/end"'), "");
    assert.equal(await rest, "unmounted 0");
  },
);

Deno.test("what a crash leaves behind is named, with what removes it", strict, async () => {
  await using process = await MountingProcess.prepare();
  assert.equal((await process.start({}, "tester")).first, "mounted");
  await process.kill();
  await assert.rejects(mount(new MemoryFilesystem(), process.mountpoint), {
    kind: "cannot-mount",
    message: /an earlier mount there is dead$/,
    hint: `Remove it: coverfs umount "${process.mountpoint}"`,
  });
});

Deno.test("permission bits decide who may do what", strict, async () => {
  await using process = await MountingProcess.prepare();
  const { first, rest } = await process.start({ allowOther: Deno.uid() === 0 }, "tester");
  assert.equal(first, "mounted");
  const script = `umask 077; echo secret >"$1/f"; ${DROP.join(" ") || "false"} cat "$1/f"`;
  const { stdout, code } = await shell(script, process.mountpoint);
  assert.deepEqual({ stdout, failed: code !== 0 }, { stdout: "", failed: true });
  assert.equal((await shell('umount "$1"', process.mountpoint)).code, 0);
  assert.equal(await rest, "unmounted 0");
});
