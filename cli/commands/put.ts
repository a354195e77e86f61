import { constants, lstatSync, readdirSync, readlinkSync } from "node:fs";
import { open } from "node:fs/promises";
import { basename, join, resolve as resolveLocal } from "node:path";
import { CoverError } from "../../crypto/errors.ts";
import { FsError } from "../../fs/errors.ts";
import type { Filesystem, NodeSpec } from "../../fs/filesystem.ts";
import { type Ino, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG } from "../../fs/types.ts";
import { copying, type CopyJob } from "../copying.ts";
import { writingCommand } from "../options.ts";
import { about, isDirectory, pathError, place, resolve } from "../paths.ts";
import { kept, PIECE, writePieces } from "../transfer.ts";

/** `coverfs put`: copies local files into a container. */
export const putCommand = () =>
  writingCommand(
    "put",
    "coverfs put todo.txt /notes/\ncoverfs put -r Photos /\ntar c . | coverfs put - /backup.tar",
  )
    .description("copy local files into a container")
    .argument("<PATHS...>", "local sources, and the target in the container (/ if there is one source only)")
    .option("-r, --recursive", "directories with all that is below them")
    .option("-q, --quiet", "no progress")
    .action((paths, options) =>
      copying({ paths, target: "/", mode: "write", options }, async (volume, job) => {
        const { sources, target, items } = job, putter = new Putter(volume, job);
        const into = targetDirectory(volume, target, sources.length > 1);
        for (const source of sources) {
          const path = into ? `${target.replace(/\/+$/, "")}/${nameOf(source)}` : target;
          await items.run(() => putter.put(source, path));
        }
        await putter.finish();
      })
    );

/** Whether sources go into the target under their own names. */
function targetDirectory(filesystem: Filesystem, target: string, must: boolean): boolean {
  try {
    if (isDirectory(filesystem, resolve(filesystem, target, { follow: true }))) return true;
  } catch (error) {
    if (!(error instanceof FsError && error.code === "ENOENT") || target.endsWith("/")) throw error;
    if (must) throw pathError("ENOENT", target, error);
    return false;
  }
  if (must) throw pathError("ENOTDIR", target);
  return false;
}

function nameOf(source: string): string {
  if (source === "-") {
    throw new CoverError("usage", "Standard input has no name: give the path of a file as the target");
  }
  return basename(resolveLocal(source));
}

const utf8 = (text: string) => new TextEncoder().encode(text);

class Putter {
  readonly #filesystem: Filesystem;
  readonly #how: CopyJob;
  /** Inodes of local files with several names, by device and inode number. */
  readonly #links = new Map<string, Ino>();
  /** Directories get their times last: each entry made in them moves those. */
  readonly #directories: (() => void)[] = [];

  constructor(filesystem: Filesystem, how: CopyJob) {
    this.#filesystem = filesystem;
    this.#how = how;
  }

  /** Puts a local file, link or directory at a path. */
  async put(source: string, path: string): Promise<void> {
    this.#how.signal.throwIfAborted();
    if (source === "-") {
      const mode = 0o666 & ~(Deno.build.os === "windows" ? 0o022 : Deno.umask());
      await about(path, () => this.#file(path, this.#spec(S_IFREG | mode), Deno.stdin.readable));
      return;
    }
    const stat = looked(source), type = Number(stat.mode) & S_IFMT;
    const key = `${stat.dev}:${stat.ino}`, changes = kept(stat), mode = changes.mode!;
    if (type === S_IFDIR) return await this.#directory(source, path, changes);
    await about(path, async () => {
      const known = stat.nlink > 1n ? this.#links.get(key) : undefined;
      let ino: Ino;
      if (known !== undefined) return this.#place(path, known);
      if (type === S_IFREG) ino = await this.#localFile(source, path, this.#spec(type | mode));
      else if (type === S_IFLNK) {
        ino = this.#node(path, { ...this.#spec(S_IFLNK | 0o777), target: utf8(linkTarget(source)) });
      } else if (type === S_IFIFO) ino = this.#node(path, this.#spec(type | mode));
      else throw new CoverError("failure", `Cannot copy "${source}": a device or socket`);
      this.#filesystem.setAttributes(ino, changes);
      if (stat.nlink > 1n) this.#links.set(key, ino);
    });
  }

  /** Gives the directories their times. */
  async finish(): Promise<void> {
    await this.#filesystem.admit();
    for (const finish of this.#directories.reverse()) finish();
  }

  async #directory(source: string, path: string, changes: ReturnType<typeof kept>): Promise<void> {
    if (!this.#how.recursive) {
      throw new CoverError("failure", `"${source}" is a directory: not copied`, { hint: "Use -r" });
    }
    await this.#filesystem.admit();
    const ino = await about(path, () => {
      const { directory, name, ino } = place(this.#filesystem, path);
      if (ino === undefined) return this.#filesystem.create(directory, name, this.#spec(S_IFDIR | 0o700));
      if (!isDirectory(this.#filesystem, ino)) throw pathError("ENOTDIR", path);
      return ino;
    });
    this.#directories.push(() => this.#filesystem.setAttributes(ino, changes));
    for (const name of readdirSync(source)) {
      await this.#how.items.run(() => this.put(join(source, name), `${path}/${name}`));
    }
  }

  async #localFile(source: string, path: string, spec: NodeSpec): Promise<Ino> {
    await using file = await open(source, TO_READ);
    const stat = await file.stat(), { size } = stat;
    if (!stat.isFile()) {
      throw new CoverError("failure", `Cannot copy "${source}": it is another kind of file now`);
    }
    async function* pieces() {
      const bytes = new Uint8Array(PIECE);
      while (true) {
        const { bytesRead } = await file.read(bytes, 0, PIECE, null);
        if (bytesRead === 0) return;
        yield bytes.subarray(0, bytesRead); // the filesystem copies it before it answers
      }
    }
    return await this.#file(path, spec, pieces(), size);
  }

  /** Writes the content into a file without a name, which takes its place at once when it is complete. */
  async #file(path: string, spec: NodeSpec, pieces: AsyncIterable<Uint8Array>, size?: number): Promise<Ino> {
    const filesystem = this.#filesystem, { signal, progress } = this.#how;
    const { ino: before } = place(filesystem, path);
    if (before !== undefined && isDirectory(filesystem, before)) throw pathError("EISDIR", path);
    await filesystem.admit();
    const ino = filesystem.createUnnamed(spec);
    filesystem.hold(ino);
    try {
      const onBytes = (bytes: number) => progress.bytes(path, bytes, size);
      await writePieces(filesystem, ino, pieces, { signal, onBytes });
      await filesystem.admit();
      this.#place(path, ino);
      return ino;
    } finally {
      filesystem.drop(ino);
    }
  }

  #node(path: string, spec: NodeSpec): Ino {
    const { directory, name, ino } = place(this.#filesystem, path);
    if (ino === undefined) return this.#filesystem.create(directory, name, spec);
    if (isDirectory(this.#filesystem, ino)) throw pathError("EISDIR", path);
    const temporary = temporaryName();
    const made = this.#filesystem.create(directory, temporary, spec);
    this.#filesystem.rename(directory, temporary, directory, name);
    return made;
  }

  /** Gives an inode its name, in the place of what had it; one commit holds both steps. */
  #place(path: string, ino: Ino): void {
    const { directory, name, ino: before } = place(this.#filesystem, path);
    if (before === ino) return;
    if (before === undefined) return this.#filesystem.link(ino, directory, name);
    if (isDirectory(this.#filesystem, before)) throw pathError("EISDIR", path);
    const temporary = temporaryName();
    this.#filesystem.link(ino, directory, temporary);
    this.#filesystem.rename(directory, temporary, directory, name);
  }

  #spec(mode: number): NodeSpec {
    return { mode, uid: Deno.uid() ?? 0, gid: Deno.gid() ?? 0 };
  }
}

/** How local files are opened: what took the place of one since it was looked at neither is followed nor waits. */
const TO_READ = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);

/** What a local source is. Of `put -r /` neither /dev nor /proc nor /sys can be looked into (`cli/permissions.ts`). */
function looked(source: string) {
  try {
    return lstatSync(source, { bigint: true });
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotCapable)) throw cause;
    throw new CoverError("failure", `Cannot copy "${source}": a folder of the system's own files`, {
      hint: "Name what is wanted of it by a path of its own",
      cause,
    });
  }
}

/** Where a local symbolic link leads, with the slashes that a container has. */
function linkTarget(path: string): string {
  const target = readlinkSync(path);
  return Deno.build.os === "windows" ? target.replaceAll("\\", "/") : target;
}

function temporaryName(): Uint8Array {
  return utf8(`.coverfs-${crypto.getRandomValues(new Uint8Array(12)).toHex()}`);
}
