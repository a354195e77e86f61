/** Locators of containers on a server, and links: locators with the token and the fingerprint in them. */
import { CoverError } from "../crypto/errors.ts";
import { DEFAULT_CONTAINER, DEFAULT_PORT, isContainerName } from "./protocol.ts";
import { fromBase64Url32 } from "./text.ts";

/** Where a container lies: a server and a name there, and what a link adds. */
export interface RemoteLocator {
  /** Host name in lower case, IPv4 address, or IPv6 address without brackets. */
  readonly host: string;
  readonly port: number;
  /** Container name. */
  readonly name: string;
  /** Secret: 43 characters of base64url. */
  readonly token?: string;
  /** SHA-256 of the server's certificate: 43 characters of base64url. */
  readonly fingerprint?: string;
}

const SHAPE =
  /^coverfs:\/\/(?:([^@/?#]*)@)?(\[[^\]/?#]*\]|[^:/?#@[\]]*)(?::([^/?#]*))?(?:\/([^?#]*))?(?:\?([^#]*))?$/i;

function refuse(what: string): never {
  // The locator itself may hold a token: it is never part of the message.
  throw new CoverError("usage", `Cannot read the container locator: ${what}`, {
    hint: "Write coverfs://HOST[:PORT][/NAME], or the link that `coverfs serve` printed",
  });
}

/**
 * Reads `coverfs://[TOKEN@]host[:port][/name][?sha256=FINGERPRINT]`. Strict: what is not of this shape is refused.
 *
 * @throws {CoverError} "usage"; the message holds no secret
 */
export function parseLocatorUrl(text: string): RemoteLocator {
  const parts = SHAPE.exec(text);
  if (parts === null) return refuse("not of the shape coverfs://host/name");
  const [, token, hostPart = "", portPart, namePart, query] = parts;
  const name = namePart === undefined || namePart === "" ? DEFAULT_CONTAINER : namePart;
  if (!isContainerName(name)) {
    refuse("container names are 1 to 64 of A-Z a-z 0-9 . _ - and begin without a dot");
  }
  const port = portPart === undefined
    ? DEFAULT_PORT
    : /^[1-9][0-9]{0,4}$/.test(portPart)
    ? Number(portPart)
    : 0;
  if (port < 1 || port > 65535) refuse("the port is not a number from 1 to 65535");
  if (token !== undefined && fromBase64Url32(token) === undefined) refuse("the token before @ is damaged");
  let fingerprint: string | undefined;
  if (query !== undefined) {
    if (!query.startsWith("sha256=")) refuse("only sha256= may follow the question mark");
    fingerprint = query.slice("sha256=".length);
    if (fromBase64Url32(fingerprint) === undefined) refuse("the fingerprint behind sha256= is damaged");
  }
  return {
    host: parseHost(hostPart),
    port,
    name,
    ...(token === undefined ? {} : { token }),
    ...(fingerprint === undefined ? {} : { fingerprint }),
  };
}

function parseHost(text: string): string {
  const host = text.toLowerCase();
  if (host.startsWith("[")) {
    const address = host.slice(1, -1);
    if (!/^[0-9a-f:.]{2,45}$/.test(address) || !address.includes(":")) {
      refuse("the IPv6 address is malformed");
    }
    return address;
  }
  const label = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;
  const labels = (host.endsWith(".") ? host.slice(0, -1) : host).split(".");
  if (host.length > 253 || !labels.every((part) => label.test(part))) refuse("the host name is malformed");
  return host;
}

/** Host and port as one string, IPv6 addresses in brackets: how a server is named to people and in known servers. */
export function formatAddress(address: { readonly host: string; readonly port: number }): string {
  return `${address.host.includes(":") ? `[${address.host}]` : address.host}:${address.port}`;
}

/**
 * Writes a locator, or a link where token or fingerprint are given; {@linkcode parseLocatorUrl} reads it back.
 * The result is as secret as the token in it.
 */
export function formatLink(locator: RemoteLocator): string {
  const { token, fingerprint, name } = locator;
  return `coverfs://${token === undefined ? "" : `${token}@`}${formatAddress(locator)}/${name}` +
    (fingerprint === undefined ? "" : `?sha256=${fingerprint}`);
}
