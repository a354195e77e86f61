/** Moving file contents between a container and this machine, in pieces, reading ahead of what is written. */
import type { AttributeChanges, Filesystem } from "../fs/filesystem.ts";
import { type Ino, S_IFDIR, S_IFMT, type Time } from "../fs/types.ts";

/** Bytes of one piece. */
export const PIECE = 1 << 20;
/** Pieces that are read ahead, so that a server's distance is paid once. */
const AHEAD = 4;

/** Reads a file in pieces; the next ones are on their way while one is used. */
export async function* readPieces(
  filesystem: Filesystem,
  ino: Ino,
  options: { offset?: number; count?: number; signal?: AbortSignal } = {},
): AsyncGenerator<Uint8Array> {
  const { offset = 0, count = Infinity, signal } = options;
  const pending: Promise<Uint8Array>[] = [];
  const { size } = filesystem.attributes(ino), end = Math.min(size, offset + count);
  if (offset >= end) {
    await filesystem.read(ino, offset, 0); // a directory is refused, as with anything in it
    return;
  }
  let next = offset;
  const fill = () => {
    for (; next < end && pending.length < AHEAD; next += PIECE) {
      const piece = Promise.resolve(filesystem.read(ino, next, Math.min(PIECE, end - next)));
      piece.catch(() => {}); // told when its turn comes
      pending.push(piece);
    }
  };
  try {
    for (fill(); pending.length > 0; fill()) {
      signal?.throwIfAborted();
      yield await pending.shift()!;
    }
  } finally {
    await Promise.allSettled(pending);
  }
}

/** Writes pieces into a file from its start on. @returns its size in bytes */
export async function writePieces(
  filesystem: Filesystem,
  ino: Ino,
  pieces: AsyncIterable<Uint8Array>,
  options: { signal: AbortSignal; onBytes?: (bytes: number) => void },
): Promise<number> {
  let at = 0;
  for await (const piece of pieces) {
    options.signal.throwIfAborted();
    await filesystem.admit();
    await filesystem.write(ino, at, piece);
    at += piece.length;
    options.onBytes?.(at);
  }
  return at;
}

/** A time from nanoseconds since 1970. */
export function timeOf(nanoseconds: bigint): Time {
  const seconds = nanoseconds / 1_000_000_000n, rest = nanoseconds % 1_000_000_000n;
  return rest < 0n
    ? { seconds: Number(seconds) - 1, nanoseconds: Number(rest) + 1_000_000_000 }
    : { seconds: Number(seconds), nanoseconds: Number(rest) };
}

/** A time as seconds, as `utimes` takes it. */
export function secondsOf(time: Time): number {
  return time.seconds + time.nanoseconds / 1e9;
}

/** What of a local file's attributes is kept. Windows has no permission bits but one: whether it may be written. */
export function kept(stat: { mode: bigint; atimeNs: bigint; mtimeNs: bigint }): AttributeChanges {
  const mode = Number(stat.mode);
  const masked = mode & ~0o022 | ((mode & S_IFMT) === S_IFDIR ? 0o111 : 0);
  return {
    mode: (Deno.build.os === "windows" ? masked : mode) & 0o7777,
    atime: timeOf(stat.atimeNs),
    mtime: timeOf(stat.mtimeNs),
  };
}
