/** What was measured, as a table and as a picture. */

/** One kind of work, and what each contender did in each round. */
export interface Work {
  readonly name: string;
  /** `s` is better small, all else is better large. */
  readonly unit: string;
  readonly figures: ReadonlyMap<string, readonly number[]>;
}

/** Puts the lines "name value unit" of every contender together, in the order in which they came. */
export class Figures {
  readonly #works = new Map<string, { unit: string; figures: Map<string, number[]> }>();

  add(contender: string, lines: string): void {
    for (const line of lines.trim().split("\n")) {
      const [name = "", value, unit = ""] = line.split(" ");
      let work = this.#works.get(name);
      if (work === undefined) this.#works.set(name, work = { unit, figures: new Map() });
      const before = work.figures.get(contender);
      if (before === undefined) work.figures.set(contender, [Number(value)]);
      else before.push(Number(value));
    }
  }

  get works(): Work[] {
    return [...this.#works].map(([name, work]) => ({ name, ...work }));
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b), half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** How many times better `ours` is than `theirs`. */
function ratio({ unit }: Work, ours: number, theirs: number): number {
  return unit === "s" ? theirs / ours : ours / theirs;
}

/** A contender's median, if it has done this work. */
function result(work: Work, contender: string): number | undefined {
  const values = work.figures.get(contender);
  return values && median(values);
}

const isOurs = (contender: string) => contender.startsWith("coverfs");

/** The best of those that are not CoverFS. */
function bestOther(work: Work): number | undefined {
  const others = [...work.figures.keys()].filter((name) => !isOurs(name)).map((name) => result(work, name)!);
  if (others.length === 0) return undefined;
  return work.unit === "s" ? Math.min(...others) : Math.max(...others);
}

/** A table in Markdown: medians, and how many times better than the best of the others we are. */
export function table(works: readonly Work[], contenders: readonly string[]): string {
  const ours = contenders.filter(isOurs), row = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  const lines = [
    row(["work", ...contenders, ...ours.map((name) => `${name} : best other`)]),
    row(Array(1 + contenders.length + ours.length).fill("---")),
  ];
  for (const work of works) {
    const medians = contenders.map((name) => result(work, name)), best = bestOther(work);
    lines.push(row([
      `${work.name}, ${work.unit}`,
      ...medians.map((value) => value === undefined ? "" : value.toFixed(value < 10 ? 2 : 0)),
      ...ours.map((name) => {
        const value = result(work, name);
        return value === undefined || best === undefined ? "" : `${ratio(work, value, best).toFixed(2)} ×`;
      }),
    ]));
  }
  return lines.join("\n");
}

const COLOURS = ["#1f5fa8", "#5aa0e0", "#8a8a8a", "#b9a27c", "#c9c9c9"];
const LEFT = 150, WIDTH = 560, BAR = 9, GAP = 9, TOP = 58;
/** The longest bar, as a multiple of the reference; what is longer is cut, and its number tells. */
const MOST = 4;

/** A picture: for each kind of work one bar a contender, as multiples of `reference`, longer is better. */
export function picture(
  works: readonly Work[],
  contenders: readonly string[],
  options: { readonly title: string; readonly reference: string },
): string {
  const { title, reference } = options, parts: string[] = [];
  const text = (x: number, y: number, size: number, what: string, anchor = "start") =>
    parts.push(`<text x="${x}" y="${y}" font-size="${size}" text-anchor="${anchor}">${what}</text>`);
  text(LEFT, 20, 14, title);
  contenders.forEach((name, i) => {
    parts.push(
      `<rect x="${LEFT + i * 112}" y="32" width="10" height="10" fill="${COLOURS[i % COLOURS.length]}"/>`,
    );
    text(LEFT + i * 112 + 14, 41, 11, name);
  });
  let y = TOP;
  const scale = WIDTH / MOST;
  for (const work of works) {
    const base = result(work, reference);
    if (base === undefined) continue;
    const height = contenders.length * BAR;
    text(LEFT - 8, y + height / 2 + 4, 11, work.name, "end");
    contenders.forEach((name, i) => {
      const value = result(work, name);
      if (value === undefined) return;
      const times = ratio(work, value, base), width = Math.min(times, MOST) * scale;
      const at = y + i * BAR;
      parts.push(
        `<rect x="${LEFT}" y="${at}" width="${width.toFixed(1)}" height="${BAR - 1}" fill="${
          COLOURS[i % COLOURS.length]
        }"/>`,
      );
      text(
        LEFT + Math.min(width, WIDTH) + 4,
        at + BAR - 2,
        8,
        `${times.toFixed(2)}${times > MOST ? " →" : ""}`,
      );
    });
    y += height + GAP;
  }
  const line = LEFT + scale;
  parts.push(`<path d="M${line} ${TOP - 4}V${y - GAP + 4}" stroke="#c33" stroke-dasharray="3 3"/>`);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${LEFT + WIDTH + 50} ${
      y + 6
    }" font-family="sans-serif">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    ...parts,
    "</svg>\n",
  ].join("\n");
}
