/** The numbers of the wire protocol. The normative text is docs/protocol.md. */
import { CoverError, type ErrorKind } from "../crypto/errors.ts";

/** The protocol version that this code speaks. */
export const PROTOCOL_VERSION = 1;
/** Port of `coverfs serve` unless told otherwise. */
export const DEFAULT_PORT = 62000;
/** Container that a locator without a name means. */
export const DEFAULT_CONTAINER = "cfscontainer";

/** Bytes of a sealed block on the wire and in a backing file (docs/format.md). */
export const WIRE_BLOCK = 4128;
/** Blocks that one READ or WRITE carries at most. */
export const MAX_RUN = 1024;
/** Longest body of a frame before HELLO was answered. */
export const MAX_BODY_GREETING = 4096;
/** Longest body of a frame afterwards. */
export const MAX_BODY = MAX_RUN * WIRE_BLOCK + 128;
/** Longest message of an error reply, in bytes. */
export const MAX_MESSAGE = 512;
/** Stands for "no quota" on the wire. */
export const NO_QUOTA = Number.MAX_SAFE_INTEGER;

/** Operations (docs/protocol.md, section 5). */
export const Op = {
  hello: 1,
  ping: 2,
  list: 3,
  create: 4,
  open: 5,
  lease: 6,
  release: 7,
  size: 8,
  space: 9,
  read: 10,
  readHeader: 11,
  write: 16,
  writeHeader: 17,
  discard: 18,
  truncate: 19,
  reserve: 20,
  flush: 21,
  remove: 22,
  newKey: 23,
  notify: 32,
} as const;
/** One of the numbers of {@linkcode Op}. */
export type Op = typeof Op[keyof typeof Op];

/** Directions of a frame. */
export const Direction = { request: 0, reply: 1, notification: 2 } as const;

/** Kinds of a NOTIFY. */
export const Notice = { leaseWanted: 1, changed: 2, shutdown: 3, fenced: 4, receiving: 5 } as const;

/** Flags of LEASE. */
export const LeaseFlag = { resume: 1, takeover: 2 } as const;

/** Access that a proof is for. */
export const Access = { write: 1, create: 2, newKey: 3 } as const;
/** One of the numbers of {@linkcode Access}. */
export type Access = typeof Access[keyof typeof Access];

/** What a token allows; each role includes the ones before it. */
export const Role = { ro: 1, rw: 2, create: 3 } as const;
/** Name of a role. */
export type RoleName = keyof typeof Role;

/** Status of a reply (docs/protocol.md, section 7). */
export const Status = {
  ok: 0,
  failure: 1,
  protocol: 2,
  refused: 3,
  proof: 4,
  noContainer: 5,
  exists: 6,
  busy: 7,
  fenced: 8,
  noSpace: 9,
  quota: 10,
  name: 11,
  version: 12,
  broken: 13,
  shutdown: 14,
  state: 15,
} as const;
/** Name of a status. */
export type StatusName = keyof typeof Status;

const STATUS_NAMES = new Map<number, StatusName>(
  Object.entries(Status).map(([name, value]) => [value, name as StatusName]),
);

const STATUS_KIND: Readonly<Record<StatusName, ErrorKind>> = {
  ok: "failure",
  failure: "failure",
  protocol: "failure",
  refused: "refused",
  proof: "refused",
  noContainer: "no-container",
  exists: "usage",
  busy: "busy",
  fenced: "busy",
  noSpace: "no-space",
  quota: "no-space",
  name: "usage",
  version: "unsupported",
  broken: "failure",
  shutdown: "no-connection",
  state: "failure",
};

/** A request that the server refused, with the status it gave. The same class carries it at both ends. */
export class StatusError extends CoverError {
  readonly status: StatusName;
  constructor(status: StatusName, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(STATUS_KIND[status], message, options);
    this.name = "StatusError";
    this.status = status;
  }
}

/** The peer broke the protocol; the connection ends. To a client, such a server is none. */
export class ProtocolError extends CoverError {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("no-connection", message, options);
    this.name = "ProtocolError";
  }
}

/**
 * The error that a reply of this status stands for.
 *
 * @param status the number in the frame; an unknown one counts as `failure`
 * @param body the message; bounded, and stripped of control characters, because the server is not trusted
 */
export function statusError(status: number, body: Uint8Array): StatusError {
  const text = new TextDecoder().decode(body.subarray(0, MAX_MESSAGE));
  // deno-lint-ignore no-control-regex
  const shown = text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, " ")
    .trim();
  return new StatusError(STATUS_NAMES.get(status) ?? "failure", shown || `Server answers status ${status}`);
}

/** Whether this is a container name: 1 to 64 of `A-Z a-z 0-9 . _ -`, not beginning with a dot. */
export function isContainerName(name: string): boolean {
  return /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$/.test(name);
}
