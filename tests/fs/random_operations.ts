/** Random operations on a filesystem and on the plain model. */
import { FsError } from "../../fs/errors.ts";
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  type Filesystem,
} from "../../fs/filesystem.ts";
import { S_IFLNK, S_IFMT, S_IFREG } from "../../fs/types.ts";
import { FILE, FOLDER, inoOf, name, pattern, type Walk } from "./fixture.ts";

/** One random operation, described by what it does to a filesystem; all numbers are drawn before. */
export function draw(random: (n: number) => number, paths: Walk): [string, (on: Filesystem) => unknown] {
  const pick = () => paths.length === 0 || random(8) === 0 ? "" : paths[random(paths.length)]!.path;
  const target = pick(), other = pick(), fresh = `n${random(12)}`, kind = random(20), bits = random(0o1000);
  const at = random(60_000), length = random(30_000), size = random(80_000), seed = 1 + random(1 << 30);
  const parentOf = (path: string) => path.slice(0, Math.max(0, path.lastIndexOf("/")));
  const nameOf = (path: string) => name(path.slice(path.lastIndexOf("/") + 1) || "x");
  const allocations = [0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE];
  const mode = allocations[random(3)]!, flags = random(3);
  switch (kind) {
    case 0:
    case 1:
      return [`create ${target}/${fresh}`, (on) => void on.create(inoOf(on, target), name(fresh), FILE)];
    case 2:
      return [`mkdir ${target}/${fresh}`, (on) => void on.create(inoOf(on, target), name(fresh), FOLDER)];
    case 3: {
      const spec = { mode: S_IFLNK | 0o777, uid: 5, gid: 6, target: name(`to${seed}`) };
      return [`symlink ${target}/${fresh}`, (on) => void on.create(inoOf(on, target), name(fresh), spec)];
    }
    case 4:
      return [
        `link ${target} ${other}/${fresh}`,
        (on) => on.link(inoOf(on, target), inoOf(on, other), name(fresh)),
      ];
    case 5:
      return [`unlink ${target}`, (on) => on.unlink(inoOf(on, parentOf(target)), nameOf(target))];
    case 6:
      return [`rmdir ${target}`, (on) => on.rmdir(inoOf(on, parentOf(target)), nameOf(target))];
    case 7:
    case 8:
      return [
        `rename ${target} ${other}/${fresh} ${flags}`,
        (on) => on.rename(inoOf(on, parentOf(target)), nameOf(target), inoOf(on, other), name(fresh), flags),
      ];
    case 9:
      return [
        `rename ${target} ${other} ${flags}`,
        (on) =>
          on.rename(
            inoOf(on, parentOf(target)),
            nameOf(target),
            inoOf(on, parentOf(other)),
            nameOf(other),
            flags,
          ),
      ];
    case 10:
      return [`truncate ${target} ${size}`, (on) => void on.setAttributes(inoOf(on, target), { size })];
    case 11:
      return [
        `chmod ${target} ${bits}`,
        (on) => void on.setAttributes(inoOf(on, target), { mode: bits, uid: bits, gid: seed % 1000 }),
      ];
    case 12:
      return [
        `xattr ${target}`,
        (on) => on.setXattr(inoOf(on, target), name("user.x"), pattern(length % 500, seed)),
      ];
    case 13:
      return [
        `allocate ${target} ${at} ${length} ${mode}`,
        (on) => on.allocate(inoOf(on, target), at, length + 1, mode),
      ];
    case 14:
      return [
        `copy ${target} ${other}`,
        (on) => {
          const from = inoOf(on, target), to = inoOf(on, other);
          const regular = (ino: number) => (on.attributes(ino).mode & S_IFMT) === S_IFREG;
          return regular(from) && regular(to) ? on.copy(from, at, to, size, length) : "refused by the kernel";
        },
      ];
    case 15:
      return [`read ${target} ${at} ${length}`, (on) => on.read(inoOf(on, target), at, length)];
    default:
      return [
        `write ${target} ${at} ${length}`,
        (on) => on.write(inoOf(on, target), at, pattern(length, seed)),
      ];
  }
}

/**
 * What an operation answered. Of refusals it only tells that they are: where two reasons hold, POSIX leaves open which
 * one is told (volume_test.ts has the reasons one by one).
 */
export async function outcome(work: () => unknown): Promise<unknown> {
  try {
    const answer = await work();
    return answer instanceof Uint8Array ? answer.join() : answer;
  } catch (error) {
    if (error instanceof FsError) return "refused";
    throw error;
  }
}
