/** Clients that open containers by what the commands open them by, each with a memory of its own. */
import { dirname, join } from "node:path";
import {
  type AccessMode,
  type UnlockedContainer,
  withOpened,
  withUnlocked,
  withVolume,
} from "../../cli/container.ts";
import { kindOf } from "../../cli/exit.ts";
import type { Access } from "../../cli/options.ts";
import { CoverError, type ErrorKind } from "../../crypto/errors.ts";
import { FsError } from "../../fs/errors.ts";
import { ROOT } from "../../fs/types.ts";
import type { Volume } from "../../fs/volume.ts";
import { content, FILE, name, walk } from "../fs/fixture.ts";
import { WINDOWS } from "../platform.ts";
import { derivedOnce } from "./derived_once.ts";
import type { Place } from "./places.ts";

/** Every file with its content, or with why it cannot be read. */
export type Files = ReadonlyMap<string, Uint8Array | ErrorKind>;
/** What a client sees of a container, or why it refuses it. */
export type Seen = Files | ErrorKind;

/** What tells where the folder of state lies. */
const STATE_VARIABLE = WINDOWS ? "LOCALAPPDATA" : "XDG_STATE_HOME";
/** How long a client waits for a server, in seconds. */
const PATIENCE = WINDOWS ? 1.5 : 0.4; // Wine takes its time

/** A machine with what it remembers. */
export class Client {
  /** What it was told besides, of all containers. */
  readonly said: string[] = [];
  readonly #state: string;
  readonly #passfile: string;
  readonly #options: Partial<Access>;

  /** @param folder for its state and the file of its passphrase */
  constructor(folder: string, passphrase = "mine", options: Partial<Access> = {}) {
    this.#state = join(folder, "state");
    this.#passfile = join(folder, "pass");
    this.#options = options;
    Deno.mkdirSync(folder, { recursive: true });
    Deno.writeTextFileSync(this.#passfile, passphrase, { mode: 0o600 });
  }

  get #memoryPath(): string {
    return join(this.#state, "coverfs", "rollback.json");
  }

  /** All that it remembers, as it is kept. */
  get memory(): string {
    return Deno.readTextFileSync(this.#memoryPath);
  }

  set memory(text: string) {
    Deno.mkdirSync(dirname(this.#memoryPath), { recursive: true, mode: 0o700 });
    Deno.writeTextFileSync(this.#memoryPath, text, { mode: 0o600 });
  }

  /** Lets it be a machine that has never seen a container. */
  forget(): void {
    this.memory = '{"version":1,"containers":{},"locators":{}}';
  }

  #access(place: Pick<Place, "locator">): Access {
    const { locator: container } = place;
    const log = (message: string) => void this.said.push(message);
    const times = { timeout: PATIENCE, outage: PATIENCE };
    return { container, passfile: [this.#passfile], log, ...times, ...this.#options };
  }

  /** The folder of state is told by the environment. */
  async #here<T>(work: () => Promise<T>): Promise<T | ErrorKind> {
    const before = Deno.env.get(STATE_VARIABLE);
    Deno.env.set(STATE_VARIABLE, this.#state);
    using _once = derivedOnce();
    try {
      return await work();
    } catch (error) {
      if (error instanceof CoverError || error instanceof FsError) return kindOf(error);
      throw error; // nobody has thought of it
    } finally {
      if (before === undefined) Deno.env.delete(STATE_VARIABLE);
      else Deno.env.set(STATE_VARIABLE, before);
    }
  }

  /** Reads everything. */
  look(place: Pick<Place, "locator">): Promise<Seen> {
    return this.#here(() => withVolume(this.#access(place), { mode: "read" }, filesOf));
  }

  /** Writes files, and waits until they are durable. */
  write(place: Place, files: Record<string, Uint8Array>): Promise<ErrorKind | undefined> {
    return this.change(place, async (volume) => {
      for (const [path, bytes] of Object.entries(files)) {
        const ino = volume.lookup(ROOT, name(path)) ?? volume.create(ROOT, name(path), FILE);
        await volume.write(ino, 0, bytes);
      }
    });
  }

  /** Changes a volume, or only reads it. */
  change(
    place: Pick<Place, "locator">,
    work: (volume: Volume, container: UnlockedContainer) => Promise<void>,
    mode: AccessMode = "write",
  ): Promise<ErrorKind | undefined> {
    return this.#here<void>(() =>
      withVolume(this.#access(place), { mode, keepsMasterKey: true }, work)
    ) as Promise<
      ErrorKind | undefined
    >;
  }

  /** Unlocks a container to write and leaves it at that. */
  unlocked<T>(place: Place, work: (container: UnlockedContainer, access: Access) => Promise<T>) {
    const access = this.#access(place);
    return this.#here(() => withUnlocked(access, { mode: "write" }, (container) => work(container, access)));
  }

  /** Unlocks a container to read and calls what opens it, again where that fails as keys were changed. */
  opened(place: Place, open: (container: UnlockedContainer, access: Access) => Promise<void>) {
    const access = this.#access(place),
      how = { mode: "read", open: (one: UnlockedContainer) => open(one, access) } as const;
    return this.#here<void>(() => withOpened(access, how, () => Promise.resolve()));
  }
}

async function filesOf(volume: Volume): Promise<Files> {
  const files = new Map<string, Uint8Array | ErrorKind>();
  for (const { path, ino } of walk(volume)) {
    files.set(path, await content(volume, ino).catch((error) => kindOf(error)));
  }
  return files;
}
