import assert from "node:assert/strict";
import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { chooseLocator, locatorName, parseLocator } from "../../cli/locator.ts";
import { CoverError } from "../../crypto/errors.ts";
import { HAS_SYMLINKS, WINDOWS } from "../platform.ts";
import { isCover } from "../errors.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };
const TOKEN = "A".repeat(43);

Deno.test("a path, a bare word and a file URL are files", strict, () => {
  const paths: [string, string][] = [
    ["container", "container"],
    ["./a:b", "./a:b"],
    ["/srv/box", "/srv/box"],
    ["a/b.cfs", "a/b.cfs"],
    ["C:\\box", "C:\\box"],
    WINDOWS ? ["file:///C:/my%20box", "C:\\my box"] : ["file:///srv/my%20box", "/srv/my box"],
    ["file:box", "box"],
  ];
  for (const [text, path] of paths) assert.deepEqual(parseLocator(text), { kind: "file", path });
});

Deno.test("RAM and servers are told by their scheme, in letters of any case", strict, () => {
  assert.deepEqual(parseLocator("ram:"), { kind: "ram" });
  assert.deepEqual(parseLocator("COVERFS://Host"), {
    kind: "remote",
    remote: { host: "host", port: 62000, name: "cfscontainer" },
  });
  assert.deepEqual(parseLocator("coverfs://[::1]:99/box"), {
    kind: "remote",
    remote: { host: "::1", port: 99, name: "box" },
  });
});

Deno.test("object stores and unknown schemes are refused, never taken for paths", strict, () => {
  assert.throws(() => parseLocator("s3://bucket/prefix"), isCover("unsupported"));
  for (const text of ["", "http://host/box", "coverfs://", "file://%zz/box"]) {
    assert.throws(() => parseLocator(text), isCover("usage"), text);
  }
});

Deno.test("a token is never shown or remembered", strict, () => {
  const link = `coverfs://${TOKEN}@host/box?sha256=${TOKEN}`;
  assert.equal(locatorName(parseLocator(link)), "coverfs://host:62000/box");
  assert.throws(
    () => parseLocator(`coverfs://${TOKEN}@host/box?sha256=short`),
    (error) => error instanceof CoverError && !`${error.message}${error.hint}`.includes(TOKEN),
  );
});

Deno.test("one file has one name, however it is written", strict, () => {
  const folder = Deno.realPathSync(Deno.makeTempDirSync({ prefix: "coverfs-test-" }));
  try {
    mkdirSync(join(folder, "real"));
    if (HAS_SYMLINKS) symlinkSync("real", join(folder, "link"));
    const expected = join(folder, "real", "box");
    const nameOf = (path: string) => locatorName(parseLocator(path));
    const first = HAS_SYMLINKS ? "link" : "real";
    assert.equal(nameOf(join(folder, first, "box")), expected, "before it is there");
    Deno.writeTextFileSync(expected, "");
    if (HAS_SYMLINKS) symlinkSync(expected, join(folder, "other"));
    const links = HAS_SYMLINKS ? ["link/box", "real/../link/./box", "other"] : [];
    for (const path of ["real/box", ...links, ...WINDOWS ? ["REAL/Box", "real\\box"] : []]) {
      assert.equal(nameOf(`${folder}/${path}`), expected, path);
    }
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("what is given counts before the environment, and nothing at all is wrong usage", strict, () => {
  const before = Deno.env.get("COVERFS_CONTAINER");
  try {
    Deno.env.set("COVERFS_CONTAINER", "from-environment");
    assert.deepEqual(chooseLocator("given"), { kind: "file", path: "given" });
    assert.deepEqual(chooseLocator(undefined), { kind: "file", path: "from-environment" });
    assert.throws(() => chooseLocator(""), isCover("usage"), "an empty one is not silently another one");
    Deno.env.set("COVERFS_CONTAINER", "");
    assert.throws(() => chooseLocator(undefined), isCover("usage"));
    Deno.env.delete("COVERFS_CONTAINER");
    assert.throws(() => chooseLocator(undefined), isCover("usage"));
  } finally {
    if (before === undefined) Deno.env.delete("COVERFS_CONTAINER");
    else Deno.env.set("COVERFS_CONTAINER", before);
  }
});
