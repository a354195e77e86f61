import assert from "node:assert/strict";

const ROOT = new URL("../", import.meta.url);
const read = (path: string) => Deno.readTextFile(new URL(path, ROOT));
/** As one line: text is broken anywhere. */
const joined = (text: string) => text.replace(/["`]\s*\+\s*["`]/g, "").replace(/\s+/g, " ");

Deno.test("each statement of the threat model names a test, and that is there", async () => {
  const page = await read("docs/threat-model.md");
  const statements = page.slice(page.indexOf("## What each")).split(/\n(?=- |#)/).filter((part) =>
    part.startsWith("- ")
  );
  assert(statements.length > 30);
  for (const statement of statements.map(joined)) {
    const named = [...statement.matchAll(/`(tests\/[\w/]+\.ts)` "([^"]+)"/g)];
    if (!statement.startsWith("- — ")) assert(named.length > 0, `no test is named: ${statement}`);
    for (const [, file, name] of named) {
      assert(joined(await read(file!)).includes(name!), `${file} has no test "${name}"`);
    }
  }
});
