/** Checking of the tree: entries, link counts, and that everything is reached from the root. */
import type { Finding } from "./fsck.ts";
import { isDirectory } from "./layout/changes.ts";
import type { Tables } from "./layout/tables.ts";
import type { Paths } from "./paths.ts";
import {
  type Ino,
  inodeNumber,
  ROOT,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
} from "./types.ts";

const TYPES: ReadonlySet<number> = new Set([
  S_IFREG,
  S_IFDIR,
  S_IFLNK,
  S_IFIFO,
  S_IFSOCK,
  S_IFCHR,
  S_IFBLK,
]);

/** Tells whether mode bits have a type that there is. */
export function hasType(mode: number): boolean {
  return TYPES.has(mode & S_IFMT);
}

/** Tells whether a live inode is a directory. */
export function isFolder({ inodes }: Tables, ino: Ino): boolean {
  return inodes.has(ino) && isDirectory(inodes.mode[ino]!);
}

/** What is wrong with an entry, in words that follow "an entry"; undefined if nothing is. */
export function entryFault(tables: Tables, slot: number): string | undefined {
  const { inodes, dentries } = tables, parent = dentries.parentAt(slot), ino = dentries.inoAt(slot);
  const name = dentries.nameView(slot);
  const folder = inodeNumber(parent);
  if (!isFolder(tables, parent)) return `lies in inode ${folder}, which is not a directory`;
  if (!inodes.has(ino)) return `of directory ${folder} names it, but it is not there`;
  if (name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e))) {
    return `of directory ${folder} has a name that is none`;
  }
  if (ino === ROOT) return `of directory ${folder} names the root`;
  return undefined;
}

/** Of each inode: entries without fault that name it, and those of a directory that name directories. */
export function countNames(tables: Tables): { names: Uint32Array; folders: Uint32Array } {
  const { inodes, dentries } = tables;
  const names = new Uint32Array(inodes.end), folders = new Uint32Array(inodes.end);
  for (let slot = 0; slot < dentries.end; slot++) {
    if (!dentries.live(slot) || entryFault(tables, slot) !== undefined) continue;
    const ino = dentries.inoAt(slot);
    names[ino]!++;
    if (isFolder(tables, ino)) folders[dentries.parentAt(slot)]!++;
  }
  return { names, folders };
}

/** Directories that have a name, but not below the root: in a circle, or under one. */
export function circling(tables: Tables): Ino[] {
  const { inodes, dentries } = tables, found: Ino[] = [];
  /** 1: ends at the root, or at a directory without a name. 2: does not. */
  const known = new Uint8Array(inodes.end);
  known[ROOT] = 1;
  for (let ino = 0; ino < inodes.end; ino++) {
    if (!isFolder(tables, ino)) continue;
    const way: Ino[] = [], seen = new Set<Ino>();
    let at = ino, end = 1;
    for (;;) {
      if (at >= inodes.end || known[at] !== 0) {
        end = known[at] ?? 1;
        break;
      }
      if (seen.has(at)) {
        end = 2;
        break;
      }
      seen.add(at);
      way.push(at);
      const slot = dentries.directoryEntryOf(at);
      if (slot < 0) break;
      at = dentries.parentAt(slot);
    }
    for (const one of way) known[one] = end;
    if (known[ino] === 2) found.push(ino);
  }
  return found;
}

/**
 * Tells whether an inode has lost its name. One without links is not meant, as it was open and unlinked when the
 * writer went away and goes at the next opening to write; but a directory that still has entries is, and what has no
 * type: changes name it, but what it was is lost.
 */
export function isOrphan({ inodes, dentries }: Tables, ino: Ino, names: Uint32Array): boolean {
  return inodes.has(ino) && ino !== ROOT && names[ino] === 0 &&
    (inodes.nlink[ino]! > 0 || dentries.countOf(ino) > 0 || !hasType(inodes.mode[ino]!));
}

/** The link count that an inode should have. */
export function expectedLinks(
  tables: Tables,
  ino: Ino,
  counts: { names: Uint32Array; folders: Uint32Array },
): number {
  return isFolder(tables, ino) ? 2 + counts.folders[ino]! : counts.names[ino]!;
}

/** Symlink targets and extended attributes of inodes that are not there. */
export function strayAttributes({ inodes }: Tables): Ino[] {
  const all = new Set([...inodes.targets.keys(), ...inodes.xattrs.keys()]);
  return [...all].filter((ino) => !inodes.has(ino)).sort((a, b) => a - b);
}

/** Tells whether an inode is a symlink that leads nowhere because its target is not there. */
export function lacksTarget({ inodes }: Tables, ino: Ino): boolean {
  return (inodes.mode[ino]! & S_IFMT) === S_IFLNK && !inodes.targets.has(ino);
}

/** Checks entries, links and types; what is found, in this order. */
export function checkNames(tables: Tables, paths: Paths): Finding[] {
  const { inodes, dentries } = tables, findings: Finding[] = [];
  const damage = (code: string, ino: Ino, message: string, path = paths.of(ino)) =>
    findings.push({
      severity: "damage",
      remedy: "repair",
      code,
      message: `Inode ${inodeNumber(ino)}: ${message}`,
      ino,
      path,
    });
  if (!isFolder(tables, ROOT)) damage("root", ROOT, "the root is not a directory");
  for (let slot = 0; slot < dentries.end; slot++) {
    if (!dentries.live(slot)) continue;
    const ino = dentries.inoAt(slot), fault = entryFault(tables, slot);
    const path = () => paths.entry(dentries.parentAt(slot), dentries.nameAt(slot));
    if (fault !== undefined) damage("entry", ino, `an entry ${fault}`, path());
    else if (dentries.directoryAt(slot) !== isFolder(tables, ino)) {
      damage("entry", ino, "an entry is wrong about whether it is a directory", path());
    }
  }
  const counts = countNames(tables), { names } = counts;
  for (let ino = 0; ino < inodes.end; ino++) {
    if (!inodes.has(ino)) continue;
    if (!hasType(inodes.mode[ino]!)) damage("type", ino, "it is of no known type");
    if (lacksTarget(tables, ino)) damage("target", ino, "a symlink without a target");
    if (isOrphan(tables, ino, names)) damage("orphan", ino, "no directory names it");
    if (isFolder(tables, ino) && names[ino]! > 1) damage("entry", ino, "a directory has more than one name");
    const nlink = inodes.nlink[ino]!, expected = expectedLinks(tables, ino, counts);
    // What has no name gets one, and with it a link; without links it was open and unlinked.
    const nameless = ino !== ROOT && names[ino] === 0 && (nlink === 0 || !isFolder(tables, ino));
    if (nlink !== expected && !nameless) damage("links", ino, `link count is ${nlink}, expected ${expected}`);
  }
  for (const ino of circling(tables)) damage("cycle", ino, "the directory is not below the root");
  for (const ino of strayAttributes(tables)) damage("attribute", ino, "it has attributes, but is not there");
  return findings;
}
