/**
 * What can go wrong, by kind. Each kind has one exit code of the command line (`docs/cli.md`), so the kinds
 * are a fixed list; a new kind needs a new code.
 */
export type ErrorKind =
  | "failure" // 1
  | "usage" // 2
  | "partial" // 3
  | "no-such-path" // 4
  | "no-container" // 10
  | "busy" // 11: another writer, or the lease was lost
  | "wrong-passphrase" // 12
  | "damaged" // 13: damaged, or not a container
  | "unsupported" // 14: newer version, unknown suite or flag, KDF out of bounds
  | "rollback" // 20: also another container in its place
  | "identity" // 21: the server's identity changed, or is unknown without a terminal
  | "refused" // 22: token or proof of key refused
  | "no-connection" // 23
  | "integrity" // 24: a block does not verify
  | "no-space" // 25
  | "cannot-mount" // 26
  | "data-lost" // 27: data that was not flushed is lost
  | "interrupted"; // 130

/** An error that a person is told of: what failed, where, and (as `hint`) what to do. Holds no secret. */
export class CoverError extends Error {
  readonly kind: ErrorKind;
  readonly hint: string | undefined;
  constructor(kind: ErrorKind, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "CoverError";
    this.kind = kind;
    this.hint = options.hint;
  }
}

/** A sealed thing does not verify. Never tells which check failed; `blocks` are indices within the run. */
export class IntegrityError extends CoverError {
  readonly blocks: readonly number[];
  constructor(message: string, blocks: readonly number[] = []) {
    super("integrity", message);
    this.name = "IntegrityError";
    this.blocks = blocks;
  }
}
