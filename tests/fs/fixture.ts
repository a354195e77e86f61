/** Containers in RAM for the tests of fs/. */
import { Buffer } from "node:buffer";
import { type BlockEngine, createSealer } from "../../crypto/mod.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { Container } from "../../fs/container.ts";
import { createContainer } from "../../fs/creating.ts";
import type { ContainerKeys } from "../../fs/loading.ts";
import { FsError } from "../../fs/errors.ts";
import type { Filesystem } from "../../fs/filesystem.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { type Ino, ROOT, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from "../../fs/types.ts";
import { Volume, type VolumeOptions } from "../../fs/volume.ts";

export const SUITES = ["aes-256-cbc-hmac-sha256", "aes-256-gcm"] as const;

const containerId = new Uint8Array(16).fill(7);
/** The master key of the tests' containers. */
export const masterKey = new Uint8Array(32).fill(9);

/** Keys of the tests' containers, without a key derivation; blocks are sealed by WebCrypto unless told otherwise. */
export async function testKeys(suite: string = SUITES[0], engine?: BlockEngine): Promise<ContainerKeys> {
  const keys = new Map([[1, masterKey.slice()]]);
  const sealer = await createSealer({ suite, containerId, keys, ...(engine && { engine }) });
  return { containerId, sealer, generation: 1, keySequence: 1 };
}

/** Makes an empty container in the store. */
export async function makeContainer(store: BlockStore, suite?: string): Promise<void> {
  const keys = await testKeys(suite);
  await createContainer(store, keys, { uid: 0, gid: 0, mode: 0o755 });
  keys.sealer[Symbol.dispose]();
}

/** A store in RAM with an empty container. */
export async function ramContainer(): Promise<RamStore> {
  const store = new RamStore();
  await makeContainer(store);
  return store;
}

/** Opens the container in the store as a volume. */
export async function openVolume(
  store: BlockStore,
  mode: "read" | "write" = "write",
  options: VolumeOptions & { suite?: string; keys?: ContainerKeys } = {},
): Promise<Volume> {
  const keys = options.keys ?? await testKeys(options.suite);
  const session = crypto.getRandomValues(new Uint8Array(16));
  const container = await Container.open(store, keys, mode === "read" ? { mode } : { mode, session });
  return new Volume(container, options);
}

/** A name as bytes. */
export function name(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export const FILE = { mode: S_IFREG | 0o644, uid: 1000, gid: 1000 };
export const FOLDER = { mode: S_IFDIR | 0o755, uid: 1000, gid: 1000 };

/** Bytes that differ from place to place and from seed to seed. */
export function pattern(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length);
  let x = seed * 2654435761 >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    x ^= x << 13, x ^= x >>> 17, x ^= x << 5;
    bytes[i] = x;
  }
  return bytes;
}

/** Numbers from 0 to below `n`, the same for the same seed (xorshift). */
export function randomNumbers(seed: number): (n: number) => number {
  let x = seed >>> 0 || 1;
  return (n) => {
    x ^= x << 13, x ^= x >>> 17, x ^= x << 5;
    return (x >>> 0) % n;
  };
}

/** Compares without a picture of the difference, which takes minutes for large arrays. */
export function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}

/** What random tests draw from: `COVERFS_SEED` replays a run. */
export const SEED = Number(Deno.env.get("COVERFS_SEED") ?? 1 + Math.floor(Math.random() * 1e9));

/** Paths with their inode ids. */
export type Walk = { path: string; ino: Ino }[];

/** Every path of a tree with its inode id, in the order of the names. */
export function walk(filesystem: Filesystem, directory = ROOT, prefix = ""): Walk {
  const entries = [...filesystem.list(directory)]
    .map(({ name, ino }) => ({ name: new TextDecoder().decode(name), ino }))
    .sort((a, b) => a.name < b.name ? -1 : 1);
  return entries.flatMap(({ name, ino }) => {
    const path = `${prefix}/${name}`, folder = (filesystem.attributes(ino).mode & S_IFMT) === S_IFDIR;
    return [{ path, ino }, ...(folder ? walk(filesystem, ino, path) : [])];
  });
}

/** The inode of a path; "" is the root. @throws {FsError} ENOENT */
export function inoOf(filesystem: Filesystem, path: string): Ino {
  let at = ROOT;
  for (const part of path.split("/").filter(Boolean)) {
    const next = filesystem.lookup(at, name(part));
    if (next === undefined) throw new FsError("ENOENT");
    at = next;
  }
  return at;
}

/** All that a user can see of a tree: a picture that is equal exactly when the trees are. */
export async function picture(filesystem: Filesystem): Promise<unknown[]> {
  const first = new Map<number, string>();
  return await Promise.all(
    walk(filesystem).map(async ({ path, ino }) => {
      const { mode, nlink, uid, gid, size } = filesystem.attributes(ino), type = mode & S_IFMT;
      if (!first.has(ino)) first.set(ino, path);
      const content = type === S_IFLNK ? filesystem.readlink(ino) : type === S_IFREG
        ? new Uint8Array(
          await crypto.subtle.digest(
            "SHA-256",
            (await filesystem.read(ino, 0, size)) as Uint8Array<ArrayBuffer>,
          ),
        )
        : new Uint8Array(0);
      const attributes = filesystem.listXattr(ino).map((one) => [one, filesystem.getXattr(ino, one)].join());
      return {
        path,
        same: first.get(ino),
        mode,
        nlink,
        uid,
        gid,
        size,
        content: content.join(),
        attributes: attributes.sort(),
      };
    }),
  );
}

/** All of a file's content. */
export async function content(on: Filesystem, ino: Ino): Promise<Uint8Array> {
  return await on.read(ino, 0, on.attributes(ino).size);
}

/** Tells whether an error is the `FsError` of that code, for `assert.throws`. */
export function fails(code: FsError["code"]) {
  return (error: unknown) => error instanceof FsError && error.code === code;
}
