/** Where a hostile party keeps a container: a file that it edits, and a server that answers as it likes. */
import { join } from "node:path";
import { RamBacking } from "../../net/backing.ts";
import { blockOffset, BLOCKS_AT, blocksIn, HEADER_AT } from "../../net/backing.ts";
import type { Frame } from "../../net/frames.ts";
import { FieldReader, FieldWriter, formatLink, NO_QUOTA, Op } from "../../net/mod.ts";
import { type HostileServer, hostileServer, reply } from "../net/hostile_server.ts";
import { BLOCK_BYTES, HOST } from "../net/servers.ts";

/** A place whose bytes can be taken and put back as one likes. */
export interface Place {
  /** How a client names it. */
  readonly locator: string;
  set(image: Uint8Array): Promise<void>;
  get(): Promise<Uint8Array>;
}

/** A container in a file. */
export class FilePlace implements Place {
  readonly locator: string;

  constructor(folder: string) {
    this.locator = join(folder, "box");
  }

  set(image: Uint8Array): Promise<void> {
    return Deno.writeFile(this.locator, image);
  }

  get(): Promise<Uint8Array> {
    return Deno.readFile(this.locator);
  }
}

/** Does what a request asks for, on the container or on another one, and gives the body of the reply. */
export type Execute = (on?: RamBacking) => Promise<Uint8Array>;
/** What a server answers to a request. */
export type Lie = (request: Frame, execute: Execute) => Uint8Array[] | Promise<Uint8Array[]>;

/** A server that knows no keys, asks for no proof, and lies as it is told. */
export class LyingServer implements Place, AsyncDisposable {
  #bytes = new RamBacking();
  #server: HostileServer | undefined;
  #lie: Lie | undefined;

  static async start(): Promise<LyingServer> {
    const place = new LyingServer();
    place.#server = await hostileServer((request) => {
      const execute: Execute = (on = place.#bytes) => executeOn(on, request);
      return place.#lie?.(request, execute) ?? honest(request, execute);
    });
    return place;
  }

  /** How it is reached. */
  get address(): HostileServer {
    return this.#server!;
  }

  get locator(): string {
    const { port, fingerprint, firstToken: token } = this.#server!;
    return formatLink({ host: HOST, port, name: "box", token, fingerprint });
  }

  /** Puts a container there; from now on it answers by `lie`, or honestly. */
  async set(image: Uint8Array, lie?: Lie): Promise<void> {
    this.#bytes = await backingOf(image);
    this.#lie = lie;
  }

  async get(): Promise<Uint8Array> {
    const image = new Uint8Array(await this.#bytes.size());
    await this.#bytes.read(0, image);
    return image;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server![Symbol.asyncDispose]();
  }
}

/** Answers as one should. */
export async function honest(request: Frame, execute: Execute): Promise<Uint8Array[]> {
  return [reply(request.id, request.operation, await execute())];
}

/** A container in memory. */
export async function backingOf(image: Uint8Array): Promise<RamBacking> {
  const backing = new RamBacking();
  await backing.write(0, image);
  return backing;
}

/** What an honest server does, but that it asks for no proof. */
async function executeOn(bytes: RamBacking, { operation, body }: Frame): Promise<Uint8Array> {
  const fields = new FieldReader(body);
  const blocks = async () => blocksIn(await bytes.size());
  const read = async (offset: number, length: number) => {
    const into = new Uint8Array(length);
    return into.subarray(0, await bytes.read(offset, into));
  };
  switch (operation) {
    case Op.open:
      return new FieldWriter(40).raw(await read(24, 16)).u64(await blocks()).u64(NO_QUOTA).u64(1).bytes;
    case Op.lease:
      return new FieldWriter(32).u64(1).u64(await blocks()).u64(NO_QUOTA).u64(1).bytes;
    case Op.size:
      return new FieldWriter(16).u64(await blocks()).u64(1).bytes;
    case Op.space:
      return new FieldWriter(16).u64(NO_QUOTA).u64(NO_QUOTA).bytes;
    case Op.read:
      return await read(blockOffset(fields.u64()), fields.u32() * BLOCK_BYTES);
    case Op.readHeader: {
      const { copies, bytes: length } = HEADER_AT[fields.u8()]!;
      return await read(copies[fields.u8()]!, length);
    }
    case Op.write:
      await bytes.write(blockOffset(fields.u64()), body.subarray(8));
      break;
    case Op.writeHeader:
      await bytes.write(HEADER_AT[fields.u8()]!.copies[fields.u8()]!, body.subarray(2));
      break;
    case Op.reserve:
      await bytes.truncate(Math.max(await bytes.size(), blockOffset(fields.u64())));
      break;
    case Op.truncate:
      await bytes.truncate(Math.max(BLOCKS_AT, Math.min(await bytes.size(), blockOffset(fields.u64()))));
      break;
  }
  return new Uint8Array(0);
}
