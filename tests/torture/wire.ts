/** A wire between this machine and a network of its own, on which packets vanish and addresses change. Root only. */
import { must } from "./commands.ts";

/** Nobody's hardware address: what is sent there, the other end leaves lying. */
const NOBODY = "02:00:00:00:00:66";

/** A network namespace with one interface, and the other end of its wire here. */
export class Wire implements AsyncDisposable {
  /** What runs a program in the namespace, which shares all else with this one. */
  readonly under: readonly string[];
  /** The address of this end, where servers listen. */
  readonly here: string;
  readonly #name: string;
  readonly #network: string;
  #there: string;

  private constructor(number: number) {
    this.#name = `coverfs${number}`;
    this.#network = `10.213.${number % 256}`;
    this.here = `${this.#network}.1`;
    this.#there = `${this.#network}.2`;
    this.under = ["nsenter", `--net=/run/netns/${this.#name}`];
  }

  static async make(): Promise<Wire> {
    const wire = new Wire(Deno.pid), [here, there] = wire.#ends;
    await must(["ip", "netns", "add", wire.#name]);
    try {
      await must(["ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", wire.#name]);
      await must(["ip", "addr", "add", `${wire.here}/24`, "dev", here]);
      await must(["ip", "link", "set", here, "up"]);
      await wire.#inside("addr", "add", `${wire.#there}/24`, "dev", there);
      await wire.#inside("link", "set", there, "up");
      return wire;
    } catch (error) {
      await wire[Symbol.asyncDispose]();
      throw error;
    }
  }

  get #ends(): readonly [string, string] {
    return [`${this.#name}a`, `${this.#name}b`];
  }

  async #inside(...args: string[]): Promise<void> {
    await must([...this.under, "ip", ...args]);
  }

  /** From now on all packets vanish, and neither end is told. */
  async vanish(): Promise<void> {
    const [here, there] = this.#ends, nobody = ["lladdr", NOBODY, "nud", "permanent", "dev"];
    await must(["ip", "neigh", "replace", this.#there, ...nobody, here]);
    await this.#inside("neigh", "replace", this.here, ...nobody, there);
  }

  /** Packets arrive again. */
  async restore(): Promise<void> {
    const [here, there] = this.#ends;
    await must(["ip", "neigh", "del", this.#there, "dev", here]);
    await this.#inside("neigh", "del", this.here, "dev", there);
  }

  /** Pulls the plug here: the other end notices that. */
  async pull(): Promise<void> {
    await must(["ip", "link", "set", this.#ends[0], "down"]);
  }

  /** Puts it in again. */
  async plug(): Promise<void> {
    await must(["ip", "link", "set", this.#ends[0], "up"]);
  }

  /** The other end has another address from now on. */
  async move(): Promise<void> {
    const [, there] = this.#ends, before = this.#there;
    this.#there = `${this.#network}.${Number(before.split(".")[3]) + 1}`;
    await this.#inside("addr", "del", `${before}/24`, "dev", there);
    await this.#inside("addr", "add", `${this.#there}/24`, "dev", there);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await must(["ip", "netns", "del", this.#name]); // and with it both ends
  }
}
