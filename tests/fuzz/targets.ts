/** Every decoder that sees bytes from outside, and what may come out of it. */
import fc from "fast-check";
import { parseLocator } from "../../cli/locator.ts";
import { parseRollbackMemory } from "../../cli/state.ts";
import {
  CoverError,
  type ErrorKind,
  newestEncryptionBlock,
  newRecoveryWords,
  parseEncryptionBlock,
  parseRecoveryWords,
} from "../../crypto/mod.ts";
import { BLOCK, SEALED, type Sealer } from "../../crypto/sealer.ts";
import { headerOf, readHeaderBackup } from "../../fs/header_backup.ts";
import { DecodeError } from "../../fs/layout/bytes.ts";
import { applyChanges, ChangeLog } from "../../fs/layout/changes.ts";
import { type CheckpointIndex, decodeIndex, encodeIndex } from "../../fs/layout/checkpoint.ts";
import { JournalReader, JournalWriter } from "../../fs/layout/journal.ts";
import { decodePage, encodePages, PAGE_KINDS, type PageKind } from "../../fs/layout/pages.ts";
import { decodeSuperblock, encodeSuperblock } from "../../fs/layout/superblock.ts";
import { Tables } from "../../fs/layout/tables.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { SharedBudget } from "../../net/budget.ts";
import { parseKnownServers } from "../../net/known_servers.ts";
import {
  Connection,
  Op,
  parseFingerprint,
  parseLocatorUrl,
  ProtocolError,
  StatusError,
  Tokens,
} from "../../net/mod.ts";
import { Direction, PROTOCOL_VERSION } from "../../net/protocol.ts";
import { RamRoot } from "../../net/root.ts";
import { ServedContainer } from "../../net/served_container.ts";
import { ServerConnection } from "../../net/server_connection.ts";
import type { ServerState } from "../../net/server_session.ts";
import { SpareBodies } from "../../net/spare_bodies.ts";
import { Turns } from "../../net/turns.ts";
import type { TlsStream } from "../../net/tls_listener.ts";
import { parseTokens } from "../../net/tokens.ts";
import { FieldWriter } from "../../net/wire.ts";
import { buildFrame } from "../../net/frames.ts";
import { makeBlock, rehash, TEST_LIMITS } from "../crypto/blocks.ts";
import { FILE, name, openVolume, ramContainer } from "../fs/fixture.ts";
import { ROOT } from "../../fs/types.ts";
import { mutated, mutatedText } from "./mutations.ts";

/** One decoder. */
export interface Target<Input = unknown> {
  readonly inputs: fc.Arbitrary<Input>;
  /** Decodes; also checks what must hold of the outcome. Only what `refuses` allows may be thrown. */
  readonly decode: (input: Input) => unknown;
  readonly refuses: (error: unknown) => boolean;
}

const target = <Input>(made: Target<Input>): Target => made as Target;

const cover = (...kinds: ErrorKind[]) => (error: unknown) =>
  error instanceof CoverError && kinds.includes(error.kind);
const decodeError = (error: unknown) => error instanceof DecodeError;
const anyError = (error: unknown) => error instanceof Error && !(error instanceof RangeError);

/** Tables with a bit of everything, and the records that made them. */
async function sampleTables(): Promise<{ tables: Tables; records: Uint8Array[] }> {
  const store = await ramContainer();
  const volume = await openVolume(store), records: Uint8Array[] = [];
  for (let i = 0; i < 20; i++) {
    const ino = volume.create(ROOT, name(`a longer name of a file ${i}`), FILE);
    volume.setXattr(ino, name("user.n"), name("x".repeat(i * 10)), 0);
    const wait = volume.write(ino, i * 4096, new Uint8Array(5000 + i * 100).fill(i));
    if (wait) await wait;
  }
  volume.create(ROOT, name("link"), { mode: 0o120777, uid: 1, gid: 2, target: name("where/it/leads") });
  await volume.sync();
  const { tables } = volume.container, log = new ChangeLog();
  for (let ino = 0; ino < tables.inodes.end; ino++) {
    log.inode(ino);
    tables.extents.each(
      ino,
      (offset, length, position, birth) => log.extent(ino, offset, length, position, birth),
    );
    log.xattr(ino, name("user.x"), name("y"));
    log.entry(0, name(`entry ${ino}`), ino, ino % 3 === 0);
    if (ino % 2 === 0) log.removeEntry(0, name(`entry ${ino}`));
    if (ino % 3 === 0) log.cut(ino, 0, 4096);
    if (ino % 4 === 0) log.truncate(ino, 100);
    if (ino % 5 === 0) log.target(ino, name("a/target"));
    if (ino % 6 === 0) log.removeInode(ino, 2);
    records.push(log.freeze(tables, (one) => tables.inodes.size[one]!));
  }
  await volume.end();
  return { tables, records };
}

/** Seals nothing: so that what lies behind the authentication can be reached. */
const plainSealer: Sealer = {
  suite: "none",
  engine: "webcrypto",
  parallel: false,
  seal(_run, plain, sealed) {
    for (let i = 0; i < plain.length / BLOCK; i++) {
      sealed.set(plain.subarray(i * BLOCK, (i + 1) * BLOCK), i * SEALED + 16);
    }
  },
  unseal(_run, sealed, plain) {
    for (let i = 0; i < plain.length / BLOCK; i++) {
      plain.set(sealed.subarray(i * SEALED + 16, i * SEALED + 16 + BLOCK), i * BLOCK);
    }
  },
  [Symbol.dispose]() {},
};

const SESSION = { id: new Uint8Array(16).fill(5), generation: 1 };
const CHUNK = { position: 0, count: 16 };

/** The blocks of a journal whose chunks follow each other, with some records. */
async function sampleJournal(): Promise<Uint8Array> {
  const store = new RamStore();
  await store.reserve(64);
  let end = CHUNK.count;
  const writer = new JournalWriter(store, plainSealer, {
    session: SESSION,
    chunk: CHUNK,
    hash: new Uint8Array(32),
    allocate: (_wanted, least) => Promise.resolve({ position: (end += least) - least, count: least }),
  });
  for (let commit = 1; commit <= 12; commit++) {
    await writer.append(
      commit,
      new Uint8Array(commit * 300).fill(commit),
      commit % 3 ? [] : [{ position: 1, count: 2, birth: commit }],
    );
  }
  return (await store.read(0, 64)).slice();
}

async function readJournal(blocks: Uint8Array): Promise<void> {
  const store = new RamStore(), whole = Math.floor(blocks.length / SEALED);
  if (whole > 0) await store.write(0, blocks.slice(0, whole * SEALED));
  const reader = new JournalReader(store, plainSealer, {
    session: SESSION,
    chunk: CHUNK,
    commit: 1,
    hash: new Uint8Array(32),
  });
  let last = 0;
  do {
    for (let record = await reader.next(); record !== undefined; record = await reader.next()) {
      if (record.commit <= last) throw new TypeError("a record came again");
      last = record.commit;
    }
  } while (await reader.damaged() && await reader.skip());
}

/** The index of a checkpoint. */
function sampleIndex(): Uint8Array {
  const index: CheckpointIndex = {
    hash: new Uint8Array(32).fill(1),
    sessions: [{ id: new Uint8Array(16), generation: 1, first: 1, last: 9 }],
    chunks: [{ position: 40, count: 32, first: 1 }],
    head: { position: 80, count: 32, first: 10 },
    pages: [{ kind: "inodes", birth: 9, stored: 100, plain: 4000, runs: [{ position: 3, count: 1 }] }],
  };
  return encodeIndex(index);
}

/** Changes are to hit what counts. */
function withoutPadding(bytes: Uint8Array): Uint8Array {
  return bytes.subarray(0, bytes.findLastIndex((byte) => byte !== 0) + 1);
}

function sampleSuperblock(): Uint8Array {
  const pointer = {
    session: new Uint8Array(16).fill(2),
    generation: 1,
    start: 7,
    birth: 8,
    length: 900,
    runs: [{ position: 5, count: 1 }],
  };
  return encodeSuperblock({
    containerId: new Uint8Array(16).fill(3),
    sequence: 4,
    keySequence: 1,
    clean: true,
    current: pointer,
    previous: pointer,
    sessions: [{
      id: new Uint8Array(16).fill(2),
      generation: 1,
      first: 1,
      last: 7,
      head: 9,
      headBlocks: 32,
      headCommit: 1,
    }],
  });
}

/** A stream that gives some bytes and takes all. */
class Tape {
  readonly #bytes: Uint8Array;
  #at = 0;
  closed = false;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  // deno-lint-ignore require-await
  async read(into: Uint8Array): Promise<number | null> {
    if (this.closed || this.#at >= this.#bytes.length) return null;
    const part = this.#bytes.subarray(this.#at, this.#at + into.length);
    into.set(part);
    this.#at += part.length;
    return part.length;
  }

  write(bytes: Uint8Array): Promise<number> {
    return Promise.resolve(bytes.length);
  }

  close(): void {
    this.closed = true;
  }
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) all.set(part, at), at += part.length;
  return all;
}

/** Of a connection: less than the longest reply to a READ. */
const CONNECTION_BYTES = 1 << 16;
const request = (id: number, operation: number, body: Uint8Array) =>
  buildFrame({ operation, direction: Direction.request, status: 0, id }, body);
const reply = (id: number, operation: number, body: Uint8Array, status = 0) =>
  buildFrame({ operation, direction: Direction.reply, status, id }, body);

/** What a client says, from HELLO on; it reads so many blocks. */
export function clientSays(token: Uint8Array, blocks = 1): Uint8Array {
  const named = (length: number) => new FieldWriter(4 + length).name("box");
  return join([
    request(
      1,
      Op.hello,
      new FieldWriter(72).raw(name("CVFS")).u16(PROTOCOL_VERSION).u16(PROTOCOL_VERSION).raw(
        new Uint8Array(32),
      ).raw(token).bytes,
    ),
    request(2, Op.list, new Uint8Array(0)),
    request(3, Op.open, named(0).bytes),
    request(4, Op.lease, new FieldWriter(97).u8(0).raw(new Uint8Array(96)).bytes),
    request(5, Op.read, new FieldWriter(12).u64(0).u32(blocks).bytes),
    request(6, Op.readHeader, new FieldWriter(2).u8(0).u8(1).bytes),
    request(7, Op.write, new FieldWriter(8 + SEALED).u64(0).raw(new Uint8Array(SEALED)).bytes),
    request(8, Op.writeHeader, new FieldWriter(2 + 4096).u8(0).u8(0).raw(new Uint8Array(4096)).bytes),
    request(9, Op.truncate, new FieldWriter(8).u64(1).bytes),
    request(10, Op.reserve, new FieldWriter(8).u64(4).bytes),
    request(11, Op.discard, new FieldWriter(12).u64(0).u32(1).bytes),
    request(12, Op.flush, new Uint8Array(0)),
    request(13, Op.size, new Uint8Array(0)),
    request(14, Op.space, new Uint8Array(0)),
    request(15, Op.create, new FieldWriter(4 + 128).name("new").raw(new Uint8Array(128)).bytes),
    request(18, Op.newKey, new FieldWriter(96).raw(new Uint8Array(96)).bytes),
    request(16, Op.release, new Uint8Array(0)),
    request(17, Op.ping, new Uint8Array(0)),
  ]);
}

/**
 * A server that has a container, and what its connections must leave as it was.
 *
 * @param connectionBytes its limit for a connection. @param totalBytes the one for all, of which there are two
 * @param turns who is to wait
 */
export async function server(
  connectionBytes = CONNECTION_BYTES,
  totalBytes = 2 * CONNECTION_BYTES,
  turns = new Turns(),
) {
  const root = new RamRoot(), tokens = new Tokens(), budget = new SharedBudget(totalBytes, 2);
  await root.create("box", {
    id: "0".repeat(32),
    publicKey: "0".repeat(64),
    fence: 0,
    session: "0".repeat(32),
    released: true,
    begun: false,
  });
  const token = Uint8Array.fromBase64(await tokens.add("test", "create"), { alphabet: "base64url" });
  const limits = { takeoverSeconds: 1, graceSeconds: 0, quota: 100, startedAt: 0 };
  const state: ServerState = {
    tokens,
    root,
    window: CONNECTION_BYTES,
    maxRequests: 16,
    connectionBytes,
    reassureSeconds: 5,
    budget,
    container: (name) => new ServedContainer(name, root, limits),
    forget: () => {},
    bodies: new SpareBodies(),
    turns,
    blame: () => {},
    looked: () => {},
    greeted: () => {},
    log: () => {},
    access: () => {},
  };
  const run = async (bytes: Uint8Array) => {
    const stream = new Tape(bytes), peer = { address: "", certificateHash: new Uint8Array(32), number: 1 };
    await new ServerConnection(stream as unknown as TlsStream, state, peer).run();
    if (!stream.closed) throw new TypeError("the connection stays open");
    // All that was taken was given back: there is room for two who take as much as one may.
    for (const holder of [root, tokens]) {
      if (budget.take(holder, totalBytes) !== undefined) throw new TypeError("room was not given back");
    }
    for (const holder of [root, tokens]) budget.give(holder, totalBytes);
  };
  return { token, run };
}

/** What a server says to HELLO, LIST and a SIZE. */
function serverSays(): Uint8Array {
  return join([
    reply(
      1,
      Op.hello,
      new FieldWriter(44).u16(PROTOCOL_VERSION).u8(3).u8(0).u32(1 << 20).u32(16).raw(new Uint8Array(32))
        .bytes,
    ),
    buildFrame(
      { operation: Op.notify, direction: Direction.notification, status: 0, id: 0 },
      Uint8Array.of(2),
    ),
    reply(2, Op.list, new FieldWriter(16).u32(1).name("box").u64(4).bytes),
    reply(3, Op.size, name("it failed"), 1),
  ]);
}

async function connectTo(bytes: Uint8Array): Promise<void> {
  const conn = new Tape(bytes), { signal } = new AbortController();
  const connection = await Connection.greet({ conn, certificateHash: new Uint8Array(32) }, {
    address: { host: "host", port: 1 },
    token: "A".repeat(43),
    signal,
  });
  const answers = [connection.list(), connection.request(Op.size)];
  const results = await Promise.allSettled(answers);
  await connection.close();
  const failed = results.find((result) => result.status === "rejected");
  if (failed) throw failed.reason;
}

/** Makes all targets. */
export async function makeTargets(): Promise<Record<string, Target>> {
  const { tables, records } = await sampleTables();
  const blocks = await Promise.all([
    makeBlock(),
    makeBlock([{ kind: "recovery-key", words: newRecoveryWords() }]),
  ]);
  const headers = blocks.map(({ bytes, masterKey }) => (masterKey[Symbol.dispose](), bytes));
  const box = await server(), journal = await sampleJournal();
  const backup = await ramContainer();
  const page = (kind: PageKind) =>
    target({
      inputs: mutated([...encodePages(tables, kind, {})].map(({ bytes }) => bytes)),
      decode: (bytes) => decodePage(kind, bytes, new Tables()),
      refuses: decodeError,
    });
  const link = `coverfs://${"A".repeat(43)}@example.org:62000/box?sha256=${"B".repeat(43)}`;
  const locators = mutatedText([
    link,
    "coverfs://[2001:db8::1]:1/a",
    "file:///tmp/x",
    "ram:",
    "./a",
    "s3://bucket/prefix",
  ]);
  const json = (value: unknown) => JSON.stringify({ version: 1, ...value as object }, undefined, 2);
  return {
    "frames, at the server": target({
      inputs: mutated([clientSays(box.token)]),
      decode: box.run,
      refuses: () => false,
    }),
    "frames, at the client": target({
      inputs: mutated([serverSays()]),
      decode: connectTo,
      refuses: (error) =>
        cover(
          "no-connection",
          "failure",
          "refused",
          "unsupported",
          "busy",
          "no-container",
          "usage",
          "no-space",
        )(error) ||
        error instanceof StatusError || error instanceof ProtocolError,
    }),
    "encryption block": target({
      inputs: fc.tuple(mutated(headers), fc.boolean()),
      decode: async ([bytes, fit]) => {
        const block = new Uint8Array(4096);
        block.set(bytes.subarray(0, 4096));
        if (fit) await rehash(block);
        await newestEncryptionBlock(block, headers[0]!, TEST_LIMITS);
        await parseEncryptionBlock(block, TEST_LIMITS);
      },
      refuses: cover("damaged", "unsupported"),
    }),
    "superblock": target({
      inputs: mutated([withoutPadding(sampleSuperblock())]),
      decode: (bytes) => {
        const block = new Uint8Array(BLOCK);
        block.set(bytes.subarray(0, BLOCK));
        decodeSuperblock(block);
      },
      refuses: decodeError,
    }),
    "journal": target({
      inputs: mutated([journal]),
      decode: readJournal,
      refuses: (error) => cover("unsupported")(error) || decodeError(error),
    }),
    "changes": target({
      inputs: mutated(records),
      decode: (bytes) => applyChanges(bytes, new Tables()),
      refuses: decodeError,
    }),
    "index": target({ inputs: mutated([sampleIndex()]), decode: decodeIndex, refuses: decodeError }),
    ...Object.fromEntries(PAGE_KINDS.map((kind) => [`page of ${kind}`, page(kind)])),
    "header backup": target({
      inputs: mutated([await readHeaderBackup(backup)]),
      decode: (bytes) => headerOf(bytes, "key", 0),
      refuses: cover("damaged"),
    }),
    "locator": target({ inputs: locators, decode: parseLocator, refuses: cover("usage", "unsupported") }),
    "link": target({ inputs: locators, decode: parseLocatorUrl, refuses: cover("usage") }),
    "fingerprint": target({
      inputs: mutatedText(["sha256:" + "ab:".repeat(31) + "ab", "B".repeat(43)]),
      decode: parseFingerprint,
      refuses: cover("usage"),
    }),
    "recovery key": target({
      inputs: mutatedText([newRecoveryWords()]),
      decode: (text) => parseRecoveryWords(text)[Symbol.dispose](),
      refuses: cover("usage", "wrong-passphrase"),
    }),
    // Their readers turn any error into one that names the file.
    "known servers": target({
      inputs: mutatedText([
        json({ servers: { "host:1": { fingerprint: "B".repeat(43), token: "A".repeat(43) } } }),
      ]),
      decode: parseKnownServers,
      refuses: anyError,
    }),
    "tokens": target({
      inputs: mutatedText([json({ tokens: [{ label: "first", role: "create", hash: "B".repeat(43) }] })]),
      decode: parseTokens,
      refuses: anyError,
    }),
    "rollback memory": target({
      inputs: mutatedText([
        json({
          containers: { ["0".repeat(32)]: { session: "1".repeat(32), commit: 7 } },
          locators: { "/a": "0".repeat(32) },
        }),
      ]),
      decode: parseRollbackMemory,
      refuses: anyError,
    }),
  };
}
