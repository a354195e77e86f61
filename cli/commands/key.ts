import { Argument } from "@commander-js/extra-typings";
import { CoverError } from "../../crypto/errors.ts";
import { addSlot, removeSlot } from "../../crypto/mod.ts";
import { withUnlocked } from "../container.ts";
import { changeEncryption, findSlot, refuseLabel, slotInfo } from "../key_change.ts";
import { chooseKdf, type KdfOptions, readNewSlot, slotMakingCommand } from "../new_slots.ts";
import { type Access, collect } from "../options.ts";
import { escapeControls, print, printJson } from "../output.ts";

interface KeyOptions extends Access, KdfOptions {
  readonly newPassfile?: string[] | undefined;
  readonly newExtpass?: string | undefined;
  readonly newKeyFile?: string | undefined;
  readonly recoveryKey?: true | undefined;
  readonly label?: string | undefined;
  readonly json?: true | undefined;
}

/** `coverfs key`: what opens a container. */
export const keyCommand = () =>
  slotMakingCommand(
    "key",
    "coverfs key -c container list\ncoverfs key -c container add --recovery-key\n" +
      "coverfs key -c container remove 2",
  )
    .description("list, add or remove what opens a container: passphrases, key files, recovery keys")
    .addArgument(new Argument("<ACTION>", "what to do").choices(["list", "add", "remove"] as const))
    .argument("[SLOT]", "the key slot to remove: its number, or its label")
    .option("--new-passfile <FILE>", "add: read the new passphrase from FILE", collect)
    .option("--new-extpass <COMMAND>", "add: take the new passphrase from the output of COMMAND")
    .option("--new-key-file <FILE>", "add: FILE opens the container; made if it is not there")
    .option("--recovery-key", "add: print 24 words that open the container")
    .option("--label <TEXT>", "add: what the new key slot is called")
    .option("--json", "list: print an array of objects")
    .action(async (action, slot, options) => {
      if (action === "remove" && slot === undefined) {
        throw new CoverError("usage", "Cannot remove a key slot: none is named", {
          hint: "Name one as coverfs key list shows them",
        });
      }
      if (action !== "remove" && slot !== undefined) {
        throw new CoverError(
          "usage",
          `Cannot ${action} key slot "${slot}": coverfs key ${action} takes none`,
        );
      }
      if (action === "list") return await list(options);
      await (action === "add" ? add(options) : remove(slot!, options));
    });

async function list(options: KeyOptions): Promise<void> {
  await withUnlocked(options, { mode: "read" }, ({ encryption: { header }, unlocked }) => {
    unlocked[Symbol.dispose]();
    const slots = header.slots.flatMap((slot, index) =>
      slot === undefined ? [] : [{ ...slotInfo(slot, index), opened: index === unlocked.slotIndex }]
    );
    if (options.json) printJson(slots);
    else {
      for (const { index, kind, kdf, label, made, opened } of slots) {
        print(
          `${opened ? "*" : " "} ${index}  ${kind.padEnd(12)}  ${kdf}, made ${made}${
            label && `, "${label}"`
          }`,
        );
      }
    }
    return Promise.resolve();
  });
}

async function add(options: KeyOptions): Promise<void> {
  const { newPassfile, newExtpass, newKeyFile, recoveryKey, label = "" } = options;
  await withUnlocked(options, { mode: "write" }, async (container) => {
    let tell = () => {}, index = -1;
    await changeEncryption(container, options, async (header, masterKey) => {
      refuseLabel(header, label);
      const source = { passfile: newPassfile, extpass: newExtpass, keyFile: newKeyFile, recoveryKey, label };
      using request = await readNewSlot(source, container.name);
      tell = request.tell, index = header.slots.indexOf(undefined);
      const kdf = recoveryKey ? {} : await chooseKdf(options);
      return await addSlot(header, masterKey, { ...kdf, slot: request.slot });
    });
    print(`Added key slot ${index}`);
    tell();
  });
}

async function remove(named: string, options: KeyOptions): Promise<void> {
  await withUnlocked(options, { mode: "write" }, async (container) => {
    const { unlocked } = container;
    await changeEncryption(container, options, async (header, masterKey) => {
      const index = findSlot(header, named),
        left = header.slots.filter((slot) => slot !== undefined).length - 1;
      if (left > 0 && index === unlocked.slotIndex) {
        throw new CoverError("failure", `Cannot remove key slot ${index}: it is the one that was unlocked`, {
          hint: "Unlock by one that stays, to show that it can be used",
        });
      }
      return await removeSlot(header, masterKey, index);
    });
    print(`Removed key slot ${escapeControls(named)}; older copies of the container still open by it`);
  });
}
