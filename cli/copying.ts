/** What copying into a container and out of it has in common. */
import type { Volume } from "../fs/volume.ts";
import { type AccessMode, withVolume } from "./container.ts";
import { interruptible } from "./interrupt.ts";
import { Items } from "./items.ts";
import type { Access } from "./options.ts";
import { Progress } from "./progress.ts";

/** How to copy. */
export interface CopyJob {
  readonly sources: readonly string[];
  readonly target: string;
  readonly recursive: boolean;
  readonly signal: AbortSignal;
  readonly progress: Progress;
  /** Runs the sources, and what is below them, one by one. */
  readonly items: Items;
}

/**
 * Opens the container and copies.
 *
 * @param how `paths`: sources, and the target if there are several; `target`: where a single one goes
 */
export async function copying(
  how: {
    readonly paths: readonly string[];
    readonly target: string;
    readonly mode: AccessMode;
    readonly options: Access & { readonly recursive?: true | undefined; readonly quiet?: true | undefined };
  },
  copy: (volume: Volume, job: CopyJob) => Promise<void>,
): Promise<void> {
  const { paths, options, mode } = how, several = paths.length > 1;
  const target = several ? paths[paths.length - 1]! : how.target;
  const sources = several ? paths.slice(0, -1) : paths;
  await interruptible((signal) =>
    withVolume(options, { mode }, async (volume) => {
      using progress = new Progress(options);
      const items = new Items();
      await copy(volume, { sources, target, recursive: options.recursive === true, signal, progress, items });
      items.finish();
    })
  );
}
