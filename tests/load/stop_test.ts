import assert from "node:assert/strict";
import { parseLocatorUrl } from "../../net/mod.ts";
import { blockOffset } from "../../net/backing.ts";
import { ServerProcess } from "../cli/processes.ts";
import { Workplace } from "../cli/run.ts";
import { same } from "../net/servers.ts";
import { WINDOWS } from "../platform.ts";
import { goodClients, Others } from "./load.ts";

/** Time for what has arrived, of which the server says so, and as much again for a machine that is busy; in ms. */
const LATEST = 10_000;

Deno.test({
  name:
    "a server that is told to stop while good and bad clients work ends in order, with all it has acknowledged",
  ignore: WINDOWS, // there others can only end it
  sanitizeOps: true,
  sanitizeResources: true,
  fn: async () => {
    await using place = await Workplace.make();
    await using server = await ServerProcess.start(place);
    const clients = await goodClients(server, 10), { token } = parseLocatorUrl(server.link);
    const others = new Others({ port: server.port, token: token!, count: 17 });
    await others.begun();
    const working = Promise.all(clients.map((client) => client.work(Infinity)));
    await server.program.until(() => clients.every(({ turns }) => turns > 10) || undefined);
    const told = performance.now();
    server.program.signal("SIGTERM");
    const { code, signal } = await server.program.ended;
    assert.deepEqual([code, signal], [0, null], server.program.said);
    assert(performance.now() - told < LATEST, `it took ${performance.now() - told} ms`);
    await working;
    await Promise.all([others.end(), ...clients.map((client) => client.close())]);
    for (const [i, client] of clients.entries()) {
      const kept = await Deno.readFile(place.path("served", `good-${i}`));
      assert(client.acknowledged.size > 6, "all but the one that was under way");
      for (const index of client.acknowledged) {
        const { bytes, position } = client.run(index), at = blockOffset(position);
        assert(same(kept.subarray(at, at + bytes.length), bytes), `run ${index} of ${i} is not there`);
      }
    }
  },
});
