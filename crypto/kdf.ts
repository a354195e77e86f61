/** Key derivation from what a person gives, and its bounds (docs/format.md, "Key derivation"). */
import { unshared } from "./bytes.ts";
import { CoverError } from "./errors.ts";

/** How a slot's secret is stretched. */
export type KdfParameters =
  | { readonly name: "pbkdf2-hmac-sha-512"; readonly rounds: number }
  | {
    readonly name: "argon2id";
    readonly passes: number;
    readonly memoryKiB: number;
    readonly lanes: number;
  };

/** Bounds of the parameters: less is a downgrade, more a denial of service. Both are refused before deriving. */
export interface KdfLimits {
  /** Fewest PBKDF2 rounds of a slot. */
  readonly pbkdf2Floor: number;
  /** Most PBKDF2 rounds of all slots of an encryption block together. */
  readonly pbkdf2Ceiling: number;
  /** Bounds of a slot with Argon2id. */
  readonly argon2id: {
    readonly passesFloor: number;
    readonly memoryFloorKiB: number;
    readonly memoryCeilingKiB: number;
    readonly lanesCeiling: number;
    /** Most passes × KiB of all slots together. */
    readonly workCeiling: number;
  };
}

/**
 * The bounds that hold for every container. PBKDF2's floor and the least of Argon2id (19 MiB, 2 passes) are what the
 * OWASP Password Storage Cheat Sheet asks for; the ceilings are some ten seconds of one core. Only tests pass others.
 */
export const KDF_LIMITS: KdfLimits = Object.freeze({
  pbkdf2Floor: 210_000,
  pbkdf2Ceiling: 20_000_000,
  argon2id: Object.freeze({
    passesFloor: 2,
    memoryFloorKiB: 19_456,
    memoryCeilingKiB: 1 << 20,
    lanesCeiling: 16,
    workCeiling: 1 << 24,
  }),
});

/** Slots of an encryption block: as many must fit under the ceiling. */
const SLOTS = 8;
/** Bytes that a KDF gives. */
const KDF_BITS = 512;
const CALIBRATION_ROUNDS = 100_000;

/**
 * Holds the parameters of all slots of an encryption block to the bounds.
 *
 * @throws {CoverError} "unsupported"
 */
export function checkKdfs(kdfs: readonly KdfParameters[], limits: KdfLimits): void {
  let rounds = 0, work = 0;
  for (const kdf of kdfs) {
    if (kdf.name === "argon2id") {
      checkArgon2id(kdf, limits);
      work += kdf.passes * kdf.memoryKiB;
    } else {
      if (!Number.isInteger(kdf.rounds) || kdf.rounds < limits.pbkdf2Floor) {
        refuse(`PBKDF2 with ${kdf.rounds} rounds, at least ${limits.pbkdf2Floor} are needed`);
      }
      rounds += kdf.rounds;
    }
  }
  if (rounds > limits.pbkdf2Ceiling) {
    refuse(`PBKDF2 with ${rounds} rounds over all slots, at most ${limits.pbkdf2Ceiling} are taken`);
  }
  const most = limits.argon2id.workCeiling;
  if (work > most) refuse(`Argon2id with ${work} KiB in all passes of all slots, at most ${most} are taken`);
}

function checkArgon2id(kdf: KdfParameters & { name: "argon2id" }, { argon2id: bounds }: KdfLimits): void {
  const { passes, memoryKiB, lanes } = kdf;
  const sound = [passes, memoryKiB, lanes].every(Number.isInteger) && passes >= bounds.passesFloor &&
    memoryKiB >= bounds.memoryFloorKiB && memoryKiB <= bounds.memoryCeilingKiB &&
    lanes >= 1 && lanes <= bounds.lanesCeiling;
  if (!sound) refuse(`Argon2id with ${passes} passes, ${memoryKiB} KiB and ${lanes} lanes`);
}

function refuse(state: string): never {
  throw new CoverError("unsupported", `Cannot accept key derivation: ${state}`, {
    hint: "Too little would make the passphrase easy to guess, too much would take forever",
  });
}

/** Stretches a secret to 64 bytes, owned by the caller. Check the bounds before. */
export async function stretch(
  secret: Uint8Array,
  salt: Uint8Array,
  kdf: KdfParameters,
): Promise<Uint8Array<ArrayBuffer>> {
  const { subtle } = crypto, bytes = unshared(secret);
  if (kdf.name === "argon2id") return new Uint8Array(await argon2id(bytes, salt, kdf));
  const key = await subtle.importKey("raw", bytes, "PBKDF2", false, ["deriveBits"]);
  const how = { name: "PBKDF2", hash: "SHA-512", salt: unshared(salt), iterations: kdf.rounds };
  return new Uint8Array(await subtle.deriveBits(how, key, KDF_BITS));
}

/**
 * Argon2id (RFC 9106) as in "Modern Algorithms in the Web Cryptography API"; where the runtime lacks it, in JavaScript,
 * which takes some four times as long.
 */
async function argon2id(
  secret: Uint8Array<ArrayBuffer>,
  salt: Uint8Array,
  kdf: KdfParameters & { name: "argon2id" },
): Promise<ArrayBuffer | Uint8Array<ArrayBuffer>> {
  const how = {
    name: "Argon2id",
    nonce: unshared(salt),
    memory: kdf.memoryKiB,
    passes: kdf.passes,
    parallelism: kdf.lanes,
  };
  try {
    // "raw-secret" is not yet among the formats that TypeScript knows.
    const key = await crypto.subtle.importKey("raw-secret" as "raw", secret, "Argon2id", false, [
      "deriveBits",
    ]);
    return await crypto.subtle.deriveBits(how, key, KDF_BITS);
  } catch (error) {
    // A runtime that lacks the format "raw-secret" too may call that a TypeError.
    if (!["NotSupportedError", "TypeError"].includes((error as Error).name)) throw error;
    const { argon2idAsync } = await import("@noble/hashes/argon2.js");
    const { passes: t, memoryKiB: m, lanes: p } = kdf;
    return new Uint8Array(await argon2idAsync(secret, salt, { t, m, p, dkLen: KDF_BITS / 8 }));
  }
}

/**
 * Measures how many PBKDF2 rounds take about `seconds` here: never below the floor, and never so many that eight such
 * slots would pass the ceiling.
 */
export async function calibrateRounds(seconds = 1): Promise<number> {
  const secret = new Uint8Array(32), salt = new Uint8Array(32);
  const derive = async (rounds: number) => {
    const start = performance.now();
    await stretch(secret, salt, { name: "pbkdf2-hmac-sha-512", rounds });
    return (performance.now() - start) / 1000;
  };
  await derive(1000); // the first call also pays for starting threads
  const perRound = Math.max(await derive(CALIBRATION_ROUNDS), 0.001) / CALIBRATION_ROUNDS;
  const rounds = Math.floor(seconds / perRound / 1000) * 1000;
  return Math.min(Math.max(rounds, KDF_LIMITS.pbkdf2Floor), Math.floor(KDF_LIMITS.pbkdf2Ceiling / SLOTS));
}
