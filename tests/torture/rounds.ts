/** Rounds of torture: a container under load, a kill at a random moment, and what must be there afterwards. */
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { MountProcess, ServerProcess } from "../cli/processes.ts";
import { Workplace } from "../cli/run.ts";
import { randomNumbers } from "../layout/random.ts";
import { Database } from "./database.ts";
import type { Load } from "./load.ts";
import { RandomWriter, syncDirectory } from "./random_writer.ts";
import { Replacer } from "./replacer.ts";
import { Repository } from "./repository.ts";

/** How long a load is killed after its beginning at least, and at most unless said otherwise, in ms. */
const LOADED = 200, LOADED_MOST = 2500;
/** How long a server stays away at most, in ms. */
const AWAY = 1500;
/** How long a load may take to end once it is told so, in ms. */
const PATIENCE = 60_000;

/** What is killed. */
export type Victim = "mount" | "server" | "both";

/** How one round went. */
export interface Round {
  readonly number: number;
  readonly container: string;
  readonly victim: Victim;
  /** Operations that were acknowledged in this round. */
  readonly acknowledged: number;
  /** What was not as it must be. */
  readonly failure: unknown;
}

/** A container, its loads, and the mount that there is at the moment. */
class Subject implements AsyncDisposable {
  readonly name: string;
  readonly server: ServerProcess | undefined;
  readonly #place: Workplace;
  readonly #container: string;
  readonly #at: string;
  readonly #loads: readonly Load[] = [
    new RandomWriter(),
    new Replacer(1),
    new Replacer(2),
    new Replacer(3),
    new Database("rollback"),
    new Database("wal"),
    new Repository(),
  ];
  #mount: MountProcess | undefined;
  #prepared = false;

  private constructor(place: Workplace, name: string, server?: ServerProcess) {
    this.#place = place;
    this.name = name;
    this.server = server;
    this.#container = server?.link ?? place.path(name);
    this.#at = place.path(`mnt-${name}`);
  }

  static async make(place: Workplace, name: string, server?: ServerProcess): Promise<Subject> {
    const subject = new Subject(place, name, server);
    await mkdir(subject.#at);
    const made = await place.run(["init", "--kdf-rounds", "210000", subject.#container]);
    assert.equal(made.code, 0, made.error);
    return subject;
  }

  /** One round. A container that was found damaged is good for no other. */
  async round(victim: Victim, random: (limit: number) => number, longest: number): Promise<number> {
    const mount = this.#mount ??= await this.#remount();
    await this.#prepare();
    const before = this.#acknowledged, stop = new AbortController();
    const running = this.#loads.map((load) =>
      load.run({
        directory: this.#directory(load),
        random: randomNumbers(random(2 ** 31)),
        signal: stop.signal,
      })
        .then(() => undefined, (error) => new Error(`${load.name}: ${error.message}`, { cause: error }))
    );
    await moment(LOADED + random(longest - LOADED));
    if (victim !== "server") {
      await Promise.all([mount.program.kill(), victim === "both" && this.server!.kill()]);
    } else {
      await this.server!.kill();
      await moment(random(AWAY));
      await this.server!.restart();
      await moment(LOADED);
    }
    stop.abort();
    if (victim !== "server") await mount.kill(); // so that who waits for the dead mount is told
    const ended = await within(Promise.all(running), `the loads do not end: ${mount.program.said}`);
    const acknowledged = this.#acknowledged - before;
    if (victim === "server") {
      const failure = ended.find((error) => error !== undefined);
      if (failure) throw new Error(`${failure.message}\n${mount.program.said}`, { cause: failure });
      assert.equal(await mount.unmount(), 0, mount.program.said);
    } else if (victim === "both") await this.server!.restart();
    this.#mount = undefined;
    await this.#check();
    this.#mount = await this.#remount();
    for (const load of this.#loads) await load.verify(this.#directory(load));
    return acknowledged;
  }

  get #acknowledged(): number {
    return this.#loads.reduce((sum, load) => sum + load.acknowledged, 0);
  }

  #directory(load: Load): string {
    return `${this.#at}/${load.name}`;
  }

  async #prepare(): Promise<void> {
    if (this.#prepared) return;
    for (const load of this.#loads) {
      await mkdir(this.#directory(load));
      await load.prepare(this.#directory(load));
    }
    await syncDirectory(this.#at); // of the root: everything
    this.#prepared = true;
  }

  #remount(): Promise<MountProcess> {
    const args = this.server ? ["--takeover"] : [];
    return MountProcess.start(this.#place, { container: this.#container, at: this.#at, args });
  }

  async #check(): Promise<void> {
    const { code, out, error } = await this.#place.run(["fsck", "--scrub", this.#container]);
    assert.equal(code, 0, `fsck: ${out}${error}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#mount?.kill();
  }
}

/**
 * Runs rounds, in one container on a server and one in a file.
 *
 * @param options `seed`: for what is done and when; `rounds`: how many; `longest`: how long a load is left alone at most, in ms; `told`: called after each
 * @returns how many passed and how many failed
 */
export async function torture(options: {
  readonly rounds: number;
  readonly seed: number;
  readonly longest?: number;
  readonly told?: (round: Round) => void;
}): Promise<{ passed: number; failed: number }> {
  const { rounds, seed, longest = LOADED_MOST, told } = options, counts = { passed: 0, failed: 0 };
  for (let number = 1; number <= rounds;) {
    await using place = await Workplace.make();
    await mkdir(place.path("served"));
    await using server = await ServerProcess.start(place);
    await using remote = await Subject.make(place, "served-container", server);
    await using local = await Subject.make(place, "file-container");
    let failure: unknown;
    for (; number <= rounds && failure === undefined; number++) {
      const random = randomNumbers(seed + number * 0x9e3779b1), subject = random(4) === 0 ? local : remote;
      const victims: readonly Victim[] = subject.server ? ["mount", "server", "both"] : ["mount"];
      const victim = victims[random(victims.length)]!;
      let acknowledged = 0;
      try {
        acknowledged = await subject.round(victim, random, longest);
        counts.passed++;
      } catch (error) {
        failure = error; // the next round begins with other containers
        counts.failed++;
      }
      told?.({ number, container: subject.name, victim, acknowledged, failure });
    }
  }
  return counts;
}

/** A moment of the load that is passed by: what is random here is when the kill comes. */
function moment(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

async function within<T>(work: Promise<T>, message: string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(message)), PATIENCE);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
