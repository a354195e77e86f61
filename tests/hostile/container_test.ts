/** Attacks by whoever has the container in hands and no keys: editing a file, or serving it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { UnlockedContainer } from "../../cli/container.ts";
import { changeEncryption } from "../../cli/key_change.ts";
import { addSlot } from "../../crypto/mod.ts";
import { StoreDecorator } from "../../fs/block/decorator.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { copyOpened } from "../../cli/commands/clone.ts";
import { RamStore } from "../../fs/store/ram.ts";
import { temporaryFolder } from "../net/servers.ts";
import { ATTACKS } from "./attacks.ts";
import { Client } from "./client.ts";
import { makeHistory } from "./history.ts";
import { bounded, isOneOf, judgeWriter, outcomeOf } from "./judge.ts";
import { FilePlace, LyingServer } from "./places.ts";

// Libraries that a command loads stay loaded until its end.
const strict = { sanitizeOps: true, sanitizeResources: false };

Deno.test(
  "a container editor without keys: each attack is named, shows no wrong data and has nothing overwritten",
  strict,
  async (t) => {
    await using folder = await temporaryFolder();
    await using server = await LyingServer.start();
    const client = new Client(join(folder.path, "client")),
      stranger = new Client(join(folder.path, "stranger"));
    const file = new FilePlace(folder.path), history = await makeHistory(file, client);
    const { newest, parent, lost, open, other } = history;
    const past = [parent, lost, ...open, newest, other].map(({ files }) => files);
    for (const [where, place] of [["file", file], ["server", server]] as const) {
      client.forget();
      await place.set(newest.image);
      assert.equal(outcomeOf(await client.look(place), newest.files), "served");
      const { memory } = client;
      for (const { name, forge, known, first, write = known } of ATTACKS) {
        await t.step(`${name} (${where})`, async () => {
          const copy = newest.image.slice(), image = await forge(copy, history) ?? copy;
          await place.set(image);
          client.memory = memory;
          const seen = await bounded(() => client.look(place));
          assert.equal(outcomeOf(seen, newest.files), known, "to one who remembers");
          await judgeWriter(client, place, { expected: write, truth: newest.files });
          if (place === server) return; // who remembers nothing sees the same wherever it lies
          await place.set(image);
          stranger.forget();
          stranger.said.length = 0;
          const shown = await stranger.look(place);
          // A genuine past state is whole; one that ends before a damaged record is not, and that can be told.
          const damage = first === "past" && known === "damaged" ? [/^warning: The journal /] : [];
          assert.equal(stranger.said.length, damage.length, stranger.said.join());
          for (const [i, warning] of damage.entries()) assert.match(stranger.said[i]!, warning);
          if (first !== "past") {
            assert.equal(outcomeOf(shown, newest.files), first, "to one who remembers nothing");
          } else {assert(
              typeof shown !== "string" && isOneOf(shown, past),
              `to one who remembers nothing: ${shown}`,
            );}
        });
      }
    }
  },
);

Deno.test(
  "an old journal tail of a session that is open is a rollback to who has seen the newer one",
  strict,
  async () => {
    await using folder = await temporaryFolder();
    const client = new Client(join(folder.path, "client")), place = new FilePlace(folder.path);
    const { open } = await makeHistory(place, client);
    client.forget();
    for (const { image } of open) {
      await place.set(image);
      assert.notEqual(typeof await client.look(place), "string", "newer ones may come");
    }
    // The newest record proves itself when a later one follows: what is remembered is the commit before.
    await place.set(open[0].image);
    assert.equal(await client.look(place), "rollback");
    assert.equal(await client.write(place, {}), "rollback");
    assert.deepEqual(await place.get(), open[0].image);
  },
);

Deno.test("clone refuses an older state that comes only after the opening", strict, async () => {
  await using folder = await temporaryFolder();
  await using server = await LyingServer.start();
  const client = new Client(join(folder.path, "client")),
    { parent, newest } = await makeHistory(server, client);
  for (const [later, expected] of [[newest, undefined], [parent, "rollback"]] as const) {
    client.forget();
    await server.set(newest.image);
    const cloned = await client.change(server, async (volume, source) => {
      await server.set(later.image);
      await copyOpened({ volume, source, access: {} }, new RamStore());
    }, "read");
    assert.equal(cloned, expected);
  }
});

/** Looks on when a header is written. */
class Watched extends StoreDecorator {
  constructor(base: BlockStore, readonly onHeader: () => void) {
    super(base);
  }
  override writeHeader(...args: Parameters<BlockStore["writeHeader"]>) {
    this.onHeader();
    return super.writeHeader(...args);
  }
}

Deno.test(
  "master keys are zeroed before changed key slots are written, and before a clone copies",
  strict,
  async () => {
    await using folder = await temporaryFolder();
    const client = new Client(join(folder.path, "client")), place = new FilePlace(folder.path);
    const { newest } = await makeHistory(place, client);
    let looked = 0;
    const gone = ({ unlocked: { masterKeys } }: UnlockedContainer) => {
      for (const key of masterKeys.values()) assert.throws(() => key.bytes, /disposed/), looked++;
    };
    client.forget();
    await place.set(newest.image);
    await client.unlocked(place, async (container, access) => {
      const store = new Watched(container.store, () => gone(container));
      const slot = { kind: "passphrase", text: "another" } as const;
      await changeEncryption(
        { ...container, store },
        access,
        (header, key) => addSlot(header, key, { slot }),
      );
    });
    assert(looked >= 2, "both copies");
    looked = 0;
    assert.equal(
      await client.change(place, async (volume, source) => {
        await copyOpened(
          { volume, source, access: {} },
          new Watched(new RamStore(), () => gone(source)),
        );
      }, "read"),
      undefined,
    );
    assert(looked >= 2, "both copies");
  },
);

Deno.test("a fork that is shown to two clients shows when they meet", strict, async () => {
  await using folder = await temporaryFolder();
  const one = new Client(join(folder.path, "one")), two = new Client(join(folder.path, "two"));
  const place = new FilePlace(folder.path), { forks } = await makeHistory(place, one);
  for (const [client, fork] of [[one, forks[0]], [two, forks[1]]] as const) {
    client.forget();
    await place.set(fork.image);
    assert.equal(outcomeOf(await client.look(place), fork.files), "served", "each sees its own branch");
  }
  for (const [client, fork] of [[one, forks[1]], [two, forks[0]]] as const) {
    await place.set(fork.image);
    assert.equal(await client.look(place), "rollback");
    assert.equal(await client.write(place, {}), "rollback");
    assert.deepEqual(await place.get(), fork.image);
  }
});

Deno.test("an old header with the removed slot opens an old copy, and nothing newer", strict, async () => {
  await using folder = await temporaryFolder();
  const owner = new Client(join(folder.path, "owner")),
    thief = new Client(join(folder.path, "thief"), "leaked");
  const place = new FilePlace(folder.path), { parent, newest } = await makeHistory(place, owner);
  await place.set(parent.image);
  assert.equal(
    outcomeOf(await thief.look(place), parent.files),
    "served",
    "what was copied before stays open",
  );
  thief.forget();
  await place.set(newest.image);
  assert.equal(await thief.look(place), "wrong-passphrase");
  const mixed = newest.image.slice();
  for (const at of [0, 65_536]) mixed.set(parent.image.subarray(at, at + 4096), at);
  await place.set(mixed);
  assert.equal(
    await thief.look(place),
    "rollback",
    "this program refuses; the master key is the same until a rekey",
  );
});
