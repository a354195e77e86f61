import {
  chmodSync,
  closeSync,
  fchmodSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fromUtf8 } from "../../crypto/bytes.ts";
import { CoverError } from "../../crypto/errors.ts";
import type { Attributes, Filesystem } from "../../fs/filesystem.ts";
import { type Ino, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from "../../fs/types.ts";
import { foldName } from "../../fs/folded_names.ts";
import { replaceFile } from "../../net/atomic_file.ts";
import { windowsNameProblem } from "../../net/windows_names.ts";
import { copying, type CopyJob } from "../copying.ts";
import { readingCommand } from "../options.ts";
import { nameText, typeWord, writeOut } from "../output.ts";
import { about, joinPath, lastName, resolve } from "../paths.ts";
import { readPieces, secondsOf } from "../transfer.ts";

/** `coverfs get`: copies files of a container to this machine. */
export const getCommand = () =>
  readingCommand(
    "get",
    "coverfs get /notes/todo.txt .\ncoverfs get -r /Photos ~/Pictures\ncoverfs get /backup.tar - | tar x",
  )
    .description("copy files of a container to this machine")
    .argument("<PATHS...>", "sources in the container, and the local target (. if there is one source only)")
    .option("-r, --recursive", "directories with all that is below them")
    .option("-q, --quiet", "no progress")
    .action((paths, options) =>
      copying({ paths, target: ".", mode: "read", options }, async (volume, job) => {
        const { sources, target, items } = job, getter = new Getter(volume, job), taken = new Taken();
        const into = target !== "-" && targetDirectory(target, sources.length > 1);
        for (const source of sources) {
          await items.run(() => {
            const name = into ? taken.add(localName(lastName(source), source), source) : "";
            return getter.source(source, into ? join(target, name) : target);
          });
        }
        getter.finish();
      })
    );

/** Whether sources go into the target under their own names. */
function targetDirectory(target: string, must: boolean): boolean {
  const found = statSync(target, { throwIfNoEntry: false });
  if (found?.isDirectory()) return true;
  if (must || target.endsWith("/") || WINDOWS && target.endsWith("\\")) {
    throw new CoverError("usage", `Cannot copy to "${target}": not a directory`);
  }
  return false;
}

const WINDOWS = Deno.build.os === "windows";

/** A name that can be given to a local file without leading anywhere else. */
function localName(name: string, path: string): string {
  if (name === "" || name === "." || name === "..") {
    throw new CoverError("usage", `Cannot copy "${path}" under its own name: it has none`, {
      hint: "Name a target that is not there yet",
    });
  }
  const problem = WINDOWS ? windowsNameProblem(name) : undefined;
  if (problem !== undefined) {
    throw new CoverError("failure", `Cannot copy "${path}": its name ${problem}`, { hint: ANOTHER_NAME });
  }
  return name;
}

const ANOTHER_NAME = "Copy it alone, to a target with another name: coverfs get PATH TARGET";

/** Refuses names that differ in case only where the system takes them for the same: one would replace the other. */
class Taken {
  readonly #folded = new Map<string, string>();

  add(name: string, path: string): string {
    if (!WINDOWS) return name;
    const folded = foldName(name), other = this.#folded.get(folded);
    if (other !== undefined && other !== path) {
      throw new CoverError("failure", `Cannot copy "${path}": on Windows its name is that of "${other}"`, {
        hint: ANOTHER_NAME,
      });
    }
    this.#folded.set(folded, path);
    return name;
  }
}

class Getter {
  readonly #filesystem: Filesystem;
  readonly #how: CopyJob;
  /** Where an inode with several names was copied to. */
  readonly #links = new Map<Ino, string>();
  readonly #directories: (() => void)[] = [];

  constructor(filesystem: Filesystem, how: CopyJob) {
    this.#filesystem = filesystem;
    this.#how = how;
  }

  /** Copies what a path in the container names; a symbolic link at its end is followed, as `cp` does. */
  async source(path: string, local: string): Promise<void> {
    const ino = resolve(this.#filesystem, path, { follow: !this.#how.recursive });
    if (local !== "-") return await this.#get(ino, new TextEncoder().encode(path), local);
    const { signal } = this.#how;
    await about(path, async () => {
      for await (const piece of readPieces(this.#filesystem, ino, { signal })) writeOut(piece);
    });
  }

  /** Gives the directories their modes and times, the deepest first. */
  finish(): void {
    for (const finish of this.#directories.reverse()) finish();
  }

  async #get(ino: Ino, path: Uint8Array, local: string): Promise<void> {
    this.#how.signal.throwIfAborted();
    const attributes = this.#filesystem.attributes(ino), { mode, nlink, atime, mtime } = attributes;
    switch (mode & S_IFMT) {
      case S_IFDIR:
        return await this.#directory(ino, path, local, attributes);
      case S_IFLNK:
        replace(local, (temporary) => symlinkSync(targetOf(this.#filesystem.readlink(ino), path), temporary));
        lutimesSync(local, secondsOf(atime), secondsOf(mtime));
        return;
      case S_IFREG: {
        const known = nlink > 1 ? this.#links.get(ino) : undefined;
        if (known !== undefined) return replace(local, (temporary) => linkSync(known, temporary));
        await about(nameText(path), () => this.#file(ino, path, local, attributes));
        if (nlink > 1) this.#links.set(ino, local);
        return;
      }
    }
    throw new CoverError("failure", `Cannot copy "${nameText(path)}": a ${typeWord(mode)}`);
  }

  async #directory(ino: Ino, path: Uint8Array, local: string, attributes: Attributes): Promise<void> {
    if (!this.#how.recursive) {
      throw new CoverError("failure", `"${nameText(path)}" is a directory: not copied`, { hint: "Use -r" });
    }
    // A link in its place would lead the copy elsewhere.
    if (!lstatSync(local, { throwIfNoEntry: false })?.isDirectory()) mkdirSync(local, { mode: 0o700 });
    this.#directories.push(() => setAttributes(local, attributes));
    const taken = new Taken();
    for (const entry of [...this.#filesystem.list(ino)]) {
      const below = joinPath(path, entry.name);
      await this.#how.items.run(() => {
        const shown = nameText(below), name = taken.add(localName(textOf(entry.name, below), shown), shown);
        return this.#get(entry.ino, below, join(local, name));
      });
    }
  }

  /** Writes beside the target and puts it in its place when it is complete and on the disk. */
  async #file(ino: Ino, path: Uint8Array, local: string, attributes: Attributes): Promise<void> {
    const { signal, progress } = this.#how, temporary = temporaryPath(local);
    if (lstatSync(local, { throwIfNoEntry: false })?.isDirectory()) {
      throw new CoverError("failure", `Cannot write "${local}": it is a directory`);
    }
    try {
      {
        await using file = await open(temporary, "wx", 0o600);
        let at = 0;
        for await (const piece of readPieces(this.#filesystem, ino, { signal })) {
          for (let done = 0; done < piece.length;) {
            done += (await file.write(piece, done, piece.length - done, at + done)).bytesWritten;
          }
          at += piece.length;
          progress.bytes(nameText(path), at, attributes.size);
        }
        await file.sync();
      }
      setAttributes(temporary, attributes);
      await replaceFile(temporary, local);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
  }
}

function setAttributes(path: string, { mode, atime, mtime }: Attributes): void {
  // Set-id bits stay behind: the owner here is another one.
  if (!WINDOWS) chmodSync(path, mode & 0o1777);
  else if ((mode & S_IFMT) === S_IFREG && (mode & 0o200) === 0) makeReadOnly(path);
  utimesSync(path, secondsOf(atime), secondsOf(mtime));
}

/** The one permission bit of Windows. By path it would fail for long ones (Deno 2.9). */
function makeReadOnly(path: string): void {
  const descriptor = openSync(path, "r+");
  try {
    fchmodSync(descriptor, 0o444);
  } finally {
    closeSync(descriptor);
  }
}

function temporaryPath(path: string): string {
  return join(dirname(path), `.coverfs-${crypto.getRandomValues(new Uint8Array(8)).toHex()}`);
}

function replace(path: string, make: (temporary: string) => void): void {
  const temporary = temporaryPath(path);
  make(temporary);
  try {
    renameSync(temporary, path);
  } finally {
    rmSync(temporary, { force: true }); // still there if it was a link to the same file, or on failure
  }
}

function textOf(name: Uint8Array, path: Uint8Array): string {
  try {
    return fromUtf8(name);
  } catch (cause) {
    throw new CoverError("failure", `Cannot copy "${nameText(path)}": its name is not UTF-8`, { cause });
  }
}

function targetOf(target: Uint8Array, path: Uint8Array): string {
  try {
    return fromUtf8(target);
  } catch (cause) {
    throw new CoverError("failure", `Cannot copy "${nameText(path)}": its target is not UTF-8`, { cause });
  }
}
