/** Servers that this person has trusted: fingerprint and token by host and port, in one small file. */
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { CoverError } from "../crypto/errors.ts";
import { readTextIfThere, whileLocked, writeFileAtomic } from "./atomic_file.ts";
import { formatAddress } from "./locator.ts";
import { fromBase64Url32 } from "./text.ts";

/** What is remembered of a server. */
export interface KnownServer {
  /** SHA-256 of its certificate, base64url; absent where an authority vouches for it (`--ca`). */
  readonly fingerprint?: string;
  /** Secret, base64url. */
  readonly token?: string;
}

type Address = { readonly host: string; readonly port: number };

/** The file of known servers (JSON, 0600, replaced atomically). */
export class KnownServers {
  readonly path: string;

  /** @param path of the file; it and its folder are made when something is remembered first */
  constructor(path: string) {
    this.path = path;
  }

  /**
   * What is known of a server; undefined if nothing is.
   *
   * @throws {CoverError} "failure" if the file is damaged: it is never taken for empty
   */
  async find(address: Address): Promise<KnownServer | undefined> {
    return (await this.#load()).get(formatAddress(address));
  }

  /** Remembers a server; what `server` leaves out stays as it was. May be repeated. */
  async remember(address: Address, server: KnownServer): Promise<void> {
    const key = formatAddress(address);
    const changed = (before: KnownServer | undefined) => {
      const after = { ...before, ...server };
      const same = before?.fingerprint === after.fingerprint && before?.token === after.token;
      return before !== undefined && same ? undefined : after;
    };
    if (changed((await this.#load()).get(key)) === undefined) return;
    await mkdir(dirname(this.path), { recursive: true, mode: 0o700 });
    await whileLocked(this.path, async () => {
      const servers = await this.#load(), after = changed(servers.get(key));
      if (after === undefined) return;
      const content = { version: 1, servers: Object.fromEntries(servers.set(key, after)) };
      await writeFileAtomic(this.path, JSON.stringify(content, undefined, 2) + "\n");
    });
  }

  async #load(): Promise<Map<string, KnownServer>> {
    const text = await readTextIfThere(this.path);
    if (text === undefined) return new Map();
    try {
      return parseKnownServers(text);
    } catch (cause) {
      throw new CoverError("failure", `Cannot read the known servers "${this.path}": the file is damaged`, {
        cause,
        hint: "Repair or delete it; servers are then asked about again",
      });
    }
  }
}

/** Reads the file of known servers: by host and port. @throws {Error} if it is damaged */
export function parseKnownServers(text: string): Map<string, KnownServer> {
  const content = JSON.parse(text) as { version?: unknown; servers?: Record<string, unknown> };
  if (content.version !== 1 || typeof content.servers !== "object") throw new Error("unknown version");
  return new Map(Object.entries(content.servers).map(([key, value]) => [key, parseServer(value)]));
}

function parseServer(value: unknown): KnownServer {
  const { fingerprint, token } = value as Record<string, unknown>;
  const server: { fingerprint?: string; token?: string } = {};
  for (const [key, text] of [["fingerprint", fingerprint], ["token", token]] as const) {
    if (text === undefined) continue;
    if (typeof text !== "string" || fromBase64Url32(text) === undefined) {
      throw new Error(`${key} is malformed`);
    }
    server[key] = text;
  }
  return server;
}
