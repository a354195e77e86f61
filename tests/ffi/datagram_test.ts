import assert from "node:assert/strict";
import { sendDatagram } from "../../ffi/datagram.ts";
import { listenDatagrams } from "../cli/datagrams.ts";

const strict = { sanitizeOps: true, sanitizeResources: true, ignore: Deno.build.os !== "linux" };
const bytes = (text: string) => new TextEncoder().encode(text);

Deno.test("a datagram reaches a socket by its path and by an abstract name", strict, async () => {
  const folder = await Deno.makeTempDir({ prefix: "coverfs-test-" });
  try {
    for (const name of [`${folder}/socket`, `@coverfs-test-${crypto.randomUUID()}`]) {
      await using listener = await listenDatagrams(name, folder);
      sendDatagram(name, bytes("first"));
      sendDatagram(name, bytes("second"));
      while ((await listener.received()).length < 2) await new Promise((resolve) => setTimeout(resolve, 20));
      assert.deepEqual(await listener.received(), ["first", "second"]);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a datagram to nobody says which errno it was", strict, () => {
  assert.throws(
    () => sendDatagram("/nowhere/socket", bytes("x")),
    /Cannot send to "\/nowhere\/socket": errno 2$/,
  );
  assert.throws(() => sendDatagram(`@coverfs-${crypto.randomUUID()}`, bytes("x")), /errno 111$/);
  assert.throws(() => sendDatagram(`/${"x".repeat(107)}`, bytes("x")), /the path is too long$/);
});
