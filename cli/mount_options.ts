/** `-o` lists, as mount(8) and fstab(5) have them: all that the long options say can be said there too. */
import type { CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { CoverError } from "../crypto/errors.ts";
import { isMountOption } from "../ffi/mod.ts";

/** Names that differ from those of the long options. */
const SYNONYMS: Readonly<Record<string, string>> = { ro: "read-only" };
/** Long options that a list does not hold: what mount(8) says itself, and what would keep it waiting. */
const NOT_IN_LISTS: ReadonlySet<string> = new Set(["container", "foreground", "options", "sloppy", "help"]);

/** Splits a list at its commas; `\,` is a comma in a value, and `\\` a backslash. */
export function splitList(list: string): string[] {
  const parts = list.match(/(?:\\[\\,]|[^,])+/g) ?? [];
  return parts.map((part) => part.replace(/\\([\\,])/g, "$1"));
}

/** The long option that an item of a list stands for, and its value. */
function optionOf(command: CommandUnknownOpts, item: string): [Option, string | undefined] | undefined {
  const equals = item.indexOf("="), word = equals < 0 ? item : item.slice(0, equals);
  const name = SYNONYMS[word] ?? word.replaceAll("_", "-");
  const option = command.options.find((one) => one.long === `--${name}`);
  if (option === undefined || NOT_IN_LISTS.has(name)) return undefined;
  return [option, equals < 0 ? undefined : item.slice(equals + 1)];
}

/**
 * Takes those items of a list that stand for long options of the command, as if they had been given as such. An option
 * that was itself given counts more.
 *
 * @param options `sloppy`: leave out what is not known, instead of refusing it
 * @returns the other items, for the mount
 * @throws {CoverError} "usage" for an item that is not known, or whose value is wrong or missing
 */
export function applyList(
  command: CommandUnknownOpts,
  items: readonly string[],
  options: { readonly sloppy?: boolean | undefined } = {},
): string[] {
  const others: string[] = [], given = new Set<string>();
  for (const option of command.options) {
    const name = option.attributeName();
    if (command.getOptionValueSource(name) === "cli") given.add(name);
  }
  for (const item of items) {
    // Of `ro` and `rw` the last one counts; `rw` in fstab does not take back `--read-only`.
    if (item === "rw" && !given.has("readOnly")) command.setOptionValue("readOnly", undefined);
    const found = optionOf(command, item);
    if (found === undefined) {
      if (isMountOption(item)) others.push(item);
      else if (!options.sloppy) throw unknownItem(command, item);
      continue;
    }
    const [option, value] = found, name = option.attributeName();
    const read = valueOf(option, value, { item, before: command.getOptionValue(name) });
    if (!given.has(name)) command.setOptionValue(name, read);
    if (item === "noatime") others.push(item);
  }
  return others;
}

function valueOf(
  option: Option,
  value: string | undefined,
  about: { item: string; before: unknown },
): unknown {
  const refuse = (why: string, cause?: unknown) =>
    new CoverError("usage", `Cannot read the mount option "${about.item}": ${why}`, { cause });
  if (!option.required) {
    if (value !== undefined) throw refuse("it takes no value");
    return true;
  }
  if (value === undefined || value === "") {
    throw refuse(`it needs a value, as in ${about.item.split("=")[0]}=...`);
  }
  if (option.parseArg === undefined) return value;
  try {
    return option.parseArg(value, about.before);
  } catch (error) {
    throw refuse((error as Error).message.replace(/\.$/, "").replace(/^It/, "it"), error);
  }
}

function unknownItem(command: CommandUnknownOpts, item: string): CoverError {
  const own = command.options.map((one) => one.long?.slice(2) ?? "").filter((one) => !NOT_IN_LISTS.has(one));
  return new CoverError("usage", `Unknown mount option "${item}"`, {
    hint: `Known are those of mount(8) and fstab(5), and ${
      own.map((one) => one.replaceAll("-", "_")).join(", ")
    }`,
  });
}
