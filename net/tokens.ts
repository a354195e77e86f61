/** Tokens that a server admits: kept as hashes, with a label and a role each. */
import { base64url, equalConstantTime } from "../crypto/bytes.ts";
import { CoverError } from "../crypto/errors.ts";
import { stat } from "node:fs/promises";
import { errorCode, readTextIfThere, writeFileAtomic } from "./atomic_file.ts";
import { Role, type RoleName } from "./protocol.ts";
import { fromBase64Url32, sha256 } from "./text.ts";

/** A token as the server knows it. */
export interface TokenEntry {
  /** What a person calls it; unique. */
  readonly label: string;
  readonly role: RoleName;
  /** SHA-256 of the token, base64url. */
  readonly hash: string;
}

/**
 * The tokens of a server: in a file (JSON, 0600, replaced atomically, read again when it has changed), or in memory
 * where there is no path.
 */
export class Tokens {
  readonly #path: string | undefined;
  #entries: readonly TokenEntry[] = [];
  #stamp = "";

  constructor(path?: string) {
    this.#path = path;
  }

  /** All tokens, without their secrets. */
  async list(): Promise<readonly TokenEntry[]> {
    await this.#refresh();
    return this.#entries;
  }

  /**
   * Makes a token of 256 random bits.
   *
   * @returns the token as base64url; it is kept nowhere
   * @throws {CoverError} "usage" if the label is taken or not 1 to 64 printable ASCII characters
   */
  async add(label: string, role: RoleName): Promise<string> {
    if (!/^[\x20-\x7e]{1,64}$/.test(label)) {
      throw new CoverError("usage", "Cannot add a token: a label is 1 to 64 printable ASCII characters");
    }
    await this.#refresh();
    if (this.#entries.some((entry) => entry.label === label)) {
      throw new CoverError("usage", `Cannot add a token: there is one labelled "${label}" already`);
    }
    const secret = crypto.getRandomValues(new Uint8Array(32));
    await this.#save([...this.#entries, { label, role, hash: base64url(await sha256(secret)) }]);
    return base64url(secret);
  }

  /** Takes a token back; a server soon ends the connections that it admitted. @returns whether there was one by this label */
  async remove(label: string): Promise<boolean> {
    await this.#refresh();
    const left = this.#entries.filter((entry) => entry.label !== label);
    if (left.length === this.#entries.length) return false;
    await this.#save(left);
    return true;
  }

  /** What is known of a token; undefined if it is not admitted. Compares with every entry, in constant time each. */
  async find(secret: Uint8Array): Promise<TokenEntry | undefined> {
    await this.#refresh();
    const hash = await sha256(secret);
    let found: TokenEntry | undefined;
    for (const entry of this.#entries) {
      if (equalConstantTime(hash, fromBase64Url32(entry.hash)!)) found = entry;
    }
    return found;
  }

  async #save(entries: readonly TokenEntry[]): Promise<void> {
    if (this.#path !== undefined) {
      await writeFileAtomic(this.#path, JSON.stringify({ version: 1, tokens: entries }, undefined, 2) + "\n");
    }
    this.#entries = entries;
  }

  async #refresh(): Promise<void> {
    if (this.#path === undefined) return;
    const stamp = await stampOf(this.#path);
    if (stamp === this.#stamp) return;
    const text = await readTextIfThere(this.#path);
    try {
      this.#entries = text === undefined ? [] : parseTokens(text);
    } catch (cause) {
      throw new CoverError("failure", `Cannot read the tokens "${this.#path}": the file is damaged`, {
        cause,
      });
    }
    this.#stamp = stamp;
  }
}

async function stampOf(path: string): Promise<string> {
  try {
    const { mtimeNs, size, ino } = await stat(path, { bigint: true });
    return `${mtimeNs} ${size} ${ino}`;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return "none";
    throw error;
  }
}

/** Reads the file of tokens. @throws {Error} if it is damaged */
export function parseTokens(text: string): TokenEntry[] {
  const content = JSON.parse(text) as { version?: unknown; tokens?: unknown };
  if (content.version !== 1 || !Array.isArray(content.tokens)) throw new Error("unknown version");
  return content.tokens.map((value: Record<string, unknown>) => {
    const { label, role, hash } = value;
    if (typeof label !== "string" || typeof role !== "string" || typeof hash !== "string") {
      throw new Error("malformed");
    }
    if (!Object.hasOwn(Role, role) || fromBase64Url32(hash) === undefined) throw new Error("malformed");
    return { label, role: role as RoleName, hash };
  });
}
