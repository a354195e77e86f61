/** What a call must throw, for `assert.throws` and `assert.rejects`. */
import assert from "node:assert/strict";
import { CoverError } from "../crypto/errors.ts";

/** A {@linkcode CoverError} of this kind, whose message matches. */
export function isCover(kind: CoverError["kind"], message = /./): (error: unknown) => true {
  return (error) => {
    assert(error instanceof CoverError, String(error));
    assert.equal(error.kind, kind, error.message);
    assert.match(error.message, message);
    return true;
  };
}
