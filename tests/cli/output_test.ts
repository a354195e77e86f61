import assert from "node:assert/strict";
import { escapeControls, humanSize, modeText, nameText, typeWord } from "../../cli/output.ts";

const strict = { sanitizeOps: true, sanitizeResources: true };

Deno.test("sizes are short and never jump over a unit", strict, () => {
  const sizes: [number, string][] = [
    [0, "0 B"],
    [1023, "1023 B"],
    [1024, "1.0 KiB"],
    [10 * 1024, "10 KiB"],
    [1024 ** 2 - 1, "1.0 MiB"],
    [1.5 * 1024 ** 3, "1.5 GiB"],
    [1024 ** 4, "1.0 TiB"],
    [Number.MAX_SAFE_INTEGER, "8.0 PiB"],
    [1024 ** 6, "1024 PiB"],
  ];
  for (const [bytes, text] of sizes) assert.equal(humanSize(bytes), text, String(bytes));
});

Deno.test("nothing that steers a terminal gets through, and all else does", strict, () => {
  for (let code = 0; code < 0x20; code++) {
    assert.match(escapeControls(String.fromCharCode(code)), /^\\(n|t|x[0-9a-f]{2})$/);
  }
  for (const code of [0x7f, 0x80, 0x9b, 0x9f, 0x202e, 0x2066]) {
    assert.match(escapeControls(String.fromCharCode(code)), /^\\[xu][0-9a-f]+$/, code.toString(16));
  }
  const plain = "Grüße, 世界 🎉 a\\b 'c' \"d\"";
  assert.equal(escapeControls(plain), plain);
});

Deno.test("a name that is not UTF-8 is shown all the same", strict, () => {
  assert.equal(nameText(Uint8Array.of(0x61, 0xff, 0x62)), "a\ufffdb");
  assert.equal(nameText(new TextEncoder().encode("\ufeffx")), "\ufeffx");
});

Deno.test("modes read as ls writes them", strict, () => {
  assert.equal(modeText(0o100644), "-rw-r--r--");
  assert.equal(modeText(0o041777), "drwxrwxrwt");
  assert.equal(modeText(0o104755), "-rwsr-xr-x");
  assert.equal(modeText(0o102640), "-rw-r-S---");
  assert.equal(modeText(0o120777), "lrwxrwxrwx");
  assert.equal(typeWord(0o010600), "fifo");
  assert.equal(typeWord(0), "unknown");
});
