import { Command } from "@commander-js/extra-typings";
import { CoverError } from "../../crypto/errors.ts";
import { unmountDokan } from "../../ffi/mod.ts";
import { kindOfExit } from "../exit.ts";
import {
  forgetMount,
  isRunning,
  mountedAt,
  mountpointPath,
  readMount,
  systemTool,
  takeLog,
} from "../mounts.ts";
import { escapeControls, printError } from "../output.ts";

/** How often it is looked whether the mount's process has ended, in ms. */
const POLL = 50;

/** `coverfs umount`: unmounts, and waits until all is committed. */
export const umountCommand = () =>
  new Command("umount")
    .addHelpText("after", "\nExample:\n  coverfs umount /mnt")
    .description("unmount, and wait until everything is committed")
    .argument("<MOUNTPOINT>", "where it is mounted")
    .option("-l, --lazy", "take it out of the tree at once; who has files open goes on using them")
    .action(async (given, options) => {
      const mountpoint = mountpointPath(given), record = await readMount(mountpoint);
      const ended = record !== undefined && !isRunning(record) && !mountedAt(mountpoint);
      if (!ended) await unmount(mountpoint, options.lazy === true); // else it is only told how it ended
      if (record === undefined || options.lazy) return;
      while (isRunning(await readMount(mountpoint) ?? record)) {
        await new Promise((resolve) => setTimeout(resolve, POLL));
      }
      // Only now: it notes how it has ended as the last thing it does.
      const exit = (await readMount(mountpoint))?.exit;
      await forgetMount(mountpoint);
      for (const line of await takeLog(mountpoint)) printError(escapeControls(line));
      if (exit === 0) return;
      const kind = kindOfExit(exit);
      throw new CoverError(
        kind,
        `"${mountpoint}" was unmounted, but its process ended with ${exit ?? "no exit code"}`,
        {
          hint: "What was not flushed may be lost; coverfs fsck tells the state of the container",
        },
      );
    });

async function unmount(mountpoint: string, lazy: boolean): Promise<void> {
  const windows = Deno.build.os === "windows";
  if (!(windows ? await unmountDokan(mountpoint) : mountedAt(mountpoint))) {
    throw new CoverError("failure", `Cannot unmount "${mountpoint}": no container is mounted there`, {
      hint: "Name the mountpoint itself",
    });
  }
  if (windows) return;
  const failed = Deno.uid() === 0
    ? await systemTool("umount", ...(lazy ? ["-l"] : []), mountpoint)
    : await systemTool("fusermount3", "-u", ...(lazy ? ["-z"] : []), mountpoint);
  if (failed === undefined) return;
  throw new CoverError("failure", `Cannot unmount "${mountpoint}": ${failed}`, {
    hint: "End the programs that use it, or add --lazy",
  });
}
