import { makeWriter, openOn, startServer, temporaryFolder } from "../net/servers.ts";
import { storeSuite } from "./conformance.ts";

storeSuite("server", async ({ quota }) => {
  const folder = await temporaryFolder();
  const server = await startServer({
    root: folder.path,
    ...(quota === undefined ? {} : { maxContainerBytes: 131072 + quota * 4128 }),
  });
  const first = await makeWriter();
  return {
    open: async (mode, options) =>
      openOn(server, { mode, ...options, ...(mode === "create" ? first : await makeWriter(first)) }),
    [Symbol.asyncDispose]: async () => {
      await server.shutdown();
      await folder[Symbol.asyncDispose]();
    },
  };
}, { persistent: true, runs: 8 });
