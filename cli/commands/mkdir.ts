import type { Filesystem } from "../../fs/filesystem.ts";
import { S_IFDIR } from "../../fs/types.ts";
import { withVolume } from "../container.ts";
import { forEachItem } from "../items.ts";
import { writingCommand } from "../options.ts";
import { about, isDirectory, pathError, place, resolve } from "../paths.ts";

/** `coverfs mkdir`: makes directories. */
export const mkdirCommand = () =>
  writingCommand("mkdir", "coverfs mkdir -p /notes/2026")
    .description("make directories in a container")
    .argument("<PATH...>", "the directories")
    .option("-p, --parents", "those above too; no error if it is there already")
    .action((paths, options) =>
      withVolume(options, { mode: "write" }, (volume) =>
        forEachItem(paths, async (path) => {
          if (!options.parents) return await make(volume, path, { may: false });
          const parts = path.split("/");
          for (let i = 1; i <= parts.length; i++) {
            const part = parts.slice(0, i).join("/");
            if (/(^|\/)\.{0,2}$/.test(part)) continue;
            await make(volume, part, { may: true, on: i < parts.length ? path : part });
          }
        }))
    );

/** @param options.may there may be a directory already; `on` is the whole path, where more is to come below */
async function make(
  filesystem: Filesystem,
  path: string,
  { may, on = path }: { may: boolean; on?: string },
): Promise<void> {
  await filesystem.admit();
  await about(on, () => {
    const { directory, name, ino } = place(filesystem, path);
    if (ino !== undefined) {
      if (may && isDirectory(filesystem, resolve(filesystem, path, { follow: true }))) return;
      throw pathError(on === path ? "EEXIST" : "ENOTDIR", on);
    }
    const umask = Deno.build.os === "windows" ? 0o022 : Deno.umask();
    const spec = { mode: S_IFDIR | (0o777 & ~umask), uid: Deno.uid() ?? 0, gid: Deno.gid() ?? 0 };
    filesystem.create(directory, name, spec);
  });
}
