/** Names as Windows takes them (learn.microsoft.com, "Naming Files, Paths, and Namespaces"). */

/** Names of devices, whatever follows behind a dot; the digits may be superscript. */
const DEVICE = /^(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[1-9\u00b9\u00b2\u00b3]) *(?:[.:]|$)/i;
// deno-lint-ignore no-control-regex
const FORBIDDEN = /[\x00-\x1f"*/:<>?\\|]/;

/** Why Windows cannot have a file of this name, as it follows "its name"; undefined if it can. */
export function windowsNameProblem(name: string): string | undefined {
  const character = FORBIDDEN.exec(name)?.[0];
  if (character !== undefined) {
    const shown = character < " " ? "a control character" : `"${character}"`;
    return `has ${shown} in it, which Windows does not allow`;
  }
  if (/[. ]$/.test(name)) return "ends with a dot or a space, which Windows would leave out";
  if (DEVICE.test(name)) return "is that of a device on Windows";
  return undefined;
}
