/** Programs on a terminal of their own, whose questions are answered. */
import assert from "node:assert/strict";

/**
 * Runs a program on a terminal of its own with standard input and output as pipes, and types an answer when a text has
 * appeared and the terminal has stopped echoing, or need not. Prints as JSON what the terminal showed, what went to standard output,
 * and the exit code.
 */
const TYPIST = `
import json, os, pty, select, sys, termios, time
answers, command = json.loads(sys.argv[1]), sys.argv[2:]
give, take = os.pipe(), os.pipe()
pid, terminal = pty.fork()
if pid == 0:
    os.dup2(give[0], 0); os.dup2(take[1], 1)
    os.execvp(command[0], command)
os.close(give[0]); os.close(give[1]); os.close(take[1])
shown, said, unseen, ends, until = b"", b"", b"", [terminal, take[0]], time.time() + 60
while ends:
    hidden = not termios.tcgetattr(terminal)[3] & termios.ECHO
    if answers and answers[0][0].encode() in unseen and (hidden or answers[0][2:] == ["shown"]):
        os.write(terminal, answers.pop(0)[1].encode("latin-1")); unseen = b""
    if time.time() > until: os.kill(pid, 9); break
    for end in select.select(ends, [], [], 0.02)[0]:
        try: data = os.read(end, 4096)
        except OSError: data = b""
        if not data: ends.remove(end)
        elif end == terminal: shown += data; unseen += data
        else: said += data
status = os.waitpid(pid, 0)[1]
print(json.dumps({"shown": shown.decode(), "said": said.decode(), "code": os.waitstatus_to_exitcode(status)}))
`;

/** What a program showed on its terminal, what it wrote to standard output, and how it ended. */
export interface OnTerminal {
  readonly shown: string;
  readonly said: string;
  readonly code: number;
}

/** A text to wait for, and what is typed then; `shown` where the terminal may show it. */
export type Answer = readonly [question: string, answer: string, echo?: "shown"];

/** Runs a command so. */
export async function onTerminalOf(
  command: readonly string[],
  answers: readonly Answer[],
  options: { readonly env?: Record<string, string> } = {},
): Promise<OnTerminal> {
  const { stdout, stderr, success } = await new Deno.Command("python3", {
    args: ["-c", TYPIST, JSON.stringify(answers), ...command],
    ...options,
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}
