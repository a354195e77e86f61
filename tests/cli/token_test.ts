import assert from "node:assert/strict";
import { join } from "node:path";
import { accessLine } from "../../cli/access_log.ts";
import { makeCertificate } from "../../net/certificate.ts";
import { HOST } from "../net/servers.ts";
import { ServerProcess } from "./processes.ts";
import { until, Workplace } from "./run.ts";
import { shownMode, WINDOWS } from "../platform.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };

Deno.test("token adds, lists and removes tokens while the server runs", strict, async () => {
  await using place = await Workplace.make();
  await using server = await ServerProcess.start(place);
  const token = (...args: string[]) => place.run(["token", ...args, "--root", "served"], { plain: true });
  const link = await token(
    "add",
    "laptop",
    "--role",
    "ro",
    "--host",
    HOST,
    "--port",
    `${server.port}`,
    "--name",
    "box",
  );
  assert.equal(link.code, 0, link.error);
  assert.match(
    link.out,
    new RegExp(`^coverfs://[\\w-]{43}@${HOST}:${server.port}/box\\?sha256=[\\w-]{43}\n$`),
  );
  assert.equal((await token("list")).out, "create  first\nro      laptop\n");
  assert.deepEqual(JSON.parse((await token("list", "--json")).out), [
    { label: "first", role: "create" },
    { label: "laptop", role: "ro" },
  ]);
  assert.match((await token("add", "second")).out, /^[\w-]{43}\n$/, "without a host there is no link");

  const listed = await place.run(["ls", link.out.trim()], { plain: true });
  assert.equal(listed.code, 0, listed.error);
  assert.equal((await token("remove", "laptop")).code, 0);
  assert.equal((await place.run(["ls", link.out.trim()], { plain: true })).code, 22);
  for (
    const [args, message] of [
      [["remove", "laptop"], /none labelled "laptop"/],
      [["add", "first"], /labelled "first" already/],
      [["add"], /label is missing/],
      [["list", "first"], /lists? /],
    ] as const
  ) {
    const refused = await token(...args);
    assert.equal(refused.code, 2);
    assert.match(refused.error, message);
  }
  const nowhere = await place.run(["token", "list", "--root", "."], { plain: true });
  assert.equal(nowhere.code, 2);
  assert.match(nowhere.error, /is not the folder of one\nhint: /);
});

Deno.test("serve writes an access log, and reads its certificate again on SIGHUP", strict, async () => {
  await using place = await Workplace.make();
  const replace = async () => {
    const { certificate, key } = await makeCertificate();
    await Deno.writeTextFile(place.path("cert.pem"), certificate);
    await Deno.writeTextFile(place.path("key.pem"), key);
  };
  await replace();
  await using server = await ServerProcess.start(place, [
    ...["--cert", place.path("cert.pem"), "--key", place.path("key.pem")],
    ...["--access-log", place.path("access.log"), "--log-format", "json"],
  ]);
  if (!WINDOWS) {
    await replace();
    server.program.signal("SIGHUP");
    await server.program.until(() =>
      /Certificate read again, fingerprint \S+\n/.exec(server.program.said) ?? undefined
    );
    await Deno.writeTextFile(place.path("key.pem"), "none");
    server.program.signal("SIGHUP");
    await server.program.until(() => /Cannot use the certificate/.exec(server.program.said) ?? undefined);
  }

  const token = (await place.run(["token", "add", "laptop", "--root", "served"], { plain: true })).out.trim();
  const fingerprint = /.*[Ff]ingerprint:? (\S+)\n/s.exec(server.program.said)![1]; // the last one
  const link = `coverfs://${token}@${HOST}:${server.port}/box?sha256=${fingerprint}`;
  assert.equal((await place.run(["ls", link], { plain: true })).code, 0);
  const path = place.path("access.log");
  await until("the connection has ended", async () => (await Deno.readTextFile(path)).includes('"ended"'));
  const lines = (await Deno.readTextFile(path)).trim().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(lines.map(({ event, token }) => [event, token]), [["greeted", "laptop"], [
    "ended",
    "laptop",
  ]]);
  assert.equal(lines[0].address, HOST);
  assert.equal((await Deno.stat(path)).mode! & 0o777, shownMode(0o600));
  const unwritable = await place.run(["serve", "--ram", "--access-log", join("no", "folder")], {
    plain: true,
  });
  assert.equal(unwritable.code, 1);
});

Deno.test("a line of the access log as text quotes what is not plain", () => {
  const time = new Date("2026-01-01T10:00:00Z");
  const event = {
    event: "denied",
    address: "2001:db8::1",
    token: 'my "laptop"\n',
    container: "box",
  } as const;
  assert.equal(
    accessLine(event, "text", time),
    String.raw`2026-01-01T10:00:00.000Z denied address=2001:db8::1 token="my \"laptop\"\n" container=box`,
  );
});
