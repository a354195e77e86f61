import { stat } from "node:fs/promises";
import { join } from "node:path";
import { hex } from "../../crypto/bytes.ts";
import { CoverError } from "../../crypto/errors.ts";
import { calibrateRounds, SecretBytes, writerKeyPair } from "../../crypto/mod.ts";
import { fallocate } from "../../ffi/fallocate.ts";
import { type FileStore, openFileStore } from "../../fs/store/file.ts";
import { openRemoteStore, type RemoteStore } from "../../fs/store/remote.ts";
import { formatAddress } from "../../net/mod.ts";
import { measureSealing, type SealingSpeed } from "../benchmark/sealing.ts";
import { measureStore, type StoreSpeed } from "../benchmark/store.ts";
import { remoteOptions } from "../container.ts";
import { interruptible } from "../interrupt.ts";
import { type Locator, parseLocator } from "../locator.ts";
import { type Access, duration, reachingCommand } from "../options.ts";
import { escapeControls, print, printJson } from "../output.ts";
import { Progress } from "../progress.ts";

/** `coverfs bench`: what this machine, a disk and a link can do. */
export const benchCommand = () =>
  reachingCommand("bench", "coverfs bench\ncoverfs bench /media/disk\ncoverfs bench coverfs://host")
    .description("measure how fast this machine seals blocks, and how fast a place stores them")
    .argument("[PLACE]", "a folder, or coverfs://HOST[:PORT]; something is stored there and removed again")
    .option("--time <TIME>", "how long each figure is measured", duration, 1)
    .option("--json", "print one object")
    .option("-q, --quiet", "no progress")
    .action((place, options) =>
      interruptible(async (signal) => {
        const how = { milliseconds: options.time * 1000, signal }, say = options.json ? () => {} : print;
        await using store = place === undefined ? undefined : await makeScratch(place, options);
        using progress = new Progress(options);
        progress.show("deriving keys");
        const kdfRounds = await calibrateRounds();
        progress.clear();
        say(`one second of PBKDF2-HMAC-SHA-512: ${kdfRounds} rounds\n`);
        say(HEADING);
        const sealing: SealingSpeed[] = [];
        for await (const speed of measureSealing(how)) {
          progress.clear();
          sealing.push(speed);
          say(sealingLine(speed));
          progress.show("sealing");
        }
        progress.clear();
        const speed = store && await measureStore(store.store, how);
        if (options.json) return printJson({ kdfRounds, sealing, ...(speed && { store: speed }) });
        if (speed) storeLines(store.name, speed).forEach(print);
      })
    );

/** A store of its own that is removed in the end. */
interface Scratch extends AsyncDisposable {
  readonly name: string;
  readonly store: FileStore | RemoteStore;
}

async function makeScratch(place: string, access: Access): Promise<Scratch> {
  const name = `coverfs-bench-${hex(crypto.getRandomValues(new Uint8Array(6)))}`;
  const locator = parseLocator(place), store = await create(locator, name, access);
  return {
    name: locator.kind === "remote" ? `coverfs://${formatAddress(locator.remote)}` : place,
    store,
    async [Symbol.asyncDispose]() {
      await store.remove();
      await store.close();
    },
  };
}

async function create(locator: Locator, name: string, access: Access): Promise<FileStore | RemoteStore> {
  switch (locator.kind) {
    case "ram":
      throw new CoverError("usage", `Cannot measure "ram:": it takes what memory takes`);
    case "file": {
      const found = await stat(locator.path).catch(() => undefined);
      if (!found?.isDirectory()) {
        throw new CoverError("usage", `Cannot measure at "${locator.path}": it is not a folder`);
      }
      return await openFileStore(join(locator.path, name), "create", { fallocate });
    }
    case "remote": {
      const containerId = crypto.getRandomValues(new Uint8Array(16));
      using key = SecretBytes.random(32);
      return await openRemoteStore({
        ...await remoteOptions({ ...locator.remote, name }, access),
        mode: "create",
        prover: await writerKeyPair(key, containerId, { generation: 1 }),
        containerId,
        session: crypto.getRandomValues(new Uint8Array(16)),
      });
    }
  }
}

const COLUMNS = [24, 20, 12, 12, 14, 14] as const;
const HEADING = row(["suite", "engine", "seal", "open", "seal a block", "open a block"]);

function row(cells: readonly string[]): string {
  return cells.map((cell, i) => i < 2 ? cell.padEnd(COLUMNS[i]!) : cell.padStart(COLUMNS[i]!)).join("");
}

function sealingLine(speed: SealingSpeed): string {
  return row([
    speed.suite,
    speed.engine,
    throughput(speed.sealBytesPerSecond),
    throughput(speed.openBytesPerSecond),
    time(speed.sealBlockSeconds),
    time(speed.openBlockSeconds),
  ]);
}

function storeLines(place: string, speed: StoreSpeed): string[] {
  const rows: readonly [string, string][] = [
    ["write a block and make it durable", time(speed.flushSeconds)],
    ["read a block", time(speed.readSeconds)],
    ["write a stream", throughput(speed.writeBytesPerSecond)],
    ["read a stream", throughput(speed.readBytesPerSecond)],
  ];
  return [
    `\n${escapeControls(place)}`,
    ...rows.map(([what, value]) => `  ${what.padEnd(36)}${value.padStart(10)}`),
  ];
}

function throughput(bytesPerSecond: number): string {
  return `${(bytesPerSecond / 1e6).toFixed(0)} MB/s`;
}

function time(seconds: number): string {
  return seconds < 1e-3 ? `${(seconds * 1e6).toFixed(1)} µs` : `${(seconds * 1e3).toFixed(1)} ms`;
}
