/** Places for a container, one for each kind of store. */
import { join } from "node:path";
import { blockOffset } from "../../fs/block/byte_layout.ts";
import { openFileStore } from "../../fs/store/file.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { makeWriter, openOn, startServer, temporaryFolder } from "../net/servers.ts";
import type { MakeBed } from "./conformance.ts";

const room = (quota: number | undefined, option: string) =>
  quota === undefined ? {} : { [option]: blockOffset(quota) };

/** All kinds of stores by what the tests call them. */
export const STORE_BEDS: Readonly<Record<"RAM" | "file" | "server", MakeBed>> = {
  RAM: ({ quota }) => {
    const store = new RamStore(quota === undefined ? {} : { quota });
    return Promise.resolve({
      open: () => Promise.resolve(store),
      [Symbol.asyncDispose]: () => store.close(),
    });
  },

  file: async ({ quota }) => {
    const folder = await temporaryFolder();
    return {
      open: (mode) => openFileStore(join(folder.path, "container"), mode, room(quota, "maxBytes")),
      [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
    };
  },

  server: async ({ quota }) => {
    const folder = await temporaryFolder();
    const server = await startServer({ root: folder.path, ...room(quota, "maxContainerBytes") });
    const first = await makeWriter();
    return {
      open: async (mode, options) =>
        openOn(server, { mode, ...options, ...(mode === "create" ? first : await makeWriter(first)) }),
      [Symbol.asyncDispose]: async () => {
        await server.shutdown();
        await folder[Symbol.asyncDispose]();
      },
    };
  },
};
