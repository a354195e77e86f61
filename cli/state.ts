/**
 * What this machine remembers: the newest durable commit of each container and which container a locator had, so
 * that an older state or another container in its place is noticed. Its loss costs that protection and nothing else.
 */
import { mkdirSync, readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fromHex, hex } from "../crypto/bytes.ts";
import type { DurablePoint } from "../fs/loading.ts";
import { whileLocked, writeFileAtomic } from "../net/atomic_file.ts";
import { type Log, logToTerminal } from "./log.ts";
import { warnIfExposed } from "./exposure.ts";

/** The folder of what is remembered: `XDG_STATE_HOME/coverfs`, `~/.local/state/coverfs`, `%LOCALAPPDATA%\coverfs`. */
export function stateFolder(): string | undefined {
  const { env } = Deno;
  if (Deno.build.os === "windows") {
    const local = env.get("LOCALAPPDATA");
    return local ? join(local, "coverfs") : undefined;
  }
  const state = env.get("XDG_STATE_HOME");
  if (state?.startsWith("/")) return join(state, "coverfs");
  // Of what init starts, such as mount(8) at boot, the environment has no HOME: then what the system knows of the user.
  const home = env.get("HOME") || homedir();
  return home ? join(home, ".local", "state", "coverfs") : undefined;
}

/** Path of the file of known servers. */
export function knownServersPath(): string | undefined {
  const folder = stateFolder();
  return folder && join(folder, "servers.json");
}

/** Tells of a folder of state that others may change, and of tokens that they may read. */
export function warnOfExposedState(log: Log = logToTerminal): void {
  const warn = (message: string) => log(`warning: ${message}`);
  const folder = stateFolder();
  if (folder === undefined) return;
  for (const [path, bits] of [[folder, 0o022], [join(folder, "servers.json"), 0o077]] as const) {
    try {
      warnIfExposed(statSync(path), `"${path}"`, { bits, foreign: bits, warn });
    } catch {
      // it is not there, or cannot be looked at: who needs it will tell
    }
  }
}

interface Content {
  /** Container id (hex) to session (hex) and commit number. */
  readonly containers: Record<string, { session: string; commit: number }>;
  /** Locator to container id (hex). */
  readonly locators: Record<string, string>;
}

/** The memory against rollback: one small JSON file (0600), replaced atomically. */
export class RollbackMemory {
  readonly #path: string | undefined;
  readonly #warn: (message: string) => void;
  #warned = false;

  /** @param path of the file; undefined: nothing can be remembered */
  constructor(path: string | undefined, warn: (message: string) => void) {
    this.#path = path;
    this.#warn = (message) => {
      if (!this.#warned) warn(message);
      this.#warned = true;
    };
  }

  /** The memory of the person who runs this. @param log is told of warnings; default, standard error */
  static ofUser(log: Log = logToTerminal): RollbackMemory {
    const folder = stateFolder();
    const warn = (message: string) => log(`warning: ${message}`);
    return new RollbackMemory(folder && join(folder, "rollback.json"), warn);
  }

  /** The newest commit of a container that is known to be durable. */
  point(containerId: Uint8Array): DurablePoint | undefined {
    const { containers } = this.#load(), id = hex(containerId);
    const found = Object.hasOwn(containers, id) ? containers[id] : undefined;
    return found && { session: fromHex(found.session), commit: found.commit };
  }

  /** The id of the container that a locator had, in hex. */
  containerAt(locator: string): string | undefined {
    const { locators } = this.#load();
    return Object.hasOwn(locators, locator) ? locators[locator] : undefined;
  }

  /**
   * Remembers; never throws. A reader may know of less than a writer has told already: an earlier commit takes the
   * place of a later one only with `options.lower`.
   */
  async remember(
    locator: string,
    containerId: Uint8Array,
    point: DurablePoint | undefined,
    options: { readonly lower?: boolean | undefined } = {},
  ): Promise<void> {
    if (this.#path === undefined) return this.#warn("No folder for state: rollback cannot be noticed");
    const path = this.#path, id = hex(containerId);
    const told = point && { session: hex(point.session), commit: point.commit };
    /** What is to be written; undefined if that is there already. */
    const changed = () => {
      const before = this.#load(), known = before.containers[id];
      const fresh = told && known && known.commit > told.commit && !options.lower ? known : told;
      const same = fresh === undefined ||
        (known?.session === fresh.session && known.commit === fresh.commit);
      if (same && before.locators[locator] === id) return undefined;
      return {
        version: 1,
        containers: fresh ? { ...before.containers, [id]: fresh } : before.containers,
        locators: { ...before.locators, [locator]: id },
      };
    };
    if (changed() === undefined) return;
    try {
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      await whileLocked(path, async () => {
        const content = changed();
        if (content) await writeFileAtomic(path, JSON.stringify(content, undefined, 2) + "\n");
      });
    } catch (error) {
      this.#warn(`Cannot write "${path}": rollback may not be noticed (${codeOf(error)})`);
    }
  }

  #load(): Content {
    const empty = { containers: {}, locators: {} };
    if (this.#path === undefined) return empty;
    let text: string;
    try {
      text = readFileSync(this.#path, "utf8");
    } catch (error) {
      if (codeOf(error) !== "ENOENT") {
        this.#warn(`Cannot read "${this.#path}": rollback may not be noticed (${codeOf(error)})`);
      }
      return empty;
    }
    try {
      const content = parseRollbackMemory(text);
      warnIfExposed(statSync(this.#path), `"${this.#path}"`, {
        bits: 0o022,
        foreign: 0o022,
        warn: this.#warn,
      });
      return content;
    } catch {
      this.#warn(`"${this.#path}" is damaged: what was remembered against rollback is lost`);
      return empty;
    }
  }
}

/** Reads the file. @throws {Error} if it is damaged */
export function parseRollbackMemory(text: string): Content {
  const { version, containers, locators } = JSON.parse(text);
  if (version !== 1) throw new Error("unknown version");
  for (const [id, point] of Object.entries(containers as Content["containers"])) {
    if (fromHex(id).length !== 16 || fromHex(point.session).length !== 16) throw new Error("malformed");
    if (!Number.isSafeInteger(point.commit) || point.commit < 0) throw new Error("malformed");
  }
  for (const id of Object.values(locators as Content["locators"])) {
    if (fromHex(id).length !== 16) throw new Error("malformed");
  }
  return { containers, locators };
}

function codeOf(error: unknown): string {
  return (error as { code?: string }).code ?? (error instanceof Error ? error.name : "unknown");
}
