/** Who may use a mount on Windows: security descriptors, self-relative, as the driver and programs take them. */
import { nativeBytes } from "./native_memory.ts";
import { wide } from "./wide_strings.ts";

const ADVAPI32 = {
  OpenProcessToken: {
    parameters: [
      "isize", // HANDLE ProcessHandle
      "u32", // DWORD DesiredAccess
      "buffer", // PHANDLE TokenHandle
    ],
    result: "i32", // BOOL
  },
  GetTokenInformation: {
    parameters: [
      "usize", // HANDLE TokenHandle
      "u32", // TOKEN_INFORMATION_CLASS TokenInformationClass
      "buffer", // LPVOID TokenInformation
      "u32", // DWORD TokenInformationLength
      "buffer", // PDWORD ReturnLength
    ],
    result: "i32", // BOOL
  },
  ConvertSidToStringSidW: {
    parameters: [
      "usize", // PSID Sid
      "buffer", // LPWSTR *StringSid, to be freed
    ],
    result: "i32", // BOOL
  },
  ConvertStringSecurityDescriptorToSecurityDescriptorW: {
    parameters: [
      "buffer", // LPCWSTR StringSecurityDescriptor
      "u32", // DWORD StringSDRevision
      "buffer", // PSECURITY_DESCRIPTOR *SecurityDescriptor, to be freed
      "buffer", // PULONG SecurityDescriptorSize
    ],
    result: "i32", // BOOL
  },
} as const satisfies Deno.ForeignLibraryInterface;

const KERNEL32 = {
  LocalFree: { parameters: ["usize"], result: "usize" }, // HLOCAL
  CloseHandle: { parameters: ["usize"], result: "i32" }, // HANDLE; BOOL
} as const satisfies Deno.ForeignLibraryInterface;

// winnt.h, sddl.h
const CURRENT_PROCESS = -1n, TOKEN_QUERY = 8, TOKEN_USER = 1, TOKEN_PRIMARY_GROUP = 5, SDDL_REVISION = 1;
/** Parts of a descriptor that can be asked for (SECURITY_INFORMATION). */
const OWNER = 1, GROUP = 2, DACL = 4;

/** Descriptors that let in whoever runs this process, the system and administrators, and nobody else. */
export class WindowsSecurity {
  readonly #made = new Map<string, Uint8Array<ArrayBuffer>>();

  /** @throws {Error} if Windows does not tell who runs this */
  constructor() {
    const advapi = Deno.dlopen("advapi32.dll", ADVAPI32), kernel = Deno.dlopen("kernel32.dll", KERNEL32);
    try {
      const made = (of: string, done: number) => {
        if (done === 0) throw new Error(`Windows does not tell ${of}`);
      };
      const pointer = new BigUint64Array(1), length = new Uint32Array(1);
      made("its token", advapi.symbols.OpenProcessToken(CURRENT_PROCESS, TOKEN_QUERY, pointer));
      const token = pointer[0]!;
      const sidOf = (which: number) => {
        const told = new BigUint64Array(32); // a pointer to the SID, which lies behind it
        made("whose it is", advapi.symbols.GetTokenInformation(token, which, told, told.byteLength, length));
        made("whose it is", advapi.symbols.ConvertSidToStringSidW(told[0]!, pointer));
        const text = new Deno.UnsafePointerView(Deno.UnsafePointer.create(pointer[0]!)!);
        let sid = "";
        for (let at = 0; text.getUint16(at) !== 0; at += 2) sid += String.fromCharCode(text.getUint16(at));
        kernel.symbols.LocalFree(pointer[0]!);
        return sid;
      };
      const owner = sidOf(TOKEN_USER), group = sidOf(TOKEN_PRIMARY_GROUP);
      kernel.symbols.CloseHandle(token);
      for (let parts = 0; parts < 8; parts++) {
        for (const directory of [false, true]) {
          // What is made in a directory has the same.
          const allowed = [owner, "SY", "BA"].map((who) => `(A;${directory ? "OICI" : ""};FA;;;${who})`);
          const text = (parts & OWNER ? `O:${owner}` : "") + (parts & GROUP ? `G:${group}` : "") +
            (parts & DACL ? `D:P${allowed.join("")}` : "");
          made(
            "how to say who may do what",
            advapi.symbols.ConvertStringSecurityDescriptorToSecurityDescriptorW(
              wide(text),
              SDDL_REVISION,
              pointer,
              length,
            ),
          );
          this.#made.set(`${parts} ${directory}`, nativeBytes(pointer[0]!, length[0]!).slice());
          kernel.symbols.LocalFree(pointer[0]!);
        }
      }
    } finally {
      advapi.close();
      kernel.close();
    }
  }

  /** The whole of a mount. */
  get volume(): Uint8Array<ArrayBuffer> {
    return this.of(DACL, { directory: false });
  }

  /** @param parts which parts are asked for, as SECURITY_INFORMATION; others than owner, group and DACL are empty */
  of(parts: number, options: { readonly directory: boolean }): Uint8Array<ArrayBuffer> {
    return this.#made.get(`${parts & (OWNER | GROUP | DACL)} ${options.directory}`)!;
  }
}
