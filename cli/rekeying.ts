/**
 * A new master key for a container. In this order, so that it can be interrupted at any moment and gone on with:
 * encryption block, with the key before wrapped in it; the server's record of the writers' key; all blocks; encryption
 * block without the key before. Whoever opens the container meanwhile has both keys.
 */
import { CoverError } from "../crypto/errors.ts";
import { forgetPreviousKey, type NewSlot, rotateMasterKey } from "../crypto/mod.ts";
import { Container } from "../fs/container.ts";
import type { DurablePoint, HistoryCheck } from "../fs/loading.ts";
import { olderBlocks } from "../fs/rekey.ts";
import { RemoteStore } from "../fs/store/remote.ts";
import { Volume } from "../fs/volume.ts";
import { containerKeys, proverOf, type UnlockedContainer, useVolume } from "./container.ts";
import { storeEncryption } from "./key_change.ts";

/** How to change a master key. */
export interface RekeyOptions {
  /** What the new key gets slots for; not asked where a change that was begun goes on. */
  readonly slots: () => Promise<readonly NewSlot[]>;
  /** Told when the new key counts: from here on it can only be gone on with, and the secrets are not needed any more. */
  readonly onBegun?: () => void;
  /** As of `Container.open`. */
  readonly check?: HistoryCheck | undefined;
  /** Takes what is to be remembered against rollback. */
  readonly onDurable?: (point: DurablePoint | undefined) => Promise<void>;
  /** Ends the work between two moves. */
  readonly signal?: AbortSignal | undefined;
  /** Told of progress: blocks sealed anew, of all. */
  readonly onProgress?: (done: number, all: number) => void;
}

/** What came of it, in blocks. */
export interface MasterKeyChanged {
  readonly moved: number;
  /** Blocks that do not verify. If there are any, the key before is still there: it is all that could ever open them. */
  readonly left: number;
}

const newSession = () => crypto.getRandomValues(new Uint8Array(16));

/**
 * Changes the master key of a container that was opened to write, or goes on with a change that was begun. The master
 * keys are zeroed before anything is written.
 *
 * @throws {CoverError} "interrupted"; as `rotateMasterKey`, `storeEncryption` and the stores do
 * @throws {FsError} ENOSPC where there is no room to seal anything anew
 */
export async function changeMasterKey(
  container: Pick<UnlockedContainer, "store" | "encryption" | "unlocked" | "session">,
  options: RekeyOptions,
): Promise<MasterKeyChanged> {
  const { store, encryption, unlocked } = container, { header: before } = encryption, { check } = options;
  const masterKeys = new Map(unlocked.masterKeys);
  using owned = new DisposableStack();
  let changed: { bytes: Uint8Array; header: typeof before } = { bytes: before.bytes, header: before };
  if (before.previousGeneration === undefined) {
    const slots = await options.slots();
    const rotated = await rotateMasterKey(before, masterKeys.get(before.generation)!, { slots });
    masterKeys.set(rotated.header.generation, owned.use(rotated.masterKey));
    changed = rotated;
  }
  const { header } = changed, keys = await containerKeys(header, masterKeys);
  owned.use(keys.sealer);
  // All that needs a master key is made now: the work takes long.
  const prover = await proverOf(masterKeys, header), key = masterKeys.get(header.generation)!;
  const forgotten = await forgetPreviousKey(header, key);
  const alone = await containerKeys(forgotten.header, new Map([[header.generation, key]]));
  owned.use(alone.sealer);
  for (const one of masterKeys.values()) one[Symbol.dispose]();
  options.onBegun?.();
  if (header !== before || encryption.other !== "same") {
    const how = { newest: encryption.copy, changed, keys, session: newSession(), check };
    const durable = await storeEncryption(store, how);
    await options.onDurable?.(durable);
  }
  // Only now: before, a crash would have left a container whose key the server does not take.
  if (store instanceof RemoteStore) await store.replaceKey(prover);

  const opened = await Container.open(store, keys, { mode: "write", session: container.session, check });
  const all = olderBlocks(opened), { signal, onProgress } = options;
  let moved: number;
  try {
    const how = { signal, onProgress: (done: number) => onProgress?.(done, all) };
    ({ moved } = await useVolume(new Volume(opened, { atime: "noatime" }), (volume) => volume.rekey(how)));
  } finally {
    await options.onDurable?.(opened.durable);
  }
  const left = olderBlocks(opened);
  if (left > 0) return { moved, left };

  const { notes } = await Container.open(store, alone, { mode: "read" });
  if (notes.journalDamage !== undefined || notes.checkpointsDamaged.length > 0) {
    throw new CoverError("damaged", "Cannot let go of the previous master key: not all opens without it", {
      hint: "Look after the container with coverfs fsck",
    });
  }
  const last = { newest: 0, changed: forgotten, keys: alone, session: newSession(), check } as const;
  const durable = await storeEncryption(store, last);
  await options.onDurable?.(durable);
  return { moved, left };
}
