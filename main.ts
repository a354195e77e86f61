/** Starts the program, nothing else. */
import { run } from "./cli/program.ts";

if (import.meta.main) Deno.exit(await run(Deno.args));
