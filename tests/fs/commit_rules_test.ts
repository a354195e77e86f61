/** Rules of the journal that no crash breaks by itself: they are held against somebody who may write to the store. */
import assert from "node:assert/strict";
import { CHUNK_FIRST, JournalReader, JournalWriter } from "../../fs/layout/journal.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { name, testKeys } from "./fixture.ts";

Deno.test("a record that does not carry the hash of the one before is not read", async () => {
  const store = new RamStore(), { sealer } = await testKeys();
  const session = { id: new Uint8Array(16).fill(3), generation: 1 };
  const chunk = { position: 0, count: CHUNK_FIRST, first: 1 }, hash = new Uint8Array(32);
  const writer = () =>
    new JournalWriter(store, sealer, { session, chunk, hash, allocate: () => Promise.reject(new Error()) });
  const reader = () => new JournalReader(store, sealer, { session, chunk, commit: 1, hash });

  const first = writer();
  await first.append(1, name("one"), 0);
  await first.append(2, name("two"), 0);
  const whole = reader();
  assert.deepEqual((await whole.next())?.payload, name("one"));
  assert.deepEqual((await whole.next())?.payload, name("two"));

  // Another first record of the same session, at the same place and of the same number: it verifies by itself.
  await writer().append(1, name("another one"), 0);
  const forked = reader();
  assert.deepEqual((await forked.next())?.payload, name("another one"));
  assert.equal(await forked.next(), undefined);
  assert.equal(forked.commit, 2);

  const elsewhere = new JournalReader(store, sealer, {
    session,
    chunk,
    commit: 1,
    hash: new Uint8Array(32).fill(1),
  });
  assert.equal(await elsewhere.next(), undefined);
});
