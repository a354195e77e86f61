import assert from "node:assert/strict";
import { openLibfuse } from "../../ffi/libfuse_symbols.ts";
import { SpareMemory } from "../../ffi/spare_memory.ts";

const MEBIBYTE = 1 << 20;
const strict = { sanitizeOps: true, sanitizeResources: true };

/** A process that has so much memory resident, of which so much can be given back. */
class Process {
  resident = 100 * MEBIBYTE;
  spare = 0;
  looks = 0;
  trims = 0;
  readonly #trim = () => {
    this.trims++;
    this.resident -= this.spare;
    return this.spare = 0;
  };
  readonly memory = new SpareMemory(this.#trim, {
    soon: 0,
    resident: () => {
      this.looks++;
      return this.resident;
    },
  });

  /** Something is done `times`, and what follows has happened. */
  async work(times = 1): Promise<void> {
    for (let i = 0; i < times; i++) this.memory.touch();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

Deno.test(
  "memory is given back when there is more of it, and looked at no more often than need be",
  strict,
  async () => {
    const process = new Process();
    using _ = process.memory;
    await process.work(100);
    assert.equal(process.trims, 1);
    const { looks } = process;
    await process.work(100);
    assert.equal(process.trims, 1, "as much as before");
    assert.equal(process.looks, looks + 1);
    process.resident += 40 * MEBIBYTE;
    process.spare = 30 * MEBIBYTE;
    await process.work();
    assert.equal(process.trims, 2);
    assert.equal(process.resident, 110 * MEBIBYTE);
    process.resident += MEBIBYTE;
    await process.work();
    assert.equal(process.trims, 2, "not worth while");
  },
);

Deno.test("memory is not looked at where nothing is done, nor after the end", strict, async () => {
  const process = new Process();
  await process.work(0);
  assert.equal(process.looks, 0);
  process.memory.touch();
  process.memory[Symbol.dispose]();
  await process.work(0);
  assert.equal(process.looks, 0);
});

Deno.test("libc gives memory back", { ...strict, ignore: Deno.build.os !== "linux" }, () => {
  using library = openLibfuse();
  const { malloc_trim: trim } = library.libc;
  assert(trim);
  assert([0, 1].includes(trim(0n)));
});
