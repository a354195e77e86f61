/*
 * A double of dokan2.dll for the tests: no driver, nothing of Dokan's code. It has the exports that a mount uses, written
 * from their public description (sizes and offsets as dokan.h of Dokan 2.3.1 has them on x64), and functions Double*
 * that ask as the driver would: each calls back from the thread it is called on, and keeps DOKAN_FILE_INFO from the
 * creation of a file to its close. Built by run.sh.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

typedef LONG NTSTATUS;
#define EXPORT __declspec(dllexport)
#define SUCCESS 0
#define END_OF_FILE ((NTSTATUS)0xC0000011)
#define COLLISION ((NTSTATUS)0xC0000035)
#define ACCESS_DENIED_ ((NTSTATUS)0xC0000022)
#define DELETE_IS_PENDING ((NTSTATUS)0xC0000056)
#define CANNOT_DELETE ((NTSTATUS)0xC0000121)

typedef struct {
  USHORT Version;
  UCHAR SingleThread;
  ULONG Options;
  ULONG64 GlobalContext;
  LPCWSTR MountPoint, UNCName;
  ULONG Timeout, AllocationUnitSize, SectorSize, SecurityLength;
  UCHAR Security[16384];
} OPTIONS;

typedef struct {
  ULONG64 Context, DokanContext;
  OPTIONS *DokanOptions;
  void *ProcessingContext;
  ULONG ProcessId;
  UCHAR IsDirectory, DeletePending, PagingIo, SynchronousIo, Nocache, WriteToEndOfFile;
} INFO;

typedef int(WINAPI *FILL)(WIN32_FIND_DATAW *, INFO *);

typedef struct {
  NTSTATUS(WINAPI *Create)(LPCWSTR, void *, ULONG, ULONG, ULONG, ULONG, ULONG, INFO *);
  void(WINAPI *Cleanup)(LPCWSTR, INFO *);
  void(WINAPI *Close)(LPCWSTR, INFO *);
  NTSTATUS(WINAPI *Read)(LPCWSTR, void *, DWORD, DWORD *, LONGLONG, INFO *);
  NTSTATUS(WINAPI *Write)(LPCWSTR, const void *, DWORD, DWORD *, LONGLONG, INFO *);
  NTSTATUS(WINAPI *Flush)(LPCWSTR, INFO *);
  NTSTATUS(WINAPI *Information)(LPCWSTR, BY_HANDLE_FILE_INFORMATION *, INFO *);
  NTSTATUS(WINAPI *Find)(LPCWSTR, FILL, INFO *);
  NTSTATUS(WINAPI *FindPattern)(LPCWSTR, LPCWSTR, FILL, INFO *);
  NTSTATUS(WINAPI *SetAttributes)(LPCWSTR, DWORD, INFO *);
  NTSTATUS(WINAPI *SetTime)(LPCWSTR, const FILETIME *, const FILETIME *, const FILETIME *, INFO *);
  NTSTATUS(WINAPI *DeleteFile)(LPCWSTR, INFO *);
  NTSTATUS(WINAPI *DeleteDirectory)(LPCWSTR, INFO *);
  NTSTATUS(WINAPI *Move)(LPCWSTR, LPCWSTR, BOOL, INFO *);
  NTSTATUS(WINAPI *SetEnd)(LPCWSTR, LONGLONG, INFO *);
  NTSTATUS(WINAPI *SetAllocation)(LPCWSTR, LONGLONG, INFO *);
  void *Lock, *Unlock;
  NTSTATUS(WINAPI *Space)(ULONGLONG *, ULONGLONG *, ULONGLONG *, INFO *);
  NTSTATUS(WINAPI *Volume)(LPWSTR, DWORD, DWORD *, DWORD *, DWORD *, LPWSTR, DWORD, INFO *);
  NTSTATUS(WINAPI *Mounted)(LPCWSTR, INFO *);
  NTSTATUS(WINAPI *Unmounted)(INFO *);
  NTSTATUS(WINAPI *GetSecurity)(LPCWSTR, const ULONG *, void *, ULONG, ULONG *, INFO *);
  NTSTATUS(WINAPI *SetSecurity)(LPCWSTR, const ULONG *, void *, ULONG, INFO *);
  void *FindStreams;
} OPERATIONS;

#define AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type "." #field)
_Static_assert(sizeof(OPTIONS) == 16432, "OPTIONS");
AT(OPTIONS, Options, 4); AT(OPTIONS, GlobalContext, 8); AT(OPTIONS, MountPoint, 16); AT(OPTIONS, UNCName, 24);
AT(OPTIONS, Timeout, 32); AT(OPTIONS, AllocationUnitSize, 36); AT(OPTIONS, SectorSize, 40);
AT(OPTIONS, SecurityLength, 44); AT(OPTIONS, Security, 48);
_Static_assert(sizeof(INFO) == 48, "INFO");
AT(INFO, DokanContext, 8); AT(INFO, DokanOptions, 16); AT(INFO, ProcessingContext, 24); AT(INFO, ProcessId, 32); AT(INFO, IsDirectory, 36);
AT(INFO, DeletePending, 37); AT(INFO, PagingIo, 38); AT(INFO, WriteToEndOfFile, 41);
_Static_assert(sizeof(OPERATIONS) == 200, "OPERATIONS");
AT(OPERATIONS, Read, 24); AT(OPERATIONS, Information, 48); AT(OPERATIONS, FindPattern, 64); AT(OPERATIONS, SetTime, 80);
AT(OPERATIONS, Move, 104); AT(OPERATIONS, SetAllocation, 120); AT(OPERATIONS, Space, 144); AT(OPERATIONS, Mounted, 160);
AT(OPERATIONS, GetSecurity, 176); AT(OPERATIONS, FindStreams, 192);
_Static_assert(sizeof(WIN32_FIND_DATAW) == 592, "WIN32_FIND_DATAW");
AT(WIN32_FIND_DATAW, cFileName, 44);
_Static_assert(sizeof(BY_HANDLE_FILE_INFORMATION) == 52, "BY_HANDLE_FILE_INFORMATION");

/* One mount at a time. */
static OPTIONS *options;
static OPERATIONS *operations;
static HANDLE closed;
static LONG extensions;
static SRWLOCK opened = SRWLOCK_INIT;

EXPORT void WINAPI DokanInit(void) {}
EXPORT void WINAPI DokanShutdown(void) {}
EXPORT ULONG WINAPI DokanVersion(void) { return 231; }

/* The end of a mount, also for other processes; it is there as long as the mount. */
static HANDLE event_of(LPCWSTR point) {
  WCHAR name[300] = L"coverfs-dokan-double-";
  WCHAR *end = name + wcslen(name);
  for (; *point && end < name + 298; point++) *end++ = *point == L'\\' ? L'/' : *point;
  return CreateEventW(NULL, TRUE, FALSE, name);
}

EXPORT int WINAPI DokanCreateFileSystem(OPTIONS *given, OPERATIONS *table, HANDLE *out) {
  if (given->Version != 231) return -7;
  if (!wcscmp(given->MountPoint, L"1:")) return -2;
  INFO info = {.DokanOptions = given};
  options = given, operations = table;
  closed = *out = event_of(given->MountPoint);
  operations->Mounted(given->MountPoint, &info);
  return 0;
}

EXPORT DWORD WINAPI DokanWaitForFileSystemClosed(HANDLE handle, DWORD ms) {
  INFO info = {.DokanOptions = options};
  DWORD end = WaitForSingleObject(handle, ms);
  if (end == WAIT_OBJECT_0) operations->Unmounted(&info);
  return end;
}

EXPORT BOOL WINAPI DokanRemoveMountPoint(LPCWSTR point) {
  HANDLE event = event_of(point);
  BOOL mounted = GetLastError() == ERROR_ALREADY_EXISTS;
  SetEvent(event);
  CloseHandle(event);
  return mounted;
}

EXPORT void WINAPI DokanCloseHandle(HANDLE handle) {
  CloseHandle(handle);
  closed = NULL;
}

EXPORT BOOL WINAPI DokanResetTimeout(ULONG ms, INFO *info) {
  (void)ms;
  if (!info->DokanContext) abort(); /* the library follows it */
  InterlockedIncrement(&extensions);
  return info->DokanOptions == options;
}

/* Patterns of FsRtlIsNameInExpression, but for the DOS ones. */
static BOOL matches(LPCWSTR expression, LPCWSTR name) {
  for (; *expression; expression++, name++) {
    if (*expression == L'*') {
      for (;; name++) {
        if (matches(expression + 1, name)) return TRUE;
        if (!*name) return FALSE;
      }
    }
    if (!*name || (*expression != L'?' && towupper(*expression) != towupper(*name))) return FALSE;
  }
  return !*name;
}

EXPORT BOOL WINAPI DokanIsNameInExpression(LPCWSTR expression, LPCWSTR name, BOOL ignore_case) {
  return ignore_case && matches(expression, name);
}

/* ---- what the tests ask for ---- */

/* An open file: what the driver keeps of it, and its name. Names that differ in case only are one file to the driver. */
typedef struct FILEOBJECT {
  INFO info;
  WCHAR name[2048];
  BOOL deleteOnClose; /* becomes pending with its cleanup */
  BOOL pending;       /* of the file: set with all that have its name open */
  struct FILEOBJECT *next;
} FILEOBJECT;

static FILEOBJECT *files;

static FILEOBJECT *file_of(LPCWSTR name) {
  FILEOBJECT *file = calloc(1, sizeof *file);
  file->info.DokanOptions = options;
  file->info.DokanContext = (ULONG64)(ULONG_PTR)file;
  wcsncpy(file->name, name, 2047);
  return file;
}

static BOOL is_pending(LPCWSTR name) {
  BOOL pending = FALSE;
  AcquireSRWLockShared(&opened);
  for (FILEOBJECT *one = files; one; one = one->next) pending |= one->pending && !_wcsicmp(one->name, name);
  ReleaseSRWLockShared(&opened);
  return pending;
}

static void set_pending(LPCWSTR name, BOOL pending) {
  AcquireSRWLockExclusive(&opened);
  for (FILEOBJECT *one = files; one; one = one->next)
    if (!_wcsicmp(one->name, name)) one->pending = pending;
  ReleaseSRWLockExclusive(&opened);
}

/* Cuts a path to that of its directory. */
static void cut(WCHAR *name) {
  WCHAR *last = wcsrchr(name, L'\\');
  if (last) last[last == name] = 0;
}

EXPORT LONG WINAPI DoubleExtensions(void) { return extensions; }

EXPORT NTSTATUS WINAPI DoubleCreate(LPCWSTR name, ULONG access, ULONG attributes, ULONG share, ULONG disposition,
                                    ULONG flags, FILEOBJECT **out) {
  *out = NULL;
  if (is_pending(name)) return DELETE_IS_PENDING;
  FILEOBJECT *file = file_of(name);
  INFO *info = &file->info;
  info->IsDirectory = flags & 1;
  NTSTATUS status = operations->Create(file->name, NULL, access, attributes, share, disposition, flags, info);
  BOOL either = disposition == 0 || disposition == 3 || disposition == 5;
  if (status == ACCESS_DENIED_ && (access & DELETE)) {
    /* Who may not delete a file may delete what is in its directory: FILE_DELETE_CHILD, with backup intent. */
    WCHAR directory[2048];
    wcscpy(directory, file->name);
    cut(directory);
    flags = (flags | 0x4000) & ~0x40u;
    status = operations->Create(directory, NULL, 0x40, attributes, share, disposition, flags, info);
  }
  if (status == SUCCESS || (status == COLLISION && either)) {
    file->deleteOnClose = (flags & 0x1000) != 0; /* the driver knows of it from the options of the creation */
    AcquireSRWLockExclusive(&opened);
    file->next = files, files = file;
    ReleaseSRWLockExclusive(&opened);
    *out = file;
  } else {
    free(file);
  }
  return status;
}

EXPORT NTSTATUS WINAPI DoubleRead(FILEOBJECT *file, void *buffer, DWORD length, LONGLONG offset, DWORD *got) {
  *got = 0;
  NTSTATUS status = operations->Read(file->name, buffer, length, got, offset, &file->info);
  return status == SUCCESS && *got == 0 && length > 0 ? END_OF_FILE : status;
}

/* how: 0 at the offset, 1 at the end, 2 by the cache. */
EXPORT NTSTATUS WINAPI DoubleWrite(FILEOBJECT *file, const void *buffer, DWORD length, LONGLONG offset, DWORD how,
                                   DWORD *put) {
  *put = 0;
  INFO *info = &file->info;
  info->WriteToEndOfFile = how == 1, info->PagingIo = how == 2;
  NTSTATUS status = operations->Write(file->name, buffer, length, put, offset, info);
  info->WriteToEndOfFile = info->PagingIo = 0;
  return status;
}

EXPORT NTSTATUS WINAPI DoubleFlush(FILEOBJECT *file) { return operations->Flush(file->name, &file->info); }

EXPORT NTSTATUS WINAPI DoubleInformation(FILEOBJECT *file, BY_HANDLE_FILE_INFORMATION *out) {
  memset(out, 0xee, sizeof *out);
  return operations->Information(file->name, out, &file->info);
}

typedef struct {
  WCHAR *out;
  DWORD room, used;
} LISTING;

static int WINAPI fill(WIN32_FIND_DATAW *data, INFO *info) {
  LISTING *listing = info->ProcessingContext;
  DWORD length = wcslen(data->cFileName);
  if (listing->used + length + 2 > listing->room) return 1;
  memcpy(listing->out + listing->used, data->cFileName, length * 2);
  listing->used += length;
  listing->out[listing->used++] = L'\n';
  return 0;
}

/* Names with a line feed behind each, as many as there is room for. */
EXPORT NTSTATUS WINAPI DoubleFind(FILEOBJECT *file, LPCWSTR pattern, WCHAR *out, DWORD room) {
  LISTING listing = {.out = out, .room = room};
  file->info.ProcessingContext = &listing;
  NTSTATUS status = operations->FindPattern
                        ? operations->FindPattern(file->name, pattern, fill, &file->info)
                        : operations->Find(file->name, fill, &file->info);
  out[listing.used] = 0;
  return status;
}

EXPORT NTSTATUS WINAPI DoubleSetAttributes(FILEOBJECT *file, DWORD attributes) {
  return operations->SetAttributes(file->name, attributes, &file->info);
}

EXPORT NTSTATUS WINAPI DoubleSetTime(FILEOBJECT *file, const FILETIME *creation, const FILETIME *access,
                                     const FILETIME *write) {
  return operations->SetTime(file->name, creation, access, write, &file->info);
}

/* FileDispositionInformation: only whether it may be deleted; the deed is in Cleanup. */
EXPORT NTSTATUS WINAPI DoubleSetDelete(FILEOBJECT *file, BOOL pending) {
  BY_HANDLE_FILE_INFORMATION told = {0};
  INFO *info = &file->info;
  if (pending && operations->Information(file->name, &told, info) == SUCCESS &&
      (told.dwFileAttributes & FILE_ATTRIBUTE_READONLY))
    return CANNOT_DELETE;
  info->DeletePending = pending != 0;
  NTSTATUS status = info->IsDirectory ? operations->DeleteDirectory(file->name, info)
                                      : operations->DeleteFile(file->name, info);
  info->DeletePending = 0; /* it is the file's, and told again with the last cleanup */
  if (status == SUCCESS) set_pending(file->name, pending);
  return status;
}

/* The target's directory is opened first (SL_OPEN_TARGET_DIRECTORY), and by that what is there. */
EXPORT NTSTATUS WINAPI DoubleMove(FILEOBJECT *file, LPCWSTR name, BOOL replace) {
  FILEOBJECT *target = file_of(name), *directory = file_of(name);
  cut(directory->name);
  NTSTATUS status = operations->Create(target->name, NULL, 2, 0, 3, 1, 0x4000, &target->info);
  if (status == SUCCESS) {
    operations->Cleanup(target->name, &target->info);
    operations->Close(target->name, &target->info);
  }
  status = operations->Create(directory->name, NULL, 2, 0, 3, 1, 0x4001, &directory->info);
  if (status == SUCCESS) {
    status = operations->Move(file->name, name, replace, &file->info);
    operations->Cleanup(directory->name, &directory->info);
    operations->Close(directory->name, &directory->info);
  }
  free(target), free(directory);
  if (status == SUCCESS) wcsncpy(file->name, name, 2047);
  return status;
}

EXPORT NTSTATUS WINAPI DoubleSetEnd(FILEOBJECT *file, LONGLONG size) {
  return operations->SetEnd(file->name, size, &file->info);
}

EXPORT NTSTATUS WINAPI DoubleSetAllocation(FILEOBJECT *file, LONGLONG size) {
  return operations->SetAllocation(file->name, size, &file->info);
}

/* The last one that has a file open whose deletion is pending is told to delete it. */
EXPORT void WINAPI DoubleClose(FILEOBJECT *file) {
  if (file->deleteOnClose) set_pending(file->name, TRUE);
  BOOL last = TRUE;
  AcquireSRWLockExclusive(&opened);
  for (FILEOBJECT **one = &files; *one;) {
    if (*one == file) {
      *one = file->next;
      continue;
    }
    last &= _wcsicmp((*one)->name, file->name) != 0;
    one = &(*one)->next;
  }
  ReleaseSRWLockExclusive(&opened);
  file->info.DeletePending = file->pending && last;
  operations->Cleanup(file->name, &file->info);
  operations->Close(file->name, &file->info);
  free(file);
}

/* Without an answer the library has its own, which lets all in: here it has none. */
EXPORT NTSTATUS WINAPI DoubleSecurity(FILEOBJECT *file, ULONG parts, void *out, ULONG room, ULONG *needed) {
  return operations->GetSecurity(file->name, &parts, out, room, needed, &file->info);
}

EXPORT NTSTATUS WINAPI DoubleSetSecurity(FILEOBJECT *file, ULONG parts, void *descriptor, ULONG length) {
  return operations->SetSecurity(file->name, &parts, descriptor, length, &file->info);
}

EXPORT NTSTATUS WINAPI DoubleSpace(ULONGLONG out[3]) {
  INFO info = {.DokanOptions = options};
  return operations->Space(out, out + 1, out + 2, &info);
}

/* Label, then kind, 64 characters each; serial number, longest name, flags. */
EXPORT NTSTATUS WINAPI DoubleVolume(WCHAR *texts, DWORD out[3]) {
  INFO info = {.DokanOptions = options};
  return operations->Volume(texts, 64, out, out + 1, out + 2, texts + 64, 64, &info);
}

/* What the library was told: mountpoint, then UNC name, 260 characters each; the options; the volume's security. Whether
 * it was told of no callback that would take from the driver what that does better: locks and streams. */
EXPORT BOOL WINAPI DoubleOptions(WCHAR *texts, DWORD *flags, void *security, DWORD *length) {
  wcsncpy(texts, options->MountPoint, 259);
  if (options->UNCName) wcsncpy(texts + 260, options->UNCName, 259);
  *flags = options->Options;
  *length = options->SecurityLength;
  memcpy(security, options->Security, options->SecurityLength);
  return !operations->Lock && !operations->Unlock && !operations->FindStreams;
}

/* ---- many threads ---- */

typedef struct {
  DWORD number, rounds;
  LONG wrong;
} WORK;

/* Each has a file of its own: written, read back in pieces, renamed over the one before, and in the end deleted. */
static DWORD WINAPI work(void *given) {
  WORK *self = given;
  static const DWORD SIZE = 20000;
  BYTE *bytes = malloc(SIZE), *read = malloc(SIZE);
  for (DWORD round = 0; round < self->rounds; round++) {
    WCHAR name[64], last[64];
    DWORD put, got;
    FILEOBJECT *file;
    wsprintfW(name, L"\\part-%u-%u", self->number, round);
    wsprintfW(last, L"\\LAST-%u", self->number);
    memset(bytes, (int)(self->number * 16 + round), SIZE);
    if (DoubleCreate(name, GENERIC_READ | GENERIC_WRITE | DELETE, 0, 7, 2, 0x40, &file) != SUCCESS) {
      self->wrong++;
      continue;
    }
    for (DWORD at = 0; at < SIZE; at += 5000)
      if (DoubleWrite(file, bytes + at, 5000, at, 0, &put) != SUCCESS || put != 5000) self->wrong++;
    if (DoubleRead(file, read, SIZE, 0, &got) != SUCCESS || got != SIZE || memcmp(bytes, read, SIZE)) self->wrong++;
    if (DoubleMove(file, last, TRUE) != SUCCESS) self->wrong++;
    if (round + 1 == self->rounds && DoubleSetDelete(file, TRUE) != SUCCESS) self->wrong++;
    DoubleClose(file);
  }
  free(bytes);
  free(read);
  return 0;
}

/* Returns how much went wrong. */
EXPORT LONG WINAPI DoubleStress(DWORD threads, DWORD rounds) {
  HANDLE handles[32] = {0};
  WORK all[32];
  LONG wrong = 0;
  for (DWORD i = 0; i < threads; i++) {
    all[i] = (WORK){.number = i, .rounds = rounds};
    handles[i] = CreateThread(NULL, 0, work, &all[i], 0, NULL);
  }
  WaitForMultipleObjects(threads, handles, TRUE, INFINITE);
  for (DWORD i = 0; i < threads; i++) {
    CloseHandle(handles[i]);
    wrong += all[i].wrong;
  }
  return wrong;
}
