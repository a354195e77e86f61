/** Asking a running mount for something. */
import assert from "node:assert/strict";
import { readdir, stat } from "node:fs/promises";
import { CoverError } from "../../crypto/errors.ts";
import type { Compacted } from "../../fs/compact.ts";
import type { MoveOptions } from "../../fs/mover.ts";
import { askToCompact, MountControl } from "../../cli/mount_control.ts";
import { temporaryFolder } from "../net/servers.ts";
import { WINDOWS } from "../platform.ts";

const strict = { sanitizeOps: true, sanitizeResources: true, ignore: WINDOWS };
const DONE: Compacted = { before: 9, after: 5, moved: 3, unreadable: 1 };

/** Serves a task at a mountpoint that is none, with a folder of state of its own. */
async function serving(
  compact: (options: MoveOptions) => Promise<Compacted>,
  work: (how: {
    ask: (options?: Partial<MoveOptions>) => Promise<Compacted>;
    control: MountControl;
    folder: string;
  }) => Promise<void>,
): Promise<void> {
  await using folder = await temporaryFolder();
  const before = Deno.env.get("XDG_STATE_HOME"), { signal } = new AbortController();
  Deno.env.set("XDG_STATE_HOME", folder.path);
  try {
    const mounts = `${folder.path}/coverfs/mounts`, mountpoint = "/nowhere";
    await Deno.mkdir(mounts, { recursive: true });
    await using control = await MountControl.start(mountpoint, { compact });
    assert(control);
    const ask = (options = {}) => askToCompact({ pid: 1, mountpoint }, { signal, ...options });
    await work({ ask, control, folder: mounts });
  } finally {
    if (before === undefined) Deno.env.delete("XDG_STATE_HOME");
    else Deno.env.set("XDG_STATE_HOME", before);
  }
}

/** A task that waits until it is to stop; `begun` resolves when it waits. */
function waiting() {
  const begun = Promise.withResolvers<void>(), stopped = Promise.withResolvers<unknown>();
  const task = ({ signal }: MoveOptions) =>
    new Promise<Compacted>((_, reject) => {
      signal!.addEventListener("abort", () => {
        stopped.resolve(signal!.reason);
        reject(signal!.reason);
      });
      begun.resolve();
    });
  return { begun: begun.promise, stopped: stopped.promise, task };
}

Deno.test("a mount tells how far it is and what it has done; only its user reaches it", strict, async () => {
  const told: number[] = [];
  const task = ({ onProgress }: MoveOptions) => {
    onProgress!(2);
    return Promise.resolve(DONE);
  };
  await serving(task, async ({ ask, folder }) => {
    assert.deepEqual(await ask({ onProgress: (moved) => told.push(moved) }), DONE);
    assert.deepEqual(told, [2]);
    const [socket] = await readdir(folder);
    assert.equal((await stat(`${folder}/${socket}`)).mode & 0o777, 0o600);
    assert.deepEqual(await ask(), DONE, "again");
  });
});

Deno.test("what a mount cannot do is told with its kind and hint", strict, async () => {
  const task = () =>
    Promise.reject(new CoverError("no-space", "There is no room", { hint: "Delete something" }));
  await serving(task, async ({ ask }) => {
    const expected = { kind: "no-space", message: "There is no room", hint: "Delete something" };
    await assert.rejects(ask(), expected);
  });
});

Deno.test("when who asked goes away, the mount stops", strict, async () => {
  const { begun, stopped, task } = waiting(), controller = new AbortController();
  await serving(task, async ({ ask }) => {
    const asking = assert.rejects(ask({ signal: controller.signal }), { kind: "interrupted" });
    await begun;
    controller.abort(new CoverError("interrupted", "Interrupted"));
    await asking;
    await stopped;
  });
});

Deno.test("a mount that ends stops its work, tells so, and waits for nobody", strict, async () => {
  const { begun, stopped, task } = waiting();
  await serving(task, async ({ ask, control, folder }) => {
    const [socket] = await readdir(folder);
    using _silent = await Deno.connect({ transport: "unix", path: `${folder}/${socket}` });
    const asking = assert.rejects(ask(), { kind: "failure", message: /is being unmounted/ });
    await begun;
    await control[Symbol.asyncDispose]();
    await asking;
    await stopped;
    assert.deepEqual(await readdir(folder), []);
    await assert.rejects(ask(), { kind: "failure", message: /does not listen/, hint: /^Unmount it/ });
  });
});

Deno.test("what is no request is not answered", strict, async () => {
  const task = () => Promise.reject(new Error("never asked for"));
  await serving(task, async ({ folder }) => {
    const [socket] = await readdir(folder);
    for (const text of ["something else\n", "x".repeat(70_000)]) {
      using connection = await Deno.connect({ transport: "unix", path: `${folder}/${socket}` });
      await connection.write(new TextEncoder().encode(text));
      assert.equal(await connection.read(new Uint8Array(10)).catch(() => null), null);
    }
  });
});
