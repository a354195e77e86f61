import { hex } from "../../crypto/bytes.ts";
import { FORMAT_VERSION } from "../../crypto/mod.ts";
import { BLOCK, SEALED } from "../../crypto/sealer.ts";
import type { ExtentTable } from "../../fs/layout/extents.ts";
import type { Ino } from "../../fs/types.ts";
import { withVolume } from "../container.ts";
import { slotInfo } from "../key_change.ts";
import { readingCommand } from "../options.ts";
import { humanSize, print, printJson, timeIso } from "../output.ts";

/** `coverfs info`: what a container is and how full it is. */
export const infoCommand = () =>
  readingCommand("info", "coverfs info container\ncoverfs info --json")
    .description("show what a container is: sizes, usage, cipher suite, key slots")
    .argument("[CONTAINER]", "the container; else -c or COVERFS_CONTAINER")
    .option("--json", "print one object")
    .action((argument, options) =>
      withVolume(options, { mode: "read", argument }, async (volume, { encryption, store, name }) => {
        const { header } = encryption, { container } = volume, { inodes, extents } = container.tables;
        let dataBlocks = 0, bytes = 0, filesWithData = 0, fragments = 0;
        for (let ino = 0; ino < inodes.end; ino++) {
          if (!inodes.has(ino)) continue;
          const blocks = extents.blocksOf(ino);
          dataBlocks += blocks;
          bytes += inodes.size[ino]!;
          if (blocks > 0) filesWithData++, fragments += fragmentsOf(extents, ino);
        }
        const info = {
          container: name,
          id: hex(header.containerId),
          formatVersion: FORMAT_VERSION,
          suite: header.suite,
          keyGeneration: header.generation,
          rekeying: header.previousGeneration !== undefined,
          created: timeIso({ seconds: header.created, nanoseconds: 0 }),
          commit: container.last,
          clean: container.superblock.clean,
          files: inodes.count,
          fileBytes: bytes,
          dataBytes: dataBlocks * BLOCK,
          filesWithData,
          fragments,
          containerBytes: await store.size() * SEALED,
          checkpointBytes: container.checkpointBlocks * SEALED,
          journalBytes: container.journalBlocks * SEALED,
          slots: header.slots.flatMap((slot, index) => slot === undefined ? [] : [slotInfo(slot, index)]),
        };
        if (options.json) return printJson(info);
        const size = (count: number) => `${humanSize(count)}`;
        const rows: [string, string][] = [
          ["container", info.container],
          ["id", info.id],
          ["format", `version ${info.formatVersion}, ${info.suite}`],
          ["made", info.created],
          ["commit", `${info.commit}${info.clean ? "" : " (in use, or not ended in order)"}`],
          ["files", String(info.files)],
          ["contents", `${size(info.fileBytes)} in ${size(info.dataBytes)} of blocks`],
          ["fragments", describeFragments(info)],
          [
            "occupied",
            `${size(info.containerBytes)} (checkpoint ${size(info.checkpointBytes)}, journal ${
              size(info.journalBytes)
            })`,
          ],
        ];
        if (info.rekeying) {
          rows.push(["master key", "being changed, both keys are kept: coverfs rekey goes on"]);
        }
        for (const [what, value] of rows) print(`${what.padEnd(10)} ${value}`);
        for (const { index, kind, kdf, label, made } of info.slots) {
          print(`${`slot ${index}`.padEnd(10)} ${kind}, ${kdf}, made ${made}${label ? `, "${label}"` : ""}`);
        }
      })
    );

/** In how many pieces a file's blocks lie: one where each block follows the one before it. */
function fragmentsOf(extents: ExtentTable, ino: Ino): number {
  let fragments = 0, next = -1;
  extents.each(ino, (_offset, length, position) => {
    if (position !== next) fragments++;
    next = position + Math.ceil(length / BLOCK);
  });
  return fragments;
}

function describeFragments(
  info: { readonly fragments: number; readonly filesWithData: number; readonly dataBytes: number },
): string {
  if (info.fragments === 0) return "none: no file has data";
  const each = (info.fragments / info.filesWithData).toFixed(2);
  return `${each} a file with data, ${humanSize(info.dataBytes / info.fragments)} each on average`;
}
