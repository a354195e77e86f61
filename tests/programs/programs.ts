/**
 * What programs that people use do with a filesystem, as named cases: bash scripts of this folder, each in an empty
 * directory of a mounted one, which check what came of it. `run.ts` runs them on containers of the command line,
 * `tests/ffi/programs_test.ts` the short ones on a container in memory.
 */
import { fileURLToPath } from "node:url";

/** One program at work. */
export interface ProgramCase {
  /** What the case claims. */
  readonly claim: string;
  /** What it needs, each as `COMMAND:PACKAGE` of Debian; see `tests/setup.sh`. */
  readonly needs: readonly string[];
  /** It takes some seconds with {@linkcode SHORT} rounds, and is part of `deno task test`. */
  readonly short?: boolean;
  /** Needs users that only root can become, and a mount that lets them in. */
  readonly root?: boolean;
  /** A script of this folder, and its parameters. */
  readonly script: readonly [string, ...string[]];
}

/** How much a case does where it is one of the tests, and where it runs by itself. */
export const SHORT = 1, LONG = 5;

/** The cases by their names. */
export const PROGRAMS: Readonly<Record<string, ProgramCase>> = {
  "git": {
    claim: "git clones from outside, checks out, commits, pushes and collects garbage: every object is whole",
    needs: ["git:git"],
    short: true,
    script: ["git.sh"],
  },
  "git-local": {
    claim: "git clones a repository of the mount beside it, by hard links and by copies, with work trees",
    needs: ["git:git"],
    short: true,
    script: ["git-local.sh"],
  },
  "npm": {
    claim: "npm installs the same tree of packages as outside, and what it installed runs",
    needs: ["npm:npm", "node:nodejs"],
    script: ["npm.sh"],
  },
  "sqlite-rollback": {
    claim:
      "several processes write one sqlite database with a rollback journal: no transaction is lost or halved",
    needs: ["sqlite3:sqlite3"],
    short: true,
    script: ["sqlite.sh", "delete"],
  },
  "sqlite-wal": {
    claim:
      "several processes write one sqlite database with a write-ahead log: no transaction is lost or halved",
    needs: ["sqlite3:sqlite3"],
    short: true,
    script: ["sqlite.sh", "wal"],
  },
  "postgresql": {
    claim:
      "PostgreSQL keeps pgbench's books, is stopped as by a crash, and recovers with every checksum right",
    needs: ["/usr/lib/postgresql:postgresql"],
    root: true,
    script: ["postgresql.sh"],
  },
  "rsync": {
    claim: "rsync -aHAX --checksum copies in and out, finds nothing to do again, and takes up changes",
    needs: ["rsync:rsync", "setfattr:attr"],
    short: true,
    script: ["rsync.sh"],
  },
  "rsync-acl": {
    claim: "rsync -A names the files whose ACL is refused, and copies everything else",
    needs: ["rsync:rsync", "setfacl:acl"],
    script: ["rsync-acl.sh"],
  },
  "tar": {
    claim: "a tree goes through tar into the mount and out of it, with attributes, links and holes",
    needs: ["tar:tar", "setfattr:attr"],
    short: true,
    script: ["tar.sh"],
  },
  "make": {
    claim:
      "make -j builds a project, then nothing, and after a change what depends on it; what it built runs",
    needs: ["make:make", "gcc:gcc"],
    short: true,
    script: ["make.sh"],
  },
  "editor": {
    claim: "an editor's save replaces a file whole at any moment; vim and sed -i save in their ways",
    needs: ["python3:python3", "vim:vim"],
    short: true,
    script: ["editor.sh"],
  },
  "find-du-df": {
    claim: "find, du and df tell what is there, and df what came and went",
    needs: ["python3:python3"],
    script: ["find-du-df.sh"],
  },
  "locks": {
    claim: "programs that count in one file under flock, POSIX and OFD locks lose no count",
    needs: ["python3:python3", "flock:util-linux"],
    short: true,
    script: ["locks.sh"],
  },
  "stress-ng": {
    claim: "stress-ng's stressors of filesystems find nothing wrong with --verify",
    needs: ["stress-ng:stress-ng"],
    script: ["stress-ng.sh"],
  },
  "dbench": {
    claim: "dbench's clients go through their load without an error",
    needs: ["dbench:dbench"],
    script: ["dbench.sh"],
  },
  "bonnie++": {
    claim: "bonnie++ writes, rewrites, reads, seeks and makes thousands of files without an error",
    needs: ["bonnie++:bonnie++"],
    script: ["bonnie++.sh"],
  },
};

/** How long a case may take, in seconds. */
const PATIENCE = 900;

/**
 * Runs a case, with everything that it starts, in an empty directory.
 *
 * @param options `outside`: an empty directory of another filesystem; `rounds`: how much is to be done
 * @returns what it said about what went wrong; undefined if it went well
 */
export async function runProgram(
  { script: [file, ...parameters] }: ProgramCase,
  directory: string,
  options: { outside: string; rounds: number },
): Promise<string | undefined> {
  const path = fileURLToPath(new URL(file, import.meta.url));
  // Not by `cwd`: where this process has mounted it itself, starting the child would wait for the mount, and so for us.
  const enter = ["-c", 'cd "$0" && exec bash "$@"', directory];
  const command = new Deno.Command("timeout", {
    args: ["-k", "10", `${PATIENCE}`, "bash", ...enter, path, ...parameters],
    env: { OUT: options.outside, ROUNDS: `${options.rounds}` },
    stdin: "null",
  });
  const { code, stdout, stderr } = await command.output();
  if (code === 0) return undefined;
  const said = new TextDecoder().decode(stderr) + new TextDecoder().decode(stdout);
  return `${file} ended with ${code}: ${said.trim().slice(-4000)}`;
}
