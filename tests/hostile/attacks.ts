/** What an editor without keys does to a container, and what a client must make of it. */
import { Field, hashOf } from "../../crypto/encryption_block.ts";
import type { ErrorKind } from "../../crypto/errors.ts";
import { SEALED } from "../../crypto/sealer.ts";
import { blockOffset, BLOCKS_AT, blocksIn, HEADER_AT } from "../../net/backing.ts";
import { pattern } from "../fs/fixture.ts";
import { blockOf, type History } from "./history.ts";

/**
 * "served": all is there, as the newest state has it. "integrity": so it is, but some of the data cannot be read. Any
 * other kind: the container is refused.
 */
export type Outcome = "served" | ErrorKind;

/** One attack. */
export interface Attack {
  readonly name: string;
  /** Changes a copy of the newest state, or gives another one. */
  readonly forge: (image: Uint8Array, history: History) => Uint8Array | void | Promise<void>;
  /** For a client that remembers the newest state. */
  readonly known: Outcome;
  /** For one that remembers nothing: it may be shown what was once true ("past"), or another container. */
  readonly first: Outcome | "past";
  /** For one that wants to write, where that differs. */
  readonly write?: Outcome;
}

const attack = (
  name: string,
  known: Attack["known"],
  forge: Attack["forge"],
  first: Attack["first"] = known,
): Attack => ({ name, forge, known, first });

/** Puts something in the place of one block. */
function put(image: Uint8Array, position: number, sealed: Uint8Array): void {
  image.set(sealed, blockOffset(position));
}

/** What can be done to one block: `at` is its position, `other` that of another block. */
const BLOCK_ATTACKS: readonly [
  what: string,
  (image: Uint8Array, at: number, other: number, history: History) => void,
][] = [
  ["is zeroed", (image, at) => put(image, at, new Uint8Array(SEALED))],
  ["has a bit flipped in its IV", (image, at) => void (image[blockOffset(at) + 3]! ^= 1)],
  ["has a bit flipped in its data", (image, at) => void (image[blockOffset(at) + 999]! ^= 16)],
  ["has a bit flipped in its tag", (image, at) => void (image[blockOffset(at) + SEALED - 1]! ^= 128)],
  ["is a copy of another one", (image, at, other) => put(image, at, blockOf(image, other).slice())],
  ["is moved", (image, at) => {
    put(image, blocksIn(image.length) - 1, blockOf(image, at).slice());
    put(image, at, new Uint8Array(SEALED));
  }],
  ["is swapped with another one", (image, at, other) => {
    const kept = blockOf(image, at).slice();
    put(image, at, blockOf(image, other).slice());
    put(image, other, kept);
  }],
  ["is that of an older state", (image, at, _, { parent }) => put(image, at, blockOf(parent.image, at))],
  ["is that of a lost branch", (image, at, _, { lost }) => put(image, at, blockOf(lost.image, at))],
  ["is that of another container", (image, at, _, { other }) => put(image, at, blockOf(other.image, at))],
];

/** Puts a part of one image over another. */
function copyPart(into: Uint8Array, from: Uint8Array, at: number, length: number): void {
  into.set(from.subarray(at, at + length), at);
}

function headers(
  into: Uint8Array,
  from: Uint8Array,
  region: 0 | 1,
  copies: readonly (0 | 1)[] = [0, 1],
): void {
  const { copies: places, bytes } = HEADER_AT[region]!;
  for (const copy of copies) copyPart(into, from, places[copy]!, bytes);
}

/** Changes both copies of the encryption block, with a hash that fits. */
function forged(change: (view: DataView) => void): Attack["forge"] {
  return async (image) => {
    for (const at of HEADER_AT[0]!.copies) {
      const block = image.subarray(at, at + 4096);
      change(new DataView(block.buffer, block.byteOffset, block.length));
      block.set(await hashOf(block), Field.hash);
    }
  };
}

/** All blocks of one image that lie within the other, or those at every other position. */
function blocksOver(into: Uint8Array, from: Uint8Array, step = 1): void {
  const count = Math.min(blocksIn(into.length), blocksIn(from.length));
  for (let at = 0; at < count; at += step) put(into, at, blockOf(from, at));
}

const SLOT = Field.slots;

/** Every attack on a container that lies still. */
export const ATTACKS: readonly Attack[] = [
  ...BLOCK_ATTACKS.map(([what, forge]) =>
    attack(`a block of data ${what}`, "integrity", (image, history) => {
      forge(image, history.data, history.otherData, history);
    })
  ),
  ...BLOCK_ATTACKS.map(([what, forge]) =>
    attack(`a block of the journal ${what}`, "damaged", (image, history) => {
      forge(image, history.journal, history.previousCheckpoint, history);
    }, "past")
  ),
  ...BLOCK_ATTACKS.map(([what, forge]) =>
    attack(
      `a block of the checkpoint ${what}`,
      what.startsWith("is swapped") ? "integrity" : "served",
      (image, history) => {
        forge(image, history.checkpoint, history.otherData, history);
      },
    )
  ),
  attack("both checkpoints are zeroed", "damaged", (image, { checkpoint, previousCheckpoint }) => {
    for (const at of [checkpoint, previousCheckpoint]) put(image, at, new Uint8Array(SEALED));
  }),
  attack("the checkpoints are swapped", "damaged", (image, { checkpoint, previousCheckpoint }) => {
    const kept = blockOf(image, checkpoint).slice();
    put(image, checkpoint, blockOf(image, previousCheckpoint).slice());
    put(image, previousCheckpoint, kept);
  }),

  attack("one superblock is zeroed", "served", (image) => void image.fill(0, 4096, 4096 + SEALED)),
  attack("both superblocks are zeroed", "damaged", (image) => headers(image, new Uint8Array(80_000), 1)),
  attack("the superblocks are swapped", "damaged", (image) => {
    const [a, b] = HEADER_AT[1]!.copies, kept = image.slice(a, a + SEALED);
    image.set(image.subarray(b, b + SEALED), a);
    image.set(kept, b);
  }),
  attack(
    "one superblock is an old one",
    "served",
    (image, { parent }) => headers(image, parent.image, 1, [0]),
  ),
  attack(
    "both superblocks are old ones",
    "rollback",
    (image, { parent }) => headers(image, parent.image, 1),
    "past",
  ),
  attack("the superblocks are those of a lost branch", "damaged", (image, { lost }) => {
    headers(image, lost.image, 1);
  }, "past"),
  attack("the superblocks are those of another container", "damaged", (image, { other }) => {
    headers(image, other.image, 1);
  }),

  attack("an old header: a removed slot is back", "rollback", (image, { parent }) => {
    headers(image, parent.image, 0);
  }),
  attack("one copy of the header is an old one", "served", (image, { parent }) => {
    headers(image, parent.image, 0, [0]);
  }),
  attack("one copy of the header is zeroed", "served", (image) => void image.fill(0, 0, 4096)),
  attack(
    "both copies of the header are zeroed",
    "damaged",
    (image) => headers(image, new Uint8Array(70_000), 0),
  ),
  attack("the header is that of another container", "rollback", (image, { other }) => {
    headers(image, other.image, 0);
  }, "damaged"),
  attack(
    "the key derivation is made cheaper",
    "unsupported",
    forged((view) => view.setUint32(SLOT + 4, 1, true)),
  ),
  attack(
    "the key derivation takes less memory",
    "unsupported",
    forged((view) => view.setUint32(SLOT + 8, 8, true)),
  ),
  attack(
    "the key derivation takes for ever",
    "unsupported",
    forged((view) => view.setUint32(SLOT + 4, 0xffff_ffff, true)),
  ),
  attack(
    "the key derivation takes all memory",
    "unsupported",
    forged((view) => {
      view.setUint32(SLOT + 8, 0xffff_ffff, true);
    }),
  ),
  attack(
    "a slot's key derivation is another one",
    "wrong-passphrase",
    forged((view) => {
      view.setUint32(SLOT + 4, 3, true);
    }),
  ),
  attack("a slot's salt is changed", "wrong-passphrase", forged((view) => view.setUint8(SLOT + 20, 1))),
  attack(
    "a slot's key is changed",
    "wrong-passphrase",
    forged((view) => {
      view.setUint8(SLOT + 110, view.getUint8(SLOT + 110) ^ 1);
    }),
  ),
  attack("a slot is taken out", "wrong-passphrase", (image, history) =>
    // Another one is there, as a block without any slot is no encryption block.
    forged((view) => {
      const slot = new Uint8Array(view.buffer, view.byteOffset + SLOT, 512);
      slot.copyWithin(256, 0, 256);
      slot.set(history.other.image.subarray(SLOT, SLOT + 256));
      slot.fill(0, 256);
    })(image, history)),
  attack("a slot of another container is put in", "damaged", (image, history) =>
    forged((view) => {
      new Uint8Array(view.buffer, view.byteOffset + SLOT, 512).set(
        history.other.image.subarray(SLOT, SLOT + 256),
        256,
      );
    })(image, history)),
  attack("the cipher suite is another one", "damaged", forged((view) => view.setUint8(Field.suite, 2))),
  attack("the cipher suite is unknown", "unsupported", forged((view) => view.setUint8(Field.suite, 77))),
  attack(
    "the format version is newer",
    "unsupported",
    forged((view) => view.setUint16(Field.version, 3, true)),
  ),
  attack(
    "a flag of a newer version is set",
    "unsupported",
    forged((view) => {
      view.setUint32(Field.incompatible, 1, true);
    }),
  ),
  {
    ...attack(
      "a flag is set that allows reading only",
      "damaged",
      forged((view) => {
        view.setUint32(Field.readOnlyCompatible, 1, true);
      }),
    ),
    write: "unsupported",
  },
  attack(
    "a flag is set that may be ignored",
    "damaged",
    forged((view) => {
      view.setUint32(Field.compatible, 1, true);
    }),
  ),
  attack(
    "the header says that it is newer",
    "damaged",
    forged((view) => {
      view.setBigUint64(Field.sequence, 99n, true);
    }),
  ),

  attack("all of it is an older state", "rollback", (_, { parent }) => parent.image, "past"),
  attack("all of it is a lost branch", "rollback", (_, { lost }) => lost.image, "past"),
  attack("all of it is another container", "rollback", (_, { other }) => other.image, "past"),
  attack(
    "the blocks are those of an older state",
    "damaged",
    (image, { parent }) => blocksOver(image, parent.image),
    "past",
  ),
  attack("every other block is that of an older state", "damaged", (image, { parent }) => {
    blocksOver(image, parent.image, 2);
  }, "past"),
  attack(
    "the blocks are those of a lost branch",
    "damaged",
    (image, { lost }) => blocksOver(image, lost.image),
    "past",
  ),
  attack("every other block is that of a lost branch", "damaged", (image, { lost }) => {
    blocksOver(image, lost.image, 2);
  }, "past"),
  attack("it is cut within its header", "damaged", (image) => image.slice(0, 1000)),
  attack("it is cut behind its header", "damaged", (image) => image.slice(0, BLOCKS_AT)),
  attack("it is empty", "damaged", () => new Uint8Array(0)),
  attack("it is nothing but zeros", "damaged", (image) => void image.fill(0)),
  attack("it is nothing but noise", "damaged", (image) => void image.set(pattern(image.length, 77))),
  attack("zeros are put behind it", "served", (image) => extended(image, new Uint8Array(1_000_001))),
  attack("noise is put behind it", "served", (image) => extended(image, pattern(1_000_001, 78))),
  attack("another container is put behind it", "served", (image, { other }) => extended(image, other.image)),
];

function extended(image: Uint8Array, by: Uint8Array): Uint8Array {
  const longer = new Uint8Array(image.length + by.length);
  longer.set(image);
  longer.set(by, image.length);
  return longer;
}
