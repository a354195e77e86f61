/** What a server serves: containers by name with their records, in a folder or in RAM. */
import { mkdirSync } from "node:fs";
import { chmod, lstat, mkdir, readdir, realpath, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { CoverError } from "../crypto/errors.ts";
import { errorCode, readTextIfThere, syncDirectory, writeFileAtomic } from "./atomic_file.ts";
import { type BackingStore, BLOCKS_AT, FileBacking, RamBacking } from "./backing.ts";
import { isContainerName, StatusError } from "./protocol.ts";
import { windowsNameProblem } from "./windows_names.ts";

/** What the server knows of a container besides its bytes. */
export interface ContainerRecord {
  /** Container id, 16 bytes as hexadecimal digits. */
  readonly id: string;
  /** Ed25519 public key of its writers, 32 bytes as hexadecimal digits. */
  readonly publicKey: string;
  /** The newest fencing number that was granted; 0: none yet. */
  readonly fence: number;
  /** The session that it was granted to, 16 bytes as hexadecimal digits. */
  readonly session: string;
  /** The holder gave the lease back. */
  readonly released: boolean;
  /** No encryption block was ever written: it is no container yet, and holds nothing that anybody could read. */
  readonly begun: boolean;
}

/** A container in a listing. */
export interface ListedContainer {
  readonly name: string;
  /** Length in bytes. */
  readonly bytes: number;
}

/** The containers of a server. Every method checks `name` itself. */
export interface BackingRoot {
  /** Makes an empty container. @throws {StatusError} "exists" */
  create(name: string, record: ContainerRecord): Promise<void>;
  /** Opens a container's bytes; one handle at a time. @throws {StatusError} "noContainer" */
  open(name: string): Promise<BackingStore>;
  /** A container's record; undefined if it has none. */
  record(name: string): Promise<ContainerRecord | undefined>;
  /** Replaces a container's record, durably. */
  saveRecord(name: string, record: ContainerRecord): Promise<void>;
  list(): Promise<ListedContainer[]>;
  /** Deletes a container that is not open, as far as it is there. */
  remove(name: string): Promise<void>;
  close(): Promise<void>;
}

const WINDOWS = Deno.build.os === "windows";

function checkName(name: string): void {
  if (!isContainerName(name)) {
    throw new StatusError(
      "name",
      "Not a container name: 1 to 64 of A-Z a-z 0-9 . _ - and no dot at the beginning",
    );
  }
  const problem = WINDOWS ? windowsNameProblem(name) : undefined;
  if (problem !== undefined) {
    throw new StatusError("name", `Not a container name on this server: it ${problem}`);
  }
}

function noContainer(name: string, cause?: unknown): StatusError {
  return new StatusError("noContainer", `No container "${name}" on this server`, { cause });
}

function exists(name: string, cause?: unknown): StatusError {
  return new StatusError("exists", `Cannot create container "${name}": it exists already`, { cause });
}

/** Path of one of a server's own files, below the folder of its containers. */
export function ownPath(root: string, file: string): string {
  return join(root, ".coverfs", file);
}

/** Containers as files in a folder; the server's own files are in `.coverfs/` there. */
export class FolderRoot implements BackingRoot {
  readonly #path: string;
  readonly #lock: Deno.FsFile;
  #closed = false;

  private constructor(path: string, lock: Deno.FsFile) {
    this.#path = path;
    this.#lock = lock;
  }

  /**
   * Opens a folder for one server, making it and `.coverfs/` (0700) if need be.
   *
   * @throws {CoverError} "busy" if another server has it, "usage" if `.coverfs` is not a folder
   */
  static async open(path: string): Promise<FolderRoot> {
    await mkdir(path, { recursive: true, mode: 0o700 });
    const own = join(path, ".coverfs");
    for (const folder of [own, join(own, "containers")]) {
      try {
        mkdirSync(folder, 0o700);
      } catch (error) {
        if (errorCode(error) !== "EEXIST") throw error;
      }
      if (!(await lstat(folder)).isDirectory()) {
        throw new CoverError("usage", `Cannot serve: "${folder}" is no folder`);
      }
    }
    await chmod(own, 0o700);
    const lock = await Deno.open(join(own, "lock"), { create: true, write: true, mode: 0o600 });
    if (!await lock.tryLock(true)) {
      lock.close();
      throw new CoverError("busy", `Cannot serve "${path}": another server has it`);
    }
    return new FolderRoot(path, lock);
  }

  /** Path of one of the server's own files. */
  ownPath(file: string): string {
    return ownPath(this.#path, file);
  }

  #recordPath(name: string): string {
    return this.ownPath(join("containers", `${name}.json`));
  }

  async create(name: string, record: ContainerRecord): Promise<void> {
    checkName(name);
    const path = join(this.#path, name);
    let there = true;
    try {
      await lstat(path);
    } catch (error) {
      if (errorCode(error) !== "ENOENT") throw error;
      there = false;
    }
    if (there) throw exists(name);
    await this.saveRecord(name, record); // first: a container without a record could never be written
    let backing: FileBacking;
    try {
      backing = FileBacking.open(path, { create: true });
    } catch (error) {
      if (errorCode(error) === "EEXIST") throw exists(name, error);
      throw error;
    }
    try {
      await backing.truncate(BLOCKS_AT);
      await backing.sync();
    } finally {
      await backing.close();
    }
    await syncDirectory(this.#path);
  }

  async open(name: string): Promise<BackingStore> {
    checkName(name);
    const path = join(this.#path, name);
    try {
      // In other letters it would be the same file, with leases of its own.
      if (WINDOWS && basename(await realpath(path)) !== name) throw noContainer(name);
      return FileBacking.open(path);
    } catch (error) {
      if (errorCode(error) === "ENOENT") throw noContainer(name, error);
      if (errorCode(error) === "ELOOP") {
        throw new StatusError("name", "Not a container: a link", { cause: error });
      }
      throw error;
    }
  }

  async record(name: string): Promise<ContainerRecord | undefined> {
    checkName(name);
    const text = await readTextIfThere(this.#recordPath(name));
    return text === undefined ? undefined : parseRecord(text, name);
  }

  async saveRecord(name: string, record: ContainerRecord): Promise<void> {
    checkName(name);
    await writeFileAtomic(
      this.#recordPath(name),
      JSON.stringify({ version: 1, ...record }, undefined, 2) + "\n",
    );
  }

  async list(): Promise<ListedContainer[]> {
    const found: ListedContainer[] = [];
    for (const entry of await readdir(this.#path, { withFileTypes: true })) {
      if (!entry.isFile() || !isContainerName(entry.name)) continue;
      try {
        found.push({ name: entry.name, bytes: (await lstat(join(this.#path, entry.name))).size });
      } catch (error) {
        if (errorCode(error) !== "ENOENT") throw error; // it went away meanwhile
      }
    }
    return found.sort((a, b) => a.name < b.name ? -1 : 1);
  }

  async remove(name: string): Promise<void> {
    checkName(name);
    await rm(join(this.#path, name), { force: true });
    await rm(this.#recordPath(name), { force: true });
    await syncDirectory(this.#path);
  }

  // deno-lint-ignore require-await
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#lock.close();
  }
}

function parseRecord(text: string, name: string): ContainerRecord {
  try {
    const { version, id, publicKey, fence, session, released, begun = false } = JSON.parse(text) as Record<
      string,
      unknown
    >;
    const digits = (value: unknown, length: number): value is string =>
      typeof value === "string" && value.length === length && /^[0-9a-f]*$/.test(value);
    if (version !== 1 || !digits(id, 32) || !digits(publicKey, 64) || !digits(session, 32)) {
      throw new Error("malformed");
    }
    if (
      !Number.isSafeInteger(fence) || (fence as number) < 0 || typeof released !== "boolean" ||
      typeof begun !== "boolean"
    ) {
      throw new Error("malformed");
    }
    return { id, publicKey, fence: fence as number, session, released, begun };
  } catch (cause) {
    throw new StatusError("failure", `The record of container "${name}" is damaged`, { cause });
  }
}

/** Containers in memory; gone with the object. */
export class RamRoot implements BackingRoot {
  readonly #containers = new Map<string, { backing: RamBacking; record: ContainerRecord }>();

  #find(name: string): { backing: RamBacking; record: ContainerRecord } {
    checkName(name);
    const found = this.#containers.get(name);
    if (found === undefined) throw noContainer(name);
    return found;
  }

  async create(name: string, record: ContainerRecord): Promise<void> {
    checkName(name);
    if (this.#containers.has(name)) throw exists(name);
    const backing = new RamBacking();
    this.#containers.set(name, { backing, record });
    await backing.truncate(BLOCKS_AT);
  }

  // deno-lint-ignore require-await
  async open(name: string): Promise<BackingStore> {
    return this.#find(name).backing;
  }

  // deno-lint-ignore require-await
  async record(name: string): Promise<ContainerRecord | undefined> {
    checkName(name);
    return this.#containers.get(name)?.record;
  }

  // deno-lint-ignore require-await
  async saveRecord(name: string, record: ContainerRecord): Promise<void> {
    this.#find(name).record = record;
  }

  async list(): Promise<ListedContainer[]> {
    const names = [...this.#containers.keys()].sort();
    return await Promise.all(
      names.map(async (name) => ({ name, bytes: await this.#find(name).backing.size() })),
    );
  }

  // deno-lint-ignore require-await
  async remove(name: string): Promise<void> {
    this.#find(name);
    this.#containers.delete(name);
  }

  async close(): Promise<void> {}
}
