/** The functions of dokan2.dll that a mount calls, and those that it is called by (dokan.h of Dokan 2.x; x64). */
import { CoverError } from "../crypto/errors.ts";

/** The interface version that is spoken (DOKAN_VERSION of 2.3.1), and the oldest that the library may have. */
export const DOKAN_VERSION = 231, DOKAN_MINIMUM_VERSION = 200;

const DOKAN = {
  // void DokanInit();
  DokanInit: { parameters: [], result: "void", nonblocking: true },
  // void DokanShutdown();
  DokanShutdown: { parameters: [], result: "void", nonblocking: true },
  // ULONG DokanVersion();
  DokanVersion: { parameters: [], result: "u32" },
  // It calls `Mounted` before it returns.
  DokanCreateFileSystem: {
    parameters: [
      "buffer", // PDOKAN_OPTIONS DokanOptions, kept by the library
      "usize", // PDOKAN_OPERATIONS DokanOperations, kept by the library
      "buffer", // DOKAN_HANDLE *DokanInstance
    ],
    result: "i32", // int, DOKAN_SUCCESS or DOKAN_*_ERROR
    nonblocking: true,
  },
  DokanWaitForFileSystemClosed: {
    parameters: [
      "usize", // DOKAN_HANDLE DokanInstance
      "u32", // DWORD dwMilliseconds
    ],
    result: "u32", // DWORD, as WaitForSingleObject
    nonblocking: true,
  },
  // It unmounts, and waits for all callbacks.
  DokanCloseHandle: {
    parameters: ["usize"], // DOKAN_HANDLE DokanInstance
    result: "void",
    nonblocking: true,
  },
  DokanRemoveMountPoint: {
    parameters: ["buffer"], // LPCWSTR MountPoint
    result: "i32", // BOOL
    nonblocking: true,
  },
  // Not beside others: what it is told of must not be answered meanwhile.
  DokanResetTimeout: {
    parameters: [
      "u32", // ULONG Timeout, ms from now
      "usize", // PDOKAN_FILE_INFO DokanFileInfo
    ],
    result: "i32", // BOOL
  },
  DokanIsNameInExpression: {
    parameters: [
      "buffer", // LPCWSTR Expression
      "buffer", // LPCWSTR Name
      "i32", // BOOL IgnoreCase
    ],
    result: "i32", // BOOL
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** The library, open. */
export type DokanLibrary = Deno.DynamicLibrary<typeof DOKAN>;

/** Where Dokan comes from, and which one. */
const NEEDED = "version 2.3.1 or newer of 2.x is needed, from https://github.com/dokan-dev/dokany/releases";

/** Opens the library. @throws {CoverError} cannot-mount, where it comes from and which version it has to be */
export function openDokan(file = "dokan2.dll"): DokanLibrary {
  let library: DokanLibrary;
  try {
    library = Deno.dlopen(file, DOKAN);
  } catch (cause) {
    throw new CoverError("cannot-mount", `Cannot mount: Dokan is not installed; ${NEEDED}`, { cause });
  }
  const version = library.symbols.DokanVersion();
  if (version >= DOKAN_MINIMUM_VERSION) return library;
  library.close();
  throw new CoverError("cannot-mount", `Cannot mount: Dokan is too old (${version}); ${NEEDED}`);
}

/**
 * DOKAN_OPERATIONS: each callback with its place in the structure and its arguments after the name of the file, which
 * most have first; PDOKAN_FILE_INFO is always the last one. All but Cleanup and CloseFile return an NTSTATUS.
 */
export const DOKAN_OPERATIONS = {
  ZwCreateFile: {
    at: 0,
    parameters: [
      "usize", // LPCWSTR FileName
      "usize", // PDOKAN_IO_SECURITY_CONTEXT SecurityContext
      "u32", // ACCESS_MASK DesiredAccess
      "u32", // ULONG FileAttributes
      "u32", // ULONG ShareAccess
      "u32", // ULONG CreateDisposition
      "u32", // ULONG CreateOptions
      "usize", // PDOKAN_FILE_INFO DokanFileInfo
    ],
  },
  Cleanup: { at: 8, parameters: ["usize", "usize"] }, // LPCWSTR, PDOKAN_FILE_INFO
  CloseFile: { at: 16, parameters: ["usize", "usize"] }, // LPCWSTR, PDOKAN_FILE_INFO
  ReadFile: {
    at: 24,
    parameters: [
      "usize", // LPCWSTR FileName
      "usize", // LPVOID Buffer
      "u32", // DWORD BufferLength
      "usize", // LPDWORD ReadLength
      "i64", // LONGLONG Offset
      "usize", // PDOKAN_FILE_INFO DokanFileInfo
    ],
  },
  WriteFile: {
    at: 32,
    parameters: [
      "usize", // LPCWSTR FileName
      "usize", // LPCVOID Buffer
      "u32", // DWORD NumberOfBytesToWrite
      "usize", // LPDWORD NumberOfBytesWritten
      "i64", // LONGLONG Offset
      "usize", // PDOKAN_FILE_INFO DokanFileInfo
    ],
  },
  FlushFileBuffers: { at: 40, parameters: ["usize", "usize"] }, // LPCWSTR, PDOKAN_FILE_INFO
  GetFileInformation: {
    at: 48,
    parameters: [
      "usize", // LPCWSTR FileName
      "usize", // LPBY_HANDLE_FILE_INFORMATION Buffer
      "usize", // PDOKAN_FILE_INFO DokanFileInfo
    ],
  },
  FindFiles: {
    at: 56,
    parameters: [
      "usize", // LPCWSTR FileName
      "usize", // PFillFindData FillFindData
      "usize", // PDOKAN_FILE_INFO DokanFileInfo
    ],
  },
  FindFilesWithPattern: {
    at: 64,
    parameters: [
      "usize", // LPCWSTR PathName
      "usize", // LPCWSTR SearchPattern
      "usize", // PFillFindData FillFindData
      "usize", // PDOKAN_FILE_INFO DokanFileInfo
    ],
  },
  SetFileAttributes: {
    at: 72,
    parameters: [
      "usize", // LPCWSTR FileName
      "u32", // DWORD FileAttributes
      "usize", // PDOKAN_FILE_INFO DokanFileInfo
    ],
  },
  SetFileTime: {
    at: 80,
    parameters: [
      "usize", // LPCWSTR FileName
      "usize", // CONST FILETIME *CreationTime
      "usize", // CONST FILETIME *LastAccessTime
      "usize", // CONST FILETIME *LastWriteTime
      "usize", // PDOKAN_FILE_INFO DokanFileInfo
    ],
  },
  DeleteFile: { at: 88, parameters: ["usize", "usize"] }, // LPCWSTR, PDOKAN_FILE_INFO
  DeleteDirectory: { at: 96, parameters: ["usize", "usize"] }, // LPCWSTR, PDOKAN_FILE_INFO
  MoveFile: {
    at: 104,
    parameters: [
      "usize", // LPCWSTR FileName
      "usize", // LPCWSTR NewFileName
      "i32", // BOOL ReplaceIfExisting
      "usize", // PDOKAN_FILE_INFO DokanFileInfo
    ],
  },
  SetEndOfFile: {
    at: 112,
    parameters: [
      "usize", // LPCWSTR FileName
      "i64", // LONGLONG ByteOffset
      "usize", // PDOKAN_FILE_INFO DokanFileInfo
    ],
  },
  SetAllocationSize: {
    at: 120,
    parameters: [
      "usize", // LPCWSTR FileName
      "i64", // LONGLONG AllocSize
      "usize", // PDOKAN_FILE_INFO DokanFileInfo
    ],
  },
  GetDiskFreeSpace: {
    at: 144,
    parameters: [
      "usize", // PULONGLONG FreeBytesAvailable
      "usize", // PULONGLONG TotalNumberOfBytes
      "usize", // PULONGLONG TotalNumberOfFreeBytes
      "usize", // PDOKAN_FILE_INFO DokanFileInfo
    ],
  },
  GetVolumeInformation: {
    at: 152,
    parameters: [
      "usize", // LPWSTR VolumeNameBuffer
      "u32", // DWORD VolumeNameSize, in characters
      "usize", // LPDWORD VolumeSerialNumber
      "usize", // LPDWORD MaximumComponentLength
      "usize", // LPDWORD FileSystemFlags
      "usize", // LPWSTR FileSystemNameBuffer
      "u32", // DWORD FileSystemNameSize, in characters
      "usize", // PDOKAN_FILE_INFO DokanFileInfo
    ],
  },
  Mounted: { at: 160, parameters: ["usize", "usize"] }, // LPCWSTR MountPoint, PDOKAN_FILE_INFO
  Unmounted: { at: 168, parameters: ["usize"] }, // PDOKAN_FILE_INFO
  GetFileSecurity: {
    at: 176,
    parameters: [
      "usize", // LPCWSTR FileName
      "usize", // PSECURITY_INFORMATION SecurityInformation
      "usize", // PSECURITY_DESCRIPTOR SecurityDescriptor
      "u32", // ULONG BufferLength
      "usize", // PULONG LengthNeeded
      "usize", // PDOKAN_FILE_INFO DokanFileInfo
    ],
  },
  SetFileSecurity: {
    at: 184,
    parameters: [
      "usize", // LPCWSTR FileName
      "usize", // PSECURITY_INFORMATION SecurityInformation
      "usize", // PSECURITY_DESCRIPTOR SecurityDescriptor
      "u32", // ULONG BufferLength
      "usize", // PDOKAN_FILE_INFO DokanFileInfo
    ],
  },
} as const satisfies Record<string, { at: number; parameters: readonly ("usize" | "u32" | "i32" | "i64")[] }>;

/** Name of a callback. */
export type DokanOperation = keyof typeof DOKAN_OPERATIONS;
/** The callbacks by number. */
export const OPERATION_NAMES = Object.keys(DOKAN_OPERATIONS) as DokanOperation[];
/** Bytes of DOKAN_OPERATIONS. What has no callback stays 0: the driver keeps locks, and streams there are none. */
export const OPERATIONS_BYTES = 200;

/** NTSTATUS FillFindData(PWIN32_FIND_DATAW, PDOKAN_FILE_INFO): 0 if it took the entry, 1 if its buffer is full. */
export const FILL_FIND_DATA = { parameters: ["buffer", "usize"], result: "i32" } as const;
