/**
 * A workload for crash tests: every kind of change that a filesystem knows, done to a volume and to the plain model
 * side by side, with all that is needed to judge later what a crash left of it.
 */
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, type Filesystem } from "../../fs/filesystem.ts";
import { RENAME_EXCHANGE } from "../../fs/filesystem.ts";
import { FsError } from "../../fs/errors.ts";
import { CHUNK_FIRST } from "../../fs/layout/journal.ts";
import type { DurablePoint } from "../../fs/loading.ts";
import { type Ino, ROOT, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from "../../fs/types.ts";
import type { Volume } from "../../fs/volume.ts";
import { MemoryFilesystem } from "../model/memory_filesystem.ts";
import { FILE, FOLDER, inoOf, name, pattern, randomNumbers, walk } from "./fixture.ts";

/** What a step did to the content of one file, which the model's inode id names. */
export type ContentChange =
  & { readonly file: Ino }
  & (
    /** Data was written: it is durable when the file is flushed. */
    | { readonly kind: "write"; readonly from: number; readonly to: number }
    /** These belong to the metadata, and are durable with it. */
    | { readonly kind: "truncate"; readonly size: number }
    | { readonly kind: "punch"; readonly from: number; readonly to: number }
    /** From here on a commit that shows the step holds the file's data too (replaced another, or was rewritten). */
    | { readonly kind: "must" }
  );

/** The filesystem after one operation. */
export interface Step {
  readonly what: string;
  /** How many events the store had seen when the operation began. */
  readonly events: number;
  /** All names and attributes but sizes of files, see {@linkcode namesOf}. */
  readonly names: string;
  /** Files by path, as the model's inode ids. */
  readonly files: ReadonlyMap<string, Ino>;
  readonly contents: ReadonlyMap<Ino, Uint8Array>;
  readonly change: ContentChange | undefined;
  /** Room was short: a write that waits for it has what is written behind so far committed, page by page. */
  readonly full: boolean;
}

/** A durability that was acknowledged: from that event on the state of a step must be there. */
export interface Promised {
  readonly events: number;
  readonly step: number;
  /** The file whose data is promised; all if undefined, none if null. */
  readonly file: Ino | undefined | null;
  /** What a client remembers by then against rollback. */
  readonly durable: DurablePoint | undefined;
}

/** What a workload did. */
export interface History {
  readonly steps: readonly Step[];
  readonly promised: readonly Promised[];
  /** The kinds of operations that were done; "chunk change" and "move" (of blocks) among them. */
  readonly kinds: ReadonlySet<string>;
}

/** Everything of a tree but the contents and sizes of regular files: equal exactly when these are equal. */
export function namesOf(filesystem: Filesystem): string {
  const first = new Map<Ino, string>(), lines: string[] = [];
  for (const { path, ino } of [{ path: "/", ino: ROOT }, ...walk(filesystem)]) {
    if (!first.has(ino)) first.set(ino, path);
    const { mode, nlink, uid, gid, size, atime, mtime, ctime, btime } = filesystem.attributes(ino);
    const type = mode & S_IFMT,
      times = [atime, mtime, ctime, btime].map((t) => `${t.seconds}.${t.nanoseconds}`);
    const target = type === S_IFLNK ? filesystem.readlink(ino).join() : "";
    const attributes = filesystem.listXattr(ino).map((one) => `${one}=${filesystem.getXattr(ino, one)}`)
      .sort();
    lines.push([
      ...[path, first.get(ino), mode.toString(8), nlink, uid, gid, type === S_IFREG ? "" : size],
      ...[...times, target, ...attributes],
    ].join(" "));
  }
  return lines.join("\n");
}

/** How often each kind of operation is done in a round; the order is drawn. */
const ROUND: Readonly<Record<string, number>> = {
  create: 3,
  overwrite: 5,
  append: 4,
  replace: 3,
  rewrite: 2,
  rename: 2,
  exchange: 1,
  link: 2,
  unlink: 2,
  "unlink while open": 1,
  mkdir: 2,
  rmdir: 2,
  symlink: 1,
  "truncate down": 2,
  "truncate up": 2,
  "cut and grow": 2,
  punch: 2,
  chmod: 1,
  utimens: 1,
  xattr: 2,
  "remove xattr": 1,
  "fsync file": 7,
  "fsync directory": 3,
  sync: 2,
  compact: 1,
};
const ROUNDS = 3;

/** All kinds that a whole workload does. */
export const KINDS: readonly string[] = [
  ...Object.keys(ROUND),
  "checkpoint",
  "reopen",
  "chunk change",
  "move",
  "no room",
];

/** What {@linkcode runWorkload} works with. */
export interface WorkloadOptions {
  readonly seed: number;
  /** Commits and checkpoints are not waited for: operations go on while they run. */
  readonly overlapping: boolean;
  /** Opens the volume, in a store that counts its events. */
  readonly open: () => Promise<Volume>;
  readonly events: () => number;
  /** Sees that the store grows by so many blocks at most from now on, or again as it likes. */
  readonly limit: (blocks: number | undefined) => Promise<void>;
}

/** Runs the workload to its end. */
export async function runWorkload(options: WorkloadOptions): Promise<History> {
  const workload = new Workload(options, await options.open());
  const random = workload.random;
  for (let round = 0; round < ROUNDS; round++) {
    const deck = Object.entries(ROUND).flatMap(([kind, count]) => Array<string>(count).fill(kind));
    const last = round === ROUNDS - 1;
    const extra = last ? ["checkpoint", "reopen", "checkpoint", "checkpoint", "fill"] : [];
    if (last) {
      await workload.fillChunk();
      await workload.moveBlocks();
    }
    for (const kind of extra) deck.splice(random(deck.length), 0, kind);
    while (deck.length > 0) await workload.do(deck.splice(random(deck.length), 1)[0]!);
  }
  return await workload.finish();
}

class Workload {
  readonly random: (n: number) => number;
  readonly #options: WorkloadOptions;
  readonly #model = new MemoryFilesystem();
  readonly #steps: Step[] = [];
  readonly #promised: Promised[] = [];
  readonly #kinds = new Set<string>();
  #volume: Volume;
  #full = false;
  #contents = new Map<Ino, Uint8Array>();
  #running: Promise<void>[] = [];
  #compacting: Promise<void> | undefined;

  constructor(options: WorkloadOptions, volume: Volume) {
    this.#options = options;
    this.random = randomNumbers(options.seed);
    this.#volume = volume;
    // The empty container was there before the first event.
    this.#note("open", 0, undefined);
    this.#promised.push({ events: 0, step: 0, file: undefined, durable: undefined });
  }

  /** Does one operation of a kind; where there is nothing to do it to, makes that first. */
  async do(kind: string): Promise<void> {
    await this.#operation(kind);
    this.#kinds.add(kind);
    if (this.#options.overlapping && this.random(3) === 0) {
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  }

  /** Commits until the journal's first chunk is full; each checkpoint later begins a new one. */
  async fillChunk(): Promise<void> {
    while (!this.#kinds.has("chunk change")) {
      await this.do("overwrite");
      await this.do("sync");
      await this.#settle();
      if (this.#volume.container.journalBlocks > CHUNK_FIRST) this.#kinds.add("chunk change");
    }
  }

  /** Makes holes before files until compacting moves these. */
  async moveBlocks(): Promise<void> {
    while (!this.#kinds.has("move")) {
      const first = await this.#create();
      await this.#write(first, 0, pattern(100_000, this.random(1 << 30)));
      await this.do("sync");
      await this.do("create");
      await this.do("sync");
      await this.#both(`unlink ${first}`, (on) => on.unlink(...at(on, first)));
      await this.do("sync");
      await this.#settle();
      await this.do("compact");
      for (let i = 0; i < 4; i++) await this.do("overwrite");
      await this.#settle();
    }
  }

  async #compact(): Promise<void> {
    this.#compacting ??= this.#volume.compact().then(({ moved }) => {
      this.#compacting = undefined;
      if (moved > 0) this.#kinds.add("move");
    });
    if (this.#options.overlapping) this.#running.push(this.#compacting);
    else await this.#compacting;
  }

  /** Ends the volume: everything is promised then. */
  async finish(): Promise<History> {
    await this.#settle();
    await this.#volume.end();
    this.#promise(undefined, this.#steps.length - 1);
    return { steps: this.#steps, promised: this.#promised, kinds: this.#kinds };
  }

  async #settle(): Promise<void> {
    await Promise.all(this.#running.splice(0));
  }

  #promise(file: Ino | undefined | null, step: number): void {
    const { durable } = this.#volume.container;
    this.#promised.push({ events: this.#options.events(), step, file, durable });
  }

  #note(what: string, events: number, change: ContentChange | undefined): void {
    const files = new Map<string, Ino>();
    for (const { path, ino } of walk(this.#model)) {
      if ((this.#model.attributes(ino).mode & S_IFMT) === S_IFREG) files.set(path, ino);
    }
    const contents = new Map(this.#contents);
    for (const ino of new Set(files.values())) {
      if (contents.has(ino) && change?.file !== ino) continue;
      contents.set(ino, this.#model.read(ino, 0, this.#model.attributes(ino).size));
    }
    this.#contents = contents;
    const names = namesOf(this.#volume), full = this.#full;
    this.#steps.push({ what, events, names, files, contents, change, full });
  }

  /** Does the same to both filesystems, and notes the state after it. */
  async #both(what: string, work: (on: Filesystem) => unknown, change?: ContentChange): Promise<void> {
    await this.#volume.admit();
    const events = this.#options.events();
    await work(this.#volume);
    await work(this.#model);
    this.#note(what, events, change);
  }

  /** Waits for what makes something durable, or lets it run. */
  async #durable(work: Promise<unknown>, file: Ino | undefined | null): Promise<void> {
    const step = this.#steps.length - 1, done = work.then(() => this.#promise(file, step));
    if (this.#options.overlapping) this.#running.push(done);
    else await done;
  }

  #paths(type: number): string[] {
    return walk(this.#model)
      .filter(({ ino }) => (this.#model.attributes(ino).mode & S_IFMT) === type)
      .map(({ path }) => path);
  }

  #pick(paths: readonly string[]): string | undefined {
    return paths.length === 0 ? undefined : paths[this.random(paths.length)];
  }

  #folder(): string {
    return this.#pick(["", ...this.#paths(S_IFDIR)])!;
  }

  /** A name that is not taken: the directory and the last part. */
  #fresh(): readonly [string, Uint8Array] {
    const folder = this.#folder();
    for (;;) {
      const text = `n${this.random(1000)}`;
      if (this.#model.lookup(inoOf(this.#model, folder), name(text)) === undefined) {
        return [folder, name(text)];
      }
    }
  }

  #bytes(most: number): Uint8Array {
    return pattern(1 + this.random(most), 1 + this.random(1 << 30));
  }

  async #create(): Promise<string> {
    const [folder, last] = this.#fresh(), path = `${folder}/${new TextDecoder().decode(last)}`;
    await this.#both(`create ${path}`, (on) => on.create(inoOf(on, folder), last, FILE));
    await this.#write(path, 0, this.#bytes(20_000));
    return path;
  }

  async #mkdir(): Promise<string> {
    const [folder, last] = this.#fresh();
    await this.#both(`mkdir in ${folder}`, (on) => on.create(inoOf(on, folder), last, FOLDER));
    return `${folder}/${new TextDecoder().decode(last)}`;
  }

  async #write(path: string, at: number, bytes: Uint8Array): Promise<void> {
    const file = inoOf(this.#model, path), what = `write ${path} ${at}+${bytes.length}`;
    await this.#both(what, (on) => on.write(inoOf(on, path), at, bytes), {
      ...{ file, kind: "write" },
      ...{ from: at, to: at + bytes.length },
    });
  }

  /** Writes, unless there is no room. @returns false then */
  async #tryWrite(path: string, at: number, bytes: Uint8Array): Promise<boolean> {
    try {
      await this.#write(path, at, bytes);
      return true;
    } catch (error) {
      if (!(error instanceof FsError && error.code === "ENOSPC")) throw error;
      this.#kinds.add("no room");
      return false;
    }
  }

  /** Fills the store to its last block; what was accepted can be synced, and what is there cut and deleted. */
  async #fill(file: string): Promise<void> {
    const { random } = this;
    // Whatever else is under way would meet a full store too.
    await this.#settle();
    const big = await this.#create(), id = inoOf(this.#model, big);
    await this.#options.limit(random(40));
    this.#full = true;
    while (await this.#tryWrite(big, this.#model.attributes(id).size, this.#bytes(120_000)));
    while (await this.#tryWrite(big, this.#model.attributes(id).size, this.#bytes(4000)));
    await this.#tryWrite(file, 0, this.#bytes(20_000));
    await this.#durable(this.#volume.fsync(inoOf(this.#volume, big)), id);
    await this.#settle();
    await this.#truncate(big, random(this.#model.attributes(id).size));
    await this.#durable(this.#volume.sync(), undefined);
    await this.#both(`unlink ${big}`, (on) => on.unlink(...at(on, big)));
    await this.#durable(this.#volume.sync(), undefined);
    await this.#settle();
    await this.#options.limit(undefined);
    this.#full = false;
  }

  async #truncate(path: string, size: number): Promise<void> {
    const file = inoOf(this.#model, path);
    await this.#both(`truncate ${path} ${size}`, (on) => on.setAttributes(inoOf(on, path), { size }), {
      file,
      kind: "truncate",
      size,
    });
  }

  async #setXattr(path: string): Promise<void> {
    const value = this.#bytes(3000), attribute = name(`user.${this.random(3)}`);
    await this.#both(`xattr ${path}`, (on) => on.setXattr(inoOf(on, path), attribute, value));
  }

  async #operation(kind: string): Promise<void> {
    const { random } = this, model = this.#model;
    const file = this.#pick(this.#paths(S_IFREG)) ?? await this.#create(), id = inoOf(model, file);
    const folder = this.#pick(this.#paths(S_IFDIR)) ?? "", { size } = model.attributes(id);
    switch (kind) {
      case "create":
        await this.#create();
        return;
      case "mkdir":
        await this.#mkdir();
        return;
      case "symlink": {
        const [parent, last] = this.#fresh(), target = name(`to/${random(1000)}`);
        const spec = { mode: S_IFLNK | 0o777, uid: 1, gid: 2, target };
        await this.#both(`symlink in ${parent}`, (on) => on.create(inoOf(on, parent), last, spec));
        return;
      }
      case "rmdir": {
        const empty = this.#paths(S_IFDIR).filter((path) => [...model.list(inoOf(model, path))].length === 0);
        const path = this.#pick(empty) ?? await this.#mkdir();
        await this.#both(`rmdir ${path}`, (on) => on.rmdir(...at(on, path)));
        return;
      }
      case "sync":
        await this.#durable(this.#volume.sync(), undefined);
        return;
      case "fsync directory":
        await this.#durable(this.#volume.fsync(inoOf(this.#volume, this.#folder())), null);
        return;
      case "checkpoint":
        // With nothing left to commit, the checkpoint's own flush is the only one.
        if (random(2) === 0) await this.#volume.sync();
        if (this.#options.overlapping) this.#running.push(this.#volume.checkpoint());
        else await this.#volume.checkpoint();
        return;
      case "compact":
        await this.#compact();
        return;
      case "reopen":
        await this.#settle();
        await this.#volume.end();
        this.#promise(undefined, this.#steps.length - 1);
        this.#volume = await this.#options.open();
        return;
      case "chmod": {
        const path = this.#pick([file, folder])!;
        const mode = random(0o1000), uid = random(1000);
        await this.#both(`chmod ${path}`, (on) => on.setAttributes(inoOf(on, path), { mode, uid, gid: 3 }));
        return;
      }
      case "utimens": {
        const path = this.#pick([file, folder])!;
        const times = {
          atime: { seconds: -random(1e9), nanoseconds: random(1e9) },
          mtime: { seconds: random(2e9) * 2, nanoseconds: random(1e9) },
        };
        await this.#both(`utimens ${path}`, (on) => on.setAttributes(inoOf(on, path), times));
        return;
      }
      case "overwrite":
        await this.#write(file, random(size + 1), this.#bytes(9000));
        return;
      case "append":
        await this.#write(file, size + (random(4) === 0 ? random(30_000) : 0), this.#bytes(9000));
        return;
      case "replace": {
        const made = await this.#create();
        const change: ContentChange = { file: inoOf(model, made), kind: "must" };
        await this.#both(
          `replace ${file} by ${made}`,
          (on) => on.rename(...at(on, made), ...at(on, file)),
          change,
        );
        return;
      }
      case "rewrite":
        await this.#truncate(file, 0);
        await this.#write(file, 0, this.#bytes(15_000));
        await this.#both(`close ${file}`, (on) => on.closed(inoOf(on, file)), { file: id, kind: "must" });
        return;
      case "rename": {
        const moved = this.#pick([...this.#paths(S_IFREG), ...this.#paths(S_IFLNK)])!,
          [to, last] = this.#fresh();
        await this.#both(`rename ${moved}`, (on) => on.rename(...at(on, moved), inoOf(on, to), last));
        return;
      }
      case "exchange": {
        const others = this.#paths(S_IFREG).filter((one) => one !== file);
        const other = this.#pick(others) ?? await this.#create();
        await this.#both(
          `exchange ${file} ${other}`,
          (on) => on.rename(...at(on, file), ...at(on, other), RENAME_EXCHANGE),
        );
        return;
      }
      case "link": {
        const [to, last] = this.#fresh();
        await this.#both(`link ${file}`, (on) => on.link(inoOf(on, file), inoOf(on, to), last));
        return;
      }
      case "unlink":
        await this.#both(`unlink ${file}`, (on) => on.unlink(...at(on, file)));
        return;
      case "unlink while open": {
        const open = [[this.#volume, inoOf(this.#volume, file)], [model, id]] as const;
        for (const [on, ino] of open) on.hold(ino);
        await this.#both(`unlink ${file} while it is open`, (on) => on.unlink(...at(on, file)));
        const bytes = this.#bytes(9000);
        await this.#both("write to it", (on) => on.write(on === model ? id : open[0][1], 0, bytes), {
          file: id,
          kind: "write",
          from: 0,
          to: bytes.length,
        });
        await this.#durable(this.#volume.fsync(open[0][1]), id);
        await this.#both("close it", (on) => on.drop(on === model ? id : open[0][1]));
        return;
      }
      case "truncate down":
        await this.#truncate(file, random(size + 1));
        return;
      case "truncate up":
        await this.#truncate(file, size + random(20_000));
        return;
      case "cut and grow":
        await this.#truncate(file, random(size + 1));
        await this.#truncate(file, size + random(20_000));
        return;
      case "fill":
        await this.#fill(file);
        return;
      case "punch": {
        const from = random(size + 1), to = from + 1 + random(20_000);
        // Its parts are several changes: a commit in between shows a state that no step has.
        await this.#settle();
        await this.#both(
          `punch ${file} ${from} to ${to}`,
          (on) => on.allocate(inoOf(on, file), from, to - from, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE),
          { file: id, kind: "punch", from, to },
        );
        return;
      }
      case "xattr":
        await this.#setXattr(file);
        return;
      case "remove xattr": {
        const has = this.#paths(S_IFREG).find((path) => model.listXattr(inoOf(model, path)).length > 0);
        if (has === undefined) await this.#setXattr(file);
        const path = has ?? file, attribute = model.listXattr(inoOf(model, path))[0]!;
        await this.#both(`remove xattr ${path}`, (on) => on.removeXattr(inoOf(on, path), attribute));
        return;
      }
      case "fsync file":
        if (random(2) === 0) await this.#write(file, random(size + 1), this.#bytes(20_000));
        await this.#durable(this.#volume.fsync(inoOf(this.#volume, file)), id);
        // What is being flushed changes, where that is not waited for.
        if (random(2) === 0) await this.#write(file, random(size + 1), this.#bytes(20_000));
        else if (random(3) === 0) await this.#truncate(file, random(size + 1));
        return;
      default:
        throw new Error(`Unknown kind "${kind}"`);
    }
  }
}

/** The directory and the last part of a path. */
function at(on: Filesystem, path: string): [Ino, Uint8Array] {
  const cut = path.lastIndexOf("/");
  return [inoOf(on, path.slice(0, cut)), name(path.slice(cut + 1))];
}
