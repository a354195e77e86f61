import { FsError } from "../../fs/errors.ts";
import type { Filesystem } from "../../fs/filesystem.ts";
import { RENAME_NOREPLACE } from "../../fs/filesystem.ts";
import { withVolume } from "../container.ts";
import { forEachItem } from "../items.ts";
import { writingCommand } from "../options.ts";
import { about, isDirectory, lastName, pathError, place, resolve } from "../paths.ts";
import { CoverError } from "../../crypto/errors.ts";

/** `coverfs mv`: renames, or moves into a directory. */
export const mvCommand = () =>
  writingCommand("mv", "coverfs mv /draft.txt /letter.txt\ncoverfs mv /a.jpg /b.jpg /Photos/")
    .description("rename files of a container, or move them into a directory of it")
    .argument("<PATHS...>", "one source and its new path, or several sources and a directory")
    .option("-n, --no-clobber", "fail where the target is there already")
    .action((paths, options) => {
      if (paths.length < 2) throw new CoverError("usage", "Two paths are needed: what to move, and where to");
      return withVolume(options, { mode: "write" }, (volume) => {
        const target = paths[paths.length - 1]!, sources = paths.slice(0, -1);
        const into = isExistingDirectory(volume, target);
        if (sources.length > 1 && !into) throw pathError("ENOTDIR", target);
        return forEachItem(sources, (source) =>
          about(source, async () => {
            const from = place(volume, source);
            if (from.ino === undefined) throw pathError("ENOENT", source);
            const path = into ? `${target.replace(/\/+$/, "")}/${lastName(source)}` : target;
            if (!into && path.endsWith("/") && !isDirectory(volume, from.ino)) {
              throw pathError("ENOTDIR", path);
            }
            const to = place(volume, path);
            await volume.admit();
            const flags = options.clobber ? 0 : RENAME_NOREPLACE;
            await about(path, () => volume.rename(from.directory, from.name, to.directory, to.name, flags))
              .catch((error) => {
                if ((error as FsError).code !== "EINVAL") throw error;
                throw new FsError("EINVAL", `"${path}": it would lie in itself`, { cause: error });
              });
          }));
      });
    });

function isExistingDirectory(filesystem: Filesystem, path: string): boolean {
  try {
    return isDirectory(filesystem, resolve(filesystem, path, { follow: true }));
  } catch (error) {
    if (error instanceof FsError && error.code === "ENOENT") return false;
    throw error;
  }
}
