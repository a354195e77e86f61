/** Who may connect: bounds on connections and on handshakes, of one address and of all together. */

import { Rate } from "./rate.ts";

/** How many may connect. */
export interface AdmissionLimits {
  /** Connections at most, those whose handshake is under way included. */
  readonly connections: number;
  /** Of these, from one address. */
  readonly addressConnections: number;
  /** New connections a second, all together, and at once after a rest. */
  readonly handshakesPerSecond: number;
  readonly handshakesAtOnce: number;
  /** Of these, from one address. */
  readonly addressHandshakesPerSecond: number;
  readonly addressHandshakesAtOnce: number;
}

/** New connections that a failed one counts for: who fails is soon kept out before TLS, until it has rested. */
const FAILURE = 10;
/**
 * Handshakes of an address that no greeting need follow: so many a second, as of who watches whether the server is
 * there, and so many at once. A client looks at the certificate first, and then greets, which gives its look back.
 */
const LOOKS_PER_SECOND = 0.5, LOOKS_AT_ONCE = 20;

interface Source {
  open: number;
  refused: number;
  readonly rate: Rate;
  readonly looks: Rate;
}

/** Counts connections. What it keeps of an address is forgotten when that has rested, for less than a minute. */
export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #now: () => number;
  readonly #sources = new Map<string, Source>();
  readonly #rate: Rate;
  #open = 0;

  /** @param now a clock, in ms */
  constructor(limits: AdmissionLimits, now: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#now = now;
    this.#rate = new Rate(limits.handshakesPerSecond, now(), limits.handshakesAtOnce);
  }

  /** Addresses that something is kept of. */
  get sources(): number {
    return this.#sources.size;
  }

  /** Admits a connection. @returns what is to be called, once, at its end; undefined if there is no room for it */
  enter(address: string): (() => void) | undefined {
    const key = sourceOf(address), now = this.#now(), limits = this.#limits;
    let source = this.#sources.get(key);
    if (source === undefined) {
      const rate = new Rate(limits.addressHandshakesPerSecond, now, limits.addressHandshakesAtOnce);
      source = { open: 0, refused: 0, rate, looks: new Rate(LOOKS_PER_SECOND, now, LOOKS_AT_ONCE) };
      this.#sources.set(key, source);
    }
    // The address comes first, so that one that is refused takes nothing from the others.
    const room = source.open < limits.addressConnections && source.rate.take(now) &&
      this.#open < limits.connections && this.#rate.take(now);
    if (!room) {
      source.refused++;
      return undefined;
    }
    source.open++;
    this.#open++;
    const entered = source;
    return () => {
      entered.open--;
      this.#open--;
    };
  }

  /** Says that a connection from this address came to nothing: no handshake, no token, no sense. */
  blame(address: string): void {
    this.#sources.get(sourceOf(address))?.rate.spend(FAILURE, this.#now());
  }

  /** Says that a handshake was followed by no greeting: to be blamed where there are many. */
  looked(address: string): void {
    if (this.#sources.get(sourceOf(address))?.looks.take(this.#now()) === false) this.blame(address);
  }

  /** Says that a token was known. */
  greeted(address: string): void {
    this.#sources.get(sourceOf(address))?.looks.give(this.#now());
  }

  /** Forgets who has rested. @returns the addresses that were refused since the last time, and how often */
  sweep(): Map<string, number> {
    const now = this.#now(), refused = new Map<string, number>();
    for (const [key, source] of this.#sources) {
      if (source.refused > 0) refused.set(key, source.refused);
      source.refused = 0;
      if (source.open === 0 && source.rate.rested(now) && source.looks.rested(now)) this.#sources.delete(key);
    }
    return refused;
  }
}

/** What counts as one address: of IPv6 the first 64 bits, which one customer has; IPv4 within IPv6 as IPv4. */
export function sourceOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (!address.includes(":")) return address;
  const [front = "", back] = address.split("%")[0]!.split("::"),
    groups = front === "" ? [] : front.split(":");
  const behind = back === undefined || back === "" ? [] : back.split(":");
  while (groups.length + behind.length < 8) groups.push("0");
  return [...groups, ...behind].slice(0, 4).map((group) => parseInt(group, 16).toString(16)).join(":") +
    "::/64";
}
