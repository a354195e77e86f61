/** How much is on its way to a server at once, over links of all kinds. */
import assert from "node:assert/strict";
import { Pace } from "../../fs/store/pace.ts";

const WINDOW = 16 << 20, REQUEST = 64 * 4128;

/** A link that carries `rate` bytes a millisecond, after which each request is answered `roundTrip` ms later. */
class Link {
  readonly #answers: number[] = [];
  #free = 0;
  now = 0;
  inFlight = 0;
  /** The longest that a request has waited in front of the link since this was set to zero, in ms. */
  queued = 0;
  carried = 0;

  constructor(public rate: number, readonly roundTrip: number) {}

  /** Sends requests one after another for so many ms, as `pace` admits, or `most` of them. */
  run(pace: Pace, milliseconds: number, most = Infinity): void {
    for (const end = this.now + milliseconds; this.now < end; this.now++) {
      while (this.#answers.length > 0 && this.#answers[0]! <= this.now) {
        this.#answers.shift();
        this.inFlight -= REQUEST;
        this.carried += REQUEST;
        pace.answered(REQUEST, this.roundTrip);
      }
      while (most > 0 && (this.inFlight === 0 || this.inFlight + REQUEST <= pace.limit)) {
        this.queued = Math.max(this.queued, this.#free - this.now);
        this.#free = Math.max(this.now, this.#free) + REQUEST / this.rate;
        this.#answers.push(this.#free + this.roundTrip);
        this.inFlight += REQUEST;
        most--;
      }
      pace.holds(most > 0);
    }
  }
}

for (
  const [mbit, roundTrip] of [[20, 20], [100, 20], [100, 90], [1000, 1], [1000, 20], [1000, 90]] as const
) {
  Deno.test(`a link of ${mbit} Mbit/s and ${roundTrip} ms is kept busy, and nothing waits long in front of it`, () => {
    const link = new Link(mbit * 125, roundTrip), pace = new Pace(WINDOW, () => link.now);
    link.run(pace, 20_000);
    link.queued = link.carried = 0;
    link.run(pace, 10_000);
    const share = link.carried / (10_000 * link.rate);
    assert.ok(share > 0.95, `${share}`);
    // What waits for a slow link is never less than four requests.
    const bound = Math.max(2 * roundTrip + 100, (1 << 20) / link.rate);
    assert.ok(link.queued <= bound, `${link.queued} ms, at most ${bound}`);
  });
}

Deno.test("a link that gets faster is used, and one that gets slower is not filled", () => {
  const link = new Link(12_500, 20), pace = new Pace(WINDOW, () => link.now);
  link.run(pace, 10_000);
  const slow = pace.limit;
  link.rate = 125_000;
  link.run(pace, 10_000);
  assert.ok(pace.limit > 5 * slow, `${slow}, then ${pace.limit}`);
  link.rate = 12_500;
  link.run(pace, 10_000);
  assert.ok(pace.limit < 2 * slow, `${slow}, then ${pace.limit}`);
});

Deno.test("who sends little does not lower the limit", () => {
  const link = new Link(125_000, 20), pace = new Pace(WINDOW, () => link.now);
  for (let i = 0; i < 100; i++) link.run(pace, 200, 2);
  assert.equal(pace.limit, WINDOW);
});
