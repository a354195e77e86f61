import { CoverError } from "../../crypto/errors.ts";
import type { Filesystem } from "../../fs/filesystem.ts";
import type { Ino } from "../../fs/types.ts";
import { withVolume } from "../container.ts";
import { interruptible } from "../interrupt.ts";
import { forEachItem } from "../items.ts";
import { writingCommand } from "../options.ts";
import { about, isDirectory, pathError, place } from "../paths.ts";

/** `coverfs rm`: removes files and directories. */
export const rmCommand = () =>
  writingCommand("rm", "coverfs rm /notes/old.txt\ncoverfs rm -r /Photos/2019")
    .description("remove files of a container")
    .argument("<PATH...>", "what to remove")
    .option("-r, --recursive", "directories with all that is below them")
    .option("-f, --force", "no error for what is not there")
    .action((paths, options) =>
      interruptible((signal) =>
        withVolume(options, { mode: "write" }, (volume) =>
          forEachItem(paths, (path) =>
            about(path, async () => {
              const { directory, name, ino } = place(volume, path);
              if (ino === undefined && options.force) {
                return;
              }
              if (ino === undefined) {
                throw pathError("ENOENT", path);
              }
              await volume.admit();
              if (!isDirectory(volume, ino)) {
                return volume.unlink(directory, name);
              }
              if (!options.recursive) {
                throw new CoverError("failure", `"${path}" is a directory: not removed`, { hint: "Use -r" });
              }
              await removeBelow(volume, ino, signal);
              volume.rmdir(directory, name);
            })))
      )
    );

/** Removes all entries of a directory, the deepest first, without recursion in the program. */
async function removeBelow(filesystem: Filesystem, top: Ino, signal: AbortSignal): Promise<void> {
  const stack = [{ ino: top, entries: [...filesystem.list(top)] }];
  while (stack.length > 0) {
    signal.throwIfAborted();
    const { ino, entries } = stack[stack.length - 1]!, entry = entries.pop();
    if (entry === undefined) {
      stack.pop();
      const above = stack[stack.length - 1], name = above?.entries.pop()?.name;
      if (above && name) filesystem.rmdir(above.ino, name);
      continue;
    }
    await filesystem.admit();
    if (isDirectory(filesystem, entry.ino)) {
      entries.push(entry); // stays until what is below it has gone
      stack.push({ ino: entry.ino, entries: [...filesystem.list(entry.ino)] });
    } else filesystem.unlink(ino, entry.name);
  }
}
