import { CoverError } from "../../crypto/errors.ts";
import type { Filesystem } from "../../fs/filesystem.ts";
import { type Ino, S_IFLNK, S_IFMT } from "../../fs/types.ts";
import { withVolume } from "../container.ts";
import { forEachItem } from "../items.ts";
import { readingCommand } from "../options.ts";
import {
  escapeControls,
  modeText,
  nameForOutput,
  nameText,
  printJson,
  timeIso,
  timeText,
  typeWord,
  writeOut,
} from "../output.ts";
import { isDirectory, joinPath, resolve } from "../paths.ts";
import { namesServer, printContainers } from "../server_listing.ts";

interface Listed {
  readonly name: Uint8Array;
  readonly path: Uint8Array;
  readonly ino: Ino;
}

const utf8 = (text: string) => new TextEncoder().encode(text);

/** `coverfs ls`: lists directories. */
export const lsCommand = () =>
  readingCommand("ls", "coverfs ls -l /notes\ncoverfs ls -c container --json -R /\ncoverfs ls coverfs://host")
    .description("list directories of a container, or the containers of a server")
    .argument("[PATH...]", "what to list; / if left out; coverfs://HOST[:PORT] lists containers")
    .option("-l, --long", "one entry a line with mode, links, owner, size and time")
    .option("-a, --all", "names that begin with a dot too")
    .option("-R, --recursive", "directories below too")
    .option("--json", "print an array of objects")
    .action(async (given, options) => {
      const paths = given.length > 0 ? given : ["/"];
      if (paths.some(namesServer)) {
        if (paths.length > 1) throw new CoverError("usage", "Cannot list a server beside anything else");
        return await printContainers(paths[0]!, options, options);
      }
      await withVolume(options, { mode: "read" }, (volume) => {
        const lister = new Lister(volume, options);
        const done = forEachItem(paths, (path) => lister.list(path, paths.length > 1));
        return done.finally(() => lister.finish());
      });
    });

interface ListOptions {
  readonly long?: true | undefined;
  readonly all?: true | undefined;
  readonly recursive?: true | undefined;
  readonly json?: true | undefined;
}

class Lister {
  readonly #filesystem: Filesystem;
  readonly #options: ListOptions;
  readonly #objects: unknown[] = [];
  #first = true;

  constructor(filesystem: Filesystem, options: ListOptions) {
    this.#filesystem = filesystem;
    this.#options = options;
  }

  /** @param titled whether a directory's path is printed above its entries */
  list(path: string, titled: boolean): void {
    const ino = resolve(this.#filesystem, path, { follow: this.#options.long === undefined });
    const bytes = utf8(path);
    if (isDirectory(this.#filesystem, ino)) {
      this.#directory(ino, bytes, titled || this.#options.recursive === true);
    } else this.#show([{ name: bytes, path: bytes, ino }]);
  }

  finish(): void {
    if (this.#options.json) printJson(this.#objects);
  }

  #directory(directory: Ino, path: Uint8Array, titled: boolean): void {
    const pending: { ino: Ino; path: Uint8Array }[] = [{ ino: directory, path }];
    for (let next = pending.pop(); next; next = pending.pop()) {
      const entries = this.#entries(next.ino, next.path);
      if (titled && !this.#options.json) {
        if (!this.#first) writeOut(utf8("\n"));
        writeOut(nameForOutput(next.path));
        writeOut(utf8(":\n"));
      }
      this.#show(entries);
      if (this.#options.recursive) {
        pending.push(...entries.filter((entry) => isDirectory(this.#filesystem, entry.ino)).reverse());
      }
    }
  }

  #entries(directory: Ino, path: Uint8Array): Listed[] {
    const entries: Listed[] = [];
    for (const { name, ino } of this.#filesystem.list(directory)) {
      if (this.#options.all || name[0] !== 0x2e) entries.push({ name, ino, path: joinPath(path, name) });
    }
    return entries.sort((a, b) => compare(a.name, b.name));
  }

  #show(entries: readonly Listed[]): void {
    this.#first = false;
    if (this.#options.json) this.#objects.push(...entries.map((entry) => this.#object(entry)));
    else if (this.#options.long) this.#long(entries);
    else for (const { name } of entries) this.#line("", name, "");
  }

  #long(entries: readonly Listed[]): void {
    const rows = entries.map(({ name, ino }) => {
      const { mode, nlink, uid, gid, size, mtime } = this.#filesystem.attributes(ino);
      const link = (mode & S_IFMT) === S_IFLNK ? nameText(this.#filesystem.readlink(ino)) : undefined;
      const cells = [modeText(mode), String(nlink), String(uid), String(gid), String(size), timeText(mtime)];
      return { name, cells, link };
    });
    const widths = [0, 1, 2, 3, 4, 5].map((i) => Math.max(0, ...rows.map(({ cells }) => cells[i]!.length)));
    for (const { name, cells, link } of rows) {
      const row = cells.map((cell, i) => cell.padStart(widths[i]!)).join(" ");
      this.#line(row + " ", name, link === undefined ? "" : ` -> ${escapeControls(link)}`);
    }
  }

  #line(before: string, name: Uint8Array, after: string): void {
    const shown = nameForOutput(name),
      line = new Uint8Array(before.length + shown.length + after.length * 3 + 1);
    let at = 0;
    for (const part of [utf8(before), shown, utf8(after), utf8("\n")]) line.set(part, at), at += part.length;
    writeOut(line.subarray(0, at));
  }

  #object({ name, path, ino }: Listed): unknown {
    const { mode, nlink, uid, gid, size, mtime } = this.#filesystem.attributes(ino);
    const link = (mode & S_IFMT) === S_IFLNK;
    return {
      name: nameText(name),
      path: nameText(path),
      type: typeWord(mode),
      mode: mode & 0o7777,
      nlink,
      uid,
      gid,
      size,
      mtime: timeIso(mtime),
      ...(link ? { target: nameText(this.#filesystem.readlink(ino)) } : {}),
    };
  }
}

function compare(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    if (a[i] !== b[i]) return a[i]! - b[i]!;
  }
  return a.length - b.length;
}
