/** git commits: those that returned and were synced must be there, in a sound repository. */
import assert from "node:assert/strict";
import { readdir, rm } from "node:fs/promises";
import { must, run } from "./commands.ts";
import type { Load, LoadOptions } from "./load.ts";
import { syncDirectory } from "./random_writer.ts";

const GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "gc.auto=0", "-c", "core.fsync=all"];
const FILES = 12;

/** A repository that commits go into. */
export class Repository implements Load {
  readonly name = "git";
  acknowledged = 0;
  #synced = "";

  async prepare(directory: string): Promise<void> {
    await must([...GIT, "init", "-q", "-b", "main"], { cwd: directory });
    await this.#commit(directory, "first");
  }

  async run({ directory, random, signal }: LoadOptions): Promise<void> {
    for (let i = 0; !signal.aborted; i++) {
      const text = `${random(1 << 30)}\n`.repeat(random(2000));
      await Deno.writeTextFile(`${directory}/file ${random(FILES)}`, text);
      await this.#commit(directory, `commit ${i}`);
      this.acknowledged++;
    }
  }

  /** git syncs its files, but not the rename by which a branch gets its new value: the directory is synced for it. */
  async #commit(directory: string, message: string): Promise<void> {
    const git = (...args: string[]) => must([...GIT, ...args], { cwd: directory });
    await git("add", "-A");
    await git("commit", "-q", "--allow-empty", "-m", message);
    const made = (await git("rev-parse", "HEAD")).trim();
    await syncDirectory(`${directory}/.git`);
    this.#synced = made;
  }

  async verify(directory: string): Promise<void> {
    const git = (...args: string[]) => must([...GIT, ...args], { cwd: directory });
    // A lock of a git that was killed is for its owner to take away: git says so itself.
    for (const entry of await readdir(`${directory}/.git`, { recursive: true })) {
      if (entry.endsWith(".lock")) await rm(`${directory}/.git/${entry}`);
    }
    await git("fsck", "--full", "--strict", "--no-dangling", "--no-progress");
    const { code } = await run([...GIT, "merge-base", "--is-ancestor", this.#synced, "HEAD"], {
      cwd: directory,
    });
    assert.equal(code, 0, `git: commit ${this.#synced} was synced and is gone`);
    await git("status", "--short");
    await git("log", "--stat", "-3", "-p");
    this.#synced = (await git("rev-parse", "HEAD")).trim();
  }
}
