/** A load that is put on a mount, and that knows what must still be there after it was killed. */

/** Where a load works, and how it is told to end. */
export interface LoadOptions {
  /** A directory of its own in the mount. */
  readonly directory: string;
  /** Random whole numbers below a limit. */
  readonly random: (limit: number) => number;
  /** Fires when no further operation is to be begun. */
  readonly signal: AbortSignal;
}

/** A load. It remembers, over the mounts of a container, what was acknowledged and what was merely begun. */
export interface Load {
  readonly name: string;
  /** Operations that were acknowledged so far: without any, nothing was tested. */
  readonly acknowledged: number;
  /** Makes its directory ready: once, in a new container, with all of it durable. */
  prepare(directory: string): Promise<void>;
  /** Works until the signal fires. @throws what the system answers where the mount has died, or failed */
  run(options: LoadOptions): Promise<void>;
  /**
   * Compares what a new mount has with what it must have, and goes on from there.
   *
   * @throws {AssertionError} where something that was acknowledged is missing, or something is half there
   */
  verify(directory: string): Promise<void>;
}
