/** Whether a server is the one that is meant: pinning by fingerprint, or an authority (docs/protocol.md, section 8). */
import { isIP } from "node:net";
import * as tls from "node:tls";
import { base64url } from "../crypto/bytes.ts";
import { CoverError } from "../crypto/errors.ts";
import { errorCode } from "./atomic_file.ts";
import { isOwnName, toPem } from "./certificate.ts";
import type { KnownServers } from "./known_servers.ts";
import { formatAddress } from "./locator.ts";
import { sha256 } from "./text.ts";

/** Host name or address (IPv6 without brackets) and port of a server. */
export interface ServerAddress {
  readonly host: string;
  readonly port: number;
}

/** What a client goes by when it meets a server. */
export interface TrustOptions {
  /** The fingerprint that the certificate must have, base64url: from a link or `--fingerprint`. */
  readonly fingerprint?: string | undefined;
  /** That fingerprint takes the place of the remembered one: who gave it knows that the certificate was replaced. */
  readonly replaceKnown?: boolean | undefined;
  /** Verify the host name in the ordinary way instead: true for the public authorities, or PEM certificates. */
  readonly ca?: true | readonly string[] | undefined;
  /** Fingerprints remembered from before. */
  readonly known?: KnownServers | undefined;
  /** Asked about a server that nothing is known of; absent: such a server is refused. */
  readonly onUnknownServer?: ((fingerprint: string) => Promise<boolean>) | undefined;
}

/** A server whose certificate is to be accepted: found once, used for every connection. */
export type ServerIdentity =
  | {
    readonly kind: "pinned";
    readonly fingerprint: string;
    readonly name: string;
    readonly certificate: Uint8Array;
  }
  | { readonly kind: "authority"; readonly authorities: readonly string[] | undefined };

/** A verified connection and the SHA-256 of the certificate that the server showed. */
export interface Dialled {
  readonly conn: Deno.TlsConn;
  readonly certificateHash: Uint8Array<ArrayBuffer>;
}

/** What the system's errors say of a server, in words. */
const UNREACHABLE: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens at that port",
  ENOTFOUND: "there is no such host",
  EAI_AGAIN: "the host's name cannot be looked up now",
  EHOSTUNREACH: "there is no way to that host",
  ENETUNREACH: "there is no way to that network",
};

/** An address that gave no answer. */
export function noConnection(address: ServerAddress, cause: unknown): CoverError {
  const words = UNREACHABLE[errorCode(cause) ?? ""];
  const ended = cause instanceof Deno.errors.UnexpectedEof ? "it has ended the connection" : undefined;
  const reason = words ?? ended ?? (cause instanceof Error ? cause.message : String(cause));
  return new CoverError("no-connection", `Cannot reach ${formatAddress(address)}: ${reason}`, {
    cause,
    ...(words === undefined
      ? {}
      : { hint: "See that host and port are right and that coverfs serve runs there" }),
  });
}

function changedIdentity(address: ServerAddress, cause?: unknown): CoverError {
  return new CoverError(
    "identity",
    `Server ${formatAddress(address)} is not the one that is known: refusing it`,
    {
      cause,
      hint: "If its certificate was replaced on purpose, give the new fingerprint once, with --fingerprint",
    },
  );
}

/**
 * Finds out who the server is, before anything is sent to it.
 *
 * @throws {CoverError} "identity" if it is not the one that is pinned or known, or unknown and not accepted;
 * "no-connection"
 */
export async function identifyServer(
  address: ServerAddress,
  options: TrustOptions & { readonly signal: AbortSignal },
): Promise<ServerIdentity> {
  if (options.ca !== undefined) {
    return { kind: "authority", authorities: options.ca === true ? undefined : options.ca };
  }
  const known = (await options.known?.find(address))?.fingerprint;
  const pin = options.fingerprint ?? known;
  if (known !== undefined && pin !== known && !options.replaceKnown) throw changedIdentity(address);
  const { certificate, names } = await readCertificate(address, options.signal);
  const fingerprint = base64url(await sha256(certificate));
  if (pin !== undefined && pin !== fingerprint) throw changedIdentity(address);
  const name = /^DNS:([^,\s"]+)$/.exec(names)?.[1] ?? "";
  if (!isOwnName(name)) {
    // The runtime trusts the public roots besides any pin, so a name that they can sign cannot be pinned.
    throw new CoverError(
      "identity",
      `Cannot pin ${formatAddress(address)}: its certificate is not one of its own`,
      {
        hint: "Use --ca to have its host name verified",
      },
    );
  }
  if (pin === undefined && !(await options.onUnknownServer?.(fingerprint))) {
    throw new CoverError("identity", `Server ${formatAddress(address)} is unknown: not connecting`, {
      hint: "Use the link that the server printed, or --fingerprint",
    });
  }
  return { kind: "pinned", fingerprint, name, certificate };
}

/**
 * Connects to a server that was identified.
 *
 * @throws {CoverError} "identity" if it shows another certificate than before; "no-connection"
 */
export async function dial(
  address: ServerAddress,
  identity: ServerIdentity,
  signal: AbortSignal,
): Promise<Dialled> {
  if (identity.kind === "authority") {
    const { certificate } = await readCertificate(address, signal);
    const caCerts = identity.authorities === undefined ? {} : { caCerts: [...identity.authorities] };
    try {
      const conn = await handshake(address, { hostname: address.host, ...caCerts }, signal);
      return { conn, certificateHash: await sha256(certificate) };
    } catch (error) {
      if (!isCertificateError(error)) throw noConnection(address, error);
      throw new CoverError(
        "identity",
        `Server ${formatAddress(address)} has no certificate that is trusted`,
        {
          cause: error,
        },
      );
    }
  }
  const caCerts = [toPem(identity.certificate, "CERTIFICATE")];
  try {
    const conn = await handshake(address, { hostname: identity.name, caCerts }, signal);
    return { conn, certificateHash: await sha256(identity.certificate) };
  } catch (error) {
    if (isCertificateError(error)) throw changedIdentity(address, error);
    throw noConnection(address, error);
  }
}

/** rustls puts it this way, in every version that Deno has had. */
function isCertificateError(error: unknown): boolean {
  return error instanceof Deno.errors.InvalidData && /invalid peer certificate/i.test(error.message);
}

async function handshake(
  address: ServerAddress,
  options: Deno.StartTlsOptions,
  signal: AbortSignal,
): Promise<Deno.TlsConn> {
  const tcp = await Deno.connect({ hostname: address.host, port: address.port, signal });
  let conn: Deno.TlsConn | undefined;
  const abort = () => conn?.close();
  try {
    tcp.setNoDelay(true);
    conn = await Deno.startTls(tcp, options);
    signal.addEventListener("abort", abort, { once: true });
    signal.throwIfAborted();
    await conn.handshake();
    signal.throwIfAborted();
    return conn;
  } catch (error) {
    closeQuietly(conn ?? tcp);
    throw signal.aborted ? signal.reason : error;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** Closes a connection that may be closed already. */
export function closeQuietly(conn: { close(): void }): void {
  try {
    conn.close();
  } catch {
    // closed already
  }
}

/** Reads a server's certificate on a connection of its own, on which nothing is sent; nothing is verified yet. */
async function readCertificate(
  address: ServerAddress,
  signal: AbortSignal,
): Promise<{ certificate: Uint8Array; names: string }> {
  signal.throwIfAborted();
  const socket = tls.connect({
    host: address.host,
    port: address.port,
    rejectUnauthorized: false,
    ...(isIP(address.host) === 0 ? { servername: address.host } : {}),
  });
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  let abort = () => {};
  try {
    await new Promise<void>((resolve, reject) => {
      abort = () => reject(signal.reason);
      signal.addEventListener("abort", abort, { once: true });
      socket.once("secureConnect", () => resolve());
      socket.once("error", reject);
      socket.once("close", () => reject(new Error("the server closed the connection")));
    });
    const peer = socket.getPeerCertificate(true);
    if (peer?.raw === undefined) throw new Error("the server shows no certificate");
    return { certificate: new Uint8Array(peer.raw), names: peer.subjectaltname ?? "" };
  } catch (error) {
    throw error instanceof CoverError ? error : noConnection(address, error);
  } finally {
    signal.removeEventListener("abort", abort);
    socket.on("error", () => {}); // what comes after this is of no interest
    socket.destroy();
    await closed;
  }
}
