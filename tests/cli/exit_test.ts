import assert from "node:assert/strict";
import { CoverError, type ErrorKind, IntegrityError } from "../../crypto/errors.ts";
import { describeError, EXIT, EXIT_MEANING, exitCodeOf, FSCK_EXIT, partial } from "../../cli/exit.ts";
import { Broken, Fenced, FsError } from "../../fs/errors.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };

Deno.test("the exit codes are those that were published", strict, async () => {
  assert.deepEqual(EXIT, {
    "failure": 1,
    "usage": 2,
    "partial": 3,
    "no-such-path": 4,
    "no-container": 10,
    "busy": 11,
    "wrong-passphrase": 12,
    "damaged": 13,
    "unsupported": 14,
    "rollback": 20,
    "identity": 21,
    "refused": 22,
    "no-connection": 23,
    "integrity": 24,
    "no-space": 25,
    "cannot-mount": 26,
    "data-lost": 27,
    "interrupted": 130,
  });
  assert.deepEqual(FSCK_EXIT, { clean: 0, corrected: 1, uncorrected: 4, operational: 8, usage: 16 });
  const page = await Deno.readTextFile(new URL("../../docs/cli.md", import.meta.url));
  const rows = page.split("\n").map((line) =>
    line.split("|").map((cell) => cell.trim()).slice(1, -1).join(": ")
  );
  for (const [kind, code] of Object.entries(EXIT)) {
    const row = `${code}: ${EXIT_MEANING[kind as ErrorKind]}`;
    assert(rows.includes(row), `docs/cli.md tells code ${row}`);
  }
});

Deno.test("each kind of error ends with its code, and errnos with theirs", strict, () => {
  for (const [kind, code] of Object.entries(EXIT)) {
    assert.equal(exitCodeOf(new CoverError(kind as ErrorKind, "x")), code);
  }
  assert.equal(exitCodeOf(new FsError("ENOENT")), 4);
  assert.equal(exitCodeOf(new FsError("ENOTDIR")), 4);
  assert.equal(exitCodeOf(new FsError("ENOSPC")), 25);
  assert.equal(exitCodeOf(new FsError("EDQUOT")), 25);
  assert.equal(exitCodeOf(new FsError("EISDIR")), 1);
  assert.equal(exitCodeOf(new IntegrityError("Block 3 does not verify")), 24);
  assert.equal(exitCodeOf(new Fenced("taken over")), 11);
  assert.equal(exitCodeOf(new Broken("gone")), 1);
  assert.equal(exitCodeOf(new TypeError("a defect")), 1);
  assert.equal(exitCodeOf("thrown text"), 1);
});

Deno.test("an EIO speaks for what caused it", strict, () => {
  const caused = (cause: unknown) => exitCodeOf(new FsError("EIO", "EIO", { cause }));
  assert.equal(caused(new IntegrityError("does not verify")), 24);
  assert.equal(caused(new Fenced("taken over")), 11);
  assert.equal(caused(new FsError("ENOSPC")), 25);
  assert.equal(caused(undefined), 1);
});

Deno.test(
  "a broken store speaks for what broke it; lost data is lost data whatever the cause",
  strict,
  () => {
    const caused = (cause: unknown) => exitCodeOf(new Broken("cannot write", { cause }));
    assert.equal(caused(new FsError("ENOSPC")), 25);
    assert.equal(caused(new FsError("EIO", "EIO", { cause: new FsError("EDQUOT") })), 25);
    assert.equal(caused(new CoverError("no-connection", "away")), 23);
    assert.equal(caused(new FsError("EIO")), 1);
    assert.equal(caused(new Error("EIO")), 1);
    const broken = new Broken("cannot write", { cause: new FsError("ENOSPC") });
    assert.equal(exitCodeOf(new FsError("EIO", "EIO", { cause: broken })), 25);
    assert.equal(exitCodeOf(new CoverError("data-lost", "lost", { cause: broken })), 27);
  },
);

Deno.test("an error is one line, a hint another, and neither steers the terminal", strict, () => {
  assert.equal(describeError(new CoverError("failure", "It failed")), "coverfs: It failed");
  const error = new CoverError("failure", 'Cannot open "a\x1b[31m\n"', { hint: "Do\rthis" });
  assert.equal(describeError(error), 'coverfs: Cannot open "a\\x1b[31m\\n"\nhint: Do\\x0dthis');
  assert.equal(describeError(new FsError("ENOENT")), "coverfs: no such file or directory");
  assert.equal(describeError(partial(2, 5)), "coverfs: 2 of 5 items failed");
});
