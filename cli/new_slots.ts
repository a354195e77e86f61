/** What a new key slot takes: its secret, its key derivation, its label. Shared by `init`, `passwd` and `key add`. */
import { Option } from "@commander-js/extra-typings";
import { CoverError } from "../crypto/errors.ts";
import { calibrateRounds, type KdfChoice, newRecoveryWords, type NewSlot } from "../crypto/mod.ts";
import { byteSize, wholeNumber, writingCommand } from "./options.ts";
import { print } from "./output.ts";
import { type PassphraseSource, readNewPassphrase, refuseBoth } from "./passphrase.ts";
import { readOrMakeKeyFile } from "./secret_files.ts";
import { warnIfWeak } from "./weak_passphrase.ts";

/** Argon2id unless told otherwise: 3 passes over 256 MiB in 4 lanes, about a second where PBKDF2 is measured to. */
const ARGON2ID = { passes: 3, memory: 256 << 20, lanes: 4 } as const;

/** A command that makes key slots. */
export function slotMakingCommand(name: string, example: string) {
  return writingCommand(name, example)
    .addOption(
      new Option("--kdf <KDF>", "key derivation of a new slot").choices(["pbkdf2", "argon2id"] as const),
    )
    .option("--kdf-rounds <ROUNDS>", "rounds of PBKDF2; measured to take a second unless given", wholeNumber)
    .option("--kdf-memory <SIZE>", "memory of Argon2id; 256M unless given", byteSize)
    .option("--kdf-passes <PASSES>", "passes of Argon2id; 3 unless given", wholeNumber);
}

/** What the command line says about key derivation. */
export interface KdfOptions {
  readonly kdf?: "pbkdf2" | "argon2id" | undefined;
  readonly kdfRounds?: number | undefined;
  /** Bytes. */
  readonly kdfMemory?: number | undefined;
  readonly kdfPasses?: number | undefined;
}

/**
 * How new slots stretch their secrets. PBKDF2 is measured, which takes a moment, where nothing is said.
 *
 * @throws {CoverError} "usage" for an option of the other KDF
 */
export async function chooseKdf(options: KdfOptions): Promise<KdfChoice> {
  const { kdf = "pbkdf2", kdfRounds, kdfMemory, kdfPasses } = options;
  const other = kdf === "argon2id"
    ? kdfRounds !== undefined && "--kdf-rounds"
    : (kdfMemory !== undefined && "--kdf-memory") || (kdfPasses !== undefined && "--kdf-passes");
  if (other) throw new CoverError("usage", `${other} does not go together with the key derivation ${kdf}`);
  if (kdf === "pbkdf2") return { rounds: kdfRounds ?? await calibrateRounds() };
  const memoryKiB = Math.floor((kdfMemory ?? ARGON2ID.memory) / 1024);
  return {
    kdf: { name: "argon2id", passes: kdfPasses ?? ARGON2ID.passes, memoryKiB, lanes: ARGON2ID.lanes },
  };
}

/** Which secret a new slot is to take; a passphrase unless it says otherwise. */
export interface NewSlotSource extends PassphraseSource {
  readonly recoveryKey?: true | undefined;
  readonly label?: string | undefined;
}

/** A slot to be made. Disposing it zeroes what can be zeroed of its secret. */
export interface NewSlotRequest extends Disposable {
  readonly slot: NewSlot;
  /** Tells, once the slot is there, what is to be kept. */
  readonly tell: () => void;
}

/**
 * Gets the secret of a new slot: from a file, a command or the terminal, from a key file, which is made where there is
 * none, or a new recovery key.
 *
 * @param name of the container, for questions
 */
export async function readNewSlot(source: NewSlotSource, name: string): Promise<NewSlotRequest> {
  const { keyFile, recoveryKey, label = "" } = source;
  refuseBoth(source);
  if (recoveryKey) return recoverySlot(label);
  if (keyFile !== undefined) {
    const { content, made } = await readOrMakeKeyFile(keyFile);
    const tell = () =>
      made && print(`Made the key file ${JSON.stringify(keyFile)}: keep a copy of it elsewhere`);
    return { slot: { kind: "key-file", content, label }, tell, [Symbol.dispose]: () => void content.fill(0) };
  }
  const text = await readNewPassphrase(source, name);
  await warnIfWeak(text, name);
  return { slot: { kind: "passphrase", text, label }, tell: () => {}, [Symbol.dispose]: () => {} };
}

/** A new recovery key. */
export function recoverySlot(label = ""): NewSlotRequest {
  const words = newRecoveryWords();
  const tell = () => {
    print("\nRecovery key: it opens the container without the passphrase. Write it down, keep it offline.\n");
    const all = words.split(" ");
    for (let i = 0; i < all.length; i += 6) print(`  ${all.slice(i, i + 6).join(" ")}`);
  };
  return { slot: { kind: "recovery-key", words, label }, tell, [Symbol.dispose]: () => {} };
}
