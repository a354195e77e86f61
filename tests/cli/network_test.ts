/** What a person sees of a mount when the network, the server or the machine itself is away for a while. */
import assert from "node:assert/strict";
import { mkdir, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { hookedRoot, HOST, Relay, startServer } from "../net/servers.ts";
import { Stranger } from "../net/stranger.ts";
import { MountProcess } from "./processes.ts";
import { until, Workplace } from "./run.ts";

const mounting = { sanitizeOps: true, sanitizeResources: true, ignore: Deno.build.os !== "linux" };

/** More than a mount keeps of a file that is not synced. */
const LARGE = 8 << 20;

/** A server with a container, a relay to it, and an empty directory to mount at. */
async function served(options: Parameters<typeof startServer>[0] = {}) {
  await using cleanup = new AsyncDisposableStack();
  const place = cleanup.use(await Workplace.make());
  await mkdir(place.path("mnt"));
  await mkdir(place.path("served"));
  const serverOptions = { root: place.path("served"), ...options };
  const server = await startServer(serverOptions);
  const { port, firstToken } = server, running = { server };
  cleanup.defer(() => running.server.shutdown());
  const relay = cleanup.use(new Relay(port));
  const link = server.link(firstToken!, { host: HOST });
  const made = await place.run(["init", "--kdf-rounds", "210000", link]);
  assert.equal(made.code, 0, made.error);
  const all = cleanup.move();
  return {
    place,
    relay,
    link,
    /** By way of the relay. */
    relayed: link.replace(`:${port}`, `:${relay.port}`),
    at: place.path("mnt"),
    stopServer: () => running.server.shutdown(),
    startServer: async () => void (running.server = await startServer({ ...serverOptions, port })),
    [Symbol.asyncDispose]: () => all[Symbol.asyncDispose](),
  };
}

/** By `Deno.FsFile`: the handles of node:fs write and sync on this thread, where the server is (Deno 2.9.6). */
async function writeSynced(path: string, content: string): Promise<void> {
  using file = await Deno.create(path);
  await file.write(new TextEncoder().encode(content));
  await file.sync();
}

/** A program that writes to a file, closes it when it is told to, and says which errno that gave: 0 for none. */
async function writeAndKeepOpen(path: string, bytes: number) {
  const script = `import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
left = int(sys.argv[2])
while left > 0: left -= os.write(fd, b"lost" * (min(left, 1 << 20) // 4))
os.write(1, b"written\\n")
sys.stdin.readline()
errno = 0
try: os.close(fd)
except OSError as error: errno = error.errno
os.write(1, b"%d\\n" % errno)`;
  const child = new Deno.Command("python3", {
    args: ["-c", script, path, String(bytes)],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  assert.equal((await lines.read()).value, "written\n");
  return {
    close: async (): Promise<number> => {
      await child.stdin.close();
      const errno = Number((await lines.read()).value);
      await lines.cancel();
      await child.status;
      return errno;
    },
  };
}

/** The errno of EIO. */
const EIO = 5;

async function clean(place: Workplace, link: string): Promise<void> {
  const checked = await place.run(["fsck", "--scrub", link]);
  assert.equal(checked.code, 0, checked.out + checked.error);
}

const isCode = (code: string) => (error: unknown) => (error as { code?: string }).code === code;

Deno.test(
  "a mount survives restarts of the server, cuts and a long sleep, without mounting again",
  mounting,
  async () => {
    await using net = await served({ limits: { idleSeconds: 1, takeoverSeconds: 60 } });
    const { place, relay, relayed, at, link } = net;
    await using mount = await MountProcess.start(place, {
      container: relayed,
      at,
      args: ["--timeout", "4s", "--outage", "4s"],
    });
    const path = (name: string) => `${mount.path}/${name}`;
    const content = "x".repeat(100_000);
    await writeSynced(path("before"), content);

    await net.stopServer();
    await writeFile(path("server"), content); // is accepted meanwhile
    const waiting = writeSynced(path("restart"), content);
    assert.deepEqual((await readdir(mount.path)).includes("before"), true, "names are known");
    await net.startServer();
    await waiting;

    relay.down = true;
    relay.cut();
    const cut = writeSynced(path("cut"), content);
    await until("tried again", () => relay.connections > 4);
    relay.down = false;
    await cut;

    // Asleep for longer than it would wait awake, with a sync under way that the server has not seen.
    relay.down = true;
    relay.cut();
    const asleep = writeSynced(path("asleep"), content);
    await until("it knows", () => mount.program.said.split("cut:").length > 3);
    mount.program.signal("SIGSTOP");
    await new Promise((resolve) => setTimeout(resolve, 5000)); // the time itself is what is tested
    relay.down = false;
    mount.program.signal("SIGCONT");
    await asleep;

    assert.equal(await mount.unmount(), 0, mount.program.said);
    await clean(place, link);
    for (const name of ["before", "server", "restart", "cut", "asleep"]) {
      assert.equal((await place.run(["cat", "-c", link, `/${name}`])).out, content, name);
    }
  },
);

Deno.test(
  "a mount waits where somebody else answers in the server's place, tells them nothing, and says so once",
  mounting,
  async () => {
    await using net = await served();
    await using stranger = await Stranger.start();
    const { place, relay, relayed, at, link } = net, content = "x".repeat(100_000), { target } = relay;
    await using mount = await MountProcess.start(place, { container: relayed, at });
    relay.target = stranger.port;
    relay.cut();
    const waiting = writeSynced(`${mount.path}/file`, content);
    await stranger.visited(4);
    relay.target = target;
    await waiting;
    assert.equal(await mount.unmount(), 0, mount.program.said);
    assert.equal(mount.program.said.match(/refused: .* is not the one that is known/g)?.length, 1);
    assert.equal(stranger.bytesRead, 0);
    await clean(place, link);
    assert.equal((await place.run(["cat", "-c", link, "/file"])).out, content);
  },
);

Deno.test(
  "a read waits for --timeout and fails; the mount goes on when the server is back",
  mounting,
  async () => {
    await using net = await served();
    const { place, relay, relayed, at, link } = net;
    await writeFile(place.path("file"), "content");
    assert.equal((await place.run(["put", "-c", link, "file", "/"])).code, 0);
    await using mount = await MountProcess.start(place, {
      container: relayed,
      at,
      args: ["-o", "timeout=500ms"],
    });
    relay.down = true;
    relay.cut();
    assert.deepEqual(await readdir(mount.path), ["file"]);
    await assert.rejects(readFile(`${mount.path}/file`), isCode("EIO"));
    relay.down = false;
    await until("back", () => /restored/.test(mount.program.said));
    assert.equal(await readFile(`${mount.path}/file`, "utf8"), "content");
    assert.equal(await mount.unmount(), 0, mount.program.said);
  },
);

for (const cache of [[], ["--writeback-cache"]]) {
  const how = cache.length > 0 ? ", with the write-back cache" : "";
  Deno.test(
    `what cannot be written within --outage is told by fsync, close and the exit code${how}`,
    mounting,
    async () => {
      await using net = await served();
      const { place, relay, relayed, at, link } = net;
      await using mount = await MountProcess.start(place, {
        container: relayed,
        at,
        args: ["--outage", "1s", "--commit-interval", "1h", ...cache],
      });
      const path = (name: string) => `${mount.path}/${name}`;
      await writeSynced(path("synced"), "content");
      const large = await writeAndKeepOpen(path("large"), LARGE);
      relay.down = true;
      relay.cut();
      using synced = await Deno.create(path("lost"));
      await synced.write(new TextEncoder().encode("lost"));
      const small = await writeAndKeepOpen(path("small"), 8);
      await assert.rejects(synced.sync(), isCode("EIO"));
      await assert.rejects(synced.sync(), isCode("EIO"), "not only once");
      assert.equal(await small.close(), EIO);
      assert.equal(await large.close(), EIO, "of what was sent and is not durable");
      relay.down = false;
      await until("back", () => /restored/.test(mount.program.said));
      assert.equal(await readFile(path("synced"), "utf8"), "content", "reading goes on");
      await assert.rejects(writeFile(path("other"), "content"), isCode("EIO"));
      synced.close();
      assert.equal(await mount.unmount(), 27, mount.program.said);
      assert.match(
        mount.program.said,
        /coverfs: Cannot commit: data that was not flushed is lost \(The server was away/,
      );
      await clean(place, link);
      assert.equal((await place.run(["ls", "-c", link])).out, "synced\n");
    },
  );

  Deno.test(
    `a writer that was replaced while it was cut off tells that its data is lost, and writes no more${how}`,
    mounting,
    async () => {
      await using net = await served();
      const { place, relay, relayed, at, link } = net;
      await writeFile(place.path("theirs"), "theirs");
      const mounted = await place.run(["mount", "--commit-interval", "1h", ...cache, relayed, at]);
      assert.equal(mounted.code, 0, mounted.error);
      await using _ended = {
        [Symbol.asyncDispose]: async () => void await place.run(["umount", "--lazy", at]),
      };
      const path = (name: string) => `${at}/${name}`;
      await writeSynced(path("synced"), "content");
      using file = await Deno.create(path("lost"));
      await file.write(new TextEncoder().encode("lost"));
      const other = await writeAndKeepOpen(path("lost too"), LARGE);
      relay.down = true;
      relay.cut();
      const put = await place.run(["put", "--takeover", "-c", link, "theirs", "/"]);
      assert.equal(put.code, 0, put.error);
      relay.down = false;
      await assert.rejects(file.sync(), isCode("EIO"));
      assert.equal(await other.close(), EIO);
      await assert.rejects(writeFile(path("more"), "content"), isCode("EROFS"));
      assert.equal(await readFile(path("synced"), "utf8"), "content", "reading goes on");
      file.close();
      const ended = await place.run(["umount", at]);
      assert.equal(ended.code, 27, ended.error);
      assert.match(ended.error, /Another writer has taken the container over/);
      await clean(place, link);
      assert.equal((await place.run(["ls", "-c", link])).out, "synced\ntheirs\n");
    },
  );

  Deno.test(
    `a writer that was replaced shows what the new one commits, and nothing of its own that was not committed${how}`,
    mounting,
    async () => {
      await using net = await served();
      const { place, relay, relayed, at, link } = net;
      const put = async (content: string, to: string) => {
        await writeFile(place.path("theirs"), content);
        const done = await place.run(["put", "--takeover", "-c", link, "theirs", to]);
        assert.equal(done.code, 0, done.error);
      };
      await using mount = await MountProcess.start(place, {
        container: relayed,
        at,
        args: ["--commit-interval", "1h", ...cache],
      });
      const path = (name: string) => `${mount.path}/${name}`,
        text = (name: string) => readFile(path(name), "utf8");
      await mkdir(path("folder"));
      await writeSynced(path("folder/file"), "committed");
      await writeSynced(path("synced"), "committed");
      using synced = await Deno.open(path("synced"), { read: true, write: true });
      await synced.write(new TextEncoder().encode("discarded"));
      assert.equal(await text("synced"), "discarded", "here it is known");
      using lost = await Deno.open(path("lost"), { read: true, write: true, create: true });
      await lost.write(new TextEncoder().encode("discarded"));
      await mkdir(path("lost folder"));
      await rename(path("folder/file"), path("folder/moved"));
      for (const name of ["theirs", "folder/theirs"]) await assert.rejects(text(name), isCode("ENOENT"));

      relay.down = true;
      relay.cut();
      await put("first", "/theirs"); // takes the inode id of what is lost here
      relay.down = false;
      await until("read-only", () => /taken the container over: it is shown/.test(mount.program.said));
      await until("seen", async () => (await readdir(mount.path)).includes("theirs"));
      // The kernel forgets one after the other what it has kept.
      const gone = () => text("folder/moved").then(() => false, () => true);
      await until("forgotten", async () => await text("synced") === "committed" && await gone());
      assert.deepEqual(await readdir(mount.path), ["folder", "synced", "theirs"]);
      assert.deepEqual(await readdir(path("folder")), ["file"]);
      assert.deepEqual([await text("synced"), await text("theirs")], ["committed", "first"]);
      await assert.rejects(text("folder/moved"), isCode("ENOENT"));
      await lost.seek(0, Deno.SeekMode.Start);
      await assert.rejects(lost.read(new Uint8Array(9)), /os error 116/);
      await assert.rejects(lost.sync(), isCode("EIO"));
      await assert.rejects(synced.sync(), isCode("EIO"));
      const seen = new Uint8Array(9);
      await synced.seek(0, Deno.SeekMode.Start);
      await synced.read(seen);
      assert.equal(new TextDecoder().decode(seen), "committed");
      if (cache.length === 0) await assert.rejects(synced.write(seen), isCode("EROFS"));
      else {
        await synced.write(seen); // the kernel takes it
        await assert.rejects(synced.sync(), isCode("EIO"));
      }
      await assert.rejects(mkdir(path("other")), isCode("EROFS"));

      await put("second", "/theirs"); // and what comes later is seen, too
      await put("first", "/folder/theirs");
      await until("followed", async () => await text("theirs") === "second");
      await until("followed further", async () => (await readdir(path("folder"))).length === 2);
      lost.close();
      synced.close();
      assert.equal(await mount.unmount(), 27, mount.program.said);
      await clean(place, link);
    },
  );
}

Deno.test(
  "a server whose sync fails once loses nothing that was acknowledged through a mount",
  mounting,
  async () => {
    let syncs = 0;
    await using net = await served({
      decorate: hookedRoot((operation) => {
        if (operation === "sync" && ++syncs % 5 === 0) throw new Error("EIO");
      }),
    });
    const { place, link, at } = net, content = "y".repeat(LARGE / 8);
    const names = Array.from({ length: 12 }, (_, i) => `file${i}`);
    await using mount = await MountProcess.start(place, { container: link, at });
    const before = syncs;
    for (const name of names) await writeSynced(`${mount.path}/${name}`, content + name);
    assert(syncs - before > 10);
    await mount.kill();
    await clean(place, link);
    for (const name of names) {
      assert((await place.run(["cat", "-c", link, `/${name}`])).out === content + name, name);
    }
  },
);
