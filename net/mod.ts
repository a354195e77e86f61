/**
 * The network: protocol, server, client connection and trust. The wire format is docs/protocol.md. The store that
 * works over it is `fs/store/remote.ts`.
 */
export type { AccessEvent } from "./access_event.ts";
export {
  type Acquaintance,
  type AcquaintanceOptions,
  CONNECT_SECONDS,
  listContainers,
  meetServer,
  rememberServer,
} from "./acquaintance.ts";
export { AwakeTimer } from "./awake_timer.ts";
export { Connection, type ConnectOptions, type RemoteContainer } from "./connection.ts";
export { formatAddress, formatLink, parseLocatorUrl, type RemoteLocator } from "./locator.ts";
export { type KnownServer, KnownServers } from "./known_servers.ts";
export { limited } from "./limited.ts";
export {
  Access,
  DEFAULT_CONTAINER,
  DEFAULT_PORT,
  isContainerName,
  LeaseFlag,
  MAX_RUN,
  NO_QUOTA,
  Notice,
  Op,
  ProtocolError,
  Role,
  type RoleName,
  StatusError,
  type StatusName,
  WIRE_BLOCK,
} from "./protocol.ts";
export { type Prover } from "./proof.ts";
export { DEFAULT_LIMITS, serve, type ServeOptions, Server, type ServerLimits } from "./server.ts";
export { openServerFolder, type ServerFolder } from "./server_folder.ts";
export { parseFingerprint } from "./text.ts";
export { type TokenEntry, Tokens } from "./tokens.ts";
export { identifyServer, type ServerAddress, type ServerIdentity, type TrustOptions } from "./trust.ts";
export { FieldReader, FieldWriter } from "./wire.ts";
