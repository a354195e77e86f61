/** The cipher suites and their numbers (docs/format.md, "Sealing"). */
import { CoverError } from "./errors.ts";

/** Version of the container format that this program reads and writes. */
export const FORMAT_VERSION = 2;

const NUMBERS = { "aes-256-cbc-hmac-sha256": 1, "aes-256-gcm": 2 } as const;
/** The number that is kept for AES-XTS, which this version does not know. */
const XTS = { name: "aes-256-xts-hmac-sha256", number: 3 } as const;

/** Name of a cipher suite that this program knows. */
export type SuiteName = keyof typeof NUMBERS;

/** All suites, the default first. */
export const SUITE_NAMES: readonly SuiteName[] = ["aes-256-cbc-hmac-sha256", "aes-256-gcm"];
/** What `init` takes unless told otherwise. */
export const DEFAULT_SUITE: SuiteName = "aes-256-cbc-hmac-sha256";

/** Reads a suite's name. @throws {CoverError} "unsupported" */
export function parseSuite(name: string): SuiteName {
  if (Object.hasOwn(NUMBERS, name)) return name as SuiteName;
  throw new CoverError("unsupported", `Cannot use cipher suite "${name}": not known to this version`, {
    hint: `Known are ${SUITE_NAMES.join(" and ")}`,
  });
}

/** The number that stands for a suite on disk. */
export function suiteNumber(suite: SuiteName): number {
  return NUMBERS[suite];
}

/** The suite of a number. @throws {CoverError} "unsupported" */
export function suiteOfNumber(number: number): SuiteName {
  const suite = SUITE_NAMES.find((name) => NUMBERS[name] === number);
  if (suite !== undefined) return suite;
  const name = number === XTS.number ? ` (${XTS.name})` : "";
  throw new CoverError("unsupported", `Cannot open container: cipher suite ${number}${name} is not known`, {
    hint: "A newer version of coverfs may know it",
  });
}
