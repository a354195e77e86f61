import { replaceSlot } from "../../crypto/mod.ts";
import { CoverError } from "../../crypto/errors.ts";
import { withUnlocked } from "../container.ts";
import { changeEncryption } from "../key_change.ts";
import { chooseKdf, readNewSlot, slotMakingCommand } from "../new_slots.ts";
import { collect } from "../options.ts";
import { print } from "../output.ts";

/** `coverfs passwd`: changes the passphrase; the data is not touched. */
export const passwdCommand = () =>
  slotMakingCommand("passwd", "coverfs passwd container")
    .description("change the passphrase of a container")
    .argument("[CONTAINER]", "the container; else -c or COVERFS_CONTAINER")
    .option("--new-passfile <FILE>", "read the new passphrase from FILE", collect)
    .option("--new-extpass <COMMAND>", "take the new passphrase from the output of COMMAND")
    .action((argument, options) =>
      withUnlocked(options, { mode: "write", argument }, async (container) => {
        await changeEncryption(container, options, async (header, masterKey) => {
          const index = passphraseSlot(header.slots, container.unlocked.slotIndex);
          const { newPassfile: passfile, newExtpass: extpass } = options, { label } = header.slots[index]!;
          using request = await readNewSlot({ passfile, extpass, label }, container.name);
          return await replaceSlot(header, masterKey, {
            ...await chooseKdf(options),
            slot: request.slot,
            index,
          });
        });
        print("The passphrase is changed");
      })
    );

/** The slot that was unlocked; with another kind of secret, the only slot of a passphrase. */
function passphraseSlot(slots: readonly ({ readonly kind: string } | undefined)[], unlocked: number): number {
  if (slots[unlocked]?.kind === "passphrase") return unlocked;
  const index = slots.findIndex((slot) => slot?.kind === "passphrase");
  if (index >= 0 && slots.findLastIndex((slot) => slot?.kind === "passphrase") === index) return index;
  throw new CoverError("usage", "Cannot tell which passphrase to change: unlock with that passphrase");
}
