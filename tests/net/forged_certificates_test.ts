/** Somebody in the server's place, whose certificate is like the server's in all but what cannot be forged. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { X509Certificate } from "node:crypto";
import { join } from "node:path";
import { base64url } from "../../crypto/bytes.ts";
import { EXIT } from "../../cli/exit.ts";
import { CoverError } from "../../crypto/errors.ts";
import { certificateHash, type CertificatePair, makeCertificate, toPem } from "../../net/certificate.ts";
import { formatLink } from "../../net/mod.ts";
import { listenTls } from "../../net/tls_listener.ts";
import { dial } from "../../net/trust.ts";
import { Workplace } from "../cli/run.ts";
import {
  authorityAndLeaf,
  identityOf,
  keysOf,
  selfSigned,
  type SubjectNames,
  version1,
} from "./forged_certificates.ts";
import { WINDOWS } from "../platform.ts";
import { HOST, openOn, temporaryFolder } from "./servers.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const TOKEN = "A".repeat(43);

/** Who answers by TLS, shows one certificate after another, and counts what it is told. */
class Impostor implements AsyncDisposable {
  readonly #listener: Awaited<ReturnType<typeof listenTls>>;
  /** Connections whose handshake became complete, and bytes that came on them. */
  readonly heard: { connections: number; bytes: number };

  private constructor(listener: Awaited<ReturnType<typeof listenTls>>, heard: Impostor["heard"]) {
    this.#listener = listener;
    this.heard = heard;
  }

  /** @param shown one certificate for each connection; the last one for all that follow */
  static async start(...shown: readonly CertificatePair[]): Promise<Impostor> {
    const heard = { connections: 0, bytes: 0 }, identities = await Promise.all(shown.map(identityOf));
    let visits = 0;
    const listener = await listenTls({
      ...{ hostname: HOST, port: 0, identity: identities[0]!, handshakeSeconds: 10 },
      // The certificate is taken at once after this.
      admit: () => {
        listener.use(identities[Math.min(visits++, identities.length - 1)]!);
        return () => {};
      },
      accept: (stream) => {
        heard.connections++;
        void (async () => {
          const into = new Uint8Array(4096);
          for (let count; (count = await stream.read(into).catch(() => null)) !== null;) heard.bytes += count;
          stream.close();
        })();
      },
    });
    return new Impostor(listener, heard);
  }

  get port(): number {
    return this.#listener.port;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#listener.end();
  }
}

/** What a client makes of somebody at that port, of whom it knows this fingerprint: the exit code. */
async function met({ port }: Impostor, fingerprint: string): Promise<number> {
  const store = openOn({ port, fingerprint, firstToken: TOKEN }, { mode: "read" });
  const error = await store.then((opened) => opened.close(), (error) => error);
  assert(error instanceof CoverError, String(error));
  return EXIT[error.kind];
}

const fingerprintOf = async ({ certificate }: CertificatePair) =>
  base64url(await certificateHash(certificate));

/** The certificate of a server, and what others make who know it. */
async function forgeries() {
  const genuine = await makeCertificate(), keys = await keysOf(genuine);
  const name = /CN=(\S+)/.exec(new X509Certificate(genuine.certificate).subject)![1]!;
  const names = [{ type: "dns", value: name }] as const satisfies SubjectNames;
  const past = { notBefore: new Date("2020-01-01"), notAfter: new Date("2021-01-01") };
  const future = { notBefore: new Date("2089-01-01"), notAfter: new Date("2090-01-01") };
  const forged: readonly [what: string, CertificatePair][] = [
    ["the same name and another key", await selfSigned([...names])],
    ["X.509 version 1", await version1(name)],
    ["the same name, another key, expired", await selfSigned([...names], past)],
    ["the same name, another key, not yet valid", await selfSigned([...names], future)],
    ["the server's own key, made anew", await selfSigned([...names], { keys })],
    ["the server's own key, expired", await selfSigned([...names], { keys, ...past })],
    ["the server's own key, not yet valid", await selfSigned([...names], { keys, ...future })],
    ["of an authority that nobody trusts", await authorityAndLeaf([...names])],
  ];
  return { genuine, fingerprint: await fingerprintOf(genuine), names, forged };
}

Deno.test(
  "a forged certificate is refused by name, at once or later, and nothing is sent",
  strict,
  async (t) => {
    const { genuine, fingerprint, forged } = await forgeries();
    for (const [what, certificate] of forged) {
      await t.step(what, async () => {
        await using impostor = await Impostor.start(certificate);
        assert.equal(await met(impostor, fingerprint), 21);
        // The certificate is read on a connection of its own: another one on the next must not pass either.
        await using switching = await Impostor.start(genuine, certificate);
        // (Whoever has the server's own key could as well show the server's own certificate.)
        if (!what.endsWith("made anew")) assert.equal(await met(switching, fingerprint), 21);
        for (const { heard } of [impostor, switching]) assert.equal(heard.bytes, 0, "something was sent");
      });
    }
    await t.step("the genuine one is greeted", async () => {
      await using server = await Impostor.start(genuine);
      const store = openOn({ port: server.port, fingerprint, firstToken: TOKEN }, {
        ...{ mode: "read", connectSeconds: 0.3 },
      });
      await assert.rejects(store, { kind: "no-connection" });
      assert.equal(server.heard.bytes, 12 + 72, "its HELLO");
    });
  },
);

Deno.test(
  "a certificate that cannot vouch for itself is refused though it is the one that is pinned",
  strict,
  async (t) => {
    const { forged } = await forgeries();
    for (const [what, certificate] of forged.filter(([what]) => /version 1|expired|not yet/.test(what))) {
      await t.step(what, async () => {
        await using impostor = await Impostor.start(certificate);
        assert.equal(await met(impostor, await fingerprintOf(certificate)), 21);
        assert.equal(impostor.heard.bytes, 0, "something was sent");
      });
    }
  },
);

/** A key of somebody else that says that it is the certificate's: the runtime's own TLS would not serve with it. */
async function pretendedKey({ key }: CertificatePair): Promise<string> {
  const [own, other] = await Promise.all([{ key }, await makeCertificate()].map(async (pair) => {
    const { privateKey } = await keysOf({ certificate: "", ...pair });
    const { d } = await crypto.subtle.exportKey("jwk", privateKey);
    return Buffer.from(d!, "base64url");
  }));
  const der = Buffer.from(key.replace(/-----.*-----/g, ""), "base64");
  other!.copy(der, der.indexOf(own!));
  return toPem(new Uint8Array(der), "PRIVATE KEY");
}

Deno.test({
  name: "the server's own certificate, captured, is nothing without its key: the handshake fails",
  ignore: WINDOWS, // where there is no openssl
  ...strict,
  fn: async () => {
    const genuine = await makeCertificate(), pretended = await pretendedKey(genuine);
    await using folder = await temporaryFolder();
    const [cert, key] = [join(folder.path, "cert"), join(folder.path, "key")];
    await Deno.writeTextFile(cert, genuine.certificate);
    for (const [file, expected] of [[genuine.key, undefined], [pretended, "identity"]] as const) {
      await Deno.writeTextFile(key, file);
      const args = ["s_server", "-accept", `${HOST}:0`, "-cert", cert, "-key", key, "-naccept", "1"];
      const server = new Deno.Command("openssl", { args, stdin: "piped", stdout: "piped", stderr: "null" })
        .spawn();
      const output = server.stdout.pipeThrough(new TextDecoderStream()).getReader();
      let said = "", port: string | undefined;
      while ((port = /ACCEPT \S+:(\d+)\n/.exec(said)?.[1]) === undefined) {
        const { value, done } = await output.read();
        assert(!done, said);
        said += value;
      }
      const { raw, subject } = new X509Certificate(genuine.certificate);
      const identity = {
        ...{
          kind: "pinned" as const,
          name: subject.replace("CN=", ""),
          fingerprint: await fingerprintOf(genuine),
        },
        certificate: new Uint8Array(raw),
      };
      const { signal } = new AbortController();
      const dialled = dial({ host: HOST, port: Number(port) }, identity, signal);
      const kind = await dialled.then(({ conn }) => conn.close(), (error) => error.kind);
      assert.equal(kind, expected);
      await Promise.all([output.cancel(), server.stdin.close()]);
      server.kill("SIGKILL");
      await server.status;
    }
  },
});

Deno.test("an authority that the runtime trusts cannot stand in for a pin", strict, async () => {
  const { genuine, fingerprint } = await forgeries();
  const trusted = await authorityAndLeaf([{ type: "ip", value: HOST }, { type: "dns", value: "localhost" }]);
  await using place = await Workplace.make();
  const authority = place.path("authority.pem");
  await Deno.writeTextFile(authority, trusted.authority);
  const env = { DENO_CERT: authority };
  for (const shown of [[trusted], [genuine, trusted]]) {
    await using impostor = await Impostor.start(...shown);
    const link = formatLink({ host: HOST, port: impostor.port, name: "box", token: TOKEN, fingerprint });
    const { code, error } = await place.run(["info", link], { env });
    assert.equal(code, 21, error);
    assert.equal(impostor.heard.bytes, 0, "something was sent");
  }
  // The same child would trust it, were it not for the pin.
  await using impostor = await Impostor.start(trusted);
  const script = `const conn = await Deno.connectTls({ hostname: "localhost", port: ${impostor.port} });
    await conn.write(new Uint8Array(7)); conn.close();`;
  const child = new Deno.Command(Deno.execPath(), { args: ["eval", script], env, stderr: "inherit" });
  assert((await child.output()).success, "DENO_CERT is heeded");
});
