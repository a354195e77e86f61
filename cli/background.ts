/** A child that goes on when the command that started it has ended. */
import { fileURLToPath } from "node:url";
import { CoverError } from "../crypto/errors.ts";
import { kindOfExit } from "./exit.ts";

const READY = "ready\n";
/** Set for the child: it tells on standard output when it is ready. */
const VARIABLE = "COVERFS_BACKGROUND";

/** Tells whether this process is such a child. */
export function inBackground(): boolean {
  return Deno.env.get(VARIABLE) === "1";
}

/** The child says that it is ready; whoever started it then ends. */
export function reportReady(): void {
  if (inBackground()) Deno.stdout.writeSync(new TextEncoder().encode(READY));
}

/** How this program is started: the compiled binary itself, or deno with the main module. */
function self(): string[] {
  if (Deno.build.standalone) return [];
  return [
    "run",
    "--quiet",
    "--no-prompt",
    "--cached-only",
    "--no-check",
    "--allow-all",
    fileURLToPath(Deno.mainModule),
  ];
}

/**
 * Starts this program with other arguments and returns when it says that it is ready.
 *
 * @param input what it finds on standard input; zeroed
 * @param environment what it finds in its environment besides this process' own
 * @throws {CoverError} with the child's message and kind if it ended instead
 */
export async function startInBackground(
  args: readonly string[],
  input: Uint8Array<ArrayBuffer>,
  environment: Readonly<Record<string, string>>,
): Promise<void> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...self(), ...args],
    env: { ...environment, [VARIABLE]: "1" },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
    detached: true,
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(input).catch(() => {});
  await writer.close().catch(() => {});
  input.fill(0);
  const reader = child.stdout.getReader(), decoder = new TextDecoder();
  let said = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    said += decoder.decode(part.value, { stream: true });
    if (!said.includes(READY)) continue;
    child.unref();
    await Promise.all([reader.cancel(), child.stderr.cancel()]);
    return;
  }
  const [{ code }, text] = await Promise.all([child.status, new Response(child.stderr).text()]);
  const lines = text.trim().split("\n"), told = lines.findLast((line) => line.startsWith("coverfs: "));
  const hint = lines.findLast((line) => line.startsWith("hint: "))?.slice("hint: ".length);
  const kind = kindOfExit(code);
  throw new CoverError(
    kind,
    told?.slice("coverfs: ".length) ?? `The mount ended with exit code ${code}`,
    hint === undefined ? {} : { hint },
  );
}
