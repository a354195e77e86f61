/**
 * Runs programs that people use on mounted containers, each case on a fresh one, which must be clean in the end:
 *
 *     deno task programs [--remote] [--cipher SUITE] [--work DIR] [NAME...]
 *
 * `--remote` has the container on a server on loopback, `--work` says below which directory everything lies.
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { MountedContainer, run } from "../mounted/mounted_container.ts";
import { setUpPackages } from "../setup.ts";
import { LONG, type ProgramCase, PROGRAMS, runProgram } from "./programs.ts";

interface RunOptions {
  readonly cipher: string;
  readonly remote: boolean;
  readonly parent: string | undefined;
}

/** @returns what keeps the container from being unmounted and clean; undefined if nothing does */
async function checked(container: MountedContainer): Promise<string | undefined> {
  try {
    await container.unmount();
    await container.check();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** @returns what went wrong; undefined if nothing did */
async function onContainer(one: ProgramCase, options: RunOptions): Promise<string | undefined> {
  const work = await Deno.makeTempDir({
    prefix: "coverfs-programs-",
    ...(options.parent && { dir: options.parent }),
  });
  try {
    const outside = `${work}/outside`;
    await Deno.chmod(work, 0o755);
    await Deno.mkdir(outside);
    await using container = await MountedContainer.create(work, {
      cipher: options.cipher,
      remote: options.remote,
      allowOther: Deno.uid() === 0,
    });
    const directory = `${container.mountpoint}/case`;
    await Deno.mkdir(directory);
    const problem = await runProgram(one, directory, { outside, rounds: LONG });
    const rest = await checked(container);
    return problem !== undefined && rest !== undefined ? `${problem}\n${rest}` : problem ?? rest;
  } catch (error) {
    return (error as Error).message;
  } finally {
    await run(["rm", "-rf", work]);
  }
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      remote: { type: "boolean", default: false },
      cipher: { type: "string", default: "aes-256-cbc-hmac-sha256" },
      work: { type: "string" },
    },
  });
  const names = positionals.length > 0 ? positionals : Object.keys(PROGRAMS);
  const unknown = names.filter((name) => !Object.hasOwn(PROGRAMS, name));
  if (unknown.length > 0) {
    console.error(`Unknown: ${unknown.join(", ")}; there are: ${Object.keys(PROGRAMS).join(", ")}`);
    return 2;
  }
  await setUpPackages(["fusermount3:fuse3", ...names.flatMap((name) => PROGRAMS[name]!.needs)]);
  let passed = 0, failed = 0;
  for (const name of names) {
    const one = PROGRAMS[name]!, start = performance.now();
    const problem = one.root && Deno.uid() !== 0
      ? "only root can run it"
      : await onContainer(one, { cipher: values.cipher, remote: values.remote, parent: values.work });
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    problem === undefined ? passed++ : failed++;
    console.log(`${problem === undefined ? "ok    " : "FAILED"} ${name} (${seconds} s): ${one.claim}`);
    if (problem !== undefined) console.log(problem.replace(/^/gm, "    "));
  }
  console.log(`${passed} passed, ${failed} failed`);
  return failed > 0 ? 1 : 0;
}

if (import.meta.main) process.exitCode = await main();
