/** Mending of extents: blocks that two files have, data of what is no file or past a size, data that does not verify. */
import { BLOCK, SEALED } from "../crypto/sealer.ts";
import { writeSealed } from "./block/sealed.ts";
import { badBlocks, type Finding, overlapsOf } from "./fsck.ts";
import { blocksFor } from "./layout/extent_tree.ts";
import type { Run } from "./layout/superblock.ts";
import type { Loaded } from "./loading.ts";
import type { Mending } from "./mending.ts";
import type { CommitNumber, FileOffset, Ino, Position } from "./types.ts";
import { S_IFMT, S_IFREG } from "./types.ts";

const ignore = () => {};

/** What a loaded state says besides its tables. */
interface Used extends Pick<Loaded, "sessions"> {
  /** Blocks of checkpoints and journal. */
  readonly metadata: readonly Run[];
}

/** A part of an extent, in whole blocks but for its end. */
interface Claim extends Run {
  readonly ino: Ino;
  readonly offset: FileOffset;
  readonly length: number;
  readonly birth: CommitNumber;
}

/** Data of inodes that are not there makes files of them; that of what is no file goes, as nothing could read it. */
export async function mendOwners(mending: Mending): Promise<void> {
  const { tables, log } = mending, { inodes, extents } = tables;
  for (let ino = extents.nextFile(0); ino < extents.end; ino = extents.nextFile(ino + 1)) {
    if (!inodes.has(ino)) {
      inodes.insert(ino);
      inodes.mode[ino] = S_IFREG | 0o600;
      inodes.nlink[ino] = 1;
      inodes.size[ino] = extents.endOf(ino);
      mending.changed(ino, true);
      mending.tell("extent", `made a file of ${inodes.size[ino]} bytes`, ino);
    } else if ((inodes.mode[ino]! & S_IFMT) !== S_IFREG) {
      extents.clear(ino, ignore);
      log.truncate(ino, 0);
      mending.tell("extent", "data of what is no file is removed", ino);
    } else if (extents.endOf(ino) > inodes.size[ino]!) {
      // What lies there was never shown.
      extents.truncate(ino, inodes.size[ino]!, ignore);
      log.truncate(ino, inodes.size[ino]!);
      mending.tell("extent", "data past its size is removed", ino);
    }
    await mending.step();
  }
}

/**
 * Gives each file blocks of its own. Of those that claim a block, the first one for whom it verifies keeps it; others
 * get a copy if it verifies for them too (a tag does not bind the file), else a block that was never written: reading
 * it fails as before.
 */
export async function mendOverlaps(mending: Mending, used: Used): Promise<void> {
  const { container, tables } = mending, size = await container.store.size();
  const overlaps = overlapsOf(tables, used.metadata, size);
  if (overlaps.length === 0) return;
  const claims = claimsOn(mending, overlaps), { metadata } = used;
  for (const piece of piecesOf(overlaps, [...claims, ...metadata])) {
    const covering = <T extends Run>(all: readonly T[]) =>
      all.filter((one) => one.position < piece.position + piece.count && end(one) > piece.position);
    let kept = covering(metadata).length > 0;
    const losers: Claim[] = [];
    for (const claim of covering(claims).map((one) => part(one, piece))) {
      const bad = await badBlocks(container.store, container.keys, used, claim);
      if (kept || bad.length > 0) losers.push(claim);
      else kept = true;
    }
    // Nobody's data is whole: the first one keeps what there is.
    if (!kept) losers.shift();
    for (const claim of losers) {
      await relocate(mending, used, claim);
      mending.tell("overlap", `bytes from ${claim.offset} on have blocks of their own`, claim.ino);
      await mending.step();
    }
  }
}

function end(run: Run): Position {
  return run.position + run.count;
}

/** The parts of extents that lie in the overlaps. */
function claimsOn({ tables: { extents } }: Mending, overlaps: readonly Run[]): Claim[] {
  const claims: Claim[] = [];
  extents.everyExtent((ino, offset, length, position, birth) => {
    const claim = { ino, offset, length, position, birth, count: blocksFor(length) };
    let low = 0, high = overlaps.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (end(overlaps[middle]!) <= position) low = middle + 1;
      else high = middle;
    }
    for (; low < overlaps.length && overlaps[low]!.position < end(claim); low++) {
      claims.push(part(claim, overlaps[low]!));
    }
  });
  return claims;
}

/** What of a claim lies in a run of blocks. */
function part(claim: Claim, run: Run): Claim {
  const position = Math.max(claim.position, run.position);
  const count = Math.min(end(claim), end(run)) - position, skipped = (position - claim.position) * BLOCK;
  const length = Math.min(claim.length - skipped, count * BLOCK);
  return { ...claim, position, count, offset: claim.offset + skipped, length };
}

/** Cuts the overlaps where a claim begins or ends, so that each covers a piece whole or not at all. */
function* piecesOf(overlaps: readonly Run[], claims: readonly Run[]): Generator<Run> {
  const edges = [...new Set(claims.flatMap((one) => [one.position, end(one)]))].sort((a, b) => a - b);
  let i = 0;
  for (const overlap of overlaps) {
    let from = overlap.position;
    while (i < edges.length && edges[i]! <= from) i++;
    for (; i < edges.length && edges[i]! < end(overlap); i++) {
      yield { position: from, count: edges[i]! - from };
      from = edges[i]!;
    }
    yield { position: from, count: end(overlap) - from };
  }
}

/** Gives a part of a file other blocks, with the content of those that verify; the others are never written. */
async function relocate(mending: Mending, used: Used, claim: Claim): Promise<void> {
  const { container, tables, log } = mending, { store, session: { space }, keys: { sealer } } = container;
  const { ino, birth } = claim;
  await space.ensure(claim.count);
  space.promise(claim.count);
  let done = 0;
  for (const run of space.take(claim.count)) {
    const from = part(claim, { position: claim.position + done, count: run.count });
    const bad = new Set(await badBlocks(store, container.keys, used, from));
    const sealed = await store.read(from.position, run.count), plain = new Uint8Array(BLOCK);
    for (let i = 0; i < run.count; i++) {
      if (bad.has(i)) continue;
      const block = sealed.slice(i * SEALED, (i + 1) * SEALED);
      await sealer.unseal(container.dataIdentity(from.position + i, birth), block, plain);
      const identity = container.dataIdentity(run.position + i, container.session.openCommit);
      await writeSealed(store, sealer, identity, plain.slice());
    }
    const { offset, length } = from, now = container.session.openCommit;
    tables.extents.set(ino, offset, length, run.position, now, ignore);
    log.extent(ino, offset, length, run.position, now);
    done += run.count;
  }
}

/** Damaged ranges read as zeros from now on. */
export async function zeroDamaged(mending: Mending, findings: readonly Finding[]): Promise<void> {
  const { tables, log } = mending;
  for (const { ino, from, to, code } of findings) {
    if (ino === undefined || from === undefined || to === undefined || tables.extents.countOf(ino) === 0) {
      continue;
    }
    const end = Math.ceil(to / BLOCK) * BLOCK;
    tables.extents.cut(ino, from, end, ignore);
    log.cut(ino, from, end);
    // Moved times tell whoever copies this back from elsewhere that it differs.
    mending.changed(ino, true);
    mending.tell(code, `bytes ${from} to ${to - 1} are zeros now`, ino);
    await mending.step();
  }
}

/** Files with damaged ranges are removed, with all their names. */
export async function removeDamaged(mending: Mending, findings: readonly Finding[]): Promise<void> {
  const { tables, log } = mending, { inodes, dentries, extents } = tables;
  const damaged = new Map<Ino, string>();
  for (const { ino, code } of findings) {
    if (ino !== undefined && extents.countOf(ino) > 0) damaged.set(ino, code);
  }
  for (let slot = 0; slot < dentries.end; slot++) {
    if (!dentries.live(slot) || !damaged.has(dentries.inoAt(slot))) continue;
    const parent = dentries.parentAt(slot), name = dentries.nameAt(slot);
    dentries.remove(slot);
    log.removeEntry(parent, name);
    mending.changed(parent, true);
    await mending.step();
  }
  for (const [ino, code] of damaged) {
    extents.clear(ino, ignore);
    const generation = inodes.generation[ino]!;
    inodes.remove(ino);
    log.removeInode(ino, generation);
    mending.tell(code, "the file is removed", ino);
    await mending.step();
  }
}
