/** A decoder and bytes that are nearly right. */
import fc from "fast-check";
import type { Target } from "./targets.ts";

/** Holds that only errors come out which the target's decoder may throw. */
export function fuzz(target: Target): fc.IAsyncProperty<[unknown]> {
  return fc.asyncProperty(target.inputs, async (input) => {
    try {
      await target.decode(input);
    } catch (error) {
      if (!target.refuses(error)) throw error;
    }
  });
}
