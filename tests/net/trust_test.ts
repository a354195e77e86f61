import assert from "node:assert/strict";
import { join } from "node:path";
import { CoverError } from "../../crypto/errors.ts";
import { openRemoteStore } from "../../fs/store/remote.ts";
import { certificateHash, makeCertificate } from "../../net/certificate.ts";
import { identifyServer, KnownServers, Tokens } from "../../net/mod.ts";
import { dial } from "../../net/trust.ts";
import { base64url } from "../../crypto/bytes.ts";
import { authorityAndLeaf, selfSigned, type SubjectNames } from "./forged_certificates.ts";
import { HOST, makeWriter, openOn, startServer, temporaryFolder } from "./servers.ts";
import { shownMode, WINDOWS } from "../platform.ts";
import { isCover } from "../errors.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const { signal } = new AbortController();

Deno.test("an unknown server is asked about, remembered with its token, and then known", strict, async () => {
  await using folder = await temporaryFolder();
  await using server = await startServer();
  const path = join(folder.path, "state", "servers.json");
  const known = new KnownServers(path);
  const asked: string[] = [];
  const common = { host: HOST, port: server.port, container: "box", known } as const;
  const refusing = { ...common, mode: "read", token: server.firstToken } as const;
  await assert.rejects(openRemoteStore(refusing), isCover("identity"));
  await assert.rejects(
    openRemoteStore({ ...refusing, onUnknownServer: () => Promise.resolve(false) }),
    isCover("identity"),
  );
  await using _store = await openRemoteStore({
    ...common,
    mode: "create",
    token: server.firstToken,
    ...await makeWriter(),
    onUnknownServer: (fingerprint) => (asked.push(fingerprint), Promise.resolve(true)),
  });
  assert.deepEqual(asked, [server.fingerprint]);
  await using _again = await openRemoteStore({ ...common, mode: "read" });
  assert.equal((await Deno.stat(path)).mode! & 0o777, shownMode(0o600));
  const names = [...Deno.readDirSync(join(folder.path, "state"))].map((entry) => entry.name).sort();
  assert.deepEqual(names, ["servers.json", ...WINDOWS ? ["servers.json.lock"] : []]);
});

Deno.test("a changed fingerprint is a hard failure, and nothing is sent", strict, async () => {
  await using folder = await temporaryFolder();
  await using server = await startServer();
  const known = new KnownServers(join(folder.path, "servers.json"));
  const other = base64url(crypto.getRandomValues(new Uint8Array(32)));
  await known.remember({ host: HOST, port: server.port }, { fingerprint: other, token: server.firstToken! });
  const options = { host: HOST, port: server.port, container: "box", mode: "read" } as const;
  let asked = false;
  const onUnknownServer = () => Promise.resolve(asked = true);
  await assert.rejects(openRemoteStore({ ...options, known, onUnknownServer }), isCover("identity"));
  await assert.rejects(
    openRemoteStore({ ...options, known, fingerprint: server.fingerprint, onUnknownServer }),
    isCover("identity"),
    "a link does not overrule what is known",
  );
  await assert.rejects(
    openRemoteStore({ ...options, fingerprint: other, token: server.firstToken, onUnknownServer }),
    isCover("identity"),
  );
  assert.equal(asked, false);
});

Deno.test("a server that shows another certificate later is refused", strict, async () => {
  const first = await startServer();
  const address = { host: HOST, port: first.port };
  const identity = await identifyServer(address, { fingerprint: first.fingerprint, signal });
  await first.shutdown();
  await using _second = await startServer({ port: address.port });
  await assert.rejects(dial(address, identity, signal), isCover("identity"));
});

Deno.test("a store whose server changed its identity says so, and tries again", strict, async () => {
  const first = await startServer();
  const refused = Promise.withResolvers<CoverError>();
  await using store = await openOn(first, {
    mode: "create",
    waitSeconds: 0.2,
    ...await makeWriter(),
    onConnection: (state, reason) => state === "refused" && refused.resolve(reason!),
  });
  await first.shutdown();
  await using _second = await startServer({ port: first.port });
  isCover("identity")(await refused.promise);
  await assert.rejects(async () => await store.read(0, 1), isCover("identity"));
});

Deno.test(
  "the server's own certificate has one name that nobody can be issued, and is no authority",
  strict,
  async () => {
    await import("reflect-metadata");
    const x509 = await import("@peculiar/x509");
    const pair = await makeCertificate();
    const certificate = new x509.X509Certificate(pair.certificate);
    const names = certificate.getExtension(x509.SubjectAlternativeNameExtension)!.names.toJSON();
    assert.equal(names.length, 1);
    assert.match(names[0]!.value, /^[0-9a-f]{32}\.coverfs\.invalid$/);
    assert.equal(certificate.getExtension(x509.BasicConstraintsExtension)!.ca, false);
    const digest = await crypto.subtle.digest("SHA-256", certificate.rawData);
    assert.deepEqual(await certificateHash(pair.certificate), new Uint8Array(digest));
    assert.equal(
      await certificate.verify({ publicKey: await certificate.publicKey.export(), signatureOnly: true }),
      true,
    );
  },
);

Deno.test(
  "a certificate with an ordinary name cannot be pinned; with its authority it is verified",
  strict,
  async () => {
    await using folder = await temporaryFolder();
    const { authority, certificate, key } = await authorityAndLeaf([{ type: "dns", value: "localhost" }]);
    const files = { certificate: join(folder.path, "c.pem"), key: join(folder.path, "k.pem") };
    await Deno.writeTextFile(files.certificate, certificate);
    await Deno.writeTextFile(files.key, key);
    await using server = await startServer({ certificateFiles: files });
    assert(!server.link(server.firstToken!, { host: "h" }).includes("sha256="));
    await assert.rejects(openOn(server, { mode: "read" }), isCover("identity"));
    const writer = await makeWriter();
    const byName = {
      port: server.port,
      token: server.firstToken,
      container: "box",
      ca: [authority],
    } as const;
    await using store = await openRemoteStore({ ...byName, host: "localhost", mode: "create", ...writer });
    await store.write(0, new Uint8Array(4128));
    await store.flush();
    await assert.rejects(
      openRemoteStore({ ...byName, host: HOST, mode: "read" }),
      isCover("identity"),
      "another name",
    );
    const options = { ...byName, host: "localhost", mode: "read" } as const;
    await assert.rejects(
      openRemoteStore({ ...options, ca: true }),
      isCover("identity"),
      "not a public authority",
    );
  },
);

Deno.test("only a certificate whose one name is a server's own can be pinned", strict, async () => {
  await using folder = await temporaryFolder();
  const own = `${"0123456789abcdef".repeat(2)}.coverfs.invalid`;
  const files = { certificate: join(folder.path, "c.pem"), key: join(folder.path, "k.pem") };
  const cases: [names: SubjectNames, pinned: boolean][] = [
    [[{ type: "dns", value: own }], true],
    [[{ type: "dns", value: "localhost" }], false],
    [[{ type: "dns", value: own }, { type: "dns", value: "localhost" }], false],
    [[{ type: "ip", value: HOST }], false],
    [[{ type: "dns", value: `x.${own}` }], false],
    [[{ type: "dns", value: own.slice(1) }], false],
    [[{ type: "dns", value: `${own}.example.org` }], false],
  ];
  for (const [names, pinned] of cases) {
    const { certificate, key } = await selfSigned(names);
    await Deno.writeTextFile(files.certificate, certificate);
    await Deno.writeTextFile(files.key, key);
    await using server = await startServer({ certificateFiles: files });
    const identity = identifyServer({ host: HOST, port: server.port }, {
      fingerprint: base64url(await certificateHash(certificate)),
      signal,
    });
    if (pinned) assert.equal((await identity).kind, "pinned");
    else {
      await assert.rejects(identity, (error) => {
        assert.match(
          (error as Error).message,
          /^Cannot pin .* is not one of its own$/,
          JSON.stringify(names),
        );
        return isCover("identity")(error);
      });
    }
  }
});

Deno.test("a file of known servers that is damaged is never taken for empty", strict, async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "servers.json");
  for (
    const text of [
      "",
      "{",
      "{}",
      '{"version":2,"servers":{}}',
      '{"version":1,"servers":{"h:1":{"token":"x"}}}',
    ]
  ) {
    await Deno.writeTextFile(path, text);
    await assert.rejects(new KnownServers(path).find({ host: "h", port: 1 }), isCover("failure"), text);
  }
});

Deno.test("tokens are kept as hashes only, and changes of the file are seen", strict, async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "tokens.json");
  const tokens = new Tokens(path);
  const token = await tokens.add("laptop", "ro");
  assert(!(await Deno.readTextFile(path)).includes(token));
  assert.equal((await Deno.stat(path)).mode! & 0o777, shownMode(0o600));
  const secret = Uint8Array.fromBase64(token, { alphabet: "base64url" });
  const other = new Tokens(path);
  assert.equal((await other.find(secret))?.role, "ro");
  await assert.rejects(other.add("laptop", "rw"), isCover("usage"));
  assert.equal(await tokens.remove("laptop"), true);
  assert.equal(await other.find(secret), undefined);
  await Deno.writeTextFile(path, "no tokens");
  await assert.rejects(other.find(secret), isCover("failure"));
});
