/** Damaged containers: by a writer with the key that records what is wrong, and by an editor of bytes without keys. */
import assert from "node:assert/strict";
import { SEALED } from "../../crypto/sealer.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { Container } from "../../fs/container.ts";
import { checkContainer, type Finding } from "../../fs/fsck.ts";
import { ChangeLog } from "../../fs/layout/changes.ts";
import type { Tables } from "../../fs/layout/tables.ts";
import { repairContainer, type RepairOptions, type RepairReport } from "../../fs/repair.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { type Ino, ROOT, S_IFMT, S_IFREG } from "../../fs/types.ts";
import type { Volume } from "../../fs/volume.ts";
import {
  equal,
  FILE,
  FOLDER,
  inoOf,
  name,
  openVolume,
  pattern,
  ramContainer,
  testKeys,
  walk,
} from "./fixture.ts";

/** What the tests' tree holds: paths of files with their lengths. */
export const FILES: Readonly<Record<string, number>> = {
  "/a": 20_000,
  "/b": 9000,
  "/folder/c": 4096,
  "/folder/inner/d": 300_000,
  "/other/e": 1,
};

/** The content of one of {@linkcode FILES}. */
export function contentOf(path: string): Uint8Array {
  return pattern(FILES[path]!, path.length * 7 + path.charCodeAt(path.length - 1));
}

/** Makes a container with {@linkcode FILES}; with two checkpoints and some journal behind them. */
export async function treeStore(): Promise<RamStore> {
  const store = await ramContainer();
  const volume = await openVolume(store);
  for (const [i, path] of Object.keys(FILES).entries()) {
    const parts = path.slice(1).split("/"), file = parts.pop()!;
    let folder: Ino = ROOT;
    for (const part of parts) {
      folder = volume.lookup(folder, name(part)) ?? volume.create(folder, name(part), FOLDER);
    }
    await volume.write(volume.create(folder, name(file), FILE), 0, contentOf(path));
    if (i === 1 || i === 3) await volume.checkpoint();
    await volume.sync();
  }
  await volume.end();
  return store;
}

/** Changes a container's tables and records it: what a faulty writer might have committed. */
export async function corrupt(
  store: BlockStore,
  change: (tables: Tables, log: ChangeLog, find: (path: string) => Ino) => void,
  options: { readonly checkpoint?: boolean } = {},
): Promise<void> {
  const session = crypto.getRandomValues(new Uint8Array(16));
  const container = await Container.open(store, await testKeys(), { mode: "write", session });
  const { tables } = container, log = new ChangeLog();
  const find = (path: string) => {
    let at: Ino = ROOT;
    for (const part of path.split("/").filter(Boolean)) {
      at = tables.dentries.inoAt(tables.dentries.find(at, name(part)));
    }
    return at;
  };
  change(tables, log, find);
  await container.session.append(
    container.session.freeze(),
    log.freeze(tables, (ino) => tables.inodes.size[ino]!),
    undefined,
  );
  if (options.checkpoint) {
    await container.session.checkpoint({
      sizeOf: (ino) => tables.inodes.size[ino]!,
      commit: () => Promise.resolve(),
      pause: () => Promise.resolve(),
    });
  }
  await container.session.end();
}

/** Overwrites blocks with bytes that no key made. */
export async function spoil(store: BlockStore, position: number, count = 1): Promise<void> {
  await store.write(position, new Uint8Array(count * SEALED).fill(0xee));
}

/** Where the blocks of a file lie, one position for each. */
export async function blocksOfFile(store: BlockStore, path: string): Promise<number[]> {
  const volume = await openVolume(store, "read"), positions: number[] = [];
  volume.container.tables.extents.each(inoOf(volume, path), (_offset, length, position) => {
    for (let i = 0; i < Math.ceil(length / 4096); i++) positions.push(position + i);
  });
  return positions;
}

/** Checks with all data read. */
export async function check(store: BlockStore): Promise<Finding[]> {
  return (await checkContainer(store, await testKeys(), { scrub: true })).findings;
}

/** Repairs as the command does. */
export async function repair(
  store: BlockStore,
  options: Partial<RepairOptions> = {},
): Promise<RepairReport> {
  const session = crypto.getRandomValues(new Uint8Array(16));
  return await repairContainer(store, await testKeys(), { scrub: true, session, ...options });
}

/** The distinct codes of findings that need something, sorted. */
export function codesOf(findings: readonly Finding[]): string[] {
  return [...new Set(findings.filter(({ severity }) => severity !== "note").map(({ code }) => code))].sort();
}

/** Asserts that files have their content, in a container that opens to be written. */
export async function assertFiles(volume: Volume, paths: readonly string[], where = ""): Promise<void> {
  for (const path of paths) {
    const bytes = await volume.read(inoOf(volume, path), 0, 1 << 20);
    assert.ok(equal(bytes, contentOf(path)), `${path} is not what it was ${where}`);
  }
}

/** Every regular file's path. */
export function pathsOf(volume: Volume): string[] {
  return walk(volume).filter(({ ino }) => (volume.attributes(ino).mode & S_IFMT) === S_IFREG)
    .map(({ path }) => path);
}
