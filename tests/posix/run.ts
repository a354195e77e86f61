/**
 * Runs known test programs of filesystems on a mounted container and prints what passed: pjdfstest, fsx, fsstress and
 * fio, from a folder outside the repository (`docs/posix.md` says how to fill it). As root, because users come into it.
 *
 *     deno task posix --suites DIR [--reference DIR] [--only NAME,...] [--remote] [--cipher SUITE] [--jobs N]
 *                     [--seeds N] [--operations N] [--work DIR]
 *
 * `--reference` is a directory of another filesystem: what fails on the container is tried there, too. `--jobs` says
 * how many test files and programs run side by side, each in a directory of its own.
 */
import { createHash } from "node:crypto";
import process from "node:process";
import { parseArgs } from "node:util";
import { type Ended, MountedContainer, run as runProgram } from "../mounted/mounted_container.ts";

/** How many processes fsstress has. */
const STRESSORS = 4;
/** A test that takes longer than this has failed, in milliseconds. */
const PATIENCE = 600_000;

/** One test that can pass or fail. */
interface Case {
  readonly name: string;
  /** Runs it in an empty directory. @returns how many checks passed, and the names of those that failed. */
  readonly run: (directory: string) => Promise<{ passed: number; failed: string[] }>;
}

/** A program with its cases; undefined cases: it is not there. */
interface Suite {
  readonly name: string;
  readonly cases: readonly Case[] | undefined;
  readonly missing: string;
}

/** What came out of a suite. */
interface Result {
  readonly name: string;
  readonly passed: number;
  readonly failed: readonly string[];
  /** Those of {@linkcode failed} that fail on the reference, too. */
  readonly reference: readonly string[] | undefined;
}

async function run(command: readonly string[], options: Deno.CommandOptions = {}): Promise<Ended> {
  return await runProgram(command, { signal: AbortSignal.timeout(PATIENCE), ...options });
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

/** A case of commands that must all end with 0, one after the other. `@` in an argument is the directory. */
function commandCase(name: string, ...commands: readonly (readonly string[])[]): Case {
  return {
    name,
    async run(directory) {
      for (const command of commands) {
        const { code } = await run(command.map((word) => word.replace("@", directory)), { cwd: directory });
        if (code !== 0) return { passed: 0, failed: [name] };
      }
      return { passed: 1, failed: [] };
    },
  };
}

/** Every file of pjdfstest; each speaks TAP: a plan `1..N`, then `ok I` or `not ok I`, which `# TODO` excuses. */
async function pjdfstest(suites: string): Promise<Suite> {
  const root = `${suites}/pjdfstest`, cases: Case[] = [];
  const missing = `${root}/pjdfstest and ${root}/tests/`;
  if (!await exists(`${root}/pjdfstest`)) return { name: "pjdfstest", cases: undefined, missing };
  for await (const folder of Deno.readDir(`${root}/tests`)) {
    if (!folder.isDirectory) continue;
    for await (const file of Deno.readDir(`${root}/tests/${folder.name}`)) {
      if (!file.name.endsWith(".t")) continue;
      const name = `${folder.name}/${file.name}`;
      cases.push({ name, run: (directory) => tap(name, `${root}/tests/${name}`, directory) });
    }
  }
  return { name: "pjdfstest", cases: cases.sort((a, b) => a.name < b.name ? -1 : 1), missing };
}

async function tap(name: string, file: string, cwd: string): Promise<{ passed: number; failed: string[] }> {
  const { stdout } = await run(["sh", file], { cwd });
  const planned = Number(/^1\.\.(\d+)/m.exec(stdout)?.[1] ?? NaN);
  if (Number.isNaN(planned)) return { passed: 0, failed: [`${name}: no plan`] };
  const told = [...stdout.matchAll(/^(not )?ok (\d+)(.*)$/gm)];
  const good = new Set(
    told.filter(([, not, , rest]) => !not || rest!.includes("# TODO")).map((one) => one[2]),
  );
  const numbers = Array.from({ length: planned }, (_, i) => `${i + 1}`);
  const failed = numbers.filter((number) => !good.has(number)).map((number) => `${name}:${number}`);
  return { passed: planned - failed.length, failed };
}

/** Ways of using a file that fsx tells apart: buffered, without mappings, without punching, direct, and more. */
const FSX_WAYS: Readonly<Record<string, readonly string[]>> = {
  all: [],
  "no mmap": ["-R", "-W"],
  "no punch": ["-H", "-z"],
  "large, fsync": ["-y", "-l", "1000000", "-o", "131072"],
  direct: ["-Z", "-r", "512", "-w", "512", "-R", "-W"],
  "reopen, drop cache": ["-f", "-c", "50"],
  aio: ["-A", "-R", "-W"],
};

async function fsx(suites: string, options: { seeds: number; operations: string }): Promise<Suite> {
  const program = `${suites}/fsx`;
  const cases = Object.entries(FSX_WAYS).flatMap(([way, how]) =>
    Array.from({ length: options.seeds }, (_, i) => {
      const command = [program, "-q", "-N", options.operations, "-S", `${i + 1}`, ...how, "@/file"];
      return commandCase(`${way}, seed ${i + 1}`, command);
    })
  );
  return { name: "fsx", cases: await exists(program) ? cases : undefined, missing: program };
}

async function fsstress(suites: string, seeds: number): Promise<Suite> {
  const program = `${suites}/fsstress`;
  const cases = Array.from({ length: seeds }, (_, i) => {
    const load = ["-p", `${STRESSORS}`, "-n", "2000", "-l", "1", "-s", `${i + 1}`];
    return commandCase(`seed ${i + 1}`, [program, ...load, "-d", "@"]);
  });
  return { name: "fsstress", cases: await exists(program) ? cases : undefined, missing: program };
}

/** Empties the kernel's cache of what is written, so that the next one reads from the filesystem. */
const DROP_CACHES = ["sh", "-c", "sync && echo 3 >/proc/sys/vm/drop_caches"];

/** Jobs that write by different ways and verify what they read back; then a second process does, from the store. */
const FIO_JOBS: Readonly<Record<string, readonly string[]>> = {
  "sequential": ["--rw=write", "--bs=128k", "--size=64m"],
  "random, direct, asynchronous": [
    ...["--rw=randwrite", "--bs=4k", "--size=32m"],
    ...["--ioengine=libaio", "--iodepth=8", "--direct=1"],
  ],
  "random, odd sizes": ["--rw=randwrite", "--bsrange=512-64k", "--bs_unaligned=1", "--size=64m"],
  "mapped": ["--rw=randwrite", "--ioengine=mmap", "--bs=4k", "--size=32m"],
  "fsync": ["--rw=randwrite", "--bs=8k", "--fsync=32", "--size=8m"],
  "four readers and writers": ["--rw=randrw", "--bs=16k", "--numjobs=4", "--size=16m"],
  "preallocated": ["--rw=randwrite", "--bs=4k", "--fallocate=posix", "--size=32m"],
};

async function fio(): Promise<Suite> {
  const there = await run(["fio", "--version"]).then(({ code }) => code === 0, () => false);
  const cases = Object.entries(FIO_JOBS).map(([name, job]) => {
    const verify = ["fio", "--name=job", "--verify=crc32c", "--verify_fatal=1", "--directory=@", ...job];
    return commandCase(name, [...verify, "--do_verify=1"], DROP_CACHES, [...verify, "--verify_only"]);
  });
  return { name: "fio", cases: there ? cases : undefined, missing: "fio on the PATH" };
}

/** Runs the cases in directories of their own below `place`, `jobs` at a time. */
async function runCases(place: string, cases: readonly Case[], options: { jobs: number; keep?: boolean }) {
  let passed = 0;
  const failed = new Map<Case, string[]>(), next = cases.entries();
  await Promise.all(Array.from({ length: options.jobs }, async () => {
    for (const [i, one] of next) {
      const directory = `${place}/${i}`;
      await Deno.mkdir(directory, { mode: 0o755, recursive: true });
      const result = await one.run(directory)
        .catch((error) => ({ passed: 0, failed: [`${one.name}: ${error.message}`] }));
      passed += result.passed;
      if (result.failed.length > 0) failed.set(one, result.failed);
      if (!options.keep) await run(["rm", "-rf", directory]);
    }
  }));
  return { passed, failed };
}

/** All that can be seen of a tree, as one number: contents, attributes and names. */
async function digest(directory: string): Promise<string> {
  const hash = createHash("sha256");
  const listing = await run([
    ...["find", directory, "-mindepth", "1"],
    ...["-printf", "%P %i %m %n %U %G %s %T@ %C@ %l %y\\n"],
  ]);
  hash.update(listing.stdout.split("\n").sort().join("\n"));
  const sums = await run(["find", directory, "-type", "f", "-exec", "sha256sum", "{}", "+"]);
  hash.update(sums.stdout.split("\n").sort().join("\n"));
  return hash.digest("hex");
}

/** Whether what was left behind is the same after unmounting and mounting, and the container is clean. */
async function keeps(box: MountedContainer): Promise<Result> {
  const name = "remount and fsck";
  const before = await digest(box.mountpoint);
  await box.unmount();
  await box.check();
  await box.mount();
  const failed = await digest(box.mountpoint) === before ? [] : ["the tree is another one"];
  return { name, passed: 1 - failed.length, failed, reference: undefined };
}

/** The table that `docs/posix.md` shows. */
function table(results: readonly Result[]): string {
  const rows = [["suite", "passed", "failed", "of these also on the reference"]];
  for (const { name, passed, failed, reference } of results) {
    rows.push([name, `${passed}`, `${failed.length}`, reference === undefined ? "" : `${reference.length}`]);
  }
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) => row.map((cell, i) => cell.padEnd(widths[i]!)).join("  ").trimEnd()).join("\n");
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      suites: { type: "string" },
      reference: { type: "string" },
      only: { type: "string" },
      cipher: { type: "string", default: "aes-256-cbc-hmac-sha256" },
      remote: { type: "boolean", default: false },
      jobs: { type: "string", default: "4" },
      seeds: { type: "string", default: "3" },
      operations: { type: "string", default: "10000" },
      work: { type: "string" },
    },
  });
  if (values.suites === undefined) {
    console.error("usage: deno task posix --suites DIR [--reference DIR] [--only NAME,...] [--remote] ...");
    return 2;
  }
  if (Deno.uid() !== 0) {
    console.error("Cannot run the suites: they need root");
    return 2;
  }
  const folder = await Deno.realPath(values.suites), seeds = Number(values.seeds), jobs = Number(values.jobs);
  const only = values.only?.split(",");
  const suites = [
    await pjdfstest(folder),
    await fsx(folder, { seeds, operations: values.operations }),
    await fsstress(folder, seeds),
    await fio(),
  ]
    .filter(({ name }) => only === undefined || only.includes(name));
  const work = await Deno.makeTempDir({ prefix: "coverfs-posix-", ...(values.work && { dir: values.work }) });
  await Deno.chmod(work, 0o755);
  const { cipher, remote } = values;
  const box = await MountedContainer.create(work, { cipher, remote, allowOther: true });
  const results: Result[] = [];
  try {
    for (const { name, cases, missing } of suites) {
      if (cases === undefined) {
        console.log(`${name}: missing: ${missing}`);
        continue;
      }
      const keep = name === "fsstress", place = `${box.mountpoint}/${name}`;
      const start = performance.now();
      const { passed, failed } = await runCases(place, cases, { jobs, keep });
      console.log(`${name}: ${Math.round((performance.now() - start) / 1000)} s`);
      let reference: string[] | undefined;
      if (values.reference !== undefined) {
        const place = await Deno.makeTempDir({ prefix: "coverfs-posix-", dir: values.reference });
        await Deno.chmod(place, 0o755);
        const again = await runCases(place, [...failed.keys()], { jobs });
        await run(["rm", "-rf", place]);
        const there = new Set([...again.failed.values()].flat());
        reference = [...failed.values()].flat().filter((one) => there.has(one));
      }
      results.push({ name, passed, failed: [...failed.values()].flat(), reference });
    }
    results.push(await keeps(box));
  } finally {
    await box[Symbol.asyncDispose]().catch((error) => console.error(error.message));
  }
  await Deno.remove(work, { recursive: true });
  for (const { name, failed, reference } of results) {
    for (const one of failed) {
      console.log(`${name}: ${one}${reference?.includes(one) ? " (on the reference, too)" : ""}`);
    }
  }
  console.log(table(results));
  return results.some(({ failed, reference }) => failed.length > (reference?.length ?? 0)) ? 1 : 0;
}

if (import.meta.main) process.exitCode = await main();
