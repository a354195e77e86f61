/** Runs the program as a child, in a temporary folder, without a terminal. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { WINDOWS } from "../platform.ts";

/** Variables that a program needs on Windows, and what keeps Deno from copying itself (tests/windows/deno.sh). */
const WINDOWS_KEPT = ["PATH", "PATHEXT", "COMSPEC", "SYSTEMROOT", "TEMP", "TMP", "DENO_DISABLE_NODE_SHIM"];
const MAIN = fileURLToPath(new URL("../../main.ts", import.meta.url));

/** What a run said and how it ended. */
export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly bytes: Uint8Array;
  readonly error: string;
}

/** A folder with a passphrase file, in which the program runs. */
export class Workplace implements AsyncDisposable {
  readonly folder: string;
  readonly container: string;

  private constructor(folder: string) {
    this.folder = folder;
    this.container = join(folder, "container");
  }

  /** @param passphrase a weak one unless told otherwise: `init` warns of it */
  static async make(passphrase = "correct horse"): Promise<Workplace> {
    const place = new Workplace(await mkdtemp(join(tmpdir(), "coverfs-cli-")));
    await writeFile(place.path("pass"), passphrase + "\n", { mode: 0o600 });
    return place;
  }

  path(...parts: string[]): string {
    return join(this.folder, ...parts);
  }

  /** Runs with the container and the passphrase file given by the environment. */
  async run(
    args: readonly string[],
    options: { env?: Record<string, string>; input?: Uint8Array; plain?: boolean } = {},
  ): Promise<Ran> {
    const child = this.start(args, options);
    const writer = child.stdin.getWriter();
    if (options.input) await writer.write(options.input).catch(() => {});
    await writer.close().catch(() => {});
    const { code, stdout, stderr } = await child.output();
    const text = (bytes: Uint8Array<ArrayBuffer>) => new TextDecoder().decode(bytes);
    return { code, out: text(stdout), bytes: stdout, error: text(stderr) };
  }

  /** Starts the program and lets it run, `under` another one where that is given. */
  start(
    args: readonly string[],
    options: { env?: Record<string, string>; plain?: boolean; under?: readonly string[] } = {},
  ) {
    const access: Record<string, string> = options.plain
      ? {}
      : { COVERFS_CONTAINER: this.container, COVERFS_PASSFILE: this.path("pass") };
    const deno = [Deno.execPath(), "run", "--quiet", "--no-check", "-A", MAIN, ...args];
    const [command, ...rest] = [...options.under ?? [], ...deno];
    return new Deno.Command(command!, {
      args: rest,
      cwd: this.folder,
      clearEnv: true,
      env: {
        ...environmentOf(options.env?.["HOME"] ?? this.folder),
        NO_COLOR: "1",
        ...access,
        ...options.env,
      },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
      detached: true, // a session of its own: no terminal to ask on
    }).spawn();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** What every program needs of the environment; what it remembers lies in `.local/state/coverfs` of the home. */
function environmentOf(home: string): Record<string, string> {
  const kept = (...names: string[]) => names.map((name) => [name, Deno.env.get(name) ?? ""]);
  if (WINDOWS) {
    return {
      ...Object.fromEntries(kept(...WINDOWS_KEPT)),
      LOCALAPPDATA: join(home, ".local", "state"),
      DENO_DIR: Deno.env.get("DENO_DIR") ?? join(Deno.env.get("LOCALAPPDATA") ?? "", "deno"),
    };
  }
  return {
    ...Object.fromEntries(kept("PATH")),
    HOME: home,
    DENO_DIR: Deno.env.get("DENO_DIR") ?? join(Deno.env.get("HOME") ?? "", ".cache", "deno"),
  };
}

/** A filesystem of that many bytes in a folder `disk` of the workplace; only root may. */
export async function smallDisk(
  place: Workplace,
  bytes: number,
): Promise<{ path: string } & AsyncDisposable> {
  const path = place.path("disk");
  await Deno.mkdir(path);
  const run = async (command: string, ...args: string[]) => {
    const { success, stderr } = await new Deno.Command(command, { args }).output();
    assert(success, new TextDecoder().decode(stderr));
  };
  await run("mount", "-t", "tmpfs", "-o", `size=${bytes}`, "tmpfs", path);
  return { path, [Symbol.asyncDispose]: () => run("umount", path) };
}

/** A workplace with a container and an empty directory `mnt`. */
export async function prepared(): Promise<Workplace> {
  const place = await Workplace.make();
  await mkdir(place.path("mnt"));
  const made = await place.run(["init", "--kdf-rounds", "210000"]);
  assert.equal(made.code, 0, made.error);
  return place;
}

/** How long something may take that takes far less, in ms. */
const PATIENCE = 60_000;

/** Waits until something is so, looking every `pause` ms; fails where it takes too long. */
export async function until(
  what: string,
  is: () => boolean | Promise<boolean>,
  pause = 50,
): Promise<void> {
  for (const start = performance.now(); !await is();) {
    assert(performance.now() - start < PATIENCE, `never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}
