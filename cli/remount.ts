/** `-o remount`: what mount(8) asks to be changed of a container that is mounted. */
import { CoverError } from "../crypto/errors.ts";
import { isKernelOption } from "../ffi/mod.ts";
import { syncMount } from "./commands/sync.ts";
import { kernelOptionsAt, systemTool } from "./mounts.ts";

/**
 * Changes the flags that the kernel keeps, `ro` and `rw` above all. Everything else stays as it was mounted: mount(8)
 * adds to its list what fstab has. When a mount has become read-only, what was written to it is durable.
 *
 * @param items of the list
 * @throws {CoverError} "cannot-mount": nothing is mounted there, the kernel refuses, or files are open for writing;
 * what {@linkcode syncMount} throws, of a mount that is read-only by then
 */
export async function remount(mountpoint: string, items: readonly string[]): Promise<void> {
  const now = kernelOptionsAt(mountpoint);
  if (now === undefined) {
    throw new CoverError("cannot-mount", `Cannot remount "${mountpoint}": no container is mounted there`);
  }
  const list = ["remount", ...now, ...items.filter((one) => one === "ro" || isKernelOption(one))];
  // Not by its helpers, which would end here again; and the kernel of FUSE refuses whatever is not a flag.
  const failed = await systemTool(
    "mount",
    "-i",
    "--options-source=disable",
    "-o",
    list.join(","),
    mountpoint,
  );
  if (failed !== undefined) {
    throw new CoverError("cannot-mount", `Cannot remount "${mountpoint}": ${failed}`, {
      hint: "Only root may, and a mount becomes read-only when no file is open for writing",
    });
  }
  if (list.findLast((one) => one === "ro" || one === "rw") === "ro") await syncMount(mountpoint);
}
