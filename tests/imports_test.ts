/** Which folder may import from which (README, "The folders"), who may use what of the runtime, and how hints begin. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path/posix";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../", import.meta.url));

/** The folder that a file counts to, and the folders that it may import from besides its own. */
const ALLOWED: readonly (readonly [string, readonly string[]])[] = [
  ["crypto", []],
  ["net", ["crypto"]],
  ["fs/store", ["fs", "crypto", "net"]],
  ["fs", ["crypto"]],
  ["ffi", ["fs", "crypto"]],
  ["cli", ["crypto", "fs", "fs/store", "net", "ffi"]],
];

function folderOf(path: string): string | undefined {
  return ALLOWED.find(([folder]) => path.startsWith(`${folder}/`))?.[0];
}

function* sources(folder: string): Generator<string> {
  for (const entry of readdirSync(join(root, folder))) {
    const path = join(folder, entry);
    if (statSync(join(root, path)).isDirectory()) yield* sources(path);
    else if (path.endsWith(".ts")) yield path;
  }
}

function importsOf(text: string): string[] {
  return [...text.matchAll(/(?:^(?:import|export)\b[^"'`;]*?from |^import |\bimport\()"([^"]+)"/gm)].map((
    one,
  ) => one[1]!);
}

const files = ["crypto", "net", "fs", "ffi", "cli"].flatMap((folder) => [...sources(folder)]);

Deno.test("each folder imports only from those that it may", () => {
  assert.ok(files.length > 80);
  for (const path of files) {
    const own = folderOf(path)!, allowed = ALLOWED.find(([folder]) => folder === own)![1];
    for (const target of importsOf(readFileSync(join(root, path), "utf8"))) {
      if (!target.startsWith(".")) continue;
      const to = relative(".", normalize(join(dirname(path), target))), folder = folderOf(to);
      if (folder === own || folder === undefined && own === "cli") continue;
      assert.ok(folder !== undefined && allowed.includes(folder), `${path} imports ${to}`);
    }
  }
});

Deno.test("fs/ runs in a browser too: nothing of Deno or Node outside fs/store/", () => {
  for (const path of files.filter((one) => folderOf(one) === "fs")) {
    const text = readFileSync(join(root, path), "utf8");
    assert.ok(!/\bDeno\./.test(text.replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, "")), `${path} uses Deno`);
    assert.deepEqual(importsOf(text).filter((one) => !one.startsWith(".")), [], path);
  }
});

Deno.test("what runs in a thread of its own is found by deno task compile", () => {
  const threads = files.flatMap((path) => {
    const text = readFileSync(join(root, path), "utf8");
    return [...text.matchAll(/new Worker\(\s*new URL\("([^"]+)"/g)].map((one) =>
      join(dirname(path), one[1]!)
    );
  });
  assert.ok(threads.length > 1);
  for (const thread of threads) assert.match(thread, /^ffi\/\w+_worker\.ts$/);
});

Deno.test("only ffi/ opens native libraries", () => {
  for (const path of files.filter((one) => folderOf(one) !== "ffi")) {
    const text = readFileSync(join(root, path), "utf8");
    assert.ok(!/Deno\.(dlopen|UnsafePointer|UnsafeCallback)/.test(text), path);
  }
});

Deno.test("hints begin with a capital letter", () => {
  const hints = files.flatMap((path) => {
    const text = readFileSync(join(root, path), "utf8");
    return [...text.matchAll(/\bhint:\s*["`]\w.*|["`]hint: \w.*/g)].map(([found]) => `${path}: ${found}`);
  });
  assert.ok(hints.length > 60);
  assert.deepEqual(hints.filter((one) => /hint:\s*["`]?[a-z]/.test(one)), []);
});
