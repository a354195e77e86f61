/** Exit codes (docs/cli.md, "Exit codes": documented, tested, never renumbered) and how an error is told. */
import { CoverError, type ErrorKind } from "../crypto/errors.ts";
import { Broken, type ErrnoName, FsError } from "../fs/errors.ts";
import { escapeControls } from "./output.ts";

/** The exit code of each kind of error. */
export const EXIT: Readonly<Record<ErrorKind, number>> = {
  "failure": 1,
  "usage": 2,
  "partial": 3,
  "no-such-path": 4,
  "no-container": 10,
  "busy": 11,
  "wrong-passphrase": 12,
  "damaged": 13,
  "unsupported": 14,
  "rollback": 20,
  "identity": 21,
  "refused": 22,
  "no-connection": 23,
  "integrity": 24,
  "no-space": 25,
  "cannot-mount": 26,
  "data-lost": 27,
  "interrupted": 130,
};

/** What each code means; `docs/cli.md` and the manual page say so. */
export const EXIT_MEANING: Readonly<Record<ErrorKind, string>> = {
  "failure": "failure",
  "usage": "wrong usage; also no passphrase and no terminal to ask on",
  "partial": "some of several items failed; each is named",
  "no-such-path": "no such path in the container",
  "no-container": "no container there",
  "busy": "busy: another writer has it, or took it over; of `serve`: the port is in use",
  "wrong-passphrase": "wrong passphrase",
  "damaged": "damaged, or not a container",
  "unsupported": "newer version, unknown suite, feature or store; key derivation out of bounds",
  "rollback": "rollback, or another container in its place",
  "identity": "the server's identity changed, or is unknown and there is no terminal to ask on",
  "refused": "token or proof of the key refused",
  "no-connection": "no connection, or a server that breaks the protocol",
  "integrity": "a block does not verify",
  "no-space": "no space, or quota used up",
  "cannot-mount": "cannot mount",
  "data-lost": "data that was not flushed is lost",
  "interrupted": "interrupted",
};

/** The kind of error that an exit code of this program stands for. */
export function kindOfExit(code: number | undefined): ErrorKind {
  return (Object.keys(EXIT) as ErrorKind[]).find((kind) => EXIT[kind] === code) ?? "failure";
}

/** The exit codes of `fsck` are those of fsck(8). */
export const FSCK_EXIT = { clean: 0, corrected: 1, uncorrected: 4, operational: 8, usage: 16 } as const;

const ERRNO_KIND: Partial<Record<ErrnoName, ErrorKind>> = {
  ENOENT: "no-such-path",
  ENOTDIR: "no-such-path",
  ENOSPC: "no-space",
  EDQUOT: "no-space",
};

const ERRNO_WORDS: Partial<Record<ErrnoName, string>> = {
  ENOENT: "no such file or directory",
  ENOTDIR: "not a directory",
  EISDIR: "is a directory",
  EEXIST: "already there",
  ENOTEMPTY: "directory is not empty",
  ENOSPC: "no space left in the container",
  EDQUOT: "the quota of the container is used up",
  ELOOP: "too many symbolic links",
  ENAMETOOLONG: "a name is longer than 255 bytes",
  EROFS: "the container is open for reading only",
  EINVAL: "not possible",
  EIO: "input/output error",
};

/** What an errno means, in words. */
export function errnoWords(code: ErrnoName): string {
  return ERRNO_WORDS[code] ?? code;
}

/** What kind of error this is; where an EIO or a broken store has a cause of a known kind, that one counts. */
export function kindOf(error: unknown): ErrorKind {
  if (error instanceof Broken) return error.cause === undefined ? error.kind : kindOf(error.cause);
  // Lost data because there is no room or somebody else took over is still lost data.
  if (error instanceof CoverError) return error.kind;
  if (error instanceof FsError) return ERRNO_KIND[error.code] ?? kindOf(error.cause);
  return "failure";
}

/** The exit code that an error ends the program with. */
export function exitCodeOf(error: unknown): number {
  return EXIT[kindOf(error)];
}

/** One line that says what is wrong, and a second one where there is something to do about it. */
export function describeError(error: unknown): string {
  const first = escapeControls(messageOf(error));
  const hint = error instanceof CoverError ? error.hint : undefined;
  return `coverfs: ${first}` + (hint === undefined ? "" : `\nhint: ${escapeControls(hint)}`);
}

/** An error's message without the name of its class; an errno alone becomes words. */
export function messageOf(error: unknown): string {
  if (error instanceof FsError && error.message === error.code) return errnoWords(error.code);
  if (error instanceof CoverError && error.kind === "data-lost" && error.cause !== undefined) {
    return `${error.message} (${messageOf(error.cause)})`;
  }
  if (!(error instanceof Error)) return String(error);
  // Of a local file: "ENOENT: no such file or directory, lstat 'name'".
  const local = /^E[A-Z0-9]+: (.*?), [a-z]+ '(.*?)'( -> '.*')?$/.exec(error.message);
  return local ? `"${local[2]}": ${local[1]}` : error.message;
}

/** Some of several items failed; they were told one by one. */
export function partial(failed: number, all: number): CoverError {
  return new CoverError("partial", `${failed} of ${all} items failed`);
}
