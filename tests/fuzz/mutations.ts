/** Bytes and texts that are nearly right: what decoders are told by those who mean them ill. */
import { Buffer } from "node:buffer";
import fc from "fast-check";

/** Numbers at which something changes, as little-endian bytes. */
const EDGES: readonly Uint8Array[] = [
  ...[0, 1, 0x7f, 0x80, 0xff].map((value) => Uint8Array.of(value)),
  ...[0xffff, 0x8000].map((value) => new Uint8Array(Uint16Array.of(value).buffer)),
  ...[0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff].map((value) =>
    new Uint8Array(Uint32Array.of(value).buffer)
  ),
  ...[0n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n].map((value) =>
    new Uint8Array(BigUint64Array.of(value).buffer)
  ),
  // Varints of 2^53 - 1, of more than 53 bits, and one that does not end.
  Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f),
  Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f),
  new Uint8Array(12).fill(0x80),
];

/** One change, at a place that is a share of the length. */
interface Change {
  readonly what: "flip" | "edge" | "cut" | "remove" | "repeat" | "insert" | "splice";
  readonly at: number;
  readonly from: number;
  readonly length: number;
  readonly bytes: Uint8Array;
}

/** A share of the length: anywhere, or often near the front, where formats say what follows. */
const share = fc.oneof(
  fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  fc.double({ min: 0, max: 0.05, noNaN: true }),
);

const change: fc.Arbitrary<Change> = fc.record({
  what: fc.constantFrom("flip", "flip", "edge", "edge", "cut", "remove", "repeat", "insert", "splice"),
  at: share,
  from: share,
  length: fc.integer({ min: 1, max: 64 }),
  bytes: fc.oneof(fc.constantFrom(...EDGES), fc.uint8Array({ minLength: 1, maxLength: 16 })),
});

function changed(
  input: Uint8Array,
  { what, at, from, length, bytes }: Change,
  other: Uint8Array,
): Uint8Array {
  const place = Math.floor(at * input.length), source = Math.floor(from * other.length);
  const front = input.subarray(0, place), back = input.subarray(place);
  switch (what) {
    case "flip": {
      const copy = input.slice();
      if (copy.length > 0) copy[place]! ^= 1 << (length % 8);
      return copy;
    }
    case "edge": {
      const copy = input.slice();
      copy.set(bytes.subarray(0, copy.length - place), place);
      return copy;
    }
    case "cut":
      return front.slice();
    case "remove":
      return Buffer.concat([front, back.subarray(length)]);
    case "repeat":
      return Buffer.concat([front, back.subarray(0, length), back]);
    case "insert":
      return Buffer.concat([front, bytes, back]);
    case "splice":
      return Buffer.concat([front, other.subarray(source)]);
  }
}

/** Some of the corpus, changed up to eight times; now and then bytes that have nothing to do with it. */
export function mutated(corpus: readonly Uint8Array[]): fc.Arbitrary<Uint8Array<ArrayBuffer>> {
  const member = fc.constantFrom(...corpus);
  return fc.oneof(
    {
      weight: 20,
      arbitrary: fc.tuple(member, member, fc.array(change, { minLength: 1, maxLength: 8 })).map(
        ([input, other, changes]) =>
          new Uint8Array(changes.reduce((bytes, one) => changed(bytes, one, other), input)),
      ),
    },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 512 }).map((bytes) => new Uint8Array(bytes)) },
  );
}

/** The same for texts. Bytes that are not UTF-8 become replacement characters. */
export function mutatedText(corpus: readonly string[]): fc.Arbitrary<string> {
  const encoder = new TextEncoder(), decoder = new TextDecoder();
  const pieces = fc.constantFrom(
    "://",
    "@",
    "?sha256=",
    "[",
    "]",
    ":",
    "/",
    "..",
    "%00",
    "\0",
    '"',
    "{",
    "}",
    "null",
    "1e999",
  );
  return fc.oneof(
    {
      weight: 3,
      arbitrary: mutated(corpus.map((text) => encoder.encode(text))).map((bytes) => decoder.decode(bytes)),
    },
    {
      weight: 1,
      arbitrary: fc.tuple(fc.constantFrom(...corpus), pieces, fc.nat(500)).map(([text, piece, at]) =>
        text.slice(0, at % (text.length + 1)) + piece + text.slice(at % (text.length + 1))
      ),
    },
    { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 100 }) },
  );
}
