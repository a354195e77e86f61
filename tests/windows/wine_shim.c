/*
 * bcryptprimitives.dll for Wine 8.0 (Debian 12), which has none; it stands beside deno.exe. It also hides or mends, for
 * the program that loads it and in memory only, what would otherwise keep Deno from running there. Built by wine.sh.
 */
#include <string.h>
#include <windows.h>

/* The system's random numbers (advapi32; the documented name of it is RtlGenRandom). */
BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

/* What Rust's standard library takes its random numbers from. */
__declspec(dllexport) BOOL WINAPI ProcessPrng(BYTE *buffer, SIZE_T length) {
  while (length > 0) {
    ULONG part = length < (1u << 30) ? (ULONG)length : 1u << 30;
    if (!SystemFunction036(buffer, part)) return FALSE;
    buffer += part;
    length -= part;
  }
  return TRUE;
}

/*
 * V8 reserves address space with placeholders where these three are there, and without where they are not. Wine 8.0
 * exports them, and refuses placeholders.
 */
static const char *const HIDDEN[] = {"VirtualAlloc2", "MapViewOfFile3", "UnmapViewOfFile2"};

static FARPROC WINAPI get_proc_address(HMODULE module, LPCSTR name) {
  /* Below 65536 it is an ordinal, no name. */
  for (size_t i = 0; (ULONG_PTR)name >> 16 && i < sizeof HIDDEN / sizeof *HIDDEN; i++)
    if (strcmp(name, HIDDEN[i]) == 0) return NULL;
  return GetProcAddress(module, name);
}

/* Of a range that is not locked Windows says ERROR_NOT_LOCKED, which Rust's File::unlock passes over; Wine 8.0 does not. */
static BOOL WINAPI unlock_file(HANDLE file, DWORD low, DWORD high, DWORD bytes_low, DWORD bytes_high) {
  BOOL done = UnlockFile(file, low, high, bytes_low, bytes_high);
  if (!done && GetLastError() == ERROR_LOCK_VIOLATION) SetLastError(ERROR_NOT_LOCKED);
  return done;
}

/* Puts a function in the place of one that the program imports by name. */
static void replace_import(const char *name, void *function) {
  BYTE *base = (BYTE *)GetModuleHandleW(NULL);
  IMAGE_NT_HEADERS64 *headers = (IMAGE_NT_HEADERS64 *)(base + ((IMAGE_DOS_HEADER *)base)->e_lfanew);
  IMAGE_DATA_DIRECTORY table = headers->OptionalHeader.DataDirectory[IMAGE_DIRECTORY_ENTRY_IMPORT];
  IMAGE_IMPORT_DESCRIPTOR *library = (IMAGE_IMPORT_DESCRIPTOR *)(base + table.VirtualAddress);
  for (; library->Name; library++) {
    if (!library->OriginalFirstThunk) continue;
    IMAGE_THUNK_DATA64 *wanted = (IMAGE_THUNK_DATA64 *)(base + library->OriginalFirstThunk);
    IMAGE_THUNK_DATA64 *bound = (IMAGE_THUNK_DATA64 *)(base + library->FirstThunk);
    for (; wanted->u1.AddressOfData; wanted++, bound++) {
      if (IMAGE_SNAP_BY_ORDINAL64(wanted->u1.Ordinal)) continue;
      IMAGE_IMPORT_BY_NAME *entry = (IMAGE_IMPORT_BY_NAME *)(base + wanted->u1.AddressOfData);
      if (strcmp((const char *)entry->Name, name) != 0) continue;
      DWORD before;
      VirtualProtect(&bound->u1.Function, sizeof bound->u1.Function, PAGE_READWRITE, &before);
      bound->u1.Function = (ULONGLONG)(ULONG_PTR)function;
      VirtualProtect(&bound->u1.Function, sizeof bound->u1.Function, before, &before);
    }
  }
}

BOOL WINAPI DllMain(HINSTANCE library, DWORD reason, LPVOID reserved) {
  (void)library, (void)reserved;
  if (reason == DLL_PROCESS_ATTACH) {
    replace_import("GetProcAddress", (void *)get_proc_address);
    replace_import("UnlockFile", (void *)unlock_file);
  }
  return TRUE;
}
