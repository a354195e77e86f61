/**
 * Backups of a container's header: both copies of the encryption block and both superblock slots. A backup has the form
 * of the beginning of a container in a file (docs/format.md, "The container as bytes"), up to block 0.
 */
import { CoverError } from "../crypto/errors.ts";
import { BLOCKS_AT, HEADER_AT } from "./block/byte_layout.ts";
import { type BlockStore, HEADER_BYTES, type HeaderRegion } from "./block/store.ts";
import { type ContainerKeys, loadState, readSuperblock } from "./loading.ts";
import { OverlayStore } from "./block/overlay.ts";

/** Bytes of a backup. */
export const HEADER_BACKUP_BYTES = BLOCKS_AT;

const PARTS = (["key", "super"] as const).flatMap((region) =>
  ([0, 1] as const).map((copy) => ({ region, copy }))
);

/** Reads a container's header as it is; nothing is verified. */
export async function readHeaderBackup(store: BlockStore): Promise<Uint8Array> {
  const backup = new Uint8Array(HEADER_BACKUP_BYTES);
  for (const { region, copy } of PARTS) {
    backup.set(await store.readHeader(region, copy), HEADER_AT[region][copy]);
  }
  return backup;
}

/** A part of a backup. @throws {CoverError} "damaged" if it is none by its length */
export function headerOf(backup: Uint8Array, region: HeaderRegion, copy: 0 | 1): Uint8Array {
  if (backup.length !== HEADER_BACKUP_BYTES) {
    throw new CoverError(
      "damaged",
      `Cannot restore the header: the backup has ${backup.length} bytes, expected ${HEADER_BACKUP_BYTES}`,
    );
  }
  const at = HEADER_AT[region][copy];
  return backup.slice(at, at + HEADER_BYTES[region]);
}

/**
 * Tries whether a container opens with the header of a backup, without changing it. The container's own superblocks
 * count where one of them verifies: those of the backup are older.
 *
 * @param keys those that the backup's encryption block gives
 * @returns which superblocks serve
 * @throws {CoverError} "rollback" if the backup's encryption block is older than the container's superblock says, or
 * nothing in the container verifies with it
 */
export async function tryHeader(
  store: BlockStore,
  keys: ContainerKeys,
  backup: Uint8Array,
): Promise<{ superblocks: "own" | "backup"; commit: number }> {
  let superblocks: "own" | "backup" = "own";
  const trial = new OverlayStore(store);
  try {
    await readSuperblock(store, keys);
  } catch (error) {
    if (!(error instanceof CoverError) || error.kind !== "damaged") throw error;
    superblocks = "backup";
    for (const copy of [0, 1] as const) trial.writeHeader("super", copy, headerOf(backup, "super", copy));
  }
  try {
    return { superblocks, commit: (await loadState(trial, keys)).last };
  } catch (cause) {
    if (!(cause instanceof CoverError) || cause.kind !== "damaged") throw cause;
    throw new CoverError("rollback", "Cannot restore the header: nothing in the container verifies with it", {
      hint: "It is of another container, or the container has changed too much since",
      cause,
    });
  }
}
