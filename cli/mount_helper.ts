/**
 * How mount(8) starts programs of its own: `mount.coverfs SOURCE TARGET [-sfnv] [-N NS] [-t TYPE] [-o OPT,...]`. Of the
 * type `fuse.coverfs`, mount.fuse3(8) starts `coverfs SOURCE TARGET -o OPT,...`.
 */
import { CoverError } from "../crypto/errors.ts";
import { EXIT } from "./exit.ts";

/** The command line's first word where this program stands for `mount.coverfs`. */
export const HELPER = "mount.coverfs";

/** Exit codes of mount(8), which passes on those of a helper. */
const MOUNT_EXIT = { ok: 0, usage: 1, interrupted: 8, failure: 32 } as const;

/** What mount(8) asks for, as arguments of `coverfs mount`; `fake`: nothing is to be done. */
export interface HelperCall {
  readonly args: readonly string[];
  readonly fake: boolean;
}

/**
 * Tells whether these arguments are a call by mount.fuse3(8). What begins with the name of a command is that command.
 *
 * @param commands the names of all commands
 */
export function calledByMountFuse(args: readonly string[], commands: readonly string[]): boolean {
  const [source, , flag] = args;
  return args.length === 4 && flag === "-o" && !source!.startsWith("-") && !commands.includes(source!);
}

/** Reads the arguments of a helper. @throws {CoverError} "usage" */
export function parseHelperCall(given: readonly string[]): HelperCall {
  const places: string[] = [], args = ["mount"];
  let fake = false;
  for (let at = 0; at < given.length; at++) {
    const one = given[at]!;
    if (places.length < 2 && !/^-[a-z]/i.test(one)) {
      places.push(one);
      continue;
    }
    const valued = /^-([oNt])(.*)$/s.exec(one);
    if (valued) {
      const value = valued[2] || given[++at];
      if (value === undefined) throw usage(`-${valued[1]} needs a value`);
      if (valued[1] === "o") args.push("-o", value);
      if (valued[1] === "N") throw usage("another namespace is not possible");
    } else if (/^-[sfnv]+$/.test(one)) {
      if (one.includes("f")) fake = true;
      if (one.includes("s")) args.push("--sloppy");
    } else throw usage(`"${one}" is not known`);
  }
  if (places.length !== 2) throw usage("it takes a container and a mountpoint");
  return { args: [...args, "--", ...places], fake };
}

function usage(why: string): CoverError {
  return new CoverError("usage", `Cannot mount as a helper of mount(8): ${why}`, {
    hint: `Use ${HELPER} CONTAINER MOUNTPOINT [-sfnv] [-o OPT,...]`,
  });
}

/** What mount(8) is told of an exit code of this program. */
export function mountExit(code: number): number {
  switch (code) {
    case 0:
      return MOUNT_EXIT.ok;
    case EXIT.usage:
      return MOUNT_EXIT.usage;
    case EXIT.interrupted:
      return MOUNT_EXIT.interrupted;
    default:
      return MOUNT_EXIT.failure;
  }
}
