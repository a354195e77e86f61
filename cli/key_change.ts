/** Changing the encryption block of a container: one at a time, and a crash leaves the one before or the new one. */
import { CoverError } from "../crypto/errors.ts";
import type {
  ChangedBlock,
  EncryptionHeader,
  KeySlot,
  NewestEncryptionBlock,
  SecretBytes,
} from "../crypto/mod.ts";
import type { BlockStore } from "../fs/block/store.ts";
import { Container } from "../fs/container.ts";
import type { ContainerKeys, DurablePoint, HistoryCheck } from "../fs/loading.ts";
import { historyCheck, type UnlockedContainer, writeEncryptionCopy } from "./container.ts";
import type { Access } from "./options.ts";
import { timeIso } from "./output.ts";

/**
 * Changes the encryption block of a container that was opened to write. The history is checked before anything is
 * written, on what is written on. The master keys are zeroed when the change is made, before it is written.
 *
 * @param make the change
 */
export async function changeEncryption(
  container: UnlockedContainer,
  access: Access,
  make: (header: EncryptionHeader, masterKey: SecretBytes) => Promise<ChangedBlock>,
): Promise<EncryptionHeader> {
  const { store, encryption, unlocked, keys, session, memory, name } = container, { header } = encryption;
  const changed = await make(header, unlocked.masterKeys.get(header.generation)!);
  unlocked[Symbol.dispose]();
  const check = historyCheck(container, access);
  const durable = await storeEncryption(store, { newest: encryption.copy, changed, keys, session, check });
  await memory.remember(name, keys.containerId, durable, { lower: access.acceptRollback });
  return changed.header;
}

/**
 * Writes a changed encryption block, durably: first the copy that is not the newest, then the other; then a session that
 * has the superblock name the new sequence, so that the block before cannot be played back.
 *
 * @returns the newest commit, as it is to be remembered
 */
export async function storeEncryption(
  store: BlockStore,
  { newest, changed, keys, session, check }: {
    readonly newest: NewestEncryptionBlock["copy"];
    readonly changed: { readonly bytes: Uint8Array; readonly header: EncryptionHeader };
    readonly keys: ContainerKeys;
    readonly session: Uint8Array;
    /** As of `Container.open`. */
    readonly check?: HistoryCheck | undefined;
  },
): Promise<DurablePoint | undefined> {
  for (const copy of newest === 0 ? [1, 0] as const : [0, 1] as const) {
    await writeEncryptionCopy(store, copy, changed.bytes);
  }
  const named = { ...keys, keySequence: changed.header.sequence };
  const opened = await Container.open(store, named, { mode: "write", session, check });
  await opened.session.end();
  return opened.durable;
}

/** A key slot as it is shown. */
export function slotInfo({ kind, kdf, label, created }: KeySlot, index: number) {
  const parameters = kdf.name === "argon2id"
    ? `${kdf.name} ${kdf.passes} passes ${kdf.memoryKiB} KiB ${kdf.lanes} lanes`
    : `${kdf.name} ${kdf.rounds} rounds`;
  return { index, kind, kdf: parameters, label, made: timeIso({ seconds: created, nanoseconds: 0 }) };
}

/**
 * The slot that a person means, by its number or its label.
 *
 * @throws {CoverError} "usage" if there is none, or several have the label
 */
export function findSlot({ slots }: EncryptionHeader, named: string): number {
  const number = /^\d+$/.test(named) ? Number(named) : -1;
  if (slots[number] !== undefined) return number;
  const found = [...slots.keys()].filter((i) =>
    slots[i] !== undefined && slots[i].label === named && named !== ""
  );
  if (found.length === 1) return found[0]!;
  throw new CoverError(
    "usage",
    found.length === 0
      ? `There is no key slot "${named}"`
      : `Key slots ${found.join(", ")} are called "${named}"`,
    { hint: "See coverfs key list, and name one by its number" },
  );
}

/** Refuses a label by which a slot could not be told from others. @throws {CoverError} "usage" */
export function refuseLabel({ slots }: EncryptionHeader, label: string): void {
  if (label === "") return;
  const state = /^\d+$/.test(label)
    ? "a number means a slot's place"
    : slots.some((slot) => slot?.label === label)
    ? "another key slot has it"
    : undefined;
  if (state !== undefined) throw new CoverError("usage", `Cannot use the label "${label}": ${state}`);
}
