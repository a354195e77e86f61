/** Bodies of requests at the server, checked before anything is done. */
import { HEADER_AT } from "./backing.ts";
import { MAX_RUN, Op, ProtocolError, WIRE_BLOCK } from "./protocol.ts";
import type { Party, ServedContainer } from "./served_container.ts";
import type { FieldReader } from "./wire.ts";

/** First position that no container can have, so that byte offsets stay exact. */
const POSITION_END = Math.floor(Number.MAX_SAFE_INTEGER / WIRE_BLOCK) - MAX_RUN;

/** What an ordered request asks for; it queues at once, before anything is awaited. */
export type OrderedAction = (container: ServedContainer, fence: number, party: Party) => Promise<void>;

/**
 * Reads an ordered request (docs/protocol.md, section 6).
 *
 * @throws {ProtocolError} if it is malformed or no operation that there is
 */
export function readOrdered(operation: number, body: FieldReader): OrderedAction {
  switch (operation) {
    case Op.write: {
      const position = readPosition(body);
      const bytes = body.rest();
      if (bytes.length < WIRE_BLOCK || bytes.length % WIRE_BLOCK !== 0) {
        throw new ProtocolError("WRITE is not of whole blocks");
      }
      return (container, fence) => container.write(fence, position, bytes);
    }
    case Op.writeHeader: {
      const target = readHeaderTarget(body);
      const bytes = body.rest();
      if (bytes.length !== HEADER_AT[target.region]!.bytes) {
        throw new ProtocolError("WRITE_HEADER of a wrong length");
      }
      return (container, fence) => container.writeHeader(fence, target, bytes);
    }
    case Op.discard:
      readPosition(body);
      body.u64();
      body.end();
      // Files have no portable way to punch holes, so nothing is given back; order and fencing hold all the same.
      return (container, fence) => container.ordered(fence, () => Promise.resolve());
    case Op.truncate: {
      const blocks = readPosition(body);
      body.end();
      return (container, fence) => container.truncate(fence, blocks);
    }
    case Op.reserve: {
      const blocks = readPosition(body);
      body.end();
      return (container, fence) => container.reserve(fence, blocks);
    }
    case Op.flush:
      body.end();
      return (container, fence, party) => container.flush(fence, party);
    default:
      throw new ProtocolError(`Unknown operation ${operation}`);
  }
}

/** Reads a position, or a number of blocks. */
export function readPosition(body: FieldReader): number {
  const position = body.u64();
  if (position > POSITION_END) throw new ProtocolError("Position is out of bounds");
  return position;
}

/** Reads which header copy is meant. */
export function readHeaderTarget(body: FieldReader): { region: 0 | 1; copy: 0 | 1 } {
  const region = body.u8();
  const copy = body.u8();
  if (region > 1 || copy > 1) throw new ProtocolError("No such header copy");
  return { region: region as 0 | 1, copy: copy as 0 | 1 };
}
