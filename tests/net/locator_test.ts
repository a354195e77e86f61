import assert from "node:assert/strict";
import fc from "fast-check";
import { CoverError } from "../../crypto/errors.ts";
import { formatLink, parseFingerprint, parseLocatorUrl } from "../../net/mod.ts";
import { base64url } from "../../crypto/bytes.ts";

const TOKEN = "a".repeat(42) + "A";
const PRINT = "b".repeat(42) + "A";

Deno.test("a locator has a default port and a default name", () => {
  assert.deepEqual(parseLocatorUrl("coverfs://Example.org"), {
    host: "example.org",
    port: 62000,
    name: "cfscontainer",
  });
  assert.deepEqual(parseLocatorUrl("coverfs://10.0.0.1:99/"), {
    host: "10.0.0.1",
    port: 99,
    name: "cfscontainer",
  });
  assert.deepEqual(parseLocatorUrl("coverfs://[::1]:7/box.1"), { host: "::1", port: 7, name: "box.1" });
});

Deno.test("a link carries token and fingerprint", () => {
  assert.deepEqual(parseLocatorUrl(`coverfs://${TOKEN}@h:1/n?sha256=${PRINT}`), {
    host: "h",
    port: 1,
    name: "n",
    token: TOKEN,
    fingerprint: PRINT,
  });
});

const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 }).map(base64url);

Deno.test("parseLocatorUrl() reads back what formatLink() writes", () => {
  fc.assert(fc.property(
    fc.record({
      host: fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6()).map((host) => host.toLowerCase()),
      port: fc.integer({ min: 1, max: 65535 }),
      name: fc.stringMatching(/^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$/),
    }),
    fc.record({ token: bytes32, fingerprint: bytes32 }, { requiredKeys: [] }),
    (locator, secrets) => {
      assert.deepEqual(parseLocatorUrl(formatLink({ ...locator, ...secrets })), { ...locator, ...secrets });
    },
  ));
});

for (
  const [why, text] of [
    ["another scheme", "https://host/name"],
    ["no host", "coverfs:///name"],
    ["a name with a dot first", "coverfs://host/.coverfs"],
    ["a name that climbs", "coverfs://host/../etc"],
    ["an encoded slash", "coverfs://host/a%2fb"],
    ["two path segments", "coverfs://host/a/b"],
    ["a name too long", `coverfs://host/${"a".repeat(65)}`],
    ["port 0", "coverfs://host:0/n"],
    ["port 65536", "coverfs://host:65536/n"],
    ["a port with a sign", "coverfs://host:+1/n"],
    ["an empty port", "coverfs://host:/n"],
    ["a short token", "coverfs://abc@host/n"],
    ["an empty token", "coverfs://@host/n"],
    ["a token with loose bits", `coverfs://${"a".repeat(42)}B@host/n`],
    ["a short fingerprint", "coverfs://host/n?sha256=abc"],
    ["another parameter", `coverfs://host/n?pin=${PRINT}`],
    ["a fragment", "coverfs://host/n#x"],
    ["a host with a space", "coverfs://ho st/n"],
    ["a host with an empty label", "coverfs://a..b/n"],
    ["half an IPv6 address", "coverfs://[::1/n"],
  ] as const
) {
  Deno.test(`a locator with ${why} is refused, without its token in the message`, () => {
    assert.throws(() => parseLocatorUrl(text), (error) => {
      assert(error instanceof CoverError && error.kind === "usage");
      assert(!error.message.includes("abc"));
      return true;
    });
  });
}

Deno.test("a fingerprint may be given as base64url or as hexadecimal digits", () => {
  const bytes = crypto.getRandomValues(new Uint8Array(32));
  const text = base64url(bytes);
  const hex = bytes.toHex();
  assert.equal(parseFingerprint(text), text);
  assert.equal(parseFingerprint(`SHA256:${text}`), text);
  assert.equal(parseFingerprint(hex.toUpperCase().replace(/..(?=.)/g, "$&:")), text);
  assert.throws(() => parseFingerprint(hex.slice(2)), CoverError);
});
