/** Servers and mounts as processes of their own, which can be killed, stopped and started again. */
import assert from "node:assert/strict";
import { stat } from "node:fs/promises";
import { HOST } from "../net/servers.ts";
import type { Workplace } from "./run.ts";

/** How often it is looked whether something is there, in ms. */
const LOOK = 20;

/** A process of the program, whose output is kept. */
export class Program implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  /** Resolves when it has ended. */
  readonly ended: Promise<{ readonly code: number; readonly signal: Deno.Signal | null }>;
  #said = "";
  readonly #reading: Promise<unknown>;
  #hasEnded = false;

  constructor(child: Deno.ChildProcess) {
    this.#child = child;
    const decoder = () => new TextDecoder();
    const collect = async (stream: ReadableStream<Uint8Array>) => {
      const text = decoder();
      for await (const part of stream) this.#said += text.decode(part, { stream: true });
    };
    this.#reading = Promise.all([collect(child.stdout), collect(child.stderr), child.stdin.close()]);
    this.ended = child.status.then(({ code, signal }) => {
      this.#hasEnded = true;
      return { code, signal };
    });
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** What it said so far, on standard output and standard error. */
  get said(): string {
    return this.#said;
  }

  /** Waits until it is ready. Fails where it ends before. */
  async until<T>(ready: () => T | undefined | Promise<T | undefined>): Promise<T> {
    for (;;) {
      const found = await ready();
      if (found !== undefined) return found;
      assert(!this.#hasEnded, `It has ended: ${this.#said}`);
      await new Promise((resolve) => setTimeout(resolve, LOOK));
    }
  }

  /** Sends a signal; one that has ended takes none. */
  signal(signal: Deno.Signal): void {
    if (!this.#hasEnded) this.#child.kill(signal);
  }

  /** Ends it by SIGKILL, which nothing can be done about, and waits until it is gone. May be called twice. */
  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await this.ended;
    await this.#reading;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}

/** A server over a folder, that keeps its port when it is started again. */
export class ServerProcess implements AsyncDisposable {
  readonly #place: Workplace;
  readonly #options: readonly string[];
  #program: Program | undefined;
  /** The port that it listens on. */
  port = 0;
  /** A link with its first token. */
  link = "";

  private constructor(place: Workplace, options: readonly string[]) {
    this.#place = place;
    this.#options = options;
  }

  /** Starts one over the folder `served` of the workplace, unless the options name another. */
  static async start(place: Workplace, options: readonly string[] = []): Promise<ServerProcess> {
    const server = new ServerProcess(place, options);
    await server.restart();
    return server;
  }

  get program(): Program {
    assert(this.#program, "The server was not started");
    return this.#program;
  }

  /** Starts it; a running one is killed before. */
  async restart(): Promise<void> {
    await this.#program?.kill();
    const root = ["--root", this.#place.path("served")];
    const program = new Program(
      this.#place.start(["serve", "--host", HOST, "--port", String(this.port), ...root, ...this.#options]),
    );
    this.#program = program;
    const fingerprint = await program.until(() => /^Fingerprint: (\S+)\n/m.exec(program.said)?.[1]);
    this.port = Number(/port (\d+)$/m.exec(program.said)?.[1]);
    if (this.link !== "") return;
    this.link = await program.until(() => /(coverfs:\/\/\S+)\n/.exec(program.said)?.[1]);
    assert(this.link.includes(fingerprint) || this.#options.includes("--cert"));
  }

  /** The link, by way of another port. */
  linkBy(port: number): string {
    return this.link.replace(`:${this.port}`, `:${port}`);
  }

  async kill(): Promise<void> {
    await this.#program?.kill();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}

/** A mount in the foreground. Disposing it kills it and takes the mountpoint out of the tree. */
export class MountProcess implements AsyncDisposable {
  readonly program: Program;
  readonly path: string;

  private constructor(program: Program, path: string) {
    this.program = program;
    this.path = path;
  }

  /** Mounts at a directory and waits until it is there. */
  static async start(place: Workplace, options: {
    readonly container: string;
    readonly at: string;
    readonly args?: readonly string[];
    /** What runs it, as `nsenter`. */
    readonly under?: readonly string[];
  }): Promise<MountProcess> {
    const { container, at, args = [], under = [] } = options;
    const { dev } = await stat(at);
    const program = new Program(place.start(["mount", "--foreground", ...args, container, at], { under }));
    const mount = new MountProcess(program, at);
    try {
      await program.until(async () => (await stat(at)).dev !== dev ? true : undefined);
    } catch (error) {
      await mount.kill();
      throw error;
    }
    return mount;
  }

  /** Kills it, as a crash of the machine would, and takes away what the kernel keeps of it. May be called twice. */
  async kill(): Promise<void> {
    await this.program.kill();
    await new Deno.Command("umount", { args: ["-l", this.path], stderr: "null" }).output();
    await new Deno.Command("fusermount3", { args: ["-uz", this.path], stderr: "null" }).output();
  }

  /** Unmounts in order. @returns how the process ended */
  async unmount(): Promise<number> {
    const tool = Deno.uid() === 0 ? ["umount", this.path] : ["fusermount3", "-u", this.path];
    const { success, stderr } = await new Deno.Command(tool[0]!, { args: tool.slice(1) }).output();
    assert(success, new TextDecoder().decode(stderr));
    return (await this.program.ended).code;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}
