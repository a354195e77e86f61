import { Command } from "@commander-js/extra-typings";
import { CoverError, type ErrorKind } from "../../crypto/errors.ts";
import { syncFilesystem } from "../../ffi/sync_filesystem.ts";
import { forEachItem } from "../items.ts";
import { mountedAt, mountpointPath, runningMounts } from "../mounts.ts";

/** What an errno of a sync means for what was written. */
const KINDS: Readonly<Record<string, ErrorKind>> = {
  ENOSPC: "no-space",
  EDQUOT: "no-space",
  EIO: "data-lost",
};

/** `coverfs sync`: has everything committed, and tells whether it was. */
export const syncCommand = () =>
  new Command("sync")
    .addHelpText("after", "\nExample:\n  coverfs sync /mnt")
    .description("have everything committed that was written to mounts, and wait")
    .argument("[MOUNTPOINT...]", "where they are mounted; all mounts of this user if none is named")
    .action(async (given) => {
      await forEachItem(given.length > 0 ? given.map(mountpointPath) : mountpoints(), syncMount);
    });

/** Where this user has something mounted. */
function mountpoints(): string[] {
  return runningMounts().map(({ mountpoint }) => mountpoint).filter(mountedAt);
}

/** Has everything committed that was written to a mount. @throws {CoverError} what this means for it */
export async function syncMount(mountpoint: string): Promise<void> {
  if (!mountedAt(mountpoint)) {
    throw new CoverError("no-such-path", `Cannot sync "${mountpoint}": no container is mounted there`, {
      hint: "Name the mountpoint itself",
    });
  }
  try {
    await syncFilesystem(mountpoint);
  } catch (cause) {
    if (cause instanceof CoverError) throw cause;
    const code = (cause as { code?: string }).code ?? "unknown";
    const kind = KINDS[code];
    if (kind === undefined) {
      throw new CoverError("failure", `Cannot sync "${mountpoint}": ${code}`, { cause });
    }
    throw new CoverError(kind, `Cannot sync "${mountpoint}": what was written is not durable (${code})`, {
      hint: "Unmount it: coverfs umount tells what the mount has to say",
      cause,
    });
  }
}
