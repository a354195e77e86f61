/** Running other programs for a load. */
import assert from "node:assert/strict";

/** What a program said and how it ended. */
export interface Ended {
  readonly code: number;
  readonly out: string;
  readonly error: string;
}

/** Runs a program and waits for it. */
export async function run(command: readonly string[], options: Deno.CommandOptions = {}): Promise<Ended> {
  const { code, stdout, stderr } = await new Deno.Command(command[0]!, {
    args: command.slice(1),
    stdin: "null",
    ...options,
  }).output();
  const text = new TextDecoder();
  return { code, out: text.decode(stdout), error: text.decode(stderr) };
}

/** Runs a program that must succeed. @returns what it said */
export async function must(command: readonly string[], options: Deno.CommandOptions = {}): Promise<string> {
  const { code, out, error } = await run(command, options);
  assert.equal(code, 0, `${command.join(" ")}: ${out}${error}`);
  return out;
}
