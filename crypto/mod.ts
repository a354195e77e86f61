/** Key slots, key derivation and sealing of blocks: the door to this folder. */
export * from "./bytes.ts";
export { createSealer, type SealerOptions } from "./create_sealer.ts";
export {
  ENCRYPTION_BLOCK_BYTES,
  type EncryptionHeader,
  type NewestEncryptionBlock,
  newestEncryptionBlock,
  parseEncryptionBlock,
  provenEncryptionBlock,
  SLOT_COUNT,
} from "./encryption_block.ts";
export type { BlockEngine } from "./engine.ts";
export * from "./errors.ts";
export { calibrateRounds, KDF_LIMITS, type KdfLimits, type KdfParameters } from "./kdf.ts";
export * from "./key_management.ts";
export { type KeySlot, LABEL_BYTES, type SlotKind } from "./key_slot.ts";
export * from "./sealer.ts";
export { type KeyBytes, SecretBytes } from "./secret_bytes.ts";
export {
  KEY_FILE_BYTES,
  newRecoveryWords,
  parseRecoveryWords,
  preparePassphrase,
  RECOVERY_WORDS,
  type Secret,
} from "./secrets.ts";
export { DEFAULT_SUITE, FORMAT_VERSION, parseSuite, SUITE_NAMES, type SuiteName } from "./suites.ts";
export { webCryptoEngine } from "./webcrypto_engine.ts";
export { verifyProof, type WriterKey, writerKeyPair } from "./writer_key.ts";
