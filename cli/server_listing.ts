/** What lies on a server: `ls coverfs://HOST` (docs/cli.md, "Commands"). No passphrase is needed, nothing is opened. */
import { CoverError } from "../crypto/errors.ts";
import { SEALED } from "../crypto/sealer.ts";
import { formatLink, listContainers, parseLocatorUrl, type RemoteLocator } from "../net/mod.ts";
import { serverOptions } from "./container.ts";
import type { Access } from "./options.ts";
import { escapeControls, humanSize, print, printJson } from "./output.ts";
import { RollbackMemory } from "./state.ts";

/** Whether an argument of `ls` names a server and not a path in a container. */
export function namesServer(argument: string): boolean {
  return /^coverfs:\/\//i.test(argument);
}

/**
 * Prints the containers of a server: name and size; `long` adds the size in bytes, the locator, and the id by which
 * this machine remembers the container.
 *
 * @throws {CoverError} "usage" if a container is named and not only its server; as `listContainers`
 */
export async function printContainers(
  argument: string,
  access: Access,
  options: { readonly long?: true | undefined; readonly json?: true | undefined },
): Promise<void> {
  const server = parseServer(argument), { host, port } = server;
  const found = await listContainers(server, await serverOptions(server, access));
  const memory = RollbackMemory.ofUser();
  const containers = found.map(({ name, blocks }) => {
    const locator = formatLink({ host, port, name });
    return { name, locator, blocks, bytes: blocks * SEALED, id: memory.containerAt(locator) ?? null };
  });
  if (options.json) return printJson(containers);
  const rows = containers.map(({ name, locator, bytes, id }) =>
    options.long ? [String(bytes), id ?? "-", locator] : [humanSize(bytes), name]
  );
  const widths = [0, 1].map((column) => Math.max(0, ...rows.map((row) => row[column]!.length)));
  for (const row of rows) {
    const cells = row.slice(0, -1).map((cell, i) =>
      i === 0 ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)
    );
    print(escapeControls([...cells, row.at(-1)].join("  ")));
  }
}

/** A link names a container, as `coverfs serve` prints it; its server is what counts then. */
function parseServer(argument: string): RemoteLocator {
  const server = parseLocatorUrl(argument);
  const isLink = server.token !== undefined || server.fingerprint !== undefined;
  if (isLink || /^coverfs:\/\/[^/]+\/?$/i.test(argument)) return server;
  throw new CoverError("usage", `Cannot list "${argument}": it is a container, not a server`, {
    hint: `For its files: coverfs ls -c ${argument}; for all containers there leave the name out`,
  });
}
