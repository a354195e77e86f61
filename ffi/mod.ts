/** Mounting a filesystem on this machine. Nothing above this door knows what carries the mount. */

import { CoverError } from "../crypto/errors.ts";
import type { Filesystem } from "../fs/filesystem.ts";
import { mountDokan } from "./dokan.ts";
import { mountLibfuse } from "./libfuse.ts";
import type { Mounted, MountOptions } from "./mount.ts";
import { checkMountpoint } from "./mountpoint.ts";

export { unmountDokan } from "./dokan.ts";
export { isKernelOption, isMountOption } from "./mountpoint.ts";
export type { Mounted, MountEnd, MountOptions, StateBefore } from "./mount.ts";

/**
 * Looks whether one can mount there, before anything is asked of a person; {@linkcode mount} looks again.
 *
 * @throws {CoverError} cannot-mount, with what to do
 */
export async function checkMount(mountpoint: string, options: MountOptions): Promise<void> {
  if (Deno.build.os === "linux") await checkMountpoint(mountpoint, options);
}

/**
 * Mounts `filesystem` at the directory `mountpoint` (on Windows also a drive letter, `X:`) and answers requests until
 * it is unmounted. The program that mounts must not use synchronous file calls below the mountpoint: it would wait for
 * itself.
 *
 * @throws {CoverError} cannot-mount, with what to do; usage, for an unknown `-o` option.
 *
 * @example
 * ```ts ignore
 * await using mounted = await mount(volume, "/mnt", { fsname: "container" });
 * await mounted.done;
 * ```
 */
export async function mount(
  filesystem: Filesystem,
  mountpoint: string,
  options: MountOptions = {},
): Promise<Mounted> {
  switch (Deno.build.os) {
    case "linux":
      return await mountLibfuse(filesystem, mountpoint, options);
    case "windows":
      return await mountDokan(filesystem, mountpoint, options);
    default:
      throw new CoverError("cannot-mount", `Cannot mount "${mountpoint}": not possible on ${Deno.build.os}`, {
        hint: "Use it without mounting: coverfs ls, cat, get, put",
      });
  }
}
