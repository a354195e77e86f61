/** Servers on the loopback for the tests, writers with keys, and containers whose disk fails on demand. */
import { Buffer } from "node:buffer";
import { openRemoteStore, type RemoteStore, type RemoteStoreOptions } from "../../fs/store/remote.ts";
import type { BackingStore } from "../../net/backing.ts";
import {
  Connection,
  identifyServer,
  type Prover,
  serve,
  type ServeOptions,
  type Server,
} from "../../net/mod.ts";
import type { BackingRoot } from "../../net/root.ts";

export { Relay } from "./relay.ts";

export const BLOCK_BYTES = 4128;
export const HOST = "127.0.0.1";

/**
 * Starts a server on a free port of the loopback, in RAM unless a root is given. All tests come from one address, and
 * often fail on purpose, so that it would soon be kept out.
 */
export function startServer(options: ServeOptions = {}): Promise<Server> {
  return serve({
    hostname: HOST,
    port: 0,
    ...options,
    limits: {
      ...{ graceSeconds: 0.2, handshakesPerSecond: 1000, handshakesAtOnce: 1000 },
      ...{ addressHandshakesPerSecond: 1000, addressHandshakesAtOnce: 1000 },
      ...options.limits,
    },
  });
}

/** A writer: a key, a container id and a session. */
export interface Writer {
  readonly prover: Prover;
  readonly containerId: Uint8Array;
  readonly session: Uint8Array;
}

/** Makes a writer; another session of the same key where `of` is given. */
export async function makeWriter(of?: Writer): Promise<Writer> {
  const session = crypto.getRandomValues(new Uint8Array(16));
  if (of !== undefined) return { ...of, session };
  const keys = await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"]) as CryptoKeyPair;
  const prover: Prover = {
    publicKey: new Uint8Array(await crypto.subtle.exportKey("raw", keys.publicKey)),
    sign: async (message) =>
      new Uint8Array(await crypto.subtle.sign("Ed25519", keys.privateKey, Uint8Array.from(message))),
  };
  return { prover, containerId: crypto.getRandomValues(new Uint8Array(16)), session };
}

/** Opens a store on a server with its first token and pinned fingerprint. */
export function openOn(
  server: Pick<Server, "port" | "fingerprint" | "firstToken">,
  options: Partial<RemoteStoreOptions> & Pick<RemoteStoreOptions, "mode">,
): Promise<RemoteStore> {
  return openRemoteStore({
    host: HOST,
    port: server.port,
    container: "box",
    token: server.firstToken,
    fingerprint: server.fingerprint,
    ...options,
  });
}

/** A bare connection to a server. */
export async function connectTo(
  server: Pick<Server, "port" | "fingerprint" | "firstToken">,
  token = server.firstToken!,
): Promise<Connection> {
  const { signal } = new AbortController();
  const address = { host: HOST, port: server.port };
  const identity = await identifyServer(address, { fingerprint: server.fingerprint, signal });
  return await Connection.connect({ address, identity, token, signal });
}

/** `count` blocks, each filled with `fill` and its index. */
export function blocks(count: number, fill: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(count * BLOCK_BYTES);
  for (let i = 0; i < count; i++) {
    bytes.fill(fill, i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES);
    bytes[i * BLOCK_BYTES] = i;
  }
  return bytes;
}

/** Whether two byte strings are the same. */
export function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** Operations of a backing that can be watched, held and made to fail. */
export type DiskOperation = "read" | "write" | "truncate" | "sync";

/** Stands before an operation of the disk; rejects to make it fail. */
export type DiskHook = (operation: DiskOperation, offset: number) => void | Promise<void>;

/** A decorator for {@linkcode ServeOptions.decorate}: every operation of every container asks `hook` first. */
export function hookedRoot(hook: DiskHook): (root: BackingRoot) => BackingRoot {
  const hooked = (backing: BackingStore): BackingStore => ({
    read: async (offset, into) => (await hook("read", offset), await backing.read(offset, into)),
    write: async (offset, bytes) => (await hook("write", offset), await backing.write(offset, bytes)),
    truncate: async (length) => (await hook("truncate", length), await backing.truncate(length)),
    sync: async () => (await hook("sync", 0), await backing.sync()),
    size: () => backing.size(),
    free: () => backing.free(),
    close: () => backing.close(),
  });
  return (root) => ({
    create: (name, record) => root.create(name, record),
    open: async (name) => hooked(await root.open(name)),
    record: (name) => root.record(name),
    saveRecord: (name, record) => root.saveRecord(name, record),
    list: () => root.list(),
    remove: (name) => root.remove(name),
    close: () => root.close(),
  });
}

/** A promise and its ends. */
export function gate(): { readonly opened: Promise<void>; open(): void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { opened: promise, open: resolve };
}

/** Makes a folder for one test; it is deleted at disposal. */
export async function temporaryFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await Deno.makeTempDir({ prefix: "coverfs-test-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}
