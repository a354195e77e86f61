import { mount, type Mounted, type MountOptions } from "../../ffi/mod.ts";
import type { Filesystem } from "../../fs/filesystem.ts";
import { MemoryFilesystem } from "../model/memory_filesystem.ts";

/** Options of every test here: nothing may be left open or unfinished. */
export const strict = { sanitizeOps: true, sanitizeResources: true };

/** A mount in a temporary directory, which goes away with it. */
export interface TestMount extends AsyncDisposable {
  readonly directory: string;
  readonly mounted: Mounted;
  /** Messages logged so far. */
  readonly logged: string[];
}

/** Mounts in a new temporary directory. */
export async function testMount(filesystem: Filesystem, options: MountOptions = {}): Promise<TestMount> {
  const directory = await Deno.makeTempDir({ prefix: "coverfs-test-" });
  const logged: string[] = [];
  try {
    const mounted = await mount(filesystem, directory, {
      log: (message) => logged.push(message),
      ...options,
    });
    return {
      directory,
      mounted,
      logged,
      async [Symbol.asyncDispose]() {
        await mounted[Symbol.asyncDispose]();
        await Deno.remove(directory);
      },
    };
  } catch (error) {
    await Deno.remove(directory);
    throw error;
  }
}

/** Mounts a new filesystem in memory; see {@linkcode testMount}. */
export async function memoryMount(
  options: MountOptions = {},
): Promise<TestMount & { readonly filesystem: MemoryFilesystem }> {
  const filesystem = new MemoryFilesystem();
  const test = await testMount(filesystem, options);
  return { ...test, filesystem, [Symbol.asyncDispose]: () => test[Symbol.asyncDispose]() };
}

/** What a program said and how it ended. */
export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a shell script, with `parameters` as `$1`, `$2` ..., and waits for it without blocking. */
export async function shell(script: string, ...parameters: string[]): Promise<Outcome> {
  const command = new Deno.Command("sh", { args: ["-c", script, "sh", ...parameters], env: { LC_ALL: "C" } });
  const { code, stdout, stderr } = await command.output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

/** Starts a shell script that goes on in the background; it is ready when it has said a line. */
export async function background(script: string, ...parameters: string[]): Promise<AsyncDisposable> {
  const child = new Deno.Command("sh", {
    args: ["-c", script, "sh", ...parameters],
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  return {
    async [Symbol.asyncDispose]() {
      await child.stdin.close().catch(() => {});
      while (!(await reader.read()).done);
      await child.status;
    },
  };
}
