import assert from "node:assert/strict";
import { buildFrame, type ByteStream, FrameReader, FrameWriter } from "../../net/frames.ts";
import { Op, ProtocolError } from "../../net/protocol.ts";

/** A stream of these bytes, which then ends. */
function streamOf(bytes: Uint8Array): ByteStream & { left: number } {
  return {
    left: bytes.length,
    read(into) {
      if (this.left === 0) return Promise.resolve(null);
      const part = bytes.subarray(bytes.length - this.left).subarray(0, into.length);
      into.set(part);
      this.left -= part.length;
      return Promise.resolve(part.length);
    },
    write: () => Promise.reject(new Error("not written to")),
  };
}

const HEAD = { operation: Op.read, direction: 1, status: 0, id: 7 };

Deno.test("a frame with as long a body as may be is read; one byte more is refused before it is admitted", async () => {
  for (const maxBody of [0, 1, 4096, 200_000]) {
    const body = new Uint8Array(maxBody).fill(5);
    const admitted: number[] = [], admit = (length: number) => void admitted.push(length);
    const frame = await new FrameReader(streamOf(buildFrame(HEAD, body)), maxBody).next(admit);
    assert.deepEqual(frame, { ...HEAD, body });
    assert.deepEqual(admitted, [maxBody]);
    const longer = new FrameReader(streamOf(buildFrame(HEAD, new Uint8Array(maxBody + 1))), maxBody);
    await assert.rejects(longer.next(admit), (error) => {
      assert(error instanceof ProtocolError);
      assert.equal(error.message, `Frame of ${maxBody + 1} bytes is too long: at most ${maxBody}`);
      return true;
    });
    assert.deepEqual(admitted, [maxBody], "nothing was asked for");
  }
});

Deno.test("a stream that ends between frames ends them; one that ends within a frame breaks the protocol", async () => {
  const frame = buildFrame(HEAD, new Uint8Array(20));
  const whole = new FrameReader(streamOf(frame), 100);
  assert.equal((await whole.next())?.body.length, 20);
  assert.equal(await whole.next(), undefined);
  for (let length = 1; length < frame.length; length++) {
    const cut = new FrameReader(streamOf(frame.subarray(0, length)), 100);
    await assert.rejects(cut.next(), ProtocolError, `${length} bytes`);
  }
});

Deno.test("a long frame is written in pieces, and a peer that takes them is not stuck", async () => {
  const pieces: { length: number; since: number }[] = [];
  const stream: ByteStream = {
    read: () => Promise.resolve(null),
    write: async (bytes) => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      pieces.push({ length: bytes.length, since: writer.busySince! });
      return bytes.length;
    },
  };
  const writer = new FrameWriter(stream, (error) => assert.fail(String(error)));
  const frame = buildFrame(HEAD, new Uint8Array(1 << 20));
  writer.send([frame]);
  await writer.idle();
  assert.equal(pieces.reduce((sum, { length }) => sum + length, 0), frame.length);
  assert(pieces.length >= 4, "in pieces");
  assert(pieces.every(({ since }, i) => i === 0 || since > pieces[i - 1]!.since), "each begins its own time");
  assert.equal(writer.busySince, undefined);
});
