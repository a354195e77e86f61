/** `mount` as a service, as a helper of mount(8), and where what it has to say goes. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { chmod, mkdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { calledByMountFuse, mountExit, parseHelperCall } from "../../cli/mount_helper.ts";
import { logToFile } from "../../cli/log.ts";
import { listenDatagrams } from "./datagrams.ts";
import { prepared, until, Workplace } from "./run.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const mounting = { ...strict, ignore: Deno.build.os !== "linux" };
const asRoot = { ...mounting, ignore: mounting.ignore || Deno.uid() !== 0 };

const isMounted = async (path: string) =>
  (await readFile("/proc/self/mountinfo", "utf8")).includes(` ${path} `);

Deno.test(
  "mount and serve tell a service manager when they are ready and when they stop",
  mounting,
  async () => {
    await using place = await prepared();
    const mnt = place.path("mnt");
    for (const socket of [place.path("notify"), `@coverfs-test-${crypto.randomUUID()}`]) {
      await using manager = await listenDatagrams(socket, place.folder);
      for (
        const args of [["mount", "--foreground", mnt], [
          "serve",
          "--ram",
          "--host",
          "127.0.0.1",
          "--port",
          "0",
        ]]
      ) {
        const before = (await manager.received()).length;
        const child = place.start(args, { env: { NOTIFY_SOCKET: socket } });
        await child.stdin.close();
        const output = child.output();
        await until("ready", async () => (await manager.received()).length > before);
        if (args[0] === "mount") assert(await isMounted(mnt), "ready means mounted");
        child.kill("SIGTERM");
        const { code, stderr } = await output;
        assert.equal(code, 0, new TextDecoder().decode(stderr));
        assert(!await isMounted(mnt));
        await until("stopping", async () => (await manager.received()).length > before + 1);
        assert.deepEqual((await manager.received()).slice(before), ["READY=1", "STOPPING=1"]);
      }
    }
  },
);

Deno.test("a service manager that is not there costs a message only", mounting, async () => {
  await using place = await prepared();
  const child = place.start(["mount", "--foreground", place.path("mnt")], {
    env: { NOTIFY_SOCKET: place.path("nobody") },
  });
  await child.stdin.close();
  const output = child.output();
  await until("mounted", () => isMounted(place.path("mnt")));
  assert.equal((await place.run(["umount", "mnt"])).code, 0);
  const { code, stderr } = await output;
  assert.equal(code, 0);
  assert.match(
    new TextDecoder().decode(stderr),
    /^coverfs: Cannot tell the service manager READY=1: .*errno 2\n/,
  );
});

Deno.test("arguments of a helper of mount(8) become those of mount", strict, () => {
  const call = (args: string[], fake = false) => ({ args: ["mount", ...args], fake });
  assert.deepEqual(parseHelperCall(["box", "/mnt"]), call(["--", "box", "/mnt"]));
  assert.deepEqual(
    parseHelperCall(["box", "/mnt", "-o", "rw,uid=1"]),
    call(["-o", "rw,uid=1", "--", "box", "/mnt"]),
  );
  assert.deepEqual(
    parseHelperCall(["box", "/mnt", "-sv", "-orw"]),
    call(["--sloppy", "-o", "rw", "--", "box", "/mnt"]),
  );
  assert.deepEqual(parseHelperCall(["-n", "box", "/mnt", "-f"]), call(["--", "box", "/mnt"], true));
  assert.deepEqual(parseHelperCall(["box", "/mnt", "-t", "fuse.coverfs"]), call(["--", "box", "/mnt"]));
  for (
    const args of [[], ["box"], ["box", "/mnt", "more"], ["box", "/mnt", "-o"], ["a", "b", "-N", "x"], [
      "a",
      "b",
      "-x",
    ]]
  ) {
    assert.throws(() => parseHelperCall(args), { kind: "usage" });
  }
  assert(calledByMountFuse(["box", "/mnt", "-o", "rw"], ["ls", "mount"]));
  assert(!calledByMountFuse(["mount", "/mnt", "-o", "rw"], ["ls", "mount"]), "a command is a command");
  assert(!calledByMountFuse(["box", "/mnt"], ["ls"]));
  assert.deepEqual([0, 2, 12, 26, 130].map(mountExit), [0, 1, 32, 32, 8], "codes of mount(8)");
});

/** Launchers as `deno task install` makes them, in a folder `bin`. */
async function installed(place: Workplace): Promise<string> {
  const bin = place.path("bin"),
    script = fileURLToPath(new URL("../../cli/build/install.ts", import.meta.url));
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", "-A", script, bin],
  });
  const { success, stderr } = await command.output();
  assert(success, new TextDecoder().decode(stderr));
  return bin;
}

/** Runs a shell script with the launchers on PATH. */
async function sh(place: Workplace, script: string, under: string[] = []) {
  const [command, ...args] = [...under, "sh", "-euc", script];
  const { code, stdout, stderr } = await new Deno.Command(command!, {
    args,
    cwd: place.folder,
    clearEnv: true,
    env: {
      PATH: `${place.path("bin")}:${Deno.env.get("PATH")}`,
      HOME: place.folder,
      XDG_STATE_HOME: place.path("state"), // mount(8) takes HOME away from what it starts
      LC_ALL: "C",
    },
    stdin: "null",
  }).output();
  const text = (bytes: Uint8Array<ArrayBuffer>) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), error: text(stderr) };
}

Deno.test(
  "mount.coverfs mounts as mount(8) asks it to, and ends with the codes of mount(8)",
  mounting,
  async () => {
    await using place = await prepared();
    await installed(place);
    const mnt = place.path("mnt"), { container } = place, pass = place.path("pass");
    const fake = await sh(place, `mount.coverfs ${container} ${mnt} -f -o passfile=${pass}`);
    assert.equal(fake.code, 0, fake.error);
    assert(!await isMounted(mnt));
    const mounted = await sh(place, `mount.coverfs ${container} ${mnt} -vs -o rw,bogus,passfile=${pass}`);
    assert.equal(mounted.code, 0, mounted.error);
    assert(await isMounted(mnt));
    const ended = await sh(place, `coverfs umount ${mnt}`);
    assert.equal(ended.code, 0, ended.error);
    assert.equal((await sh(place, `mount.coverfs ${container} ${mnt} -o bogus`)).code, 1);
    await writeFile(place.path("wrong"), "wrong", { mode: 0o600 });
    const wrong = await sh(place, `mount.coverfs ${container} ${mnt} -o passfile=${place.path("wrong")}`);
    assert.equal(wrong.code, 32);
    assert.match(wrong.error, /^coverfs: Cannot open container: wrong passphrase\n/);
  },
);

Deno.test(
  "mount -t coverfs and mount -t fuse.coverfs mount a container, also from fstab, and remount it",
  asRoot,
  async () => {
    await using place = await prepared();
    const bin = await installed(place), mnt = place.path("mnt"), { container } = place;
    await mkdir(place.path("sbin"));
    await writeFile(
      place.path("fstab"),
      `${container} ${mnt} fuse.coverfs noauto,nofail,x-systemd.automount,uid=7,passfile=${
        place.path("pass")
      } 0 0\n`,
    );
    // In a mount namespace of its own: /sbin has the helpers of this test there, and nothing is left of it.
    const script = `
    cp "$(readlink -f "$(command -v mount.fuse3)")" sbin/mount.fuse
    ln -s ${bin}/mount.coverfs ${bin}/coverfs sbin # mount(8) takes PATH away from what it starts
    mount --bind sbin "$(readlink -f /sbin)"
    for how in "-t coverfs -o rw,uid=7,passfile=pass ${container}" "-t fuse.coverfs -o uid=7,passfile=pass ${container}" \\
        "-T fstab"; do
      case $how in -T*) fstab=$how ;; *) fstab= ;; esac
      mount $how ${mnt}
      touch ${mnt}/file
      stat -c %u ${mnt}/file
      mount -o remount,ro $fstab ${mnt}
      if touch ${mnt}/file 2>error; then exit 1; else grep -o 'Read-only.*' error; fi
      mount -o remount,rw $fstab ${mnt}
      touch ${mnt}/file
      coverfs umount ${mnt}
    done
    echo wrong > wrong
    if mount -t coverfs -o passfile=wrong ${container} ${mnt}; then exit 1; else echo "code $?"; fi`;
    const ran = await sh(place, script, ["unshare", "--mount"]);
    assert.equal(ran.code, 0, ran.error);
    assert.equal(ran.out, `${"7\nRead-only file system\n".repeat(3)}code 32\n`);
  },
);

/** Changes bytes of every sealed block that is not all zeros, the headers at the front left out. */
const HEADERS = 64 << 10;
async function damage(place: Workplace): Promise<void> {
  const bytes = await readFile(place.container);
  for (let at = HEADERS; at < bytes.length; at += 64) bytes[at]! ^= 1;
  await writeFile(place.container, bytes);
}

/** A mount whose file `secret-name` was damaged under it, read once. */
async function readDamaged(place: Workplace, args: string[]): Promise<void> {
  const mnt = place.path("mnt");
  await writeFile(place.path("secret-name"), new Uint8Array(40_960).fill(5));
  const put = await place.run(["put", "secret-name", "/"]);
  assert.equal(put.code, 0, put.error);
  const mounted = await place.run(["mount", "--read-only", ...args, mnt]);
  assert.equal(mounted.code, 0, mounted.error);
  const whole = await readFile(place.container);
  await damage(place);
  await assert.rejects(readFile(place.path("mnt", "secret-name")), { code: "EIO" });
  await writeFile(place.container, whole);
}

const TROUBLE = /Cannot read inode \d+ at offset \d+: a block does not verify$/m;

Deno.test(
  "what a mount in the background had to say is shown by umount, without names",
  mounting,
  async () => {
    await using place = await prepared();
    await readDamaged(place, []);
    const ended = await place.run(["umount", "mnt"]);
    assert.equal(ended.code, 0);
    assert.match(ended.error, TROUBLE);
    assert.match(ended.error, /^\d{4}-\d\d-\d\dT[\d:.]+Z coverfs\[\d+\]: /);
    assert.doesNotMatch(ended.error, /secret-name/);
    const again = await place.run(["mount", "-r", "mnt"]);
    assert.equal(again.code, 0, again.error);
    assert.equal((await place.run(["umount", "mnt"])).error, "", "it is shown once");
    // What is said before there is a mount would be lost with the process that started it.
    await writeFile(place.path(".local", "state", "coverfs", "rollback.json"), "{");
    assert.equal((await place.run(["mount", "-r", "mnt"])).code, 0);
    assert.match((await place.run(["umount", "mnt"])).error, /: warning: .*rollback\.json" is damaged/);
  },
);

Deno.test(
  "--log-file gets it instead, for its owner only, and a new file when it was renamed",
  mounting,
  async () => {
    await using place = await prepared();
    await readDamaged(place, ["-o", "log_file=log"]);
    await rename(place.path("log"), place.path("log.old"));
    assert.equal((await place.run(["umount", "mnt"])).error, "");
    const log = await readFile(place.path("log.old"), "utf8");
    assert.match(log, /^\S+Z coverfs\[\d+\]: mounted .* at .*\/mnt\n/);
    assert.match(log, TROUBLE);
    assert.doesNotMatch(log, /secret-name/);
    assert.equal((await stat(place.path("log.old"))).mode & 0o777, 0o600);
    assert.match(await readFile(place.path("log"), "utf8"), /unmounted .*\/mnt\n$/);
  },
);

Deno.test(
  "a log that cannot be written, or lies in the mount, is refused before anything is mounted",
  mounting,
  async () => {
    await using place = await prepared();
    const nowhere = await place.run(["mount", "--log-file", "no/where", "mnt"]);
    assert.equal(nowhere.code, 1);
    assert.match(nowhere.error, /^coverfs: Cannot write the log file "[^\n]*no\/where": ENOENT\n$/);
    const below = await place.run(["mount", "--log-file", "mnt/log", "mnt"]);
    assert.equal(below.code, 26);
    assert.match(below.error, /the log file lies below it/);
  },
);

Deno.test("--syslog sends it to syslogd", asRoot, async () => {
  await using place = await prepared();
  await mkdir(place.path("dev"));
  // A mount namespace of its own with a /dev in which /dev/log is the test's.
  await using syslogd = await listenDatagrams(place.path("dev", "log"), place.folder);
  await chmod(place.path("dev", "log"), 0o666);
  const script = `
    for one in null zero random urandom fuse; do touch dev/$one; mount --bind /dev/$one dev/$one; done
    mount --rbind dev /dev
    "$@" mount --syslog mnt
    "$@" umount mnt`;
  const under = ["unshare", "--mount", "sh", "-euc", script, "sh"];
  const child = place.start([], { under });
  await child.stdin.close();
  const { code, stderr } = await child.output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  await until("told", async () => (await syslogd.received()).length >= 2);
  const [first, last] = await syslogd.received();
  assert.match(first!, /^<28>coverfs\[\d+\]: mounted .*\/container at .*\/mnt$/);
  assert.match(last!, /^<28>coverfs\[\d+\]: unmounted .*\/mnt$/);
});

Deno.test("a log of bounded size keeps the newest", strict, async () => {
  await using place = await Workplace.make();
  const log = logToFile(place.path("log"), { bytes: 1000 });
  for (let i = 0; i < 100; i++) log(`message ${i}`);
  const texts = await Promise.all(["log.1", "log"].map((name) => readFile(place.path(name), "utf8")));
  assert(texts.every((text) => text.length < 1100));
  assert.match(texts.join(""), /message 98\n[^\n]*message 99\n$/);
});

Deno.test("an attempt to mount that fails leaves what is noted of the mount before", mounting, async () => {
  await using place = await prepared();
  const mnt = place.path("mnt");
  assert.equal((await place.run(["mount", mnt])).code, 0);
  try {
    await writeFile(place.path("mnt", "file"), "content");
    const second = await place.run(["mount", mnt]);
    assert.notEqual(second.code, 0);
  } finally {
    const ended = await place.run(["umount", mnt]);
    assert.equal(ended.code, 0, ended.error);
  }
  assert.equal((await place.run(["cat", "/file"])).out, "content");
});
