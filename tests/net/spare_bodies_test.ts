import assert from "node:assert/strict";
import { buildFrame, FrameReader } from "../../net/frames.ts";
import { SpareBodies } from "../../net/spare_bodies.ts";

const KIB = 1024, MIB = 1 << 20;

Deno.test("a body is used again for a frame of the same length, and holds that frame alone", async () => {
  const bodies = new SpareBodies(), head = { operation: 1, direction: 0, status: 0, id: 1 };
  const frames = [1, 2, 3].map((value) => buildFrame(head, new Uint8Array(100 * KIB).fill(value)));
  const stream = new Blob(frames).stream().getReader({ mode: "byob" });
  const reader = new FrameReader(
    {
      read: async (into) => {
        const { done, value } = await stream.read(new Uint8Array(into.length));
        if (done) return null;
        into.set(value);
        return value.length;
      },
      write: () => Promise.reject(new Error("nothing is written")),
    },
    MIB,
    bodies,
  );
  const first = (await reader.next())!.body;
  assert(first.every((byte) => byte === 1));
  const second = (await reader.next())!.body;
  assert.notEqual(second, first, "still in use");
  bodies.give(first);
  const third = (await reader.next())!.body;
  assert.equal(third, first);
  assert(third.every((byte) => byte === 3));
  assert(second.every((byte) => byte === 2));
});

Deno.test("only bodies of streams are kept, and no more than some megabytes of them", () => {
  const bodies = new SpareBodies();
  for (const length of [1 * KIB, 4 * MIB]) {
    const body = new Uint8Array(length);
    bodies.give(body);
    assert.notEqual(bodies.take(length), body);
  }
  const given = new Set(Array.from({ length: 200 }, (_, i) => new Uint8Array((100 + i % 3) * KIB)));
  for (const body of given) bodies.give(body);
  let kept = 0;
  for (const { length } of given) if (given.has(bodies.take(length))) kept += length;
  assert(kept > 0 && kept <= 8 * MIB, `${kept}`);
});
