import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { SUITE_NAMES } from "../../crypto/mod.ts";
import { HOST, startServer } from "../net/servers.ts";
import { until, Workplace } from "./run.ts";
import { WINDOWS } from "../platform.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const QUICK = ["--time", "5ms"];

/** Holds every number in what was measured to be one that something took. */
function assertMeasured(value: unknown, where = "all"): void {
  if (typeof value === "number") assert(value > 0 && Number.isFinite(value), `${where} is ${value}`);
  else if (typeof value === "object" && value !== null) {
    for (const [key, part] of Object.entries(value)) assertMeasured(part, `${where}.${key}`);
  }
}

Deno.test(
  "bench measures every suite with every engine, asks for nothing, and leaves nothing",
  strict,
  async () => {
    await using place = await Workplace.make();
    const before = await readdir(place.folder);
    const alone = await place.run(["bench", ...QUICK], { plain: true });
    assert.equal(alone.code, 0, alone.error);
    for (const suite of SUITE_NAMES) {
      assert.match(
        alone.out,
        new RegExp(`^${suite} +webcrypto +\\d+ MB/s`, "m"),
      );
    }

    const stored = await place.run(["bench", ...QUICK, "--json", "."], { plain: true });
    assert.equal(stored.code, 0, stored.error);
    const measured = JSON.parse(stored.out);
    assert.deepEqual(Object.keys(measured), ["kdfRounds", "sealing", "store"]);
    assert.equal(Object.keys(measured.store).length, 4);
    assertMeasured(measured);
    assert.deepEqual(await readdir(place.folder), before);
  },
);

Deno.test("bench of a server leaves no container there", strict, async () => {
  await using place = await Workplace.make();
  await using server = await startServer();
  const ran = await place.run(["bench", ...QUICK, server.link(server.firstToken!, { host: HOST })], {
    plain: true,
  });
  assert.equal(ran.code, 0, ran.error);
  assert.match(
    ran.out,
    new RegExp(`^coverfs://${HOST}:${server.port}\n  write a block and make it durable +\\d`, "m"),
  );
  assert(!ran.out.includes(server.firstToken!));
  const address = `coverfs://${HOST}:${server.port}`;
  assert.equal((await place.run(["ls", address], { plain: true })).out, "");
});

Deno.test(
  "bench that is interrupted takes away what it has stored",
  { ...strict, ignore: WINDOWS },
  async () => {
    await using place = await Workplace.make();
    await Deno.mkdir(place.path("disk"));
    await using child = place.start(["bench", "--time", "1h", "disk"], { plain: true });
    const output = child.output();
    await child.stdin.close();
    await until("something is stored", async () => (await readdir(place.path("disk"))).length > 0);
    child.kill("SIGINT");
    const { code } = await output;
    assert.equal(code, 130);
    assert.deepEqual(await readdir(place.path("disk")), []);
  },
);

Deno.test("bench refuses what is no place", strict, async () => {
  await using place = await Workplace.make();
  for (const no of ["pass", "missing", "ram:"]) {
    const { code, error } = await place.run(["bench", ...QUICK, no], { plain: true });
    assert.equal(code, 2, error);
    assert.match(error, /^coverfs: Cannot measure /);
  }
});
