import assert from "node:assert/strict";
import { certificateHash, makeCertificate } from "../../net/certificate.ts";
import { listenTls, type TlsStream } from "../../net/tls_listener.ts";
import { dial, identifyServer } from "../../net/trust.ts";
import { base64url } from "../../crypto/bytes.ts";
import { HOST } from "./servers.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };

Deno.test("who sends what nobody reads is made to wait, and goes on when it is read", strict, async () => {
  const pair = await makeCertificate(), hash = await certificateHash(pair.certificate);
  const accepted: TlsStream[] = [];
  const listener = await listenTls({
    ...{ hostname: HOST, port: 0, identity: { pair, hash }, handshakeSeconds: 10 },
    admit: () => () => {},
    accept: (stream) => void accepted.push(stream),
  });
  const address = { host: HOST, port: listener.port }, { signal } = new AbortController();
  const identity = await identifyServer(address, { fingerprint: base64url(hash), signal });
  /** The server's end of the next connection. */
  const taken = async () => {
    while (accepted.length === 0) await new Promise((resolve) => setImmediate(resolve));
    return accepted.pop()!;
  };
  (await taken()).close();
  const flood = (await dial(address, identity, signal)).conn, unread = await taken();
  const other = (await dial(address, identity, signal)).conn, echoing = await taken();
  const piece = new Uint8Array(1 << 20), pieces = 64;
  let sent = 0;
  const sending = (async () => {
    for (; sent < pieces; sent++) {
      for (let at = 0; at < piece.length;) at += await flood.write(piece.subarray(at));
    }
  })();
  await other.write(Uint8Array.of(1));
  for (let i = 0; i < 2000; i++) {
    const one = new Uint8Array(1);
    await echoing.read(one);
    await echoing.write(one);
    await other.read(one);
    await other.write(one);
  }
  assert(sent < pieces / 2, `${sent} MiB were taken that nobody read`);
  const into = new Uint8Array(1 << 20);
  for (let have = 0; have < pieces << 20;) have += (await unread.read(into))!;
  await sending;
  for (const one of [flood, other, unread, echoing]) one.close();
  listener.stop();
  await listener.end();
});
