/** Servers that break the protocol on purpose. */
import { base64url } from "../../crypto/bytes.ts";
import { certificateHash, makeCertificate } from "../../net/certificate.ts";
import { buildFrame, type Frame, FrameReader } from "../../net/frames.ts";
import { FieldWriter, Op } from "../../net/mod.ts";
import { MAX_BODY } from "../../net/protocol.ts";
import { listenTls, type TlsStream } from "../../net/tls_listener.ts";
import { HOST } from "./servers.ts";

/** Answers a request by any bytes, now or later; by none, never. */
export type Answer = (request: Frame) => Uint8Array[] | Promise<Uint8Array[]>;

/** A server that speaks TLS and whatever its answers are. */
export type HostileServer = { port: number; fingerprint: string; firstToken: string } & AsyncDisposable;

const GREETING = new FieldWriter(44).u16(1).u8(3).u8(0).u32(1 << 20).u32(64).bytes;

/** The head of a frame whose body is said to be that long. */
export function head(length: number, operation: number, direction = 0): Uint8Array<ArrayBuffer> {
  const frame = buildFrame({ operation, direction, status: 0, id: 1 }, new Uint8Array(0));
  new DataView(frame.buffer).setUint32(0, length, true);
  return frame;
}

/** A reply as it should be. */
export function reply(
  id: number,
  operation: number,
  body: Uint8Array,
  status = 0,
): Uint8Array<ArrayBuffer> {
  return buildFrame({ operation, direction: 1, status, id }, body);
}

/**
 * Starts a server that answers HELLO properly, and everything else with `answer`.
 *
 * @param from `Op.hello`: it answers that by `answer` too
 */
export async function hostileServer(answer: Answer, from: Op = Op.ping): Promise<HostileServer> {
  const pair = await makeCertificate(), hash = await certificateHash(pair.certificate);
  const open = new Set<TlsStream>(), running = new Set<Promise<void>>();
  const serveOne = async (conn: TlsStream) => {
    const sending = new Set<Promise<void>>();
    let written = Promise.resolve();
    const send = async (bytes: Uint8Array[]) => {
      for (const part of bytes) await conn.write(part);
    };
    try {
      const reader = new FrameReader(conn, MAX_BODY);
      for (let frame = await reader.next(); frame !== undefined; frame = await reader.next()) {
        const answers = frame.operation === Op.hello && from !== Op.hello
          ? [reply(frame.id, Op.hello, GREETING)]
          : answer(frame);
        const sent = Promise.resolve(answers).then((bytes) => written = written.then(() => send(bytes)))
          .catch(() => {}).finally(() => sending.delete(sent));
        sending.add(sent);
      }
    } catch {
      // the client went away
    } finally {
      conn.close();
      await Promise.all(sending);
    }
  };
  const listener = await listenTls({
    ...{ hostname: HOST, port: 0, identity: { pair, hash }, handshakeSeconds: 10 },
    admit: () => () => {},
    accept: (conn) => {
      open.add(conn);
      const served = serveOne(conn).finally(() => (open.delete(conn), running.delete(served)));
      running.add(served);
    },
  });
  return {
    port: listener.port,
    fingerprint: base64url(hash),
    firstToken: "A".repeat(43),
    [Symbol.asyncDispose]: async () => {
      listener.stop();
      for (const conn of open) conn.close();
      await Promise.all(running);
      await listener.end();
    },
  };
}
