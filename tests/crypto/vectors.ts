/** The test vectors of sealing, as `vectors.json` has them. */
import { fromHex, type RunIdentity } from "../../crypto/mod.ts";
import vectorsFile from "./vectors.json" with { type: "json" };
import { type Identity, sealBlock } from "./independent.ts";

/** What a negative vector changes of the positive one that it is made from. */
export interface Change {
  /** Other values of what the tag binds; hexadecimal where they are bytes. */
  readonly suite?: string;
  readonly containerId?: string;
  readonly session?: string;
  readonly generation?: number;
  readonly position?: number;
  readonly birth?: number;
  readonly kind?: number;
  /** This bit of the sealed block is flipped, counted from bit 0 of byte 0. */
  readonly flip?: number;
  /** All from this byte on is zero. */
  readonly zeroFrom?: number;
  /** The sealed block has only this many bytes. */
  readonly length?: number;
}

interface Positive {
  readonly name: string;
  readonly suite: string;
  readonly generation: number;
  readonly session: string;
  readonly position: number;
  readonly birth: number;
  readonly kind: number;
  readonly iv: string;
  /** Byte i of the plaintext is (start + i × step) mod 256. */
  readonly plain: { readonly start: number; readonly step: number };
  readonly tag: string;
  /** SHA-256 of the sealed block. */
  readonly sha256: string;
}

/** One vector, ready to be tried. */
export interface Vector {
  readonly name: string;
  readonly suite: string;
  readonly containerId: Uint8Array;
  readonly run: RunIdentity;
  readonly sealed: Uint8Array;
  /** `refused`: IntegrityError; `length`: RangeError, before anything is looked at. */
  readonly expect: "opens" | "refused" | "length";
  readonly plain: Uint8Array;
  readonly tag: string;
  readonly sha256: string;
}

/** Master keys by generation, for all vectors. */
export const masterKeys: ReadonlyMap<number, Uint8Array> = new Map(
  Object.entries(vectorsFile.masterKeys).map(([generation, key]) => [Number(generation), fromHex(key)]),
);

/** Plaintext and independently sealed bytes of a positive vector. */
export function makePositive(vector: Omit<Positive, "tag" | "sha256">, containerId: Uint8Array) {
  const { start, step } = vector.plain, masterKey = masterKeys.get(vector.generation)!;
  const plain = Uint8Array.from({ length: 4096 }, (_, i) => start + i * step);
  const identity: Identity = { ...vector, containerId, masterKey, session: fromHex(vector.session) };
  return { plain, sealed: sealBlock(identity, fromHex(vector.iv), plain) };
}

/** Reads all vectors, the positive ones first. */
export function readVectors(): Vector[] {
  const containerId = fromHex(vectorsFile.containerId), positive = new Map<string, Positive>();
  const vectors: Vector[] = vectorsFile.opens.map((one) => {
    positive.set(one.name, one);
    return {
      ...one,
      ...makePositive(one, containerId),
      containerId,
      run: { ...one, session: fromHex(one.session) } as unknown as RunIdentity,
      expect: "opens",
    };
  });
  for (const { name, of, expect, change } of vectorsFile.refused as Refused[]) {
    const base = vectors.find((one) => one.name === of)!;
    const sealed = base.sealed.slice(0, change.length ?? 4128), run = { ...base.run, ...change };
    if (change.flip !== undefined) sealed[change.flip >> 3]! ^= 1 << (change.flip & 7);
    if (change.zeroFrom !== undefined) sealed.fill(0, change.zeroFrom);
    vectors.push({
      ...base,
      name: `${of}: ${name}`,
      expect,
      sealed,
      suite: change.suite ?? base.suite,
      containerId: change.containerId === undefined ? containerId : fromHex(change.containerId),
      run: {
        ...run,
        session: change.session === undefined ? base.run.session : fromHex(change.session),
      } as RunIdentity,
    });
  }
  return vectors;
}

interface Refused {
  readonly name: string;
  readonly of: string;
  readonly expect: "refused" | "length";
  readonly change: Change;
}
