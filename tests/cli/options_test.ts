import assert from "node:assert/strict";
import { byteSize } from "../../cli/options.ts";

Deno.test("sizes are bytes, or with K, M or G powers of 1024 times that", () => {
  for (
    const [text, bytes] of [["0", 0], ["1500", 1500], ["2K", 2048], ["64m", 64 << 20], [
      "3G",
      3 * 2 ** 30,
    ]] as const
  ) {
    assert.equal(byteSize(text), bytes);
  }
  for (const text of ["", "K", "1.5M", "-1", "1T", "1 M", "9999999999G"]) {
    assert.throws(() => byteSize(text), text);
  }
});
