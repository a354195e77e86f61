import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { join } from "node:path";
import { CoverError, type ErrorKind } from "../../crypto/errors.ts";
import { SEALED } from "../../crypto/sealer.ts";
import { Broken } from "../../fs/errors.ts";
import { openFileStore } from "../../fs/store/file.ts";
import { storeSuite } from "./conformance.ts";

const folder = Deno.makeTempDirSync({ prefix: "coverfs-test-" });
addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
let count = 0;
const fresh = () => join(folder, `store${count++}`);

storeSuite(
  "FileStore",
  (quota) =>
    openFileStore(fresh(), "create", quota === undefined ? {} : { maxBytes: 131072 + quota * SEALED }),
);

function isKind(kind: ErrorKind) {
  return (error: unknown) => error instanceof CoverError && error.kind === kind;
}

Deno.test("openFileStore() makes a file only its owner can read, and never overwrites one", async () => {
  const path = fresh();
  await using _store = await openFileStore(path, "create");
  if (Deno.build.os !== "windows") assert.equal(statSync(path).mode & 0o777, 0o600);
  await assert.rejects(openFileStore(path, "create"), isKind("failure"));
});

Deno.test("openFileStore() refuses a second writer, but no reader", async () => {
  const path = fresh();
  {
    await using _writer = await openFileStore(path, "create");
    await assert.rejects(openFileStore(path, "write"), isKind("busy"));
    await using _reader = await openFileStore(path, "read");
  }
  await using _writer = await openFileStore(path, "write");
});

Deno.test("openFileStore() tells a missing file from a folder", async () => {
  await assert.rejects(openFileStore(fresh(), "read"), isKind("no-container"));
  await assert.rejects(openFileStore(fresh(), "write"), isKind("no-container"));
  await assert.rejects(openFileStore(folder, "read"), isKind("damaged"));
});

Deno.test("blocks and headers lie where docs/format.md says", async () => {
  const path = fresh();
  await using store = await openFileStore(path, "create");
  store.writeHeader("key", 0, new Uint8Array(4096).fill(1));
  store.writeHeader("super", 0, new Uint8Array(SEALED).fill(2));
  store.writeHeader("key", 1, new Uint8Array(4096).fill(3));
  store.writeHeader("super", 1, new Uint8Array(SEALED).fill(4));
  store.write(0, new Uint8Array(2 * SEALED).fill(5));
  await store.flush();
  const bytes = Deno.readFileSync(path);
  assert.equal(bytes.length, 131072 + 2 * SEALED);
  for (const [at, value] of [[0, 1], [4096, 2], [65536, 3], [69632, 4], [131072, 5], [135200, 5]] as const) {
    assert.equal(bytes[at], value);
  }
});

Deno.test("a store that is open for reading takes no write", async () => {
  const path = fresh();
  await (await openFileStore(path, "create")).close();
  await using store = await openFileStore(path, "read");
  assert.throws(() => store.write(0, new Uint8Array(SEALED)), Broken);
});
