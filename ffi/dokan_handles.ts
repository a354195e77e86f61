/** Who has which file open on a mount of Dokan, and with what he shares it. */
import { foldName } from "../fs/folded_names.ts";
import type { Ino } from "../fs/types.ts";
import { shownName } from "./dokan_names.ts";
import { StatusRefusal } from "./ntstatus.ts";

// winnt.h
const READ_DATA = 0x1, WRITE_DATA = 0x2, APPEND_DATA = 0x4, EXECUTE = 0x20, DELETE = 0x1_0000;
const GENERIC_ALL = 0x1000_0000, GENERIC_EXECUTE = 0x2000_0000, GENERIC_WRITE = 0x4000_0000;
const GENERIC_READ = 0x8000_0000;
/** FILE_SHARE_READ, FILE_SHARE_WRITE, FILE_SHARE_DELETE. */
const READ = 1, WRITE = 2, REMOVE = 4;

/** What access asks for of that which is shared. */
export function sharedAccess(access: number): number {
  const has = (bits: number) => (access & bits) !== 0;
  return (has(READ_DATA | EXECUTE | GENERIC_READ | GENERIC_EXECUTE | GENERIC_ALL) ? READ : 0) |
    (has(WRITE_DATA | APPEND_DATA | GENERIC_WRITE | GENERIC_ALL) ? WRITE : 0) |
    (has(DELETE | GENERIC_ALL) ? REMOVE : 0);
}

/** Whether access asks for writing. */
export const writes = (access: number) => (sharedAccess(access) & WRITE) !== 0;

/** Where a name is, and what it has in common with those that the driver takes for the same. */
export interface Entry {
  readonly directory: Ino;
  readonly name: Uint8Array;
  readonly folded: string;
}

/** A name of a directory as an {@linkcode Entry}. */
export const entryOf = (directory: Ino, name: Uint8Array): Entry => ({
  directory,
  name,
  folded: foldName(shownName(name)),
});

/** A file that is open. */
export interface Handle {
  readonly ino: Ino;
  /** Undefined for the root. */
  entry: Entry | undefined;
  /** What it asks for and lets others do, as FILE_SHARE_*. */
  readonly access: number;
  readonly share: number;
  /** It is to go: nobody else opens it. When it does so is the driver's to tell. */
  pending: boolean;
  /** It counts for others no longer: the last user handle is closed, though the cache may still write. */
  cleaned: boolean;
}

/** The open files, by the number that DOKAN_FILE_INFO.Context holds; 0 is none. */
export class Handles {
  readonly #handles = new Map<bigint, Handle>();
  readonly #byInode = new Map<Ino, Set<Handle>>();
  #last = 0n;

  get size(): number {
    return this.#handles.size;
  }

  get(context: bigint): Handle | undefined {
    return this.#handles.get(context);
  }

  /** Those of a file that count. */
  of(ino: Ino): Handle[] {
    return [...this.#byInode.get(ino) ?? []].filter((one) => !one.cleaned);
  }

  /** @throws {StatusRefusal} DELETE_PENDING, SHARING_VIOLATION: what others do, or do not share */
  check(ino: Ino, wanted: number, share: number): void {
    for (const other of this.of(ino)) {
      if (other.pending) throw new StatusRefusal("DELETE_PENDING");
      if ((wanted & ~other.share) !== 0 || (other.access & ~share) !== 0) {
        // Who only asks for attributes is in nobody's way, and nobody in his.
        if (wanted !== 0 && other.access !== 0) throw new StatusRefusal("SHARING_VIOLATION");
      }
    }
  }

  /** The open files, other than this one, by names that differ from its name in case only. */
  twins(ino: Ino, { directory, folded }: Entry): Entry[] {
    const found: Entry[] = [];
    for (const { ino: other, entry } of this.#handles.values()) {
      if (other !== ino && entry?.directory === directory && entry.folded === folded) found.push(entry);
    }
    return found;
  }

  /** @returns its number */
  add(handle: Handle): bigint {
    this.#handles.set(++this.#last, handle);
    const same = this.#byInode.get(handle.ino) ?? new Set();
    this.#byInode.set(handle.ino, same.add(handle));
    return this.#last;
  }

  remove(context: bigint): Handle | undefined {
    const handle = this.#handles.get(context);
    if (handle === undefined) return undefined;
    this.#handles.delete(context);
    const same = this.#byInode.get(handle.ino)!;
    same.delete(handle);
    if (same.size === 0) this.#byInode.delete(handle.ino);
    return handle;
  }

  /** All that are left, which are then gone. */
  clear(): Handle[] {
    const all = [...this.#handles.values()];
    this.#handles.clear();
    this.#byInode.clear();
    return all;
  }
}
