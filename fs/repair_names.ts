/** Mending of the tree: entries, circles, what has no name, link counts. What is checked: `fsck_names.ts`. */
import {
  circling,
  countNames,
  entryFault,
  expectedLinks,
  hasType,
  isFolder,
  isOrphan,
  lacksTarget,
  strayAttributes,
} from "./fsck_names.ts";
import { fromLatin1 } from "./layout/changes.ts";
import type { Mending } from "./mending.ts";
import { type Ino, inodeNumber, ROOT, S_IFDIR, S_IFMT, S_IFREG } from "./types.ts";

const LOST_FOUND = "lost+found";

/** Mends what else `checkNames` finds. Files lose no content, and nothing is removed that had any. */
export async function mendNames(mending: Mending): Promise<void> {
  await removeStrays(mending);
  await mendEntries(mending);
  await mendFolderNames(mending);
  await breakCircles(mending);
  await linkOrphans(mending);
  await mendLinks(mending);
}

/** Mends the root, inodes of no type and symlinks without target: before anything is judged by what it is. */
export async function mendInodes(mending: Mending): Promise<void> {
  const { tables } = mending, { inodes } = tables;
  if (!isFolder(tables, ROOT)) {
    if (inodes.has(ROOT) && (inodes.mode[ROOT]! & S_IFMT) === S_IFREG) moveContent(mending, ROOT);
    inodes.insert(ROOT);
    retype(mending, ROOT, S_IFDIR | 0o755);
    inodes.nlink[ROOT] = 2;
    mending.tell("root", "made a directory", ROOT);
  }
  for (let ino = 0; ino < inodes.end; ino++) {
    if (!inodes.has(ino)) continue;
    if (!hasType(inodes.mode[ino]!)) giveType(mending, ino);
    if (lacksTarget(tables, ino)) {
      removeInode(mending, ino);
      mending.tell("target", "the symlink is removed", ino);
    }
    await mending.step();
  }
}

/** Attributes of inodes that are not there. */
async function removeStrays(mending: Mending): Promise<void> {
  const { tables, log } = mending, { inodes } = tables;
  for (const ino of strayAttributes(tables)) {
    inodes.targets.delete(ino);
    inodes.xattrs.delete(ino);
    log.removeInode(ino, inodes.generation[ino] ?? 0);
    mending.tell("attribute", "its attributes are removed", ino);
    await mending.step();
  }
}

/** What has entries was a directory; else it is a file, of all the data that there is. */
function giveType(mending: Mending, ino: Ino): void {
  const { inodes, dentries, extents } = mending.tables, folder = dentries.countOf(ino) > 0;
  const mode = (inodes.mode[ino]! & 0o777) || (folder ? 0o700 : 0o600);
  if (!folder) inodes.size[ino] = Math.max(inodes.size[ino]!, extents.endOf(ino));
  inodes.nlink[ino] = Math.max(inodes.nlink[ino]!, 1);
  retype(mending, ino, mode | (folder ? S_IFDIR : S_IFREG));
  mending.tell("type", `made a ${folder ? "directory" : "file"}`, ino);
}

/** Replaying a change of type forgets what belonged to the inode: it is recorded once more. */
function retype({ tables, log }: Mending, ino: Ino, mode: number): void {
  const { inodes, extents } = tables;
  inodes.mode[ino] = mode;
  log.inode(ino);
  if ((mode & S_IFMT) === S_IFREG) {
    extents.each(ino, (offset, length, position, birth) => log.extent(ino, offset, length, position, birth));
  }
  for (const [name, value] of inodes.xattrs.get(ino) ?? []) log.xattr(ino, fromLatin1(name), value);
}

/** A file that lies where the root must be gets an inode of its own. */
function moveContent({ tables, log }: Mending, from: Ino): void {
  const { inodes, extents } = tables, to = inodes.allocate();
  const columns = ["mode", "uid", "gid", "nlink", "size", "mtimeS", "mtimeN", "ctimeS", "ctimeN"] as const;
  for (const column of columns) inodes[column][to] = inodes[column][from]!;
  log.inode(to);
  const pieces: Parameters<typeof extents.set>[] = [];
  extents.each(from, (...extent) => void pieces.push([to, ...extent, () => {}]));
  for (const piece of pieces) {
    extents.set(...piece);
    log.extent(to, piece[1], piece[2], piece[3], piece[4]);
  }
  extents.clear(from, () => {});
  inodes.size[from] = 0;
}

/** Takes an inode away; its names are dealt with as entries that name nothing. */
function removeInode({ tables, log }: Mending, ino: Ino): void {
  const generation = tables.inodes.generation[ino]!;
  tables.extents.clear(ino, () => {});
  tables.inodes.remove(ino);
  log.removeInode(ino, generation);
}

/** Entries that lie nowhere, name nothing or name it wrongly. */
async function mendEntries(mending: Mending): Promise<void> {
  const { tables, log } = mending, { dentries } = tables;
  for (let slot = 0, end = dentries.end; slot < end; slot++) {
    if (!dentries.live(slot)) continue;
    const parent = dentries.parentAt(slot), ino = dentries.inoAt(slot), name = dentries.nameAt(slot);
    if (entryFault(tables, slot) !== undefined) {
      dentries.remove(slot);
      log.removeEntry(parent, name);
      mending.tell("entry", `an entry of directory ${inodeNumber(parent)} is removed`, ino);
    } else if (dentries.directoryAt(slot) !== isFolder(tables, ino)) {
      dentries.setIno(slot, ino, { directory: isFolder(tables, ino) });
      log.entry(parent, name, ino, isFolder(tables, ino));
      mending.tell("entry", `an entry of directory ${inodeNumber(parent)} is made right`, ino);
    }
    await mending.step();
  }
}

/** A directory keeps one name: one that is reached from the root, if there is such a one. */
async function mendFolderNames(mending: Mending): Promise<void> {
  const { tables, log } = mending, { dentries } = tables, { names } = countNames(tables);
  const slots = new Map<Ino, number[]>();
  for (let slot = 0; slot < dentries.end; slot++) {
    if (!dentries.live(slot) || names[dentries.inoAt(slot)]! < 2) continue;
    const ino = dentries.inoAt(slot);
    if (isFolder(tables, ino)) slots.set(ino, [...slots.get(ino) ?? [], slot]);
  }
  for (const [ino, all] of slots) {
    const kept = all.find((slot) => reaches(mending, dentries.parentAt(slot), ino)) ?? all[0]!;
    for (const slot of all) {
      if (slot === kept) continue;
      const parent = dentries.parentAt(slot), name = dentries.nameAt(slot);
      dentries.remove(slot);
      log.removeEntry(parent, name);
      mending.tell("entry", `its second name, in directory ${inodeNumber(parent)}, is removed`, ino);
    }
    dentries.setIno(kept, ino, { directory: true });
    await mending.step();
  }
}

/** Tells whether the way from a directory up leads to the root without passing `avoided`. */
function reaches({ tables }: Mending, from: Ino, avoided: Ino): boolean {
  const seen = new Set<Ino>();
  for (let at = from; !seen.has(at) && at !== avoided;) {
    if (at === ROOT) return true;
    seen.add(at);
    const slot = tables.dentries.directoryEntryOf(at);
    if (slot < 0) return false;
    at = tables.dentries.parentAt(slot);
  }
  return false;
}

/** Takes one name out of each circle: what hung in it is then below a directory without a name. */
async function breakCircles(mending: Mending): Promise<void> {
  const { tables, log } = mending, { dentries } = tables;
  for (let circles = circling(tables); circles.length > 0; circles = circling(tables)) {
    const seen = new Set<Ino>();
    let at = circles[0]!;
    while (!seen.has(at)) {
      seen.add(at);
      at = dentries.parentAt(dentries.directoryEntryOf(at));
    }
    const slot = dentries.directoryEntryOf(at), parent = dentries.parentAt(slot);
    const name = dentries.nameAt(slot);
    dentries.remove(slot);
    log.removeEntry(parent, name);
    mending.tell("cycle", `its name in directory ${inodeNumber(parent)}, which is below it, is removed`, at);
    await mending.step();
  }
}

/** Gives what has no name one in `/lost+found`: `#` and its inode number. */
async function linkOrphans(mending: Mending): Promise<void> {
  const { tables, log } = mending, { inodes } = tables, { names } = countNames(tables);
  let folder: Ino | undefined;
  for (let ino = 0, end = names.length; ino < end; ino++) {
    if (!isOrphan(tables, ino, names)) continue;
    if (folder === undefined) folder = lostFound(mending);
    const name = freeName(mending, folder, `#${inodeNumber(ino)}`), directory = isFolder(tables, ino);
    tables.dentries.insert(folder, name, ino, { directory });
    log.entry(folder, name, ino, directory);
    mending.changed(folder, true);
    log.inode(ino);
    if (!directory) inodes.nlink[ino] = 1;
    mending.tell("orphan", `named /${LOST_FOUND}/${new TextDecoder().decode(name)}`, ino);
    await mending.step();
  }
}

/** The directory for what has no name; made if it is not there. */
function lostFound(mending: Mending): Ino {
  const { tables, log } = mending, { inodes, dentries } = tables;
  const there = dentries.find(ROOT, new TextEncoder().encode(LOST_FOUND));
  if (there >= 0 && isFolder(tables, dentries.inoAt(there))) return dentries.inoAt(there);
  const name = freeName(mending, ROOT, LOST_FOUND), ino = inodes.allocate();
  inodes.mode[ino] = S_IFDIR | 0o700;
  inodes.uid[ino] = inodes.uid[ROOT]!;
  inodes.gid[ino] = inodes.gid[ROOT]!;
  inodes.nlink[ino] = 2;
  mending.changed(ino, true);
  for (const time of ["atime", "btime"] as const) {
    inodes[`${time}S`][ino] = inodes.mtimeS[ino]!;
    inodes[`${time}N`][ino] = inodes.mtimeN[ino]!;
  }
  dentries.insert(ROOT, name, ino, { directory: true });
  log.entry(ROOT, name, ino, true);
  mending.changed(ROOT, true);
  return ino;
}

/** A name that the directory has not yet: the wanted one, or with a number behind it. */
function freeName({ tables: { dentries } }: Mending, directory: Ino, wanted: string): Uint8Array {
  for (let number = 0;; number++) {
    const name = new TextEncoder().encode(number === 0 ? wanted : `${wanted}.${number}`);
    if (dentries.find(directory, name) < 0) return name;
  }
}

/** Sets link counts to what the entries say. */
async function mendLinks(mending: Mending): Promise<void> {
  const { tables, log } = mending, { inodes } = tables, counts = countNames(tables);
  for (let ino = 0; ino < inodes.end; ino++) {
    if (!inodes.has(ino)) continue;
    const nlink = inodes.nlink[ino]!, expected = expectedLinks(tables, ino, counts);
    // Without links and names: open and unlinked, a directory too.
    if (nlink === expected || (nlink === 0 && ino !== ROOT && counts.names[ino] === 0)) continue;
    inodes.nlink[ino] = expected;
    log.inode(ino);
    mending.tell("links", `link count is ${expected}, was ${nlink}`, ino);
    await mending.step();
  }
}
