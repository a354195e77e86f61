/** How to open a store on a server. */
import { CoverError } from "../../crypto/errors.ts";
import type { AcquaintanceOptions, Prover } from "../../net/mod.ts";
import type { StoreMode } from "../block/store.ts";
import type { WriterClaim } from "./remote_link.ts";

/** How to open a store on a server. */
export interface RemoteStoreOptions extends AcquaintanceOptions {
  /** Host name or address, IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
  /** Name of the container there. */
  readonly container: string;
  readonly mode: StoreMode;
  /** For "write" and "create": the writer session's id, 16 random bytes. */
  readonly session?: Uint8Array | undefined;
  /** For "write" and "create": the container's id, 16 bytes. */
  readonly containerId?: Uint8Array | undefined;
  /** For "write" and "create": proves the container's key. */
  readonly prover?: Prover | undefined;
  /** For "write": take the lease from a writer that still has it. */
  readonly takeover?: boolean | undefined;
  /** How long a read may wait for the server, in seconds; default 30. */
  readonly waitSeconds?: number | undefined;
  /** How long the server may be away with writes outstanding, in seconds; default 300. Then the store is broken. */
  readonly outageSeconds?: number | undefined;
  /** Keep-alive period, in seconds; default 10. */
  readonly pingSeconds?: number | undefined;
  /** Bytes of writes behind which a flush is sent unasked; default 32 MiB. Twice as many are kept at most. */
  readonly flushBytes?: number | undefined;
  /** Another writer wants the lease: commit, then close or go on reading; the server waits a few seconds. */
  readonly onLeaseWanted?: (() => void) | undefined;
  /** Readers: the container has changed; called once until the next refresh. */
  readonly onChanged?: (() => void) | undefined;
  /**
   * The connection was cut, is refused (and tried again), is there again, or is gone for good: for a person to be told.
   */
  readonly onConnection?:
    | ((state: "cut" | "refused" | "restored" | "lost", reason?: CoverError) => void)
    | undefined;
}

/** Who writes. @throws {CoverError} "usage" if something is missing */
export function claimOf(options: RemoteStoreOptions): WriterClaim {
  const { prover, containerId, session } = options;
  if (prover === undefined || containerId === undefined || session === undefined) {
    throw new CoverError(
      "usage",
      `Cannot open to ${options.mode}: prover, container id and session are needed`,
    );
  }
  return { prover, containerId, session };
}
