import assert from "node:assert/strict";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { Workplace } from "./run.ts";

const strict = { sanitizeOps: true, sanitizeResources: true, ignore: Deno.build.os !== "linux" };

Deno.test(
  "mount refuses a mountpoint with the container, the state or a pass file below it",
  strict,
  async () => {
    await using place = await Workplace.make();
    const mnt = place.path("mnt");
    await mkdir(place.path("mnt", "below"), { recursive: true });
    assert.equal((await place.run(["init", "--kdf-rounds", "210000"])).code, 0);
    await symlink(mnt, place.path("link"));
    await writeFile(place.path("mnt", "below", "pass"), "correct horse");
    await writeFile(place.path("mnt", "ca.pem"), "none");
    await writeFile(place.path("mnt", "below", "container"), "");
    const over = ["-o", "nonempty"], state = place.path("link", "below", "state");
    const cases: [args: string[], env: Record<string, string>, what: RegExp][] = [
      [["mnt/below/container", "mnt"], {}, /the container lies below it: ".*\/mnt\/below\/container"/],
      [["link/below/container", "mnt"], {}, /the container lies below it: ".*\/mnt\/below\/container"/],
      [["mnt/below/container", "link"], {}, /the container lies below it/],
      [["mnt"], { COVERFS_CONTAINER: "mnt/below/container" }, /the container lies below it/],
      [["mnt/below/container", "mnt/below/container"], {}, /the container lies below it/],
      [
        ["mnt"],
        { XDG_STATE_HOME: state },
        /the folder of state lies below it: ".*\/mnt\/below\/state\/coverfs"/,
      ],
      [["mnt"], { COVERFS_PASSFILE: "mnt/below/pass" }, /the passphrase file lies below it/],
      [
        ["--passfile", "pass", "--passfile", "link/below/pass", "mnt"],
        {},
        /the passphrase file lies below it/,
      ],
      [["--ca", "mnt/ca.pem", "mnt"], {}, /the file of authorities lies below it/],
    ];
    for (const how of [[], ["--foreground"]]) {
      for (const [args, env, what] of cases) {
        const ran = await place.run(["mount", ...how, ...over, ...args], { env });
        assert.equal(ran.code, 26, `${args}: ${ran.error}`);
        assert.match(
          ran.error,
          /^coverfs: Cannot mount at "[^\n]+\nhint: Choose another mountpoint[^\n]+\n$/,
        );
        assert.match(ran.error, what);
      }
    }
  },
);

Deno.test(
  "a mount in the background does not depend on the folder that it was started in",
  strict,
  async () => {
    await using place = await Workplace.make();
    await mkdir(place.path("mnt"));
    await mkdir(place.path("mntx"));
    assert.equal((await place.run(["init", "--kdf-rounds", "210000", "mntx/container"])).code, 0);
    // Relative, and beside a mountpoint whose name its own begins with.
    const mounted = await place.run(["mount", "mntx/container", "mnt"]);
    assert.equal(mounted.code, 0, mounted.error);
    try {
      await writeFile(place.path("mnt", "file"), "content");
      const listed = await place.run(["ls", "-c", "mntx/container"]);
      assert.equal(listed.code, 0, listed.error);
    } finally {
      const ended = await place.run(["umount", "mnt"]);
      assert.equal(ended.code, 0, ended.error);
    }
    await rename(place.path("mntx", "container"), place.container);
    assert.equal((await place.run(["cat", "--accept-rollback", "/file"])).out, "content");
  },
);
