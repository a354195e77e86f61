/** A container and what its keeper has kept of it: every earlier state, and others that fit it only nearly. */
import assert from "node:assert/strict";
import { containerKeys } from "../../cli/container.ts";
import { changeEncryption } from "../../cli/key_change.ts";
import { createEncryptionBlock, removeSlot } from "../../crypto/mod.ts";
import { createContainer } from "../../fs/creating.ts";
import { loadState } from "../../fs/loading.ts";
import { blockOffset } from "../../fs/block/byte_layout.ts";
import { SEALED } from "../../crypto/sealer.ts";
import { RamStore } from "../../fs/store/ram.ts";
import type { Position } from "../../fs/types.ts";
import { equal, inoOf, pattern } from "../fs/fixture.ts";
import type { Client, Files } from "./client.ts";
import type { Place } from "./places.ts";

/** The least that is allowed: what is tried here is not how slow it is. */
const KDF = { name: "argon2id", passes: 2, memoryKiB: 19_456, lanes: 1 } as const;

/** A genuine state. */
export interface State {
  readonly image: Uint8Array;
  readonly files: Files;
}

/** States of one container, the oldest first, and where blocks of the newest one lie. */
export interface History {
  /** With a key slot for "leaked", which the later ones have not. */
  readonly parent: State;
  /** Somebody's session on `parent` that was rolled back: the next one sealed the same positions. */
  readonly lost: State;
  /** An open session, after each of three commits. */
  readonly open: readonly [State, State, State];
  readonly newest: State;
  /** Two sessions on `newest`. */
  readonly forks: readonly [State, State];
  /** Another container of the same user, with the same passphrase. */
  readonly other: State;
  /** Positions in `newest`: of a file's data, of another file's, of the last session's journal, of the checkpoints. */
  readonly data: Position;
  readonly otherData: Position;
  readonly journal: Position;
  readonly checkpoint: Position;
  readonly previousCheckpoint: Position;
}

/** One sealed block of an image. */
export function blockOf(image: Uint8Array, position: Position): Uint8Array {
  return image.subarray(blockOffset(position), blockOffset(position) + SEALED);
}

/** Makes an empty container, opened by "mine" and by "leaked". */
async function makeImage() {
  const slots = (["mine", "leaked"] as const).map((text) => ({ kind: "passphrase", text }) as const);
  const made = await createEncryptionBlock({ suite: "aes-256-cbc-hmac-sha256", slots, kdf: KDF });
  const { header: { generation }, masterKey } = made;
  const keys = await containerKeys(made.header, new Map([[generation, masterKey]]));
  const store = new RamStore();
  await createContainer(store, keys, { uid: 0, gid: 0, mode: 0o755 });
  for (const copy of [0, 1] as const) await store.writeHeader("key", copy, made.bytes);
  await store.flush();
  return { image: store.toBytes(), keys };
}

/** Makes it all, by way of a place and a client. */
export async function makeHistory(place: Place, client: Client): Promise<History> {
  client.forget();
  const state = async (): Promise<State> => {
    const files = await client.look(place);
    assert(typeof files !== "string", `a genuine state is refused: ${files}`);
    return { image: await place.get(), files };
  };
  /** A session on a state, that writes these files. */
  const session = async (on: Uint8Array, files: Record<string, Uint8Array>): Promise<State> => {
    await place.set(on);
    assert.equal(await client.write(place, files), undefined);
    return await state();
  };
  const other = await session((await makeImage()).image, { other: pattern(9000, 90) });
  client.forget();
  const { image, keys } = await makeImage();
  const parent = await session(image, { kept: pattern(9000, 1), old: pattern(9000, 2) });
  const lost = await session(parent.image, { old: pattern(9000, 3) });
  client.forget();
  const first = await session(parent.image, { old: pattern(9000, 4) });
  const removed = await client.unlocked(
    place,
    (container, access) => changeEncryption(container, access, (header, key) => removeSlot(header, key, 1)),
  );
  assert(typeof removed !== "string", String(removed));
  const open: State[] = [], before = client.memory;
  await client.change(place, async (volume) => {
    for (const seed of [5, 6, 7]) {
      await volume.setAttributes(inoOf(volume, "/kept"), { mode: 0o100600 + seed });
      await volume.sync();
      open.push({ image: await place.get(), files: first.files });
    }
  });
  client.memory = before;
  await place.set(open[2]!.image);
  assert.equal(
    await client.change(place, async (volume) => {
      await volume.checkpoint();
      await volume.setAttributes(inoOf(volume, "/kept"), { mode: 0o100600 });
    }),
    undefined,
  );
  const newest = await session(await place.get(), { new: pattern(9000, 8) });
  const { memory } = client, forks: State[] = [];
  for (const seed of [10, 11]) {
    forks.push(await session(newest.image, { new: pattern(9000, seed) }));
    client.memory = memory;
  }
  const { tables, found: { superblock } } = await loadState(RamStore.fromBytes(newest.image), {
    ...keys,
    keySequence: Number.MAX_SAFE_INTEGER,
  });
  keys.sealer[Symbol.dispose]();
  const dataOf = (ino: number) => {
    const positions: Position[] = [];
    tables.extents.each(ino, (_offset, _length, position) => void positions.push(position));
    return positions[0]!;
  };
  const inodes = new Map(
    [...newest.files.keys()].map((
      path,
    ) => [path, tables.dentries.find(0, new TextEncoder().encode(path.slice(1)))]),
  );
  const inoAt = (path: string) => tables.dentries.inoAt(inodes.get(path)!);
  const data = dataOf(inoAt("/old"));
  assert(!equal(blockOf(lost.image, data), blockOf(newest.image, data)), "two sessions sealed one position");
  assert(blockOf(lost.image, data).some((byte) => byte !== 0));
  return {
    ...{ parent, lost, newest, other, data },
    open: open as unknown as History["open"],
    forks: forks as unknown as History["forks"],
    otherData: dataOf(inoAt("/kept")),
    journal: superblock.sessions[superblock.sessions.length - 1]!.head,
    checkpoint: superblock.current.runs[0]!.position,
    previousCheckpoint: superblock.previous!.runs[0]!.position,
  };
}
