import { setImmediate } from "node:timers";
import type { Filesystem } from "../../fs/filesystem.ts";

const LATE = new Set(["admit", "read", "write", "allocate", "copy", "fsync"]);

/**
 * A filesystem that answers by promises, and late, wherever the interface allows it; data to be written is taken only
 * then. The same otherwise as the one that it wraps.
 */
export function delayed(filesystem: Filesystem): Filesystem {
  return new Proxy(filesystem, {
    get(target, name) {
      const value = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      if (!LATE.has(String(name))) return value.bind(target);
      return async (...parameters: unknown[]) => {
        await new Promise<void>((resolve) => setImmediate(resolve));
        return value.apply(target, parameters);
      };
    },
  });
}
