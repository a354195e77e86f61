/** A container of the command line that is mounted, for the tasks that run programs of others on it. */

/** What a program said and how it ended. */
export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program and waits for it. */
export async function run(command: readonly string[], options: Deno.CommandOptions = {}): Promise<Ended> {
  const [program, ...args] = command;
  const ended = await new Deno.Command(program!, { args, stdin: "null", ...options }).output();
  const text = new TextDecoder();
  return { code: ended.code, stdout: text.decode(ended.stdout), stderr: text.decode(ended.stderr) };
}

/** How a container is made. */
export interface MountedContainerOptions {
  /** Cipher suite. */
  readonly cipher: string;
  /** It lies on a server on loopback, a process of its own. */
  readonly remote?: boolean;
  /** What lies between: told the server's port, it tells the one that clients are to take. */
  readonly by?: (port: number) => Promise<number>;
  /** Lets other users in, what only root may. */
  readonly allowOther?: boolean;
}

/** A container of its own below a directory, and where it is mounted. Disposal unmounts it and ends the server. */
export class MountedContainer implements AsyncDisposable {
  readonly mountpoint: string;
  /** A file with its passphrase. */
  readonly passfile: string;
  readonly #work: string;
  readonly #options: MountedContainerOptions;
  /** Where the container is; with its token, where it lies on a server. */
  locator: string;
  #server: Deno.ChildProcess | undefined;
  #mounted = false;

  private constructor(work: string, options: MountedContainerOptions) {
    this.#work = work;
    this.#options = options;
    this.locator = `${work}/container`;
    this.mountpoint = `${work}/mnt`;
    this.passfile = `${work}/passphrase`;
  }

  /** Makes an empty container in a directory that exists, and mounts it. */
  static async create(work: string, options: MountedContainerOptions): Promise<MountedContainer> {
    const made = new MountedContainer(work, options);
    try {
      await Deno.mkdir(made.mountpoint);
      await Deno.writeTextFile(made.passfile, "test", { mode: 0o600 });
      if (options.remote) await made.#serve();
      await made.#container("init", ["--suite", options.cipher, "--kdf-rounds", "210000"]);
      await made.mount();
      return made;
    } catch (error) {
      await made[Symbol.asyncDispose]();
      throw error;
    }
  }

  #command(args: readonly string[]): string[] {
    const main = new URL("../../main.ts", import.meta.url).pathname;
    return [Deno.execPath(), "run", "--quiet", "--no-check", "-A", main, ...args];
  }

  get #environment(): Record<string, string> {
    return { XDG_STATE_HOME: `${this.#work}/state` };
  }

  async #coverfs(...args: string[]): Promise<void> {
    const ended = await run(this.#command(args), { env: this.#environment });
    if (ended.code !== 0) throw new Error(`coverfs ${args[0]} ended with ${ended.code}: ${ended.stderr}`);
  }

  async #container(command: string, options: string[], ...more: string[]): Promise<void> {
    await this.#coverfs(
      command,
      ...options,
      "--passfile",
      this.passfile,
      this.locator,
      ...more,
    );
  }

  /** Starts the server, which prints the link of its container store when it is ready. */
  async #serve(): Promise<void> {
    const [program, ...args] = this.#command([
      ...["serve", "--root", `${this.#work}/server`, "--host", "127.0.0.1", "--port", "0"],
    ]);
    await Deno.mkdir(`${this.#work}/server`);
    this.#server = new Deno.Command(program!, {
      args,
      env: this.#environment,
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    let said = "";
    for await (const text of this.#server.stdout.pipeThrough(new TextDecoderStream())) {
      said += text;
      const link = /coverfs:\/\/\S+(?=\s)/.exec(said);
      if (!link) continue;
      const port = /(?<=:)\d+(?=\/)/.exec(link[0])![0], { by } = this.#options;
      this.locator = by === undefined ? link[0] : link[0].replace(`:${port}/`, `:${await by(Number(port))}/`);
      return;
    }
    throw new Error(`coverfs serve ended: ${said}`);
  }

  async mount(): Promise<void> {
    await this.#container("mount", this.#options.allowOther ? ["--allow-other"] : [], this.mountpoint);
    this.#mounted = true;
  }

  /** Memory of the process that mounts, in MB: what it has now (VmRSS), or had at most (VmHWM). */
  async memory(what: "VmRSS" | "VmHWM"): Promise<number> {
    const { mountpoint } = this, folder = `${this.#work}/state/coverfs/mounts`;
    for await (const { name } of Deno.readDir(folder)) {
      if (!name.endsWith(".json")) continue;
      const mount = JSON.parse(await Deno.readTextFile(`${folder}/${name}`));
      if (mount.mountpoint !== mountpoint) continue;
      const status = await Deno.readTextFile(`/proc/${mount.pid}/status`);
      return Number(new RegExp(`${what}:\\s+(\\d+)`).exec(status)![1]) * 1024 / 1e6;
    }
    throw new Error(`No process mounts at ${mountpoint}`);
  }

  /** Unmounts, and waits until everything is durable. */
  async unmount(): Promise<void> {
    if (!this.#mounted) return;
    await this.#coverfs("umount", this.mountpoint);
    this.#mounted = false;
  }

  /** Checks the container, which must not be mounted, with every block. @throws if it is not clean */
  async check(): Promise<void> {
    await this.#container("fsck", ["--scrub"]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.unmount().catch(() => this.#coverfs("umount", "--lazy", this.mountpoint));
    } finally {
      this.#server?.kill("SIGTERM");
      await this.#server?.status;
      this.#server = undefined;
    }
  }
}
