/**
 * What follows from a container's bytes is worked out once for all containers that agree in the bytes that were
 * looked at: most states that a crash may leave differ only where nobody looks.
 */
import { type Asked, type Medium, MediumStore } from "../../fs/block/medium.ts";
import { blocksIn } from "../../fs/block/byte_layout.ts";
import type { BlockStore } from "../../fs/block/store.ts";

/** A stretch of questions that were always asked in this order, and what comes of the answers. */
interface Node<T> {
  asked: Asked[];
  answers: number[];
  /** The next question, of which several answers are known; or what followed. */
  next: { readonly asked: Asked; readonly nodes: Map<number, Node<T>> } | { readonly value: T };
}

/**
 * Remembers what `work` gave by all that it read. That is exact as long as the work depends on nothing else but
 * random numbers, sessions' ids and the like, and on the clock. It may write to the store: what it reads of that is
 * not the container's.
 */
export class ReadMemo<T> {
  #root: Node<T> | undefined;
  readonly #work: (store: BlockStore) => Promise<T>;
  readonly #quota: number;
  #runs = 0;

  /** @param options `quota`: blocks beyond which the store may not grow */
  constructor(work: (store: BlockStore) => Promise<T>, options: { readonly quota?: number } = {}) {
    this.#work = work;
    this.#quota = options.quota ?? Infinity;
  }

  /** How often the work was done. */
  get runs(): number {
    return this.#runs;
  }

  /** What the work gives for this medium, which stays as it is. A failure is not remembered. */
  async of(medium: Medium): Promise<T> {
    const known = this.#find(medium);
    if (known) return known.value;
    this.#runs++;
    const asked: Asked[] = [], answers: number[] = [], seen = new Set<Asked>(), own = medium.fork();
    const value = await this.#work(
      new MediumStore(own, {
        quota: Math.max(this.#quota, blocksIn(medium.length)),
        onAsked: (one) => {
          if (seen.has(one) || (one !== "size" && own.wrote(one))) return;
          seen.add(one);
          asked.push(one);
          answers.push(answerOf(medium, one));
        },
      }),
    );
    this.#keep(asked, answers, value);
    return value;
  }

  #find(medium: Medium): { readonly value: T } | undefined {
    for (let node = this.#root; node !== undefined;) {
      const { asked, answers, next } = node;
      for (let i = 0; i < asked.length; i++) {
        if (answerOf(medium, asked[i]!) !== answers[i]) return undefined;
      }
      if ("value" in next) return next;
      node = next.nodes.get(answerOf(medium, next.asked));
    }
    return undefined;
  }

  #keep(asked: Asked[], answers: number[], value: T): void {
    const leaf = (from: number): Node<T> => ({
      asked: asked.slice(from),
      answers: answers.slice(from),
      next: { value },
    });
    if (this.#root === undefined) {
      this.#root = leaf(0);
      return;
    }
    for (let node = this.#root, at = 0;;) {
      for (let i = 0; i < node.asked.length; i++, at++) {
        if (asked[at] !== node.asked[i]) return; // asked in another order: known, but not kept
        if (answers[at] === node.answers[i]) continue;
        const rest = {
          asked: node.asked.slice(i + 1),
          answers: node.answers.slice(i + 1),
          next: node.next,
        };
        const nodes = new Map([[node.answers[i]!, rest], [answers[at]!, leaf(at + 1)]]);
        node.next = { asked: asked[at]!, nodes };
        node.asked.length = node.answers.length = i;
        return;
      }
      if ("value" in node.next || asked[at] !== node.next.asked) return;
      const { nodes } = node.next, answer = answers[at++]!, child = nodes.get(answer);
      if (child === undefined) {
        nodes.set(answer, leaf(at));
        return;
      }
      node = child;
    }
  }
}

function answerOf(medium: Medium, asked: Asked): number {
  return asked === "size" ? blocksIn(medium.length) : medium.hashOf(asked);
}
