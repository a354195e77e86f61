/** What a mount is, whatever carries it: the types behind the door in `mod.ts`. */
import type { Ino } from "../fs/types.ts";

/** How to mount. */
export interface MountOptions {
  /** Mount without the right to change; always so if the filesystem is read-only. */
  readonly readOnly?: boolean;
  /** Let all users in, not only the one who mounts (`allow_other`). The permission bits still decide. */
  readonly allowOther?: boolean;
  /** Let root in besides the one who mounts (`allow_root`). */
  readonly allowRoot?: boolean;
  /** Keep file contents out of the kernel's page cache: no plaintext there, and slower. */
  readonly directIo?: boolean;
  /** Let the kernel collect writes; ENOSPC may then come as late as at close or fsync. Only for writers. */
  readonly writebackCache?: boolean;
  /** How long it may keep what it has collected, in seconds. Default 5. */
  readonly writebackSeconds?: number | undefined;
  /** What `mount` and `df` show as the source. Default "coverfs". */
  readonly fsname?: string;
  /** What they show as the type behind `fuse.`. Default "coverfs". */
  readonly subtype?: string;
  /** Windows: what the volume is called. Default: the last part of `fsname`. */
  readonly label?: string | undefined;
  /** Windows: mount as a network drive of this name, `\\SERVER\SHARE`. */
  readonly networkName?: string | undefined;
  /** Dokan's library, where it is not the installed one. */
  readonly library?: string;
  /** How long Dokan's driver waits for an answer until it is told that one is coming, in seconds. Default 60. */
  readonly answerTimeout?: number;
  /** Further `-o` options, each as one string; those that a mount does not know are refused. */
  readonly extra?: readonly string[];
  /** How long the kernel may trust a name, or the absence of one, in seconds. Default 3600, read-only 1. */
  readonly entryTimeout?: number;
  /** How long the kernel may trust attributes, in seconds. Default 3600, read-only 1. */
  readonly attrTimeout?: number;
  /** Is told of what goes wrong while answering; holds no names. Default: nobody is told. */
  readonly log?: (message: string, cause?: unknown) => void;
  /** Ends the mount, as disposing it does, when it aborts. */
  readonly signal?: AbortSignal;
}

/** What a filesystem showed before another writer took over. */
export interface StateBefore {
  /** The entries of a directory. */
  readonly names: (directory: Ino) => Iterable<{ readonly name: Uint8Array; readonly ino: Ino }>;
  /** Files with data that is lost: where they are gone, `fsync` and `close` of who has them open say so (EIO). */
  readonly lost: ReadonlySet<Ino>;
}

/** Why a mount ended. */
export interface MountEnd {
  /**
   * "unmounted": by `umount`, `fusermount3 -u` or {@linkcode Mounted.unmount}, with nobody left on it;
   * "stopped": taken away by disposal or the signal while still in use; "failed": the connection broke.
   */
  readonly reason: "unmounted" | "stopped" | "failed";
  readonly error?: unknown;
}

/** A mount that answers, until it ends. Disposing it unmounts, by force if it is in use. */
export interface Mounted extends AsyncDisposable {
  readonly mountpoint: string;
  /** What is going on: how many requests came so far, and how many files and directories are open. */
  readonly activity: { readonly requests: number; readonly open: number };
  /**
   * Call when the filesystem shows another state than before: the kernel forgets contents and attributes, and open
   * files that are no longer there are stale.
   *
   * @param before where another writer has taken over: the kernel forgets names too, and what it is told from now on it
   * trusts for a second only
   */
  replaced(before?: StateBefore): Promise<void>;
  /**
   * Has the kernel hand over what programs have written and it still keeps: it is the filesystem's when this resolves.
   * Never rejects: who wrote what could not be written is told so.
   */
  writeOut(): Promise<void>;
  /**
   * Resolves when the last request is answered and nothing calls the filesystem any more. Never rejects.
   * The order at the end is: unmount, `done`, then the caller's `filesystem.sync()`, then closing the store; a
   * mount does not call `sync` itself.
   */
  readonly done: Promise<MountEnd>;
  /**
   * Unmounts and waits for `done`. With `lazy`, takes the mount out of the tree at once and returns: who has files
   * open there goes on using them, and `done` resolves when the last has gone. May be repeated.
   *
   * @throws {CoverError} failure, if it is in use (and not `lazy`); it then goes on answering.
   */
  unmount(options?: { readonly lazy?: boolean }): Promise<void>;
}
