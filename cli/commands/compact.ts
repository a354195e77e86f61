import { SEALED } from "../../crypto/sealer.ts";
import { compactContainer } from "../../fs/compact.ts";
import { historyCheck, withUnlocked } from "../container.ts";
import { interruptible } from "../interrupt.ts";
import { writingCommand } from "../options.ts";
import { escapeControls, humanSize, print } from "../output.ts";
import { Progress } from "../progress.ts";

/** `coverfs compact`: moves what lies at the end of a container into its holes, and makes it shorter. */
export const compactCommand = () =>
  writingCommand("compact", "coverfs compact container")
    .description("make a container as short as its content allows; it must not be mounted")
    .argument("[CONTAINER]", "the container; else -c or COVERFS_CONTAINER")
    .option("-q, --quiet", "no progress")
    .action((argument, options) =>
      interruptible((signal) =>
        withUnlocked(options, { mode: "write", argument }, async (unlocked) => {
          const { store, keys, session, memory, name } = unlocked;
          using progress = new Progress(options);
          const done = await compactContainer(store, keys, {
            session,
            check: historyCheck(unlocked, options),
            onProgress: (moved) => {
              signal.throwIfAborted();
              progress.bytes("moved", moved * SEALED);
            },
          });
          await memory.remember(name, keys.containerId, done.durable, { lower: options.acceptRollback });
          progress.clear();
          const size = (blocks: number) => humanSize(blocks * SEALED);
          print(
            `${escapeControls(name)}: ${size(done.before)} before, ${size(done.after)} now, ${
              size(done.moved)
            } moved` +
              (done.unreadable > 0
                ? `, ${size(done.unreadable)} left as they do not verify: see coverfs fsck --scrub`
                : ""),
          );
        })
      )
    );
