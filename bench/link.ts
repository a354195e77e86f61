/**
 * A slow link, a process of its own, and an SSH server to put behind it.
 *
 *     deno run -A bench/link.ts TARGET_PORT DELAY_MS BYTES_A_SECOND
 *
 * prints the port that leads to the target.
 */
import { fileURLToPath } from "node:url";
import { run } from "../tests/mounted/mounted_container.ts";
import { Relay } from "../tests/net/relay.ts";

const HOST = "127.0.0.1";

/** What a link is like. */
export interface LinkOptions {
  /** How long each way takes, in ms. */
  readonly delay: number;
  /** Bytes a second in each direction. */
  readonly rate: number;
}

/** A link to a port of this machine. */
export class Link implements AsyncDisposable {
  readonly port: number;
  readonly #child: Deno.ChildProcess;

  private constructor(child: Deno.ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  static async open(target: number, { delay, rate }: LinkOptions): Promise<Link> {
    const script = fileURLToPath(import.meta.url);
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-check", "-A", script, `${target}`, `${delay}`, `${rate}`],
      stdin: "null",
      stdout: "piped",
    }).spawn();
    const { value } = await child.stdout.getReader().read();
    return new Link(child, Number(new TextDecoder().decode(value)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGTERM");
    await this.#child.status;
  }
}

/** An sshd on a free port of the loopback, with keys of its own in a directory. */
export class SshServer implements AsyncDisposable {
  readonly port: number;
  readonly #folder: string;
  readonly #child: Deno.ChildProcess;

  private constructor(folder: string, port: number, child: Deno.ChildProcess) {
    this.#folder = folder;
    this.port = port;
    this.#child = child;
  }

  static async start(folder: string): Promise<SshServer> {
    await Deno.mkdir(folder, { mode: 0o700 });
    await Deno.mkdir("/run/sshd", { recursive: true }); // sshd insists on it
    for (const key of ["host", "user"]) {
      const { code, stderr } = await run([
        "ssh-keygen",
        "-q",
        "-t",
        "ed25519",
        "-N",
        "",
        "-f",
        `${folder}/${key}`,
      ]);
      if (code !== 0) throw new Error(`ssh-keygen: ${stderr}`);
    }
    const { port } = freePort();
    const config = [
      `Port ${port}`,
      `ListenAddress ${HOST}`,
      `HostKey ${folder}/host`,
      `AuthorizedKeysFile ${folder}/user.pub`,
      "PidFile none",
      "UsePAM no",
      "StrictModes no",
      "PasswordAuthentication no",
      "Subsystem sftp internal-sftp",
    ];
    await Deno.writeTextFile(`${folder}/config`, config.join("\n") + "\n");
    const args = ["-D", "-e", "-f", `${folder}/config`];
    const child = new Deno.Command("/usr/sbin/sshd", { args, stdin: "null", stderr: "piped" }).spawn();
    let said = "";
    for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
      said += text;
      if (said.includes("listening")) return new SshServer(folder, port, child);
    }
    throw new Error(`sshd ended: ${said}`);
  }

  /** The command that mounts a folder of this machine by way of a port. */
  sshfs(port: number, folder: string, mountpoint: string): string[] {
    const options = [
      `port=${port}`,
      `IdentityFile=${this.#folder}/user`,
      "StrictHostKeyChecking=no",
      "UserKnownHostsFile=/dev/null",
      "LogLevel=ERROR",
    ];
    return ["sshfs", `${HOST}:${folder}`, mountpoint, ...options.flatMap((option) => ["-o", option])];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGTERM");
    await this.#child.status;
  }
}

function freePort(): Deno.NetAddr {
  const listener = Deno.listen({ hostname: HOST, port: 0 });
  listener.close();
  return listener.addr as Deno.NetAddr;
}

if (import.meta.main) {
  const [target, delay, rate] = Deno.args.map(Number);
  const relay = new Relay(target!, { delay: delay!, rate: rate! });
  console.log(relay.port);
}
