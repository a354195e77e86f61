/** How a client comes to know a server: a token, an identity, and what is remembered of both. */
import { CoverError } from "../crypto/errors.ts";
import { Connection, type RemoteContainer } from "./connection.ts";
import { limited } from "./limited.ts";
import { formatAddress } from "./locator.ts";
import { identifyServer, type ServerAddress, type ServerIdentity, type TrustOptions } from "./trust.ts";

/** Time for one attempt to connect unless told otherwise, in seconds. */
export const CONNECT_SECONDS = 15;

/** How to come to know a server. */
export interface AcquaintanceOptions extends TrustOptions {
  /** Secret, base64url; without one the token that `known` has for the server is used. */
  readonly token?: string | undefined;
  /** Time for one attempt to connect, in seconds; default {@linkcode CONNECT_SECONDS}. */
  readonly connectSeconds?: number | undefined;
  /** Told where a server that has admitted the token cannot be remembered; default, that is thrown. */
  readonly onUnremembered?: ((error: Error) => void) | undefined;
}

/** What a connection takes: who the server is, and a token to show it. */
export interface Acquaintance {
  readonly address: ServerAddress;
  readonly identity: ServerIdentity;
  /** Secret, base64url. */
  readonly token: string;
}

/**
 * Finds the token for a server and who it is, before anything is sent to it.
 *
 * @throws {CoverError} "refused" if there is no token, "identity", "no-connection"
 */
export async function meetServer(
  address: ServerAddress,
  options: AcquaintanceOptions,
): Promise<Acquaintance> {
  const token = options.token ?? (await options.known?.find(address))?.token;
  if (token === undefined) {
    throw new CoverError("refused", `No token is known for ${formatAddress(address)}`, {
      hint: "Use the link that the server printed once; it is remembered then",
    });
  }
  const identity = await limited(
    options.connectSeconds ?? CONNECT_SECONDS,
    undefined,
    (signal) => identifyServer(address, { ...options, signal }),
  );
  return { address, identity, token };
}

/** Remembers a server that has admitted the token: from then on its address is enough. */
export async function rememberServer(
  { address, identity, token }: Acquaintance,
  options: AcquaintanceOptions,
): Promise<void> {
  const pin = identity.kind === "pinned" ? { fingerprint: identity.fingerprint } : {};
  try {
    await options.known?.remember(address, { token, ...pin });
  } catch (error) {
    if (options.onUnremembered === undefined || error instanceof CoverError) throw error;
    options.onUnremembered(error as Error);
  }
}

/**
 * The containers on a server; a token of any role may ask.
 *
 * @throws {CoverError} as {@linkcode meetServer} and {@linkcode Connection.connect}
 */
export async function listContainers(
  address: ServerAddress,
  options: AcquaintanceOptions = {},
): Promise<RemoteContainer[]> {
  const server = await meetServer(address, options);
  return await limited(options.connectSeconds ?? CONNECT_SECONDS, undefined, async (signal) => {
    const connection = await Connection.connect({ ...server, signal });
    const abort = () => void connection.close();
    signal.addEventListener("abort", abort, { once: true });
    try {
      const found = await connection.list();
      await rememberServer(server, options);
      return found;
    } finally {
      signal.removeEventListener("abort", abort);
      await connection.close();
    }
  });
}
