import { CoverError } from "../../crypto/errors.ts";
import { SEALED } from "../../crypto/sealer.ts";
import type { Compacted } from "../../fs/compact.ts";
import type { MoveOptions } from "../../fs/mover.ts";
import { withVolume } from "../container.ts";
import { interruptible } from "../interrupt.ts";
import { chooseLocator, locatorName } from "../locator.ts";
import { askToCompact } from "../mount_control.ts";
import { mountpointPath, runningMounts } from "../mounts.ts";
import { writingCommand } from "../options.ts";
import { escapeControls, humanSize, print } from "../output.ts";
import { Progress } from "../progress.ts";

/** `coverfs compact`: moves what lies at the end of a container into its holes, and makes it shorter. */
export const compactCommand = () =>
  writingCommand("compact", "coverfs compact container\ncoverfs compact /mnt")
    .description("make a container as short as its content allows; it may be mounted")
    .argument(
      "[CONTAINER_OR_MOUNTPOINT]",
      "the container, or where it is mounted; else -c or COVERFS_CONTAINER",
    )
    .option("-q, --quiet", "no progress")
    .action((argument, options) =>
      interruptible(async (signal) => {
        using progress = new Progress(options);
        const onProgress = (moved: number) => progress.bytes("moved", moved * SEALED);
        const mounted = mountOf(argument ?? options.container);
        const [name, done] = mounted
          ? [mounted.mountpoint, await askToCompact(mounted, { signal, onProgress })]
          : await compactAlone(options, argument, { signal, onProgress });
        progress.clear();
        print(`${escapeControls(name)}: ${inWords(done)}`);
      })
    );

/** The mount of this user that writes the container, or that lies where the argument says. */
function mountOf(given: string | undefined) {
  const mounts = runningMounts(), at = given === undefined ? undefined : mountpointPath(given);
  const there = mounts.find(({ mountpoint }) => mountpoint === at);
  if (there && there.writes === undefined) {
    throw new CoverError("failure", `Cannot compact "${there.mountpoint}": it is mounted for reading only`);
  }
  if (there) return there;
  const name = locatorName(chooseLocator(given));
  return mounts.find(({ writes }) => writes === name);
}

function compactAlone(
  access: Parameters<typeof withVolume>[0],
  argument: string | undefined,
  options: MoveOptions,
): Promise<readonly [string, Compacted]> {
  const how = { mode: "write", argument, volume: { atime: "noatime" } } as const;
  return withVolume(access, how, async (volume, { name }) => [name, await volume.compact(options)] as const);
}

function inWords({ before, after, moved, unreadable }: Compacted): string {
  const size = (blocks: number) => humanSize(blocks * SEALED);
  return `${size(before)} before, ${size(after)} now, ${size(moved)} moved` +
    (unreadable > 0 ? `, ${size(unreadable)} left as they do not verify: see coverfs fsck --scrub` : "");
}
