/** Free blocks: runs sorted by position, in leaves. Nothing of this is stored; it follows from what is in use. */
import type { Position } from "../types.ts";
import type { Run } from "./superblock.ts";

/** Runs of a leaf at most, and when leaves are built. */
const LEAF = 256, LEAF_BUILT = 192;
/** Requests up to this many blocks fill the hole that fits best; larger ones take the next that is large enough. */
const SMALL = 16;
/** Size classes: runs of 2^k to 2^(k+1) - 1 blocks. */
const CLASSES = 32;

/** How {@linkcode FreeSpace.allocate} is to choose. */
export interface AllocateOptions {
  /** Only in one run. */
  readonly contiguous?: boolean;
  /** Where to begin to look; a hole that begins just there is taken first. */
  readonly near?: Position;
  /** In how many runs at most. */
  readonly max?: number;
  /** Only blocks before this position. */
  readonly below?: Position;
}

type Place = Required<Pick<AllocateOptions, "near" | "below">>;

/** A sorted piece of the list, never empty while it is in the list. */
interface Leaf {
  readonly starts: Float64Array;
  readonly counts: Float64Array;
  length: number;
}

/**
 * The free blocks below `limit`: holes between used blocks, and the tail behind the last used one. No operation but
 * {@linkcode build} looks at all runs.
 */
export class FreeSpace {
  #leaves: Leaf[] = [];
  /** Of each leaf: its first run's position, and the blocks of its largest run. */
  #firsts: number[] = [];
  #largest: number[] = [];
  /** Of each size class: runs and blocks. */
  readonly #runsOf = new Float64Array(CLASSES);
  readonly #blocksOf = new Float64Array(CLASSES);
  #holes = 0;
  #tail: Position = 0;
  #limit = 0;

  /** Blocks there are: positions below this may be allocated. */
  get limit(): number {
    return this.#limit;
  }

  /** @throws {RangeError} if used blocks would lie behind it */
  set limit(blocks: number) {
    if (!(blocks >= this.#tail)) throw new RangeError("Cannot lower limit: blocks behind it are in use");
    this.#limit = blocks;
  }

  get freeBlocks(): number {
    return this.#holes + this.#limit - this.#tail;
  }

  /** One more than the highest used position: all blocks from here to the limit are free. */
  tailStart(): Position {
    return this.#tail;
  }

  /** Blocks of the largest free run, the tail included. */
  largest(): number {
    let most = this.#limit - this.#tail;
    for (const one of this.#largest) if (one > most) most = one;
    return most;
  }

  /** How many free runs there are before the tail. */
  get holes(): number {
    return this.#runsOf.reduce((sum, runs) => sum + runs, 0);
  }

  /** The free runs before the tail, in order. Nothing may change meanwhile. */
  *runs(): Generator<Run> {
    for (const { starts, counts, length } of this.#leaves) {
      for (let i = 0; i < length; i++) yield { position: starts[i]!, count: counts[i]! };
    }
  }

  /** The first free run that ends behind a position, the tail at last. */
  next(position: Position): Run | undefined {
    const l = Math.max(this.#leafOf(position), 0), leaf = this.#leaves[l];
    if (leaf !== undefined) {
      const i = Math.max(indexOf(leaf, position), 0);
      for (const [one, at] of [[leaf, i], [leaf, i + 1], [this.#leaves[l + 1], 0]] as const) {
        if (one === undefined || at >= one.length) continue;
        const run = { position: one.starts[at]!, count: one.counts[at]! };
        if (run.position + run.count > position) return run;
      }
    }
    const start = Math.max(position, this.#tail);
    return start < this.#limit ? { position: start, count: this.#limit - start } : undefined;
  }

  /**
   * Begins anew: these runs are used, in any order, everything else is free.
   *
   * @param end the limit, if it is beyond the last used block
   * @returns the runs that are used more than once
   */
  build(used: Iterable<Run>, end = 0): Run[] {
    let starts = new Float64Array(1024), ends = new Float64Array(1024), length = 0;
    for (const { position, count } of used) {
      if (!(count > 0)) continue;
      if (length === starts.length) {
        starts = copied(starts, length * 2);
        ends = copied(ends, length * 2);
      }
      starts[length] = position;
      ends[length++] = position + count;
    }
    // Sorted apart they still tell how many runs cover a block: those that began less those that ended.
    starts = starts.subarray(0, length).sort();
    ends = ends.subarray(0, length).sort();
    this.#leaves = [];
    this.#firsts = [];
    this.#largest = [];
    this.#runsOf.fill(0);
    this.#blocksOf.fill(0);
    this.#holes = 0;
    this.#tail = length > 0 ? ends[length - 1]! : 0;
    this.#limit = Math.max(end, this.#tail);
    const overlaps: Run[] = [];
    let from = 0, covers = 0;
    for (let s = 0, e = 0; e < length;) {
      const begins = s < length && starts[s]! < ends[e]!, at = begins ? starts[s++]! : ends[e++]!;
      if (at > from && covers === 0) this.#append(from, at - from);
      if (at > from && covers > 1) pushRun(overlaps, from, at - from);
      covers += begins ? 1 : -1;
      from = at;
    }
    return overlaps;
  }

  /**
   * Takes free blocks.
   *
   * - One hole that is large enough, if there is one: the one that begins at `near`; for up to 16 blocks the best
   *   fit about there; for more the next large enough one behind it.
   * - The tail.
   * - Several runs, the long ones first.
   *
   * @returns the runs, or undefined (and nothing is taken) if there are not enough blocks or not in so few runs
   */
  allocate(count: number, options: AllocateOptions = {}): Run[] | undefined {
    const { near = 0, contiguous = false, max = Infinity, below = Infinity } = options;
    if (!(count >= 0)) throw new RangeError("Cannot allocate blocks: count is negative");
    if (count === 0) return [];
    if (count > this.freeBlocks) return undefined;
    const one = this.#takeOne(count, { near, below });
    if (one !== undefined) return [one];
    if (contiguous || max <= 1) return undefined;
    return max === Infinity
      ? this.#takeLong(count, { near, below })
      : this.#takeFew(count, { near, below, max });
  }

  /**
   * Makes used blocks free.
   *
   * @throws {RangeError} if one of them is free already: two owners believed to have it
   */
  release(position: Position, count: number): void {
    if (!(count > 0)) return;
    const l = this.#leafOf(position), leaf = this.#leaves[l], i = leaf ? indexOf(leaf, position) : -1;
    const end = position + count, inLeaf = leaf !== undefined && i + 1 < leaf.length;
    const after = inLeaf ? leaf : this.#leaves[leaf ? l + 1 : 0], a = inLeaf ? i + 1 : 0;
    const free = (i >= 0 && leaf!.starts[i]! + leaf!.counts[i]! > position) ||
      (after !== undefined && after.starts[a]! < end);
    if (free || end > this.#tail) throw new RangeError(`Cannot release blocks at ${position}: not in use`);
    const joinsBefore = i >= 0 && leaf!.starts[i]! + leaf!.counts[i]! === position;
    if (end === this.#tail) {
      this.#tail = joinsBefore ? leaf!.starts[i]! : position;
      if (joinsBefore) this.#remove(l, i);
    } else if (after !== undefined && after.starts[a] === end) {
      const more = count + after.counts[a]!;
      if (joinsBefore) {
        this.#resize(l, i, leaf!.starts[i]!, leaf!.counts[i]! + more);
        this.#remove(inLeaf ? l : l + 1, a);
      } else this.#resize(inLeaf ? l : leaf ? l + 1 : 0, a, position, more);
    } else if (joinsBefore) this.#resize(l, i, leaf!.starts[i]!, leaf!.counts[i]! + count);
    else this.#insert(Math.max(l, 0), i + 1, position, count);
  }

  /** Marks blocks used. @returns false if some of them were used already */
  use(position: Position, count: number): boolean {
    const end = position + count;
    let free = 0;
    if (end > this.#tail) {
      const from = Math.max(position, this.#tail), gap = from - this.#tail, old = this.#tail;
      free += end - from;
      this.#tail = end;
      this.#limit = Math.max(this.#limit, end);
      if (gap > 0) this.#append(old, gap);
    }
    for (let at = position; at < end;) {
      const l = Math.max(this.#leafOf(at), 0), leaf = this.#leaves[l];
      if (leaf === undefined) break;
      let i = Math.max(indexOf(leaf, at), 0), which = l, holder = leaf;
      if (holder.starts[i]! + holder.counts[i]! <= at && ++i === holder.length) {
        const next = this.#leaves[++which];
        if (next === undefined) break;
        holder = next;
        i = 0;
      }
      const start = Math.max(at, holder.starts[i]!),
        stop = Math.min(end, holder.starts[i]! + holder.counts[i]!);
      if (start >= end) break;
      this.#take(which, i, start, stop - start);
      free += stop - start;
      at = stop;
    }
    return free === count;
  }

  /** One run of this many blocks. */
  #takeOne(count: number, { near, below }: Place): Run | undefined {
    const own = classOf(count), leaves = this.#leaves;
    let fits = false;
    for (let k = own; k < CLASSES && !fits; k++) fits = this.#runsOf[k]! > 0;
    if (fits) {
      const first = Math.max(this.#leafOf(near), 0), leaf = leaves[first]!, at = indexOf(leaf, near);
      if (at >= 0 && leaf.starts[at] === near && leaf.counts[at]! >= count && near + count <= below) {
        return this.#take(first, at, near, count);
      }
      // Around, and the first leaf again for what lies before `near`.
      for (let n = 0; n <= leaves.length; n++) {
        const l = (first + n) % leaves.length;
        if (this.#largest[l]! < count) continue;
        const i = count <= SMALL
          ? bestFit(leaves[l]!, count, below)
          : firstFit(leaves[l]!, count, { below, from: n === 0 ? at : 0 });
        if (i >= 0) return this.#take(l, i, leaves[l]!.starts[i]!, count);
      }
    }
    return this.#tailBelow(below) >= count ? this.#takeTail(count) : undefined;
  }

  #tailBelow(below: Position): number {
    return Math.max(0, Math.min(this.#limit, below) - this.#tail);
  }

  #takeTail(count: number): Run {
    const run = { position: this.#tail, count };
    this.#tail += count;
    return run;
  }

  /** As few size classes as are needed from the top, their runs in order from `near` on, then the tail. */
  #takeLong(count: number, place: Place): Run[] | undefined {
    const tail = this.#tailBelow(place.below);
    for (let sum = tail, k = CLASSES; k > 0;) {
      do sum += this.#blocksOf[--k]!; while (sum < count && k > 0);
      if (sum < count) return undefined;
      const { chosen, rest } = this.#longRuns(count, place, 2 ** k);
      if (rest > tail) continue; // some of them lie behind the place
      for (const run of chosen) this.use(run.position, run.count);
      if (rest > 0) chosen.push(this.#takeTail(rest));
      return chosen;
    }
    return undefined;
  }

  /** Runs of at least so many blocks, up to `count` blocks of them, and how many blocks that lacks. */
  #longRuns(count: number, { near, below }: Place, least: number): { chosen: Run[]; rest: number } {
    const leaves = this.#leaves, chosen: Run[] = [], first = Math.max(this.#leafOf(near), 0);
    let rest = count;
    for (let n = 0; n <= leaves.length && rest > 0; n++) {
      const l = (first + n) % leaves.length, { starts, counts, length } = leaves[l]!;
      if (this.#largest[l]! < least) continue;
      const at = Math.max(indexOf(leaves[first]!, near), 0);
      const from = n === 0 ? at : 0, to = n === leaves.length ? at : length;
      for (let i = from; i < to && rest > 0 && starts[i]! < below; i++) {
        if (counts[i]! < least) continue;
        const taken = Math.min(rest, counts[i]!, below - starts[i]!);
        chosen.push({ position: starts[i]!, count: taken });
        rest -= taken;
      }
    }
    return { chosen, rest };
  }

  /** The largest run again and again, at most `max` times. */
  #takeFew(count: number, { max, ...place }: Place & { readonly max: number }): Run[] | undefined {
    const taken: Run[] = [];
    for (let rest = count; rest > 0;) {
      const run = taken.length < max ? this.#takeOne(Math.min(rest, this.largest()), place) : undefined;
      if (run === undefined) {
        for (const back of taken) this.release(back.position, back.count);
        return undefined;
      }
      taken.push(run);
      rest -= run.count;
    }
    return taken;
  }

  /** The last leaf that begins at or before a position, or -1. */
  #leafOf(position: Position): number {
    const firsts = this.#firsts;
    let low = -1, high = firsts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (firsts[middle]! <= position) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #tally(count: number, sign: 1 | -1): void {
    const k = classOf(count);
    this.#runsOf[k]! += sign;
    this.#blocksOf[k]! += sign * count;
    this.#holes += sign * count;
  }

  /** Takes blocks out of a run. */
  #take(l: number, i: number, position: Position, count: number): Run {
    const leaf = this.#leaves[l]!, start = leaf.starts[i]!, end = start + leaf.counts[i]!;
    const after = position + count;
    if (start < position) {
      this.#resize(l, i, start, position - start);
      if (after < end) this.#insert(l, i + 1, after, end - after);
    } else if (after < end) this.#resize(l, i, after, end - after);
    else this.#remove(l, i);
    return { position, count };
  }

  #resize(l: number, i: number, position: Position, count: number): void {
    const leaf = this.#leaves[l]!, before = leaf.counts[i]!;
    this.#tally(before, -1);
    this.#tally(count, 1);
    leaf.starts[i] = position;
    leaf.counts[i] = count;
    if (i === 0) this.#firsts[l] = position;
    if (count >= this.#largest[l]!) this.#largest[l] = count;
    else if (before === this.#largest[l]) this.#measure(l);
  }

  #measure(l: number): void {
    const { counts, length } = this.#leaves[l]!;
    let most = 0;
    for (let i = 0; i < length; i++) if (counts[i]! > most) most = counts[i]!;
    this.#largest[l] = most;
  }

  #insert(l: number, i: number, position: Position, count: number): void {
    let leaf = this.#leaves[l];
    if (leaf === undefined) leaf = this.#add(l);
    else if (leaf.length === LEAF) {
      // Behind the last run of all a new leaf begins empty: runs that come in order leave full ones.
      const half = i === LEAF && l === this.#leaves.length - 1 ? LEAF : LEAF / 2, next = this.#add(l + 1);
      next.starts.set(leaf.starts.subarray(half));
      next.counts.set(leaf.counts.subarray(half));
      next.length = LEAF - half;
      leaf.length = half;
      this.#firsts[l + 1] = next.starts[0]!;
      this.#measure(l);
      this.#measure(l + 1);
      if (i > half || half === LEAF) {
        leaf = next;
        i -= half;
        l++;
      }
    }
    leaf.starts.copyWithin(i + 1, i, leaf.length);
    leaf.counts.copyWithin(i + 1, i, leaf.length);
    leaf.starts[i] = position;
    leaf.counts[i] = count;
    leaf.length++;
    this.#tally(count, 1);
    if (i === 0) this.#firsts[l] = position;
    if (count > this.#largest[l]!) this.#largest[l] = count;
  }

  #remove(l: number, i: number): void {
    const leaf = this.#leaves[l]!, count = leaf.counts[i]!, next = this.#leaves[l + 1];
    this.#tally(count, -1);
    leaf.starts.copyWithin(i, i + 1, leaf.length);
    leaf.counts.copyWithin(i, i + 1, leaf.length);
    leaf.length--;
    if (leaf.length === 0) this.#drop(l);
    else {
      if (next !== undefined && leaf.length + next.length <= LEAF / 2) {
        leaf.starts.set(next.starts.subarray(0, next.length), leaf.length);
        leaf.counts.set(next.counts.subarray(0, next.length), leaf.length);
        leaf.length += next.length;
        this.#drop(l + 1);
        this.#measure(l);
      } else if (count === this.#largest[l]) this.#measure(l);
      this.#firsts[l] = leaf.starts[0]!;
    }
  }

  #add(l: number): Leaf {
    const leaf = { starts: new Float64Array(LEAF), counts: new Float64Array(LEAF), length: 0 };
    this.#leaves.splice(l, 0, leaf);
    this.#firsts.splice(l, 0, 0);
    this.#largest.splice(l, 0, 0);
    return leaf;
  }

  #drop(l: number): void {
    this.#leaves.splice(l, 1);
    this.#firsts.splice(l, 1);
    this.#largest.splice(l, 1);
  }

  /** Adds a run behind all others. */
  #append(position: Position, count: number): void {
    const l = this.#leaves.length - 1, last = this.#leaves[l];
    if (last === undefined || last.length >= LEAF_BUILT) {
      this.#add(l + 1);
      this.#insert(l + 1, 0, position, count);
    } else this.#insert(l, last.length, position, count);
  }
}

/** The last run of a leaf that begins at or before a position, or -1. */
function indexOf(leaf: Leaf, position: Position): number {
  const { starts } = leaf;
  let low = -1, high = leaf.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle]! <= position) low = middle;
    else high = middle - 1;
  }
  return low;
}

function bestFit({ starts, counts, length }: Leaf, count: number, below: Position): number {
  let best = -1;
  for (let i = 0; i < length && starts[i]! + count <= below; i++) {
    if (counts[i]! >= count && (best < 0 || counts[i]! < counts[best]!)) best = i;
    if (counts[i] === count) return i;
  }
  return best;
}

function firstFit(
  { starts, counts, length }: Leaf,
  count: number,
  { from, below }: { readonly from: number; readonly below: Position },
): number {
  for (let i = Math.max(from, 0); i < length && starts[i]! + count <= below; i++) {
    if (counts[i]! >= count) return i;
  }
  return -1;
}

function classOf(count: number): number {
  return count >= 2 ** 31 ? CLASSES - 1 : 31 - Math.clz32(count);
}

function pushRun(runs: Run[], position: Position, count: number): void {
  const last = runs[runs.length - 1];
  if (last !== undefined && last.position + last.count === position) {
    runs[runs.length - 1] = { position: last.position, count: last.count + count };
  } else runs.push({ position, count });
}

function copied(column: Float64Array<ArrayBuffer>, rows: number): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(rows);
  larger.set(column);
  return larger;
}
