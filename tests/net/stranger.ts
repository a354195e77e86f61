/** Somebody who answers where a server is expected: with TLS, and a certificate of its own. */
import { makeCertificate } from "../../net/certificate.ts";
import { HOST } from "./servers.ts";

/** Who answers in a server's place, as a network does that one has to log in to. */
export class Stranger implements AsyncDisposable {
  readonly port: number;
  /** Bytes that it was sent, once TLS was agreed upon. */
  bytesRead = 0;
  readonly #listener: Deno.TlsListener;
  readonly #running: Promise<void>;
  #visits = 0;
  #wake = () => {};

  private constructor(listener: Deno.TlsListener) {
    this.#listener = listener;
    this.port = (listener.addr as Deno.NetAddr).port;
    this.#running = this.#accept();
  }

  static async start(): Promise<Stranger> {
    const { certificate, key } = await makeCertificate();
    return new Stranger(Deno.listenTls({ hostname: HOST, port: 0, cert: certificate, key }));
  }

  async #accept(): Promise<void> {
    const under: Promise<void>[] = [];
    for await (const conn of this.#listener) under.push(this.#hear(conn));
    await Promise.all(under);
  }

  async #hear(conn: Deno.TlsConn): Promise<void> {
    const buffer = new Uint8Array(1024);
    try {
      for (let count; (count = await conn.read(buffer)) !== null;) this.bytesRead += count;
    } catch {
      // it does not trust us
    }
    conn.close();
    this.#visits++;
    this.#wake();
  }

  /** Resolves when so many connections have come and gone. */
  async visited(count: number): Promise<void> {
    while (this.#visits < count) await new Promise<void>((resolve) => this.#wake = resolve);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#running;
  }
}
