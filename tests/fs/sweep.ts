/**
 * A sweep over silent corruption: a small container with every one of its bytes flipped, and cut at every length, one
 * change at a time. Each is found and named, or a second copy serves; wrong data never shows.
 */
import assert from "node:assert/strict";
import { cpuUsage } from "node:process";
import {
  createEncryptionBlock,
  createSealer,
  newestEncryptionBlock,
  proveEncryptionBlock,
  SEALED,
  type SecretBytes,
  type SuiteName,
} from "../../crypto/mod.ts";
import { CoverError } from "../../crypto/errors.ts";
import { blockOffset, BLOCKS_AT, blocksIn, HEADER_AT } from "../../fs/block/byte_layout.ts";
import { type Asked, Medium, MediumStore } from "../../fs/block/medium.ts";
import { type BlockStore, HEADER_BYTES } from "../../fs/block/store.ts";
import { Container } from "../../fs/container.ts";
import { createContainer } from "../../fs/creating.ts";
import { checkContainer } from "../../fs/fsck.ts";
import type { ContainerKeys } from "../../fs/loading.ts";
import { ROOT, S_IFLNK } from "../../fs/types.ts";
import { Volume } from "../../fs/volume.ts";
import { openLibcrypto } from "../../ffi/libcrypto.ts";
import { type Picture, pictureOf } from "./crash_judge.ts";
import { type Before, Examiner, faultOf } from "./damage.ts";
import { ReadMemo } from "./read_memo.ts";
import { equal, FILE, FOLDER, name, openVolume, pattern } from "./fixture.ts";

/** Cases that take longer than this, in ms of the processor, are loops that somebody can make us run. */
const BOUND = 10_000;

/** One change to the container: a byte in which bits flip, or the length at which it ends. */
export type Change = { readonly kind: "flip"; readonly at: number } | {
  readonly kind: "cut";
  readonly at: number;
};

/** What became of changes. */
export interface SweepTally {
  cases: number;
  /** Nobody looks at what was changed, or a second copy of it serves and nothing had to be said. */
  unseen: number;
  /** All is there still, and fsck names the damage. */
  served: number;
  /** Something cannot be read or opened any more, and that is said. */
  refused: number;
  /** The slowest case, in ms of the processor. */
  slowest: number;
}

/** A small container that can be swept. */
export class Sweep implements Disposable {
  readonly #medium: Medium;
  readonly #header: Uint8Array;
  readonly #masterKey: SecretBytes;
  readonly #before: Before;
  readonly #examiner: Examiner;
  readonly #unlocking = new ReadMemo((store) => this.#unlock(store));
  readonly #dispose: () => void;
  /** Blocks that somebody looks at. */
  readonly #used: readonly number[];

  private constructor(
    medium: Medium,
    parts: {
      header: Uint8Array;
      masterKey: SecretBytes;
      before: Before;
      examiner: Examiner;
      used: readonly number[];
      dispose: () => void;
    },
  ) {
    this.#medium = medium;
    this.#header = parts.header;
    this.#masterKey = parts.masterKey;
    this.#before = parts.before;
    this.#examiner = parts.examiner;
    this.#used = parts.used;
    this.#dispose = parts.dispose;
  }

  /**
   * Makes a container of every part that there is: two checkpoints, journals of several sessions, all kinds of
   * tables, files of several blocks.
   */
  static async make(suite: SuiteName): Promise<Sweep> {
    const { bytes: header, header: { containerId, generation, sequence }, masterKey } =
      await createEncryptionBlock({
        suite,
        slots: [{ kind: "passphrase", text: "x" }],
      });
    const engine = await openLibcrypto();
    const sealer = await createSealer({
      suite,
      containerId,
      keys: new Map([[generation, masterKey]]),
      ...(engine && { engine }),
    });
    const keys: ContainerKeys = { containerId, sealer, generation, keySequence: sequence };
    const medium = new Medium(), pictures = new Map<number, Picture>();
    await fill(medium, { keys, header }, async () => {
      const picture = await pictureOf(await openVolume(new MediumStore(medium.fork()), "read", { keys }));
      pictures.set(picture.commit, picture);
    });
    const asked = new Set<Asked>();
    const watched = () => new MediumStore(medium.fork(), { onAsked: (one) => asked.add(one) });
    const newest = await pictureOf(await openVolume(watched(), "read", { keys }));
    await checkContainer(watched(), keys, { scrub: true });
    const first = BLOCKS_AT / 4096,
      used = [...asked].filter((one) => typeof one === "number" && one >= first)
        .map((piece) => Number(piece) - first).sort((a, b) => a - b);
    // Without the reserve behind what is in use, which is the most of a container as small as this.
    medium.cut(blockOffset(used[used.length - 1]! + 1));
    const examiner = new Examiner(keys), before = { newest, earlier: [...pictures.values()] };
    const seen = await examiner.examine(medium);
    assert.deepEqual([faultOf(seen, before), seen.named], [undefined, []]);
    return new Sweep(medium, {
      ...{ header, masterKey, before, examiner, used },
      dispose: () => {
        masterKey[Symbol.dispose]();
        sealer[Symbol.dispose]();
        engine?.[Symbol.dispose]();
      },
    });
  }

  /** Blocks that hold something, of all. */
  get blocks(): readonly [number, number] {
    return [this.#used.length, blocksIn(this.#medium.length)];
  }

  /** All changes: every byte of what is in use and one of each block that is not; every length. */
  *changes(): Generator<Change> {
    for (const region of ["key", "super"] as const) {
      for (const start of HEADER_AT[region]) {
        for (let i = 0; i < HEADER_BYTES[region]; i++) yield { kind: "flip", at: start + i };
      }
    }
    const used = new Set(this.#used), blocks = blocksIn(this.#medium.length);
    for (let block = 0; block < blocks; block++) {
      const start = BLOCKS_AT + block * SEALED;
      if (!used.has(block)) yield { kind: "flip", at: start + block % SEALED };
      else for (let i = 0; i < SEALED; i++) yield { kind: "flip", at: start + i };
    }
    for (let at = 0; at < this.#medium.length; at++) yield { kind: "cut", at };
  }

  /** Makes one change to a copy and opens it. @throws {Error} that names the change, if it is not dealt with */
  async try(change: Change, tally: SweepTally): Promise<void> {
    const began = processorTime(), medium = this.#medium.fork();
    if (change.kind === "cut") medium.cut(change.at);
    else {
      const byte = new Uint8Array(1);
      medium.read(change.at, byte);
      byte[0]! ^= 1 << change.at % 8;
      medium.write(change.at, byte);
    }
    try {
      const outcome = await this.#outcome(medium);
      tally[outcome]++;
    } catch (cause) {
      throw new Error(`${change.kind} at ${change.at}: ${cause instanceof Error ? cause.message : cause}`, {
        cause,
      });
    }
    const took = processorTime() - began;
    assert.ok(took < BOUND, `${change.kind} at ${change.at} took ${Math.round(took)} ms`);
    tally.slowest = Math.max(tally.slowest, took);
    tally.cases++;
  }

  /** What becomes of the encryption block. */
  async #unlock(store: BlockStore): Promise<"same" | "served" | "refused"> {
    try {
      const copies = [await store.readHeader("key", 0), await store.readHeader("key", 1)] as const;
      const { header, other } = await newestEncryptionBlock(...copies);
      // Slots and key derivation are covered by what is verified here: they would give the same master key.
      const { bytes } = await proveEncryptionBlock(header, this.#masterKey);
      assert.ok(equal(bytes, this.#header), "another encryption block is taken");
      return other === "same" ? "same" : "served";
    } catch (error) {
      if (!(error instanceof CoverError)) throw error;
      assert.equal(error.kind, "damaged");
      return "refused";
    }
  }

  async #outcome(medium: Medium): Promise<"unseen" | "served" | "refused"> {
    const unlocked = await this.#unlocking.of(medium);
    assert.ok(unlocked !== "refused" || medium.length < this.#header.length, "no encryption block serves");
    if (unlocked === "refused") return unlocked;
    const examined = await this.#examiner.examine(medium);
    assert.equal(faultOf(examined, this.#before), undefined);
    const whole = examined.picture?.names === this.#before.newest.names && examined.unreadable.length === 0;
    const named = unlocked === "served" || examined.named.length > 0;
    return !named ? "unseen" : whole && examined.writes ? "served" : "refused";
  }

  [Symbol.dispose](): void {
    this.#dispose();
  }
}

/** Makes a small filesystem, in several sessions. @param synced called after each commit */
async function fill(
  medium: Medium,
  { keys, header }: { keys: ContainerKeys; header: Uint8Array },
  synced: () => Promise<void>,
): Promise<void> {
  const store = new MediumStore(medium);
  await createContainer(store, keys, { uid: 0, gid: 0, mode: 0o755 });
  for (const copy of [0, 1] as const) await store.writeHeader("key", copy, header.slice());
  const session = async (work: (volume: Volume, sync: () => Promise<void>) => Promise<void>) => {
    const session = crypto.getRandomValues(new Uint8Array(16));
    const volume = new Volume(await Container.open(store, keys, { mode: "write", session }), {
      atime: "noatime",
    });
    await work(volume, async () => {
      await volume.sync();
      await synced();
    });
    await volume.end();
    await synced();
  };
  await synced();
  await session(async (volume, sync) => {
    const folder = volume.create(ROOT, name("folder"), FOLDER),
      file = volume.create(folder, name("file"), FILE);
    await volume.write(file, 0, pattern(9000, 1));
    await sync();
    volume.create(ROOT, name("link"), { mode: S_IFLNK | 0o777, uid: 1, gid: 2, target: name("folder/file") });
    volume.setXattr(file, name("user.colour"), pattern(200, 2));
    volume.link(file, ROOT, name("hard"));
    await sync();
    await volume.checkpoint();
  });
  await session(async (volume, sync) => {
    const other = volume.create(ROOT, name("other"), FILE);
    await volume.write(other, 0, pattern(5000, 3));
    await sync();
    await volume.checkpoint();
    await volume.write(other, 3000, pattern(4000, 4));
    await sync();
    volume.setAttributes(other, { size: 6500 });
    await sync();
  });
  await session(async (volume, sync) => {
    const last = volume.create(ROOT, name("last"), FILE);
    await volume.write(last, 4096, pattern(300, 5));
    await sync();
    volume.rename(ROOT, name("last"), ROOT, name("hard"));
    await sync();
  });
}

/** What this process has taken of processors so far, in ms: other work on the machine does not count. */
function processorTime(): number {
  const { user, system } = cpuUsage();
  return (user + system) / 1000;
}

/** A tally of nothing. */
export function emptyTally(): SweepTally {
  return { cases: 0, unseen: 0, served: 0, refused: 0, slowest: 0 };
}

/** One line about what became of changes. */
export function describeTally({ cases, unseen, served, refused, slowest }: SweepTally): string {
  return `${cases} changes: ${unseen} not noticed by anybody, ${served} named while a second copy served, ` +
    `${refused} named and refused; the slowest took ${Math.round(slowest)} ms`;
}
