/** A server's folder as its operator works on it, whether the server runs or not. */
import { base64url } from "../crypto/bytes.ts";
import { CoverError } from "../crypto/errors.ts";
import { readTextIfThere } from "./atomic_file.ts";
import { certificateHash } from "./certificate.ts";
import { ownPath } from "./root.ts";
import { Tokens } from "./tokens.ts";

/** What an operator needs of a server's folder. */
export interface ServerFolder {
  readonly tokens: Tokens;
  /** SHA-256 of the server's own certificate, base64url; undefined if it has none. */
  readonly fingerprint: string | undefined;
}

/**
 * Opens the folder of a server that has been started there.
 *
 * @throws {CoverError} "usage" if it is none
 */
export async function openServerFolder(root: string): Promise<ServerFolder> {
  const certificate = await readTextIfThere(ownPath(root, "certificate.pem"));
  const tokens = ownPath(root, "tokens.json");
  if (await readTextIfThere(tokens) === undefined) {
    throw new CoverError("usage", `Cannot read the tokens of a server: "${root}" is not the folder of one`, {
      hint: "Name it by --root; coverfs serve makes one at its first start",
    });
  }
  return {
    tokens: new Tokens(tokens),
    fingerprint: certificate && base64url(await certificateHash(certificate)),
  };
}
