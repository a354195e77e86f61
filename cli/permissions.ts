/**
 * What a command may do: at its start it gives up every kind of permission of the runtime that it does not need. That
 * bounds what a defect in the program, or a library of it, can be used for; what is kept is kept for good.
 */
import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { forbidDumps } from "../ffi/no_dump.ts";
import { fullPath } from "./mounts.ts";
import { stateFolder } from "./state.ts";
import { Terminal } from "./terminal.ts";

/** The runtime's kinds of permissions. */
export const PERMISSION_KINDS = ["read", "write", "net", "env", "sys", "run", "ffi", "import"] as const;
/** One of them. */
export type PermissionKind = typeof PERMISSION_KINDS[number];

/** Of commands that open no container. */
const NEEDS: Readonly<Record<string, readonly PermissionKind[]>> = {
  /** commander asks for colours. */
  completion: ["env"],
  man: ["env"],
  /** `sys` tells how full a disk is. `ffi` only until the service manager's socket is open: see its action. */
  serve: ["read", "write", "net", "env", "sys", "ffi"],
  token: ["read", "write", "env"],
  /** /proc is read by libc. */
  sync: ["read", "env", "sys", "ffi"],
  umount: ["read", "write", "env", "sys", "run", "ffi"],
  /** `net` for the socket of a running mount. */
  compact: ["read", "write", "net", "env", "sys", "ffi"],
  /** Opens /dev/fuse and files in /proc and /sys, which the runtime grants to nobody who has given up anything. */
  mount: PERMISSION_KINDS,
};

/** Of commands that open a container: files, who the user is, libcrypto. */
const CONTAINER: readonly PermissionKind[] = ["read", "write", "env", "sys", "ffi"];

/** Where the runtime grants nothing to a program that has given up anything (`check_special_file`, Deno 2.9). */
const SPECIAL = /^\/(dev|proc|sys)(\/|$)/;

/** The kinds of permission that a command needs, given its options and arguments. */
export function neededPermissions(command: CommandUnknownOpts): ReadonlySet<PermissionKind> {
  const texts = textsOf(command), own = NEEDS[command.name()];
  // Process substitution, /dev/shm and the like.
  if (own === undefined || own.includes("read")) {
    const paths = [...texts, Deno.cwd(), stateFolder() ?? ""].filter((text) =>
      text !== "" && !isRemote(text)
    );
    if (paths.some((path) => SPECIAL.test(fullPath(path.replace(/^file:(\/\/)?/i, ""))))) {
      return new Set(PERMISSION_KINDS);
    }
  }
  const needed = new Set(own ?? CONTAINER), { extpass, newExtpass } = command.opts();
  if (own === undefined && texts.some(isRemote)) needed.add("net");
  if (extpass !== undefined || newExtpass !== undefined) needed.add("run");
  return needed;
}

const isRemote = (text: string) => /^coverfs:/i.test(text);

/** All that may name a place: arguments, values of options, and the variables that stand for them. */
function textsOf(command: CommandUnknownOpts): string[] {
  const variables = ["COVERFS_CONTAINER", "COVERFS_PASSFILE", "COVERFS_TOKEN_FILE"].map((name) =>
    Deno.env.get(name)
  );
  return [...command.args, ...Object.values(command.opts()), ...variables].flat()
    .filter((value) => typeof value === "string");
}

/**
 * Gives up what a command does not need, and keeps its memory out of core dumps where it will hold keys. Not on Windows,
 * whose terminal could not be opened any more.
 */
export function dropPermissions(command: CommandUnknownOpts): void {
  const needed = neededPermissions(command);
  if (needed.has("ffi")) forbidDumps();
  if (Deno.build.os === "windows") return;
  Terminal.prepare();
  for (const name of PERMISSION_KINDS) if (!needed.has(name)) Deno.permissions.revokeSync({ name });
}

/** Gives up native code, which a command has needed at its start only; not where everything has to be kept. */
export function dropNative(command: CommandUnknownOpts): void {
  if (Deno.build.os === "windows" || neededPermissions(command).has("run")) return;
  Deno.permissions.revokeSync({ name: "ffi" });
}
