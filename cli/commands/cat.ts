import { withVolume } from "../container.ts";
import { interruptible } from "../interrupt.ts";
import { forEachItem } from "../items.ts";
import { readingCommand, wholeNumber } from "../options.ts";
import { writeOut } from "../output.ts";
import { about, resolve } from "../paths.ts";
import { readPieces } from "../transfer.ts";

/** `coverfs cat`: writes files to standard output. */
export const catCommand = () =>
  readingCommand("cat", "coverfs cat /notes/todo.txt\ncoverfs cat --offset 4096 --count 100 /disk.img")
    .description("write files of a container to standard output")
    .argument("<PATH...>", "the files, one after another")
    .option("--offset <BYTES>", "where in each file to begin", wholeNumber)
    .option("--count <BYTES>", "how many bytes of each file at most", wholeNumber)
    .action((paths, options) =>
      interruptible((signal) =>
        withVolume(
          options,
          { mode: "read" },
          (volume) =>
            forEachItem(paths, (path) =>
              about(path, async () => {
                const ino = resolve(volume, path, { follow: true });
                const { offset = 0, count = Infinity } = options;
                for await (const piece of readPieces(volume, ino, { offset, count, signal })) writeOut(piece);
              })),
        )
      )
    );
