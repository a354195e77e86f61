/** After another writer took over: what it commits is read, instead of what was not committed here. */
import { CoverError } from "../crypto/errors.ts";
import { Container } from "./container.ts";
import type { Tables } from "./layout/tables.ts";
import type { Ino } from "./types.ts";

/**
 * Opens the container of a writer that was replaced anew, to read, in the same store; the two share that and the keys.
 *
 * @throws {CoverError} as `Container.open`; "rollback" if what this writer knows to be durable is no longer there
 */
export async function openSuccessor(replaced: Container): Promise<Container> {
  await replaced.store.refresh();
  const successor = await Container.open(replaced.store, replaced.keys, {
    mode: "read",
    check: (successor) => {
      if (replaced.durable === undefined || successor.contains(replaced.durable)) return;
      throw new CoverError("rollback", "The writer that took over does not hold what was durable here");
    },
  });
  successor.onJournalDamage = replaced.onJournalDamage;
  successor.tellDamage();
  return successor;
}

/** Tells whether an inode is the same file in two states, and not another one that was given its id. */
export function isSameFile(ino: Ino, a: Tables, b: Tables): boolean {
  const key = ({ inodes: t }: Tables) => `${t.generation[ino]} ${t.btimeS[ino]} ${t.btimeN[ino]}`;
  return a.inodes.has(ino) && b.inodes.has(ino) && key(a) === key(b);
}
