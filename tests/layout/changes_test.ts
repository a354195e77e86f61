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
  assert.equal(tables.inodes.end, end, "not even the first jump, which was allowed");
});

Deno.test("a record that is cut off anywhere changes nothing", () => {
  const log = new ChangeLog(), source = new Tables(), name = new TextEncoder().encode("name");
  for (const ino of [1, 2]) source.inodes.insert(ino), log.inode(ino);
  source.inodes.mode[1] = 0o100644;
  log.entry(0, name, 1, false);
  log.extent(1, 0, 5000, 7, 3);
  log.target(2, name);
  log.xattr(1, name, name);
  log.cut(1, 4096, 8192);
  log.truncate(1, 100);
  log.removeXattr(1, name);
  log.removeEntry(0, name);
  log.removeInode(2, 3);
  const record = log.freeze(source, () => 5000), ends: number[] = [];
  for (let end = 0; end < record.length; end++) {
    const tables = new Tables();
    try {
      applyChanges(record.subarray(0, end), tables);
      ends.push(end);
    } catch (error) {
      assert.ok(error instanceof DecodeError);
      const { inodes, dentries, extents } = tables;
      assert.deepEqual(
        [inodes.end, inodes.targets.size, inodes.xattrs.size, dentries.end, extents.countOf(1)],
        [0, 0, 0, 0, 0],
        `cut off at ${end}`,
      );
    }
  }
  assert.equal(ends.length, 9, "where a change ends, but for the last one's end");
});
