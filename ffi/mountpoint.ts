/** What is to be looked at before mounting with FUSE, so that each obstacle has a message of its own. */

import { CoverError } from "../crypto/errors.ts";
import type { MountOptions } from "./mount.ts";

function refusal(message: string, hint: string, cause?: unknown): CoverError {
  return new CoverError("cannot-mount", message, { hint, cause });
}

/**
 * Looks whether one can mount at `mountpoint`.
 *
 * @returns its canonical path.
 * @throws {CoverError} cannot-mount: it is not there, not a directory, not empty, or what is left of a dead mount.
 */
export async function checkMountpoint(mountpoint: string, { extra }: MountOptions): Promise<string> {
  const place = `Cannot mount at "${mountpoint}"`;
  try {
    const path = await Deno.realPath(mountpoint);
    if (!(await Deno.stat(path)).isDirectory) {
      throw refusal(`${place}: it is not a directory`, "Name an empty directory");
    }
    if (extra?.includes("nonempty")) return path;
    for await (const _ of Deno.readDir(path)) {
      throw refusal(
        `${place}: the directory is not empty`,
        "Name an empty directory, or mount over its contents with -o nonempty",
      );
    }
    return path;
  } catch (error) {
    if (error instanceof CoverError) throw error;
    const code = (error as { code?: string }).code;
    if (error instanceof Deno.errors.NotFound) {
      throw refusal(`${place}: there is no such directory`, `Make it: mkdir "${mountpoint}"`, error);
    }
    if (code === "ENOTDIR") {
      throw refusal(`${place}: it is not a directory`, "Name an empty directory", error);
    }
    if (code === "ENOTCONN" || code === "ECONNABORTED" || /os error (107|103)/.test(String(error))) {
      throw refusal(
        `${place}: an earlier mount there is dead`,
        `Remove it: coverfs umount "${mountpoint}"`,
        error,
      );
    }
    throw refusal(
      `${place}: ${error instanceof Error ? error.message : error}`,
      "Choose another directory",
      error,
    );
  }
}

const FUSERMOUNT_DIRECTORIES = ["/usr/bin", "/bin", "/usr/local/bin"];

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

/** Looks for `fusermount3`, where libfuse does. */
export async function findFusermount(): Promise<string | undefined> {
  for (const directory of new Set([...FUSERMOUNT_DIRECTORIES, ...(Deno.env.get("PATH") ?? "").split(":")])) {
    if (directory !== "" && await exists(`${directory}/fusermount3`)) return `${directory}/fusermount3`;
  }
  return undefined;
}

/**
 * Looks whether this machine and this user can mount with FUSE.
 *
 * @throws {CoverError} cannot-mount: no `/dev/fuse` or no right to it, no `fusermount3`, or `allow_other` is forbidden.
 */
export async function checkMachine(options: MountOptions): Promise<void> {
  try {
    (await Deno.open("/dev/fuse", { read: true, write: true })).close();
  } catch (cause) {
    if (cause instanceof Deno.errors.PermissionDenied || cause instanceof Deno.errors.NotCapable) {
      throw refusal("Cannot mount: this user may not open /dev/fuse", "As root: chmod 666 /dev/fuse", cause);
    }
    throw refusal(
      "Cannot mount: there is no /dev/fuse",
      "Load the module: modprobe fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN",
      cause,
    );
  }
  if (Deno.uid() === 0) return;
  if (await findFusermount() === undefined) {
    throw refusal("Cannot mount: fusermount3 was not found", "Install it: apt install fuse3");
  }
  if (options.allowOther || options.allowRoot) {
    const settings = await Deno.readTextFile("/etc/fuse.conf").catch(() => "");
    if (!/^\s*user_allow_other\s*$/m.test(settings)) {
      const option = options.allowOther ? "allow_other" : "allow_root";
      throw refusal(
        `Cannot mount with ${option}: only root may`,
        "Have root add the line user_allow_other to /etc/fuse.conf",
      );
    }
  }
}

/** `-o` options that go to the kernel as they are; libfuse 3.14 knows no other ones. */
export const KERNEL_OPTIONS: ReadonlySet<string> = new Set(
  "async atime dev dirsync exec noatime nodev noexec nosuid rw suid sync".split(" "),
);
/**
 * Those of `/etc/fstab` that concern others, `nonempty` and `default_permissions`, which are looked at here, and what a
 * mount does anyway: `relatime` is how the filesystem moves access times, and `nodiratime` stands beside `noatime`,
 * which includes it.
 */
const OTHER_OPTIONS: ReadonlySet<string> = new Set(
  ("_netdev auto default_permissions defaults diratime group noauto nodiratime nofail nogroup nonempty noowner " +
    "nostrictatime nouser nousers owner relatime user users").split(" "),
);
/** Those with a value: `x-...` and `X-...` are of programs, `comment=` and `user=` of mount(8). */
const OTHER_FORMS = /^(x-|X-|comment=|user=)/;

/** Tells whether the kernel itself takes this option. */
export function isKernelOption(option: string): boolean {
  return KERNEL_OPTIONS.has(option);
}

/** Tells whether `extra` of {@linkcode MountOptions} may hold this. */
export function isMountOption(option: string): boolean {
  return KERNEL_OPTIONS.has(option) || OTHER_OPTIONS.has(option) || OTHER_FORMS.test(option);
}

/**
 * Tells whether root alone has access, and the kernel is not to check permissions: root may do everything but execute
 * what nobody can (`access`). Its checks would ask for a directory's attributes before each change there. Who acts for
 * another user is refused by the session; root that has given up capabilities is not, unless `default_permissions` is
 * among the options.
 */
export function rootAlone(options: MountOptions): boolean {
  const others = options.allowOther || options.allowRoot || options.extra?.includes("default_permissions");
  return Deno.uid() === 0 && Deno.gid() === 0 && !others;
}

function escaped(value: string): string {
  return value.replaceAll("\0", "").replace(/[\\,]/g, "\\$&");
}

/**
 * The `-o` argument for libfuse.
 *
 * @throws {CoverError} usage, for an option that is not known.
 */
export function mountArgument(options: MountOptions): string {
  const list = rootAlone(options) ? [] : ["default_permissions"];
  if (options.readOnly) list.push("ro");
  if (options.allowOther) list.push("allow_other");
  else if (options.allowRoot) list.push("allow_root");
  list.push(`fsname=${escaped(options.fsname ?? "coverfs")}`);
  const subtype = options.subtype ?? "coverfs";
  if (!/^[\w-]+$/.test(subtype)) throw new CoverError("usage", `Unusable subtype "${subtype}"`);
  list.push(`subtype=${subtype}`);
  for (const option of options.extra ?? []) {
    if (!isMountOption(option)) {
      throw new CoverError("usage", `Unknown mount option "${option}"`, {
        hint: `Known are ${[...KERNEL_OPTIONS, "nonempty"].join(", ")}`,
      });
    }
    // mount(8) always says `rw`, which must not undo that there is nothing to write to.
    if (KERNEL_OPTIONS.has(option) && !(option === "rw" && options.readOnly)) list.push(option);
  }
  return list.join(",");
}
