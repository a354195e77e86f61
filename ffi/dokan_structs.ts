/** Structures of Dokan 2.x and Windows as offset tables (dokan.h, fileapi.h, minwinbase.h; x64, little-endian). */
import type { Time } from "../fs/types.ts";

/** DOKAN_OPTIONS. */
export const OPTIONS = {
  bytes: 16432,
  version: 0, // USHORT
  singleThread: 2, // BOOLEAN
  options: 4, // ULONG
  mountPoint: 16, // LPCWSTR
  uncName: 24, // LPCWSTR
  timeout: 32, // ULONG, ms
  allocationUnitSize: 36, // ULONG
  sectorSize: 40, // ULONG
  securityLength: 44, // ULONG
  security: 48, // CHAR[16384]
} as const;

/** Bits of DOKAN_OPTIONS.Options. */
export const OPTION = { writeProtect: 8, network: 16, currentSession: 128, unmountNetwork: 1024 } as const;

/** DOKAN_FILE_INFO. */
export const FILE_INFO = {
  bytes: 48,
  context: 0, // ULONG64, ours
  isDirectory: 36, // UCHAR
  deletePending: 37, // UCHAR
  pagingIo: 38, // UCHAR
  writeToEndOfFile: 41, // UCHAR
} as const;

/** BY_HANDLE_FILE_INFORMATION. Times are FILETIME: two DWORDs, low first. */
export const BY_HANDLE = {
  bytes: 52,
  attributes: 0,
  creationTime: 4,
  lastAccessTime: 12,
  lastWriteTime: 20,
  serial: 28,
  sizeHigh: 32,
  sizeLow: 36,
  links: 40,
  indexHigh: 44,
  indexLow: 48,
} as const;

/** WIN32_FIND_DATAW. */
export const FIND_DATA = {
  bytes: 592,
  attributes: 0,
  creationTime: 4,
  lastAccessTime: 12,
  lastWriteTime: 20,
  sizeHigh: 28,
  sizeLow: 32,
  name: 44, // WCHAR[260]
} as const;

/** FILE_ATTRIBUTE_* (winnt.h). */
export const ATTRIBUTE = {
  readOnly: 1,
  hidden: 2,
  system: 4,
  directory: 0x10,
  archive: 0x20,
  notContentIndexed: 0x2000,
} as const;

/** From 1601 to 1970, in units of 100 ns. */
const EPOCH = 116_444_736_000_000_000n;

/** Units of 100 ns since 1601. */
export function fileTimeOf({ seconds, nanoseconds }: Time): bigint {
  const time = BigInt(seconds) * 10_000_000n + BigInt(Math.floor(nanoseconds / 100)) + EPOCH;
  return time > 0n ? time : 0n;
}

/** The time that a FILETIME says. */
export function timeOfFileTime(fileTime: bigint): Time {
  const since = fileTime - EPOCH, rest = (since % 10_000_000n + 10_000_000n) % 10_000_000n;
  return { seconds: Number((since - rest) / 10_000_000n), nanoseconds: Number(rest) * 100 };
}
