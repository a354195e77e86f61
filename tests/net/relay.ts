/** A TCP relay that stands for the network between a client and a server. */
const HOST = "127.0.0.1";
/** Bytes on their way in one direction, from which on the sender waits. */
const MOST = 16 << 20;
/** How much too early bytes may go on, in ms: a timer takes 1 to 2 ms however short it is. */
const EARLY = 0.5;

/** What a link is like. */
export interface RelayOptions {
  /** How long each way takes, in ms. */
  readonly delay?: number;
  /** Bytes a second in each direction. */
  readonly rate?: number;
}

/** One connection by way of the relay. */
class Passage {
  readonly #ends: readonly [Deno.Conn, Deno.Conn];
  #held: { readonly over: Promise<void>; readonly release: () => void } | undefined;

  constructor(client: Deno.Conn, server: Deno.Conn) {
    this.#ends = [client, server];
  }

  /** Carries bytes both ways until one end closes. */
  async run(options: RelayOptions): Promise<void> {
    const [client, server] = this.#ends;
    await Promise.all([this.#carry(client, server, options), this.#carry(server, client, options)]);
  }

  async #carry(from: Deno.Conn, to: Deno.Conn, { delay = 0, rate = Infinity }: RelayOptions): Promise<void> {
    const queue: { readonly bytes: Uint8Array; readonly due: number }[] = [];
    let under = 0, ended = false, free = 0, wake = () => {};
    const change = () => new Promise<void>((resolve) => wake = resolve);
    const deliver = async () => {
      for (;;) {
        const next = queue.shift();
        if (next === undefined) {
          if (ended) return;
          await change();
          continue;
        }
        const wait = next.due - performance.now();
        if (wait > EARLY) await new Promise((resolve) => setTimeout(resolve, wait));
        while (this.#held) await this.#held.over;
        for (let at = 0; at < next.bytes.length;) at += await to.write(next.bytes.subarray(at));
        under -= next.bytes.length;
        wake();
      }
    };
    const take = async () => {
      try {
        const buffer = new Uint8Array(Math.min(65536, Math.max(1024, rate / 10)));
        for (;;) {
          const count = await from.read(buffer);
          if (count === null) return;
          free = Math.max(free, performance.now()) + count / rate * 1000;
          queue.push({ bytes: buffer.slice(0, count), due: free + delay });
          under += count;
          wake();
          // A link that holds little of what is on its way makes its sender feel how slow it is.
          while (under > Math.min(MOST, rate)) await change();
        }
      } finally {
        ended = true;
        wake();
      }
    };
    await Promise.allSettled([take(), deliver().finally(() => closeQuietly(from))]);
    closeQuietly(to);
  }

  /** Keeps all bytes from now on, without a word to either end. */
  hold(): void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#held ??= { over: promise, release: resolve };
  }

  /** Lets the bytes that were kept go on, late as they are. */
  release(): void {
    this.#held?.release();
    this.#held = undefined;
  }

  cut(): void {
    for (const conn of this.#ends) closeQuietly(conn);
    this.release();
  }
}

/** A relay to a server, that can cut, hold, delay and throttle, while the server lives. */
export class Relay implements AsyncDisposable {
  readonly port: number;
  readonly #listener: Deno.Listener;
  /** Port of the server, on this machine: where new connections lead. */
  target: number;
  readonly #options: RelayOptions;
  readonly #passages = new Set<Passage>();
  readonly #held: Passage[] = [];
  readonly #running = new Set<Promise<void>>();
  /** While true, new connections are closed at once. */
  down = false;
  connections = 0;

  constructor(target: number, options: RelayOptions = {}) {
    this.target = target;
    this.#options = options;
    this.#listener = Deno.listen({ hostname: HOST, port: 0 });
    this.port = (this.#listener.addr as Deno.NetAddr).port;
    this.#track(this.#accept());
  }

  #track(work: Promise<void>): void {
    const tracked = work.catch(() => {}).finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
  }

  async #accept(): Promise<void> {
    for await (const client of this.#listener) {
      this.connections++;
      if (this.down) client.close();
      else this.#track(this.#relay(client));
    }
  }

  async #relay(client: Deno.Conn): Promise<void> {
    let server: Deno.Conn;
    try {
      server = await Deno.connect({ hostname: HOST, port: this.target });
    } catch {
      return client.close(); // nobody is there
    }
    // What is to be waited for is said by the options alone.
    for (const end of [client, server]) (end as Deno.TcpConn).setNoDelay(true);
    const passage = new Passage(client, server);
    this.#passages.add(passage);
    await passage.run(this.#options);
    this.#passages.delete(passage);
  }

  /** Cuts every connection there is. */
  cut(): void {
    for (const passage of this.#passages) passage.cut();
    this.#passages.clear();
  }

  /** Makes every connection that there is half-open: nothing comes through, nobody is told. New ones work. */
  hold(): void {
    for (const passage of this.#passages) {
      passage.hold();
      this.#held.push(passage);
    }
  }

  /** Lets everything that was held arrive. */
  release(): void {
    for (const passage of this.#held.splice(0)) passage.release();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    this.release();
    this.cut();
    while (this.#running.size > 0) await Promise.all(this.#running);
  }
}

function closeQuietly(conn: Deno.Conn): void {
  try {
    conn.close();
  } catch {
    // closed already
  }
}
