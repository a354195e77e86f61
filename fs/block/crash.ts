/** What a container may look like after a crash: made from a recording, for any moment of it. */
import { blockOffset, blocksOf, HEADER_AT } from "./byte_layout.ts";
import { Medium } from "./medium.ts";
import type { Recording, StoreEvent } from "./recording.ts";

/**
 * What became of the changes that no acknowledged flush covers:
 * - `kept`: all are there;
 * - `dropped`: none is;
 * - `torn`: in order up to one that was cut at a sector; nothing of those behind it;
 * - `reordered`: each by itself is there, is not, or is there in some of its sectors;
 * - `subset`: each by itself is there or is not: as the bits of the seed say where at most {@linkcode EXHAUSTIVE}
 *   changes are pending, of which then all subsets are made.
 */
export type CrashMode = "kept" | "dropped" | "torn" | "reordered" | "subset";

/** Up to how many pending changes every subset of them is made. */
export const EXHAUSTIVE = 10;

/**
 * What a sector holds in which a write was interrupted: the old or the new bytes (`none`), garbage where the write
 * went (`own`: the device leaves bytes alone that were not written), or garbage altogether (`sector`: neighbours
 * that were durable long ago are hit too).
 */
export type Garbage = "none" | "own" | "sector";

/** One crash, by numbers: the same numbers give the same bytes. */
export interface CrashPoint {
  /** How many events had happened. */
  readonly events: number;
  readonly mode: CrashMode;
  readonly seed: number;
  /** Bytes that are written as a whole: cuts lie at multiples of it in the container's file. */
  readonly sector: 512 | 4096;
  readonly garbage: Garbage;
}

/** A container after a crash. */
export interface CrashImage extends CrashPoint {
  /** The container's bytes, as they lie in a file. The caller's own. */
  readonly medium: Medium;
}

/** Which crashes to make. */
export interface CrashOptions {
  /** Changes what is drawn; default 1. */
  readonly seed?: number;
  /** Default: all but `subset`. */
  readonly modes?: readonly CrashMode[];
  /** Default: both. */
  readonly sectors?: readonly (512 | 4096)[];
  /** Default: `none` and `own`. */
  readonly garbage?: readonly Garbage[];
  /** Images at each moment for each mode that draws, as `subset` does of many changes; default 1. */
  readonly variants?: number;
  /** Moments between which a crash may be, in numbers of events; default: all. */
  readonly from?: number;
  readonly to?: number;
  /** Takes each moment with this probability; default 1. Moments at which a flush was acknowledged are always taken. */
  readonly share?: number;
}

/** Numbers in [0, 1) from a seed: mulberry32 (public domain, T. Ettinger 2017). */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function mix(...numbers: number[]): number {
  let hash = 0x811c9dc5;
  for (const number of numbers) hash = Math.imul(hash ^ number, 0x01000193) ^ (hash >>> 13);
  return hash >>> 0;
}

function apply(medium: Medium, event: StoreEvent, random: () => number): void {
  switch (event.kind) {
    case "write":
    case "header":
      return medium.write(offsetOf(event), event.bytes);
    case "discard":
      return medium.garble(blockOffset(event.position), blockOffset(event.position + event.count), random);
    case "truncate":
      return medium.cut(blockOffset(event.blocks));
    case "reserve":
      return medium.grow(blockOffset(event.blocks));
  }
}

type Writing = Extract<StoreEvent, { bytes: Uint8Array }>;

function offsetOf(event: Writing): number {
  return event.kind === "write" ? blockOffset(event.position) : HEADER_AT[event.region][event.copy];
}

/** Applies only some sectors of a write; a sector that was being written may hold garbage. */
function tear(
  medium: Medium,
  event: Writing,
  { sector, garbage }: CrashPoint,
  options: { random: () => number; inOrder: boolean },
): void {
  const { random, inOrder } = options, offset = offsetOf(event), end = offset + event.bytes.length;
  const first = Math.floor(offset / sector), last = Math.floor((end - 1) / sector);
  const cut = first + Math.floor(random() * (last - first + 1));
  for (let i = first; i <= last; i++) {
    const from = Math.max(offset, i * sector), to = Math.min(end, (i + 1) * sector);
    if (inOrder ? i < cut : random() < 0.5) {
      medium.write(from, event.bytes.subarray(from - offset, to - offset));
    }
    if (i !== cut || garbage === "none") continue;
    medium.grow(to);
    if (garbage === "own") medium.garble(from, to, random);
    else medium.garble(i * sector, (i + 1) * sector, random);
  }
}

/** A change that no acknowledged flush covers, with its number among the events. */
interface Pending {
  readonly number: number;
  readonly event: StoreEvent;
}

/** What events write to whole blocks, made once: images by the thousand share it. */
const written = new WeakMap<StoreEvent, Medium>();

/** Applies a change. What is garbage then depends on nothing but the event's number. */
function applyWhole(medium: Medium, { number, event }: Pending): void {
  if (event.kind !== "write" && event.kind !== "discard") {
    return apply(medium, event, generator(mix(number)));
  }
  const { position } = event, count = event.kind === "write" ? blocksOf(event.bytes) : event.count;
  let blocks = written.get(event);
  if (blocks === undefined) {
    written.set(event, blocks = new Medium());
    blocks.grow(blockOffset(position + count));
    apply(blocks, event, generator(mix(number)));
  }
  if (event.kind === "write") medium.grow(blockOffset(position + count));
  medium.share(blocks, { position, count });
}

/** Applies to a durable state what became of the changes that no flush covers. */
function crash(medium: Medium, pending: readonly Pending[], point: CrashPoint): void {
  const random = generator(point.seed);
  if (point.mode === "dropped") return;
  if (point.mode === "subset") {
    const named = (i: number) => pending.length <= EXHAUSTIVE ? (point.seed >>> i & 1) === 1 : random() < 0.5;
    for (const [i, one] of pending.entries()) if (named(i)) applyWhole(medium, one);
    return;
  }
  const stop = Math.floor(random() * pending.length);
  for (const [i, one] of pending.entries()) {
    const { event } = one;
    if (point.mode === "kept" || (point.mode === "torn" && i < stop)) applyWhole(medium, one);
    else if (point.mode === "torn") {
      if ("bytes" in event) tear(medium, event, point, { random, inOrder: true });
      return;
    } else {
      const fate = random();
      if (fate < 0.4) applyWhole(medium, one);
      else if (fate < 0.7 && "bytes" in event) tear(medium, event, point, { random, inOrder: false });
    }
  }
}

/** How many of the first `events` events are durable: all that an acknowledged flush covers. */
function durableEvents(recording: Recording, events: number): number {
  let durable = 0;
  const begun = new Map<number, number>();
  for (const [i, event] of recording.events.slice(0, events).entries()) {
    if (event.kind === "flush-begin") begun.set(event.flush, i);
    else if (event.kind === "flush-acknowledged") durable = Math.max(durable, begun.get(event.flush)!);
  }
  return durable;
}

/** The changes that were made and that no flush covers. */
function pendingOf({ events }: Recording, durable: number, to: number): Pending[] {
  return events.slice(durable, to)
    .map((event, i) => ({ event, number: durable + i }))
    .filter(({ event: { kind } }) => kind !== "flush-begin" && kind !== "flush-acknowledged");
}

/** Makes the bytes of one crash: for looking again at what {@linkcode crashImages} found. */
export function crashImage(recording: Recording, point: CrashPoint): CrashImage {
  const medium = Medium.fromBytes(recording.initial), durable = durableEvents(recording, point.events);
  advance(medium, recording.events, 0, durable);
  crash(medium, pendingOf(recording, durable, point.events), point);
  return { ...point, medium };
}

/** Applies durable events. */
function advance(medium: Medium, events: readonly StoreEvent[], from: number, to: number): void {
  for (let number = from; number < to; number++) applyWhole(medium, { number, event: events[number]! });
}

/**
 * Makes the images of crashes at every moment of a recording, in order; equal ones are left out where that is easy to
 * see. Let the loop run to its end, or break out of it.
 */
export function* crashImages(recording: Recording, options: CrashOptions = {}): Generator<CrashImage> {
  const { seed = 1, modes = ["kept", "dropped", "torn", "reordered"], variants = 1, share = 1 } = options;
  const sectors = options.sectors ?? [512, 4096], garbages = options.garbage ?? ["none", "own"];
  const { events } = recording, to = Math.min(options.to ?? events.length, events.length);
  const base = Medium.fromBytes(recording.initial), begun = new Map<number, number>();
  const chance = generator(seed);
  let durable = 0, fresh = true;
  for (let count = 0; count <= to; count++) {
    const event = count > 0 ? events[count - 1]! : undefined, before = durable;
    if (event?.kind === "flush-begin") begun.set(event.flush, count - 1);
    if (event?.kind === "flush-acknowledged") durable = Math.max(durable, begun.get(event.flush)!);
    advance(base, events, before, durable);
    fresh ||= durable > before;
    if (count < (options.from ?? 0) || event?.kind === "flush-begin") continue;
    if (chance() >= share && event?.kind !== "flush-acknowledged") continue;
    const pending = pendingOf(recording, durable, count);
    const image = (
      mode: CrashMode,
      seed: number,
      by: { sector: 512 | 4096; garbage: Garbage },
    ): CrashImage => {
      const point: CrashPoint = { events: count, mode, seed, ...by }, medium = base.fork();
      crash(medium, pending, point);
      return { ...point, medium };
    };
    for (const [m, mode] of modes.entries()) {
      const drawn = mode === "torn" || mode === "reordered" ||
        (mode === "subset" && pending.length > EXHAUSTIVE);
      if (mode === "subset" && !drawn) {
        for (const subset of subsets(pending.length, endsWithFlush(events, count, to))) {
          yield image(mode, subset, { sector: 512, garbage: "none" });
        }
        continue;
      }
      if (drawn && pending.length === 0) continue;
      if (mode === "dropped" && (!fresh || (pending.length === 0 && modes.includes("kept")))) continue;
      for (let variant = 0; variant < (drawn ? variants : 1); variant++) {
        const random = generator(mix(seed, count, m, variant));
        const pick = <T>(list: readonly T[]) => list[Math.floor(random() * list.length)]!;
        const sector = pick(sectors), garbage = pick(garbages);
        yield image(mode, mix(seed, count, m, variant, 1), { sector, garbage });
      }
    }
    fresh = false;
  }
}

/** Tells whether the same changes are pending still, and no others, when the next flush is acknowledged. */
function endsWithFlush(events: readonly StoreEvent[], count: number, to: number): boolean {
  const next = events.slice(count, to).find(({ kind }) => kind !== "flush-begin");
  return next === undefined || next.kind === "flush-acknowledged";
}

/** Subsets of so many changes, as bits; those without the last one were there a moment ago, unless `all` are due. */
function* subsets(changes: number, all: boolean): Generator<number> {
  for (let subset = all ? 0 : 2 ** changes >> 1; subset < 2 ** changes; subset++) yield subset;
}
