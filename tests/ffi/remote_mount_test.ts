import assert from "node:assert/strict";
import { Container } from "../../fs/container.ts";
import type { RemoteStore } from "../../fs/store/remote.ts";
import { S_IFLNK } from "../../fs/types.ts";
import { Volume } from "../../fs/volume.ts";
import { FILE, FOLDER, makeContainer, name, openVolume, pattern, testKeys } from "../fs/fixture.ts";
import { makeWriter, openOn, startServer, type Writer } from "../net/servers.ts";
import { shell, strict, testMount } from "./mounts.ts";

const FOLDERS = 20, FILES = 25;

/** Fills a container with a small tree: files, links, attributes. */
async function fill(store: RemoteStore): Promise<void> {
  await makeContainer(store);
  const volume = await openVolume(store);
  for (let i = 0; i < FOLDERS; i++) {
    const folder = volume.create(0, name(`folder ${i}`), FOLDER);
    for (let k = 0; k < FILES; k++) {
      const file = volume.create(folder, name(`file ${k}`), FILE);
      await volume.write(file, 0, pattern(100 + 300 * k, i + k + 1));
      volume.setXattr(file, name("user.kind"), name("test"));
    }
    volume.create(folder, name("link"), { ...FILE, mode: S_IFLNK | 0o777, target: name("file 0") });
  }
  await volume.end();
}

for (const mode of ["read", "write"] as const) {
  Deno.test(
    `looking through a whole remote container that is mounted to ${mode} sends no frame`,
    { ...strict, ignore: Deno.build.os !== "linux" },
    async () => {
      await using server = await startServer();
      const writer: Writer = { ...await makeWriter(), containerId: (await testKeys()).containerId };
      // No PING comes in between: what is counted is what the filesystem asks for.
      const quiet = { pingSeconds: 3600 };
      await using made = await openOn(server, { mode: "create", ...writer, ...quiet });
      await fill(made);
      await made.close();
      const store = await openOn(server, { mode, ...await makeWriter(writer), ...quiet });
      const keys = await testKeys(), session = writer.session;
      const container = await Container.open(store, keys, mode === "read" ? { mode } : { mode, session });
      await using volume = new Volume(container, { atime: "noatime" });
      await volume.refreshSpace();
      await using test = await testMount(volume, { readOnly: mode === "read" });
      const before = store.framesSent;
      const looked = await shell(
        'cd "$1" && ls -lR | wc -l && find . | wc -l && find . -print0 | xargs -0 stat >/dev/null && ' +
          "find . -type l -exec readlink {} + | wc -l && df . >/dev/null && [ ! -e nothing ] && echo looked",
        test.directory,
      );
      assert.equal(looked.code, 0, looked.stderr);
      const entries = FOLDERS * (FILES + 2) + 1;
      assert.match(looked.stdout, new RegExp(`^\\d+\\n${entries}\\n${FOLDERS}\\nlooked\\n$`));
      assert.equal(store.framesSent, before, "frames were sent");
      const read = await shell('cat "$1/folder 3/file 4" | wc -c', test.directory);
      assert.equal(read.stdout.trim(), "1300");
      assert(store.framesSent > before, "what is counted is counted: contents come from the server");
    },
  );
}
