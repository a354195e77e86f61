/** Servers that break the protocol on purpose. */
import { base64url } from "../../crypto/bytes.ts";
import { certificateHash, makeCertificate } from "../../net/certificate.ts";
import { buildFrame, type Frame, FrameReader } from "../../net/frames.ts";
import { FieldWriter, Op } from "../../net/mod.ts";
import { MAX_BODY } from "../../net/protocol.ts";
import { HOST } from "./servers.ts";

/** Answers a request by any bytes, now or later; by none, never. */
export type Answer = (request: Frame) => Uint8Array[] | Promise<Uint8Array[]>;

/** A server that speaks TLS and whatever its answers are. */
export type HostileServer = { port: number; fingerprint: string; firstToken: string } & AsyncDisposable;

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
  const pair = await makeCertificate();
  const listener = Deno.listenTls({ hostname: HOST, port: 0, cert: pair.certificate, key: pair.key });
  const open = new Set<Deno.Conn>();
  const serveOne = async (conn: Deno.Conn) => {
    open.add(conn);
    const sending = new Set<Promise<void>>();
    try {
      const reader = new FrameReader(conn, MAX_BODY);
      let written = Promise.resolve();
      const send = async (answers: Uint8Array[]) => {
        for (const bytes of answers) {
          for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
        }
      };
      for (let frame = await reader.next(); frame !== undefined; frame = await reader.next()) {
        const greeting = new FieldWriter(44).u16(1).u8(3).u8(0).u32(1 << 20).u32(64).bytes;
        const answers = frame.operation === Op.hello && from !== Op.hello
          ? [reply(frame.id, Op.hello, greeting)]
          : answer(frame);
        const sent = Promise.resolve(answers).then((bytes) => written = written.then(() => send(bytes)))
          .catch(() => {}).finally(() => sending.delete(sent));
        sending.add(sent);
      }
    } catch {
      // the client went away
    } finally {
      if (open.delete(conn)) conn.close();
      await Promise.all(sending);
    }
  };
  const running: Promise<void>[] = [];
  const accepting = (async () => {
    try {
      for await (const conn of listener) running.push(serveOne(conn));
    } catch {
      // closed
    }
  })();
  return {
    port: (listener.addr as Deno.NetAddr).port,
    fingerprint: base64url(await certificateHash(pair.certificate)),
    firstToken: "A".repeat(43),
    [Symbol.asyncDispose]: async () => {
      listener.close();
      for (const conn of open) if (open.delete(conn)) conn.close();
      await accepting;
      await Promise.all(running);
    },
  };
}
