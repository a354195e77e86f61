/** What a server's operator is told of its clients: events without secrets and without anything that is sealed. */
import type { RoleName } from "./protocol.ts";

/** One thing that a client did, or that was done about it. */
export interface AccessEvent {
  /**
   * - `greeted`: a token was accepted; `denied`: it was not, or a proof was not.
   * - `opened`, `created`, `removed`: a container.
   * - `rekeyed`: the key of a container's writers was replaced, by one of them.
   * - `granted`: the right to write; with `takeover`, from another one who may have it still.
   * - `revoked`: the connection is ended, as its token was taken back.
   * - `ended`: a connection, with the bytes that it got and gave.
   * - `refused`: so many connections of an address, by the limits, since this was told last.
   */
  readonly event:
    | "greeted"
    | "denied"
    | "opened"
    | "created"
    | "removed"
    | "granted"
    | "rekeyed"
    | "revoked"
    | "ended"
    | "refused";
  readonly address: string;
  /** Tells connections apart; counts from the start of the server. */
  readonly connection?: number;
  /** Label of the token. */
  readonly token?: string | undefined;
  readonly role?: RoleName;
  readonly container?: string;
  readonly takeover?: boolean;
  readonly reason?: string;
  readonly received?: number;
  readonly sent?: number;
  readonly seconds?: number;
  readonly count?: number;
}
