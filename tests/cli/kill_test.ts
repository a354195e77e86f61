/** What is left when a mount and its server are killed between two commits. */
import assert from "node:assert/strict";
import { mkdir, open, readdir, readFile, rename, unlink, writeFile } from "node:fs/promises";
import { MountProcess, ServerProcess } from "./processes.ts";
import { Workplace } from "./run.ts";

const mounting = { sanitizeOps: true, sanitizeResources: true, ignore: Deno.build.os !== "linux" };

/** Bytes that tell which file, which version and which place in it they are. */
function content(name: string, version: number, length: number): Uint8Array {
  const line = `${name} version ${version} at `;
  let text = "";
  while (text.length < length) text += `${line}${text.length}\n`;
  return new TextEncoder().encode(text.slice(0, length));
}

async function writeSynced(path: string, bytes: Uint8Array): Promise<void> {
  await using file = await open(path, "w");
  await file.writeFile(bytes);
  await file.sync();
}

/** Names and contents of a directory's files. */
async function files(directory: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const name of (await readdir(directory)).sort()) {
    found.set(name, await readFile(`${directory}/${name}`, "utf8"));
  }
  return found;
}

for (const cache of [[], ["--writeback-cache"]]) {
  const how = cache.length > 0 ? ", with the write-back cache" : "";
  Deno.test(
    `mount and server killed between two commits: what was synced is there, and nothing of what was not${how}`,
    mounting,
    async () => {
      await using place = await Workplace.make();
      await mkdir(place.path("mnt"));
      await mkdir(place.path("served"));
      await using server = await ServerProcess.start(place);
      const made = await place.run(["init", "--kdf-rounds", "210000", server.link]);
      assert.equal(made.code, 0, made.error);
      // Nothing but fsync makes a commit, so that every change since the last one is still open.
      const args = ["--commit-interval", "1h", "--takeover", ...cache],
        at = place.path("mnt"),
        container = server.link;
      let expected = new Map<string, string>();
      for (let round = 0; round < 2; round++) {
        await using mount = await MountProcess.start(place, { container, at, args });
        const path = (name: string) => `${mount.path}/${name}`;
        assert.deepEqual(await files(mount.path), expected);
        for (const name of ["kept", "renamed", "removed", "changed"]) {
          await writeSynced(path(name), content(name, round, 100_000 + round));
        }
        expected = await files(mount.path);
        assert.equal(expected.size, 4);

        await writeFile(path("new"), content("new", round, 6 << 20)); // more than is kept back
        await writeFile(path("temporary"), content("temporary", round, 50_000));
        await rename(path("temporary"), path("kept"));
        await rename(path("renamed"), path("other"));
        await unlink(path("removed"));
        await using changed = await open(path("changed"), "r+");
        await changed.write(content("changed", 9, 20_000), 0, 20_000, 40_000);
        await changed.close();
        assert.equal((await files(mount.path)).get("kept")!.length, 50_000);

        await Promise.all([server.program.kill(), mount.program.kill()]);
        await mount.kill();
        await server.restart();
        const checked = await place.run(["fsck", "--scrub", container]);
        assert.equal(checked.code, 0, checked.out + checked.error);
      }
      await using mount = await MountProcess.start(place, { container, at, args });
      assert.deepEqual(await files(mount.path), expected);
      assert.equal(await mount.unmount(), 0, mount.program.said);
      const checked = await place.run(["fsck", "--scrub", container]);
      assert.equal(checked.code, 0, checked.out + checked.error);
    },
  );
}
