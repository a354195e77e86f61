/** What a commit costs: a record of one change appended and flushed, and a file written and synced, all in RAM. */
import { openLibcrypto } from "../../ffi/libcrypto.ts";
import { JournalWriter } from "../../fs/layout/journal.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { ROOT } from "../../fs/types.ts";
import { FILE, makeContainer, name, openVolume, testKeys } from "../../tests/fs/fixture.ts";

const engine = await openLibcrypto(), keys = await testKeys(undefined, engine);

{
  const store = new RamStore(), chunk = { position: 0, count: 1024 };
  await store.reserve(1024);
  const journal = new JournalWriter(store, keys.sealer, {
    session: { id: new Uint8Array(16), generation: 1 },
    chunk,
    hash: new Uint8Array(32),
    allocate: () => Promise.resolve(chunk), // the same one over and over: only the cost counts
  });
  const changes = new Uint8Array(100);
  let commit = 0;
  Deno.bench("journal: append a record of 100 bytes and flush", async () => {
    await journal.append(++commit, changes);
    await store.flush();
  });
}
{
  const store = new RamStore();
  await makeContainer(store);
  const volume = await openVolume(store, "write", { keys }), page = new Uint8Array(4096);
  const ino = volume.create(ROOT, name("file"), FILE);
  volume.hold(ino);
  let at = 0;
  Deno.bench("volume: write a page and fsync", async () => {
    await volume.write(ino, at++ % 1024 * 4096, page);
    await volume.fsync(ino);
  });
}
