/** A container that cannot grow any more: what a mount answers, what stays whole, and how room is made again. */
import assert from "node:assert/strict";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { FsError } from "../../fs/errors.ts";
import { makeWriter, openOn, startServer } from "../net/servers.ts";
import { MountProcess, ServerProcess } from "./processes.ts";
import { smallDisk, Workplace } from "./run.ts";

const mounting = { sanitizeOps: true, sanitizeResources: true, ignore: Deno.build.os !== "linux" };
const asRoot = { ...mounting, ignore: mounting.ignore || Deno.uid() !== 0 };

/** Bytes of one file, and of the medium: some dozens of files fit. */
const FILE = 1 << 20, DISK = 24 << 20;

function content(number: number): Uint8Array {
  return new Uint8Array(FILE).map((_, i) => (i + (i >> 8) + number) & 255);
}

/** Writes files until there is no room. @returns the numbers of those that were synced, and the errno's name */
async function fill(
  directory: string,
  from: number,
): Promise<{ synced: number[]; code: string | undefined }> {
  const synced: number[] = [];
  for (let number = from; number < from + DISK / FILE * 2; number++) {
    try {
      using file = await Deno.create(`${directory}/${number}`);
      const bytes = content(number);
      for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
      await file.sync();
    } catch (error) {
      return { synced, code: codeOf(error) };
    }
    synced.push(number);
  }
  assert.fail("It never was full");
}

/** The errno's name; of errors of `Deno.FsFile` the number tells it (errno-base.h, errno.h). */
function codeOf(error: unknown): string | undefined {
  const number = /os error (\d+)/.exec((error as Error).message)?.[1];
  return number === "28" ? "ENOSPC" : number === "122" ? "EDQUOT" : (error as Error).message;
}

/** Fills a container by a mount, deletes, fills again, and mounts it once more while it is full. */
async function fillAndDelete(
  place: Workplace,
  container: string,
  code: string,
  options: { readonly args?: readonly string[]; readonly restart?: () => Promise<void> } = {},
) {
  const { args = [], restart } = options;
  await mkdir(place.path("mnt"));
  const made = await place.run(["init", "--kdf-rounds", "210000", container]);
  assert.equal(made.code, 0, made.error);
  const check = async () => {
    const checked = await place.run(["fsck", "--scrub", container]);
    assert.equal(checked.code, 0, checked.out + checked.error);
  };
  const start = () => MountProcess.start(place, { container, at: place.path("mnt"), args });
  const whole = async (directory: string, numbers: readonly number[]) => {
    for (const number of numbers) {
      assert((await readFile(`${directory}/${number}`)).equals(content(number)), `${number}`);
    }
  };
  let left: number[];
  {
    await using mount = await start();
    const { synced, code: first } = await fill(mount.path, 0);
    assert.equal(first, code);
    assert(synced.length >= 8, `${synced.length}`);
    await whole(mount.path, synced);
    for (const number of synced.slice(0, 5)) await rm(`${mount.path}/${number}`);
    const again = await fill(mount.path, 100);
    assert.equal(again.code, code);
    assert(again.synced.length >= 4, `only ${again.synced.length} where 5 were deleted`);
    left = [...synced.slice(5), ...again.synced];
    await whole(mount.path, left);
    assert.equal(await mount.unmount(), 0, mount.program.said);
  }
  await check();
  await restart?.();
  {
    // It is full, and yet it can be mounted, and files can be deleted.
    await using mount = await start();
    const names = await readdir(mount.path);
    assert(left.every((number) => names.includes(`${number}`)));
    await whole(mount.path, left);
    for (const name of names.filter((name) => !left.includes(Number(name)))) {
      await rm(`${mount.path}/${name}`);
    }
    for (const number of left.splice(0, 3)) await rm(`${mount.path}/${number}`);
    const { synced } = await fill(mount.path, 200);
    assert(synced.length >= 2, `only ${synced.length} where 3 were deleted`);
    await whole(mount.path, [...left, ...synced]);
    assert.equal(await mount.unmount(), 0, mount.program.said);
  }
  await check();
}

for (const args of [[], ["--writeback-cache"]]) {
  const how = args.length > 0 ? ", with the write-back cache" : "";
  Deno.test(
    `a full disk below a container in a file: ENOSPC, nothing hurt, room again by deleting${how}`,
    asRoot,
    async () => {
      await using place = await Workplace.make();
      await using disk = await smallDisk(place, DISK);
      await fillAndDelete(place, `${disk.path}/container`, "ENOSPC", { args });
    },
  );

  Deno.test(`a server's quota: EDQUOT, nothing hurt, room again by deleting${how}`, mounting, async () => {
    await using place = await Workplace.make();
    await mkdir(place.path("served"));
    await using server = await ServerProcess.start(place, ["--max-size", "24M"]);
    await fillAndDelete(place, server.link, "EDQUOT", { args, restart: () => server.restart() });
  });
}

Deno.test("a full disk of a server: ENOSPC, nothing hurt, room again by deleting", asRoot, async () => {
  await using place = await Workplace.make();
  await using disk = await smallDisk(place, DISK);
  await using server = await ServerProcess.start(place, ["--root", disk.path]);
  await fillAndDelete(place, server.link, "ENOSPC", { restart: () => server.restart() });
  await server.kill();
});

Deno.test(
  "a server whose disk its containers have filled still grants leases, so that one can delete",
  asRoot,
  async () => {
    await using place = await Workplace.make();
    await using disk = await smallDisk(place, 2 << 20);
    await using server = await startServer({ root: disk.path });
    const writer = await makeWriter();
    {
      await using store = await openOn(server, { mode: "create", ...writer });
      for (let step = 256, blocks = 0; step > 0;) {
        try {
          await store.reserve(blocks + step);
          blocks += step;
        } catch (error) {
          assert(error instanceof FsError && error.code === "ENOSPC", String(error));
          step >>= 1;
        }
      }
      assert.equal((await store.space()).free, 0);
    }
    await using store = await openOn(server, { mode: "write", ...await makeWriter(writer) });
    await store.truncate(0);
    await store.flush();
    await store.close();
    await server.shutdown();
  },
);
