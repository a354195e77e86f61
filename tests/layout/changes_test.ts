import assert from "node:assert/strict";
import { DecodeError } from "../../fs/layout/bytes.ts";
import { applyChanges, ChangeLog } from "../../fs/layout/changes.ts";
import { JUMP_MAX } from "../../fs/layout/inodes.ts";
import { Tables } from "../../fs/layout/tables.ts";

/** A record that removes inodes. */
function removing(...inos: number[]): Uint8Array {
  const log = new ChangeLog(), tables = new Tables();
  for (const ino of inos) log.removeInode(ino, 1);
  return log.freeze(tables, () => 0);
}

Deno.test("the ids of a record are bounded together, not one jump after the other", () => {
  const tables = new Tables();
  applyChanges(removing(JUMP_MAX), tables);
  assert.equal(tables.inodes.end, JUMP_MAX + 1);
  applyChanges(removing(2 * JUMP_MAX, 2 * JUMP_MAX + 1), tables);
  const end = 2 * JUMP_MAX + 2;
  assert.equal(tables.inodes.end, end);
  const jumps = [1, 2, 3].map((n) => end - 1 + n * JUMP_MAX);
  assert.throws(() => applyChanges(removing(...jumps), tables), DecodeError);
  assert.equal(tables.inodes.end, end + JUMP_MAX, "the first jump was allowed");
});
