import type { Attributes } from "../../fs/filesystem.ts";
import { inodeNumber, S_IFLNK, S_IFMT } from "../../fs/types.ts";
import { withVolume } from "../container.ts";
import { forEachItem } from "../items.ts";
import { readingCommand } from "../options.ts";
import {
  escapeControls,
  humanSize,
  modeText,
  nameText,
  print,
  printJson,
  timeIso,
  typeWord,
} from "../output.ts";
import { resolve } from "../paths.ts";

/** `coverfs stat`: all attributes of files. */
export const statCommand = () =>
  readingCommand("stat", "coverfs stat /notes/todo.txt\ncoverfs stat --json /")
    .description("show the attributes of files of a container")
    .argument("<PATH...>", "the files; a symbolic link itself is shown")
    .option("--json", "print an array of objects")
    .action((paths, options) =>
      withVolume(options, { mode: "read" }, async (volume) => {
        const objects: unknown[] = [];
        try {
          await forEachItem(paths, (path) => {
            const ino = resolve(volume, path, { follow: false }), attributes = volume.attributes(ino);
            const link = (attributes.mode & S_IFMT) === S_IFLNK;
            const target = link ? nameText(volume.readlink(ino)) : undefined;
            if (options.json) objects.push(toJson(path, attributes, target));
            else show(path, attributes, target);
          });
        } finally {
          if (options.json) printJson(objects);
        }
      })
    );

function toJson(path: string, attributes: Attributes, target: string | undefined): unknown {
  const { mode, ino, atime, mtime, ctime, btime, ...numbers } = attributes;
  return {
    path,
    type: typeWord(mode),
    mode: mode & 0o7777,
    ino: inodeNumber(ino),
    ...numbers,
    atime: timeIso(atime),
    mtime: timeIso(mtime),
    ctime: timeIso(ctime),
    btime: timeIso(btime),
    ...(target === undefined ? {} : { target }),
  };
}

function show(path: string, attributes: Attributes, target: string | undefined): void {
  const { mode, size, blocks, nlink, uid, gid, ino, atime, mtime, ctime, btime } = attributes;
  const permissions = (mode & 0o7777).toString(8).padStart(4, "0");
  const rows: [string, string][] = [
    ["path", escapeControls(path) + (target === undefined ? "" : ` -> ${escapeControls(target)}`)],
    ["type", typeWord(mode)],
    ["mode", `${permissions} (${modeText(mode)})`],
    ["size", `${size} (${humanSize(size)})`],
    ["allocated", humanSize(blocks * 512)],
    ["inode", String(inodeNumber(ino))],
    ["links", String(nlink)],
    ["owner", `${uid}:${gid}`],
    ["accessed", timeIso(atime)],
    ["modified", timeIso(mtime)],
    ["changed", timeIso(ctime)],
    ["made", timeIso(btime)],
  ];
  for (const [name, value] of rows) print(`${name.padEnd(10)} ${value}`);
}
