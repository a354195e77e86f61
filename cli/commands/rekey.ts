import { CoverError } from "../../crypto/errors.ts";
import type { EncryptionHeader, NewSlot, Secret } from "../../crypto/mod.ts";
import { SEALED } from "../../crypto/sealer.ts";
import { historyCheck, unlockWith, withUnlocked } from "../container.ts";
import { kindOf, messageOf } from "../exit.ts";
import { interruptible } from "../interrupt.ts";
import { chooseLocator, locatorName } from "../locator.ts";
import { runningMounts } from "../mounts.ts";
import { type Access, collect, writingCommand } from "../options.ts";
import { escapeControls, humanSize, print } from "../output.ts";
import { type GivenSecret, readPassphrase } from "../passphrase.ts";
import { Progress } from "../progress.ts";
import { changeMasterKey } from "../rekeying.ts";
import { readSecretFile } from "../secret_files.ts";
import { Terminal } from "../terminal.ts";

interface RekeyCommandOptions extends Access {
  readonly keepPassfile?: string[] | undefined;
  readonly keepKeyFile?: string[] | undefined;
  readonly yes?: true | undefined;
  readonly quiet?: true | undefined;
}

/** `coverfs rekey`: a new master key, under which everything is sealed anew. */
export const rekeyCommand = () =>
  writingCommand("rekey", "coverfs rekey container\ncoverfs rekey --keep-key-file usb.key --yes container")
    .description("change the master key and seal everything anew: old copies of key slots open nothing new")
    .argument("[CONTAINER]", "the container; else -c or COVERFS_CONTAINER")
    .option("--keep-passfile <FILE>", "keep the key slot of the passphrase or the 24 words in FILE", collect)
    .option("--keep-key-file <FILE>", "keep the key slot that FILE opens", collect)
    .option("-y, --yes", "do not ask: key slots whose secret is not given go")
    .option("-q, --quiet", "no progress")
    .action((argument, options) => interruptible((signal) => rekey(argument, options, signal)));

async function rekey(
  argument: string | undefined,
  options: RekeyCommandOptions,
  signal: AbortSignal,
): Promise<void> {
  refuseMounted(locatorName(chooseLocator(argument ?? options.container)));
  const secrets: Secret[] = [];
  let begun = false;
  const onSecret = (secret: Secret) => void secrets.push(secret);
  const forget = () => {
    for (const secret of secrets) if (secret.kind === "key-file") secret.content.fill(0);
  };
  try {
    await withUnlocked(options, { mode: "write", argument, onSecret }, async (container) => {
      const { encryption: { header }, unlocked, memory, name, keys } = container;
      if (header.previousGeneration !== undefined) {
        print("Going on with the change of the master key that was begun; key slots stay as they are");
      }
      using progress = new Progress(options);
      const { moved, left } = await changeMasterKey(container, {
        slots: async () => {
          const kept = new Map([[unlocked.slotIndex, secrets[0]!]]);
          await keepGiven(header, kept, options, onSecret);
          await confirmGoing(header, kept, { ...options, name });
          signal.throwIfAborted();
          return slotsOf(header, kept);
        },
        onBegun: () => {
          begun = true;
          forget();
        },
        check: historyCheck(container, options),
        onDurable: (point) =>
          memory.remember(name, keys.containerId, point, { lower: options.acceptRollback }),
        signal,
        onProgress: (done, all) => progress.bytes("sealed anew", done * SEALED, all * SEALED),
      });
      progress.clear();
      if (left === 0) {
        print(`The master key is changed, ${humanSize(moved * SEALED)} of data sealed anew`);
        return;
      }
      throw new CoverError(
        "integrity",
        `Cannot end the change of the master key: ${humanSize(left * SEALED)} of data does not verify`,
        {
          hint: "The previous key stays with the container until coverfs fsck --repair --zero-damaged or " +
            "--remove-damaged gives that data up, and coverfs rekey goes on",
        },
      );
    });
  } catch (error) {
    if (!begun || (error instanceof CoverError && error.hint !== undefined)) throw error;
    throw new CoverError(kindOf(error), messageOf(error), {
      hint:
        "The container can be used with the key slots that are kept; coverfs rekey goes on with the change",
      cause: error,
    });
  } finally {
    forget();
  }
}

/** Under a mount the key cannot be changed: what it writes belongs to a session of the key it has. */
function refuseMounted(name: string): void {
  const mount = runningMounts().find(({ writes }) => writes === name);
  if (mount === undefined) return;
  throw new CoverError(
    "busy",
    `Cannot change the master key: the container is mounted at "${mount.mountpoint}"`,
    {
      hint: "Unmount it first, with coverfs umount",
    },
  );
}

/** Finds the slots of the secrets that options name, or that are typed on the terminal. */
async function keepGiven(
  header: EncryptionHeader,
  kept: Map<number, Secret>,
  { keepPassfile = [], keepKeyFile = [], yes }: RekeyCommandOptions,
  onSecret: (secret: Secret) => void,
): Promise<void> {
  const keep = async (given: GivenSecret) => {
    let found!: Secret;
    using unlocked = await unlockWith(header, given, (secret) => found = secret);
    onSecret(found);
    if (!kept.has(unlocked.slotIndex)) kept.set(unlocked.slotIndex, found);
  };
  const named = async (path: string, given: GivenSecret) => {
    try {
      await keep(given);
    } catch (error) {
      if (kindOf(error) !== "wrong-passphrase") throw error;
      throw new CoverError("wrong-passphrase", `Cannot keep a key slot by "${path}": it opens none`, {
        cause: error,
      });
    }
  };
  for (const path of keepPassfile) await named(path, await readPassphrase({ passfile: [path] }, path));
  for (const path of keepKeyFile) await named(path, await readSecretFile(path, "key file"));
  using terminal = yes ? undefined : Terminal.open();
  if (terminal === undefined) return;
  for (const [index, slot] of header.slots.entries()) {
    if (slot === undefined || slot.kind === "key-file") continue;
    for (let wrong = ""; !kept.has(index); wrong = "That opens no key slot. ") {
      const question = `${wrong}Secret of ${slotName(header, index)}, if it is to stay: `;
      const text = (await terminal.askSecret(escapeControls(question))).normalize("NFC");
      if (text === "") break;
      await keep(text).catch((error) => {
        if (kindOf(error) !== "wrong-passphrase") throw error;
      });
    }
  }
}

/** Tells which slots go, and asks. @throws {CoverError} "usage" where there is no terminal, "failure" if the answer is no */
async function confirmGoing(
  header: EncryptionHeader,
  kept: ReadonlyMap<number, Secret>,
  options: { readonly name: string; readonly yes?: true | undefined },
): Promise<void> {
  const going = [...header.slots.keys()].filter((i) => header.slots[i] !== undefined && !kept.has(i));
  if (going.length === 0) return;
  const what = going.map((index) => slotName(header, index)).join(", ");
  if (options.yes) return print(escapeControls(`Without their secrets these go: ${what}`));
  using terminal = Terminal.open();
  if (terminal === undefined) {
    throw new CoverError(
      "usage",
      `Cannot ask whether these may go, as their secrets are not given: ${what}`,
      {
        hint: "Give the secrets by --keep-passfile and --keep-key-file, or let go of the slots with --yes",
      },
    );
  }
  const question = `Without their secrets these go: ${what}\nChange the master key of ${options.name}?`;
  if (await terminal.confirm(escapeControls(question))) return;
  throw new CoverError("failure", "Nothing was changed");
}

const KINDS = { "passphrase": "passphrase", "key-file": "key file", "recovery-key": "recovery key" } as const;

function slotName({ slots }: EncryptionHeader, index: number): string {
  const { kind, label } = slots[index]!;
  return `key slot ${index} (${KINDS[kind]}${label ? `, "${label}"` : ""})`;
}

/** In the order in which they were, with label and key derivation. */
function slotsOf({ slots }: EncryptionHeader, kept: ReadonlyMap<number, Secret>): NewSlot[] {
  return [...kept].sort(([a], [b]) => a - b).map(([index, secret]) => {
    const { label, kdf } = slots[index]!;
    return { ...secret, label, kdf };
  });
}
