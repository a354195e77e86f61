/** Argon2id of the same secret and parameters, derived once: openings are many here, and it is not its cost that is tried. */

const derived = new Map<string, Promise<ArrayBuffer>>();

/** From now on, until it is disposed, what the runtime has derived by Argon2id is remembered. */
export function derivedOnce(): Disposable {
  const { subtle } = crypto, secrets = new WeakMap<CryptoKey, string>();
  const importKey = subtle.importKey.bind(subtle) as (...args: unknown[]) => Promise<CryptoKey>;
  const deriveBits = subtle.deriveBits.bind(subtle) as (...args: unknown[]) => Promise<ArrayBuffer>;
  const over = {
    importKey: async (...args: unknown[]) => {
      const key = await importKey(...args);
      if (args[2] === "Argon2id") secrets.set(key, (args[1] as Uint8Array).toHex());
      return key;
    },
    deriveBits: async (how: { nonce?: Uint8Array }, key: CryptoKey, bits: number) => {
      const secret = secrets.get(key);
      if (secret === undefined) return await deriveBits(how, key, bits);
      const name = JSON.stringify([secret, { ...how, nonce: how.nonce!.toHex() }, bits]);
      let made = derived.get(name);
      if (made === undefined) derived.set(name, made = deriveBits(how, key, bits));
      return (await made).slice(0); // the caller overwrites it
    },
  };
  Object.assign(subtle, over);
  return {
    [Symbol.dispose]: () => {
      for (const name of ["importKey", "deriveBits"] as const) Reflect.deleteProperty(subtle, name);
    },
  };
}
