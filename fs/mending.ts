/** Changing the tables of a container that is being repaired, by the same records as any other change. */
import { CoverError } from "../crypto/errors.ts";
import { now } from "./clock.ts";
import type { Container } from "./container.ts";
import { ChangeLog } from "./layout/changes.ts";
import { RECORD_MAX } from "./layout/journal.ts";
import type { Tables } from "./layout/tables.ts";
import { type Ino, inodeNumber } from "./types.ts";

/** From how many bytes of changes on a commit is made in between. A record holds 1 MiB. */
const RECORD_BEGIN = 192 << 10;

/** Something that repairing has done. */
export interface Mended {
  /** The code of the findings that it is about. */
  readonly code: string;
  readonly message: string;
  readonly ino?: Ino;
}

/**
 * Collects what is mended and commits it. Each commit leaves a container that is no worse than before, so that
 * repairing may end at any of them; blocks that are no longer referred to stay unused until the container is opened
 * again, as more than one file may have referred to them.
 */
export class Mending {
  readonly container: Container;
  readonly log = new ChangeLog();
  readonly done: Mended[] = [];

  /** @param container opened to be repaired */
  constructor(container: Container) {
    this.container = container;
  }

  get tables(): Tables {
    return this.container.tables;
  }

  /** Says what was done; the changes are in the log by then. */
  tell(code: string, message: string, ino?: Ino): void {
    this.done.push(
      ino === undefined ? { code, message } : { code, message: `Inode ${inodeNumber(ino)}: ${message}`, ino },
    );
  }

  /** Moves an inode's times of change, with `m` that of its content too, and has it recorded. */
  changed(ino: Ino, m = false): void {
    const { inodes } = this.tables, [seconds, nanoseconds] = now();
    inodes.ctimeS[ino] = seconds, inodes.ctimeN[ino] = nanoseconds;
    if (m) inodes.mtimeS[ino] = seconds, inodes.mtimeN[ino] = nanoseconds;
    this.log.inode(ino);
  }

  /** Call it between two things that are mended: commits where much has been. */
  async step(): Promise<void> {
    if (this.log.size > RECORD_BEGIN) await this.commit();
  }

  /** Commits what was mended so far, even if that is nothing. @throws {CoverError} "failure" if it does not fit */
  async commit(): Promise<void> {
    const { container, tables } = this;
    const payload = this.log.freeze(tables, (ino) => tables.inodes.size[ino]!);
    if (payload.length > RECORD_MAX) {
      throw new CoverError("failure", "Cannot repair: one change is larger than a record of the journal");
    }
    await container.session.append(container.session.freeze(), payload, undefined);
  }
}
