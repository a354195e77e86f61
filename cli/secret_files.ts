/** Files that hold a secret: passphrases, keys, tokens. Read bounded, told of where others may read them too. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { CoverError } from "../crypto/errors.ts";
import { KEY_FILE_BYTES } from "../crypto/mod.ts";
import { fromBase64Url32 } from "../net/text.ts";
import { warnIfExposed } from "./exposure.ts";
import { writeNewFile } from "./new_file.ts";
import { decodeText } from "./terminal.ts";

/** Bytes of a key file that is made here: as many as the SHA-512 that it is hashed to. */
const NEW_KEY_BYTES = 64;
/** Bytes that one call reads. */
const READ = 64 << 10;

/**
 * Reads a file that holds a secret, all of it; `-` is standard input. One line on standard error tells where others may
 * read it. Whatever it is, no more is read than a key file may have.
 *
 * @param what it is, to a person
 * @returns bytes that belong to the caller, who zeroes them
 * @throws {CoverError} "usage" if it cannot be read, or is too large
 */
export async function readSecretFile(path: string, what: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    if (path === "-") return await collect(standardInput(), { path, what });
    const descriptor = openSync(path, "r");
    try {
      warnIfExposed(fstatSync(descriptor), `The ${what} "${path}"`, { bits: 0o077, foreign: 0o007 });
      return await collect(partsOf(descriptor), { path, what });
    } finally {
      closeSync(descriptor);
    }
  } catch (cause) {
    if (cause instanceof CoverError) throw cause;
    const reason = (cause as { code?: string }).code ?? "unreadable";
    throw new CoverError("usage", `Cannot read the ${what} "${path}": ${reason}`, { cause });
  }
}

function* partsOf(descriptor: number): Generator<Uint8Array> {
  const part = new Uint8Array(READ);
  for (let count = 1; (count = readSync(descriptor, part)) > 0;) yield part.subarray(0, count);
  part.fill(0);
}

async function* standardInput(): AsyncGenerator<Uint8Array> {
  const part = new Uint8Array(READ);
  for (let count; (count = await Deno.stdin.read(part)) !== null;) yield part.subarray(0, count);
  part.fill(0);
}

/** Puts the parts together; every buffer that is left behind is zeroed. */
async function collect(
  parts: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  { path, what }: { path: string; what: string },
): Promise<Uint8Array<ArrayBuffer>> {
  let whole = new Uint8Array(READ), length = 0;
  for await (const part of parts) {
    if (length + part.length > KEY_FILE_BYTES.most) {
      whole.fill(0);
      throw new CoverError("usage", `Cannot read the ${what} "${path}": it is larger than 8 MiB`);
    }
    if (length + part.length > whole.length) {
      const larger = new Uint8Array(Math.min(whole.length * 4, KEY_FILE_BYTES.most));
      larger.set(whole);
      whole.fill(0);
      whole = larger;
    }
    whole.set(part, length);
    length += part.length;
  }
  const exact = whole.slice(0, length);
  whole.fill(0);
  return exact;
}

/**
 * The content of a key file that is to unlock a container from now on: that of the file that is there, or 64 random
 * bytes in a new one (0600), durable when this returns.
 *
 * @throws {CoverError} "usage" if it cannot be read, "failure" if it cannot be made
 */
export async function readOrMakeKeyFile(path: string): Promise<{ content: Uint8Array; made: boolean }> {
  const content = crypto.getRandomValues(new Uint8Array(NEW_KEY_BYTES));
  if (path !== "-") {
    try {
      await writeNewFile(path, content);
      return { content, made: true };
    } catch (error) {
      if (((error as Error).cause as { code?: string })?.code !== "EEXIST") throw error;
    }
  }
  return { content: await readSecretFile(path, "key file"), made: false };
}

/** Reads a token from a file: 43 characters of base64url, white space around them left out. */
export async function readTokenFile(path: string): Promise<string> {
  const bytes = await readSecretFile(path, "token file"), token = decodeText(bytes).trim();
  bytes.fill(0);
  if (fromBase64Url32(token) !== undefined) return token;
  throw new CoverError("usage", `Cannot use the token file "${path}": it does not hold a token`, {
    hint: "A token is what stands before the @ in the link that coverfs serve prints",
  });
}
