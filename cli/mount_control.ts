/**
 * How other commands ask a running mount to do something: a socket beside its record, which only its user can reach. A
 * request and what answers it are lines of JSON.
 */
import { chmodSync, rmSync } from "node:fs";
import { CoverError, type ErrorKind } from "../crypto/errors.ts";
import type { Compacted } from "../fs/compact.ts";
import type { MoveOptions } from "../fs/mover.ts";
import { kindOf, messageOf } from "./exit.ts";
import { type MountRecord, recordPath } from "./mounts.ts";

/** What a mount does when it is asked. */
export interface MountTasks {
  readonly compact: (options: MoveOptions) => Promise<Compacted>;
}

/** A line of an answer: how far it is, what came of it, or why it failed. */
type Answer =
  | { readonly moved: number }
  | { readonly done: Compacted }
  | { readonly failed: string; readonly kind: ErrorKind; readonly hint?: string | undefined };

/** How often progress is told, in ms. */
const PERIOD = 200;
/** Characters of a line at most. */
const LINE_MOST = 65_536;

/** Serves requests to a mount until it is disposed. */
export class MountControl implements AsyncDisposable {
  readonly #listener: Deno.UnixListener;
  readonly #path: string;
  readonly #tasks: MountTasks;
  readonly #ending = new AbortController();
  readonly #running = new Set<Promise<void>>();

  private constructor(path: string, tasks: MountTasks) {
    rmSync(path, { force: true }); // of a mount that was killed
    this.#listener = Deno.listen({ transport: "unix", path });
    this.#path = path;
    this.#tasks = tasks;
    chmodSync(path, 0o600);
    this.#accept().catch(() => {}); // nobody can be let in any more
  }

  /** Where there can be no socket the mount works all the same: then there is nothing to ask it by. */
  static async start(mountpoint: string, tasks: MountTasks): Promise<MountControl | undefined> {
    const path = await recordPath(mountpoint, "sock");
    try {
      return path === undefined ? undefined : new MountControl(path, tasks);
    } catch {
      return undefined;
    }
  }

  async #accept(): Promise<void> {
    for await (const connection of this.#listener) {
      const serving: Promise<void> = this.#serve(connection).finally(() => {
        close(connection);
        this.#running.delete(serving);
      });
      this.#running.add(serving);
    }
  }

  /** Does what one connection asks for; when that is cut, it is to end. */
  async #serve(connection: Deno.Conn): Promise<void> {
    const lines = linesOf(connection), gone = new AbortController(), ending = this.#ending.signal;
    try {
      const idle = () => close(connection);
      ending.addEventListener("abort", idle);
      const asked = (await lines.next()).value;
      ending.removeEventListener("abort", idle);
      if (asked !== "compact") return;
      void lines.next().finally(() => gone.abort(new CoverError("interrupted", "Interrupted")));
      let next = 0;
      const done = await this.#tasks.compact({
        signal: AbortSignal.any([gone.signal, ending]),
        onProgress: (moved) => {
          if (performance.now() < next) return;
          next = performance.now() + PERIOD;
          tell(connection, { moved }).catch(() => {}); // then reading ends too
        },
      });
      await tell(connection, { done });
    } catch (error) {
      const hint = error instanceof CoverError ? error.hint : undefined;
      await tell(connection, { failed: messageOf(error), kind: kindOf(error), hint }).catch(() => {});
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort(new CoverError("failure", "The container is being unmounted"));
    close(this.#listener);
    await Promise.all(this.#running);
    rmSync(this.#path, { force: true });
  }
}

/** Closes what may have been closed before. */
function close(resource: { close(): void }): void {
  try {
    resource.close();
  } catch {
    // it was
  }
}

async function tell(connection: Deno.Conn, answer: Answer): Promise<void> {
  const bytes = new TextEncoder().encode(JSON.stringify(answer) + "\n");
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
}

async function* linesOf(connection: Deno.Conn): AsyncGenerator<string, undefined> {
  const buffer = new Uint8Array(4096), decoder = new TextDecoder();
  let text = "";
  try {
    for (let count = await connection.read(buffer); count !== null; count = await connection.read(buffer)) {
      text += decoder.decode(buffer.subarray(0, count), { stream: true });
      const lines = text.split("\n");
      text = lines.pop()!;
      if (text.length > LINE_MOST) return undefined;
      yield* lines;
    }
  } catch {
    // closed at one of its ends
  }
}

/**
 * Has a mount make its container shorter, and waits.
 *
 * @param options `signal`: when it aborts, the mount stops too
 * @throws {CoverError} what the mount says; "failure" if it cannot be asked
 */
export async function askToCompact(
  { mountpoint }: MountRecord,
  options: MoveOptions & { readonly signal: AbortSignal },
): Promise<Compacted> {
  const { signal, onProgress } = options, path = await recordPath(mountpoint, "sock");
  let connection: Deno.Conn;
  try {
    connection = await Deno.connect({ transport: "unix", path: path! });
  } catch (cause) {
    throw new CoverError(
      "failure",
      `Cannot ask the mount at "${mountpoint}" to compact: it does not listen`,
      {
        hint: "Unmount it, and compact the container then",
        cause,
      },
    );
  }
  const stop = () => close(connection);
  signal.addEventListener("abort", stop, { once: true });
  try {
    await connection.write(new TextEncoder().encode("compact\n"));
    for await (const line of linesOf(connection)) {
      const answer = JSON.parse(line) as Answer;
      if ("done" in answer) return answer.done;
      if ("failed" in answer) {
        const { failed, kind, hint } = answer;
        throw new CoverError(kind, failed, hint === undefined ? {} : { hint });
      }
      onProgress?.(answer.moved);
    }
    signal.throwIfAborted();
    throw new CoverError("failure", `The mount at "${mountpoint}" has ended`);
  } finally {
    signal.removeEventListener("abort", stop);
    stop();
  }
}
