/** Where a container lies, as people write it (docs/cli.md, "Containers"). */
import { realpathSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { CoverError } from "../crypto/errors.ts";
import { formatLink, parseLocatorUrl, type RemoteLocator } from "../net/locator.ts";

/** A container's place, read. */
export type Locator =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "ram" }
  | { readonly kind: "remote"; readonly remote: RemoteLocator };

/**
 * Reads a locator: a path, also a bare word, `file:` URL, `ram:`, or `coverfs://host[:port][/name]` and links.
 *
 * @throws {CoverError} "usage" if it is malformed, "unsupported" for an object store; the message holds no secret
 */
export function parseLocator(text: string): Locator {
  if (text === "") throw new CoverError("usage", "Cannot read the container locator: it is empty");
  const scheme = /^([a-z][a-z0-9+.-]+):/i.exec(text)?.[1]?.toLowerCase();
  switch (scheme) {
    case "coverfs":
      return { kind: "remote", remote: parseLocatorUrl(text) };
    case "ram":
      return { kind: "ram" };
    case "file":
      return { kind: "file", path: fromFileUrl(text) };
    case "s3":
      throw new CoverError("unsupported", "Cannot open container: object stores are not supported yet", {
        hint: "Use a path, or a server: coverfs://HOST/NAME",
      });
  }
  if (/^[a-z][a-z0-9+.-]+:\/\//i.test(text)) {
    throw new CoverError("usage", `Cannot read the container locator: "${scheme}://" is not known`, {
      hint: "Write a path, coverfs://HOST/NAME, or ./ before a path with a colon",
    });
  }
  return { kind: "file", path: text };
}

function fromFileUrl(text: string): string {
  if (!/^file:\/\//i.test(text)) return text.slice("file:".length) || ".";
  try {
    return fileURLToPath(text);
  } catch (cause) {
    throw new CoverError("usage", `Cannot read the container locator: "${text}" is not a file URL`, {
      cause,
    });
  }
}

/**
 * The container that is meant: the argument or `-c`, else `COVERFS_CONTAINER`.
 *
 * @throws {CoverError} "usage" if there is none
 */
export function chooseLocator(given: string | undefined): Locator {
  const text = given ?? Deno.env.get("COVERFS_CONTAINER");
  if (text !== undefined && text !== "") return parseLocator(text);
  throw new CoverError("usage", "No container is named", {
    hint: "Name it by -c CONTAINER, or set COVERFS_CONTAINER",
  });
}

/** A locator to show and to remember by: absolute, the same for the same place, without token and fingerprint. */
export function locatorName(locator: Locator): string {
  switch (locator.kind) {
    case "ram":
      return "ram:";
    case "remote": {
      const { host, port, name } = locator.remote;
      return formatLink({ host, port, name });
    }
    case "file":
      return canonicalPath(locator.path);
  }
}

function canonicalPath(path: string): string {
  const whole = resolve(path);
  for (const [folder, rest] of [[whole, ""], [dirname(whole), basename(whole)]] as const) {
    try {
      return join(realpathSync(folder), rest);
    } catch {
      // it is not there yet: its folder may be
    }
  }
  return whole;
}
