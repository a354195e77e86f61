import { calibrateRounds, replaceSlot } from "../../crypto/mod.ts";
import { CoverError } from "../../crypto/errors.ts";
import { Container } from "../../fs/container.ts";
import { historyCheck, refuseOlder, withUnlocked, writeEncryptionCopy } from "../container.ts";
import { wholeNumber, writingCommand } from "../options.ts";
import { print } from "../output.ts";
import { readNewPassphrase } from "../passphrase.ts";

const collect = (value: string, before: string[] | undefined) => [...before ?? [], value];

/** `coverfs passwd`: changes the passphrase; the data is not touched. */
export const passwdCommand = () =>
  writingCommand("passwd", "coverfs passwd container")
    .description("change the passphrase of a container")
    .argument("[CONTAINER]", "the container; else -c or COVERFS_CONTAINER")
    .option("--new-passfile <FILE>", "read the new passphrase from FILE", collect)
    .option("--new-extpass <COMMAND>", "take the new passphrase from the output of COMMAND")
    .option("--kdf-rounds <ROUNDS>", "rounds of PBKDF2; measured to take a second unless given", wholeNumber)
    .action((argument, options) =>
      withUnlocked(options, { mode: "write", argument }, async (container) => {
        const { store, encryption, unlocked, keys, session, memory, name } = container,
          { header } = encryption;
        const masterKey = unlocked.masterKeys.get(header.generation)!;
        const index = passphraseSlot(header.slots, unlocked.slotIndex);
        // The history is checked before anything is written.
        await refuseOlder(container, options);
        const text = await readNewPassphrase(
          { passfile: options.newPassfile, extpass: options.newExtpass },
          name,
        );
        const rounds = options.kdfRounds ?? await calibrateRounds();
        const label = header.slots[index]!.label;
        const changed = await replaceSlot(header, masterKey, {
          slot: { kind: "passphrase", text, label },
          index,
          rounds,
        });
        const other = encryption.copy === 0 ? 1 : 0;
        for (const copy of [other, encryption.copy] as const) {
          await writeEncryptionCopy(store, copy, changed.bytes);
        }
        // The superblock then names the new sequence, so that the old passphrase's block cannot be played back.
        const opened = await Container.open(store, { ...keys, keySequence: changed.header.sequence }, {
          mode: "write",
          session,
          check: historyCheck(container, options),
        });
        await opened.end();
        await memory.remember(name, keys.containerId, opened.durable, { lower: options.acceptRollback });
        print("The passphrase is changed");
      })
    );

/** The slot that was unlocked; with a recovery key, the only slot of a passphrase. */
function passphraseSlot(slots: readonly ({ readonly kind: string } | undefined)[], unlocked: number): number {
  if (slots[unlocked]?.kind === "passphrase") return unlocked;
  const index = slots.findIndex((slot) => slot?.kind === "passphrase");
  if (index >= 0 && slots.findLastIndex((slot) => slot?.kind === "passphrase") === index) return index;
  throw new CoverError("usage", "Cannot tell which passphrase to change: unlock with that passphrase");
}
