/** sqlite, one row a transaction: every transaction that was acknowledged must be there, in a sound database. */
import assert from "node:assert/strict";
import { statfs } from "node:fs/promises";
import { must } from "./commands.ts";
import type { Load, LoadOptions } from "./load.ts";

/**
 * How a transaction is made durable. With a rollback journal, FULL leaves out the sync of the directory after the
 * journal was deleted: a crash may then bring the journal back, and roll back what was committed (sqlite.org,
 * "PRAGMA synchronous").
 */
const MODES = {
  rollback: "PRAGMA journal_mode=DELETE; PRAGMA synchronous=EXTRA;",
  wal: "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=20;",
} as const;

/** A database with the given kind of journal. */
export class Database implements Load {
  readonly name: string;
  acknowledged = 0;
  readonly #mode: keyof typeof MODES;
  /** Rows that are certainly there, numbered from 1 on, and the last that was begun. */
  #committed = 0;
  #begun = 0;

  constructor(mode: keyof typeof MODES) {
    this.name = `sqlite ${mode}`;
    this.#mode = mode;
  }

  async prepare(directory: string): Promise<void> {
    await must([
      "sqlite3",
      "-bail",
      `${directory}/db`,
      `${MODES[this.#mode]} CREATE TABLE t(n INTEGER PRIMARY KEY, content TEXT, length INTEGER);
       CREATE INDEX i ON t(content);`,
    ]);
  }

  async run({ directory, random, signal }: LoadOptions): Promise<void> {
    await using shell = new Shell(`${directory}/db`);
    await shell.ask(`${MODES[this.#mode]}`);
    while (!signal.aborted) {
      const n = this.#begun = this.#committed + 1, length = 1 + random(3000); // randomblob(0) has one byte
      await shell.ask(`INSERT INTO t VALUES(${n}, hex(randomblob(${length})), ${2 * length});`);
      // A directory that sqlite cannot open counts as synced for it. So where the mount has died, nobody knows.
      await statfs(directory);
      this.#committed = n;
      this.acknowledged++;
    }
  }

  async verify(directory: string): Promise<void> {
    const answer = await must([
      "sqlite3",
      "-bail",
      `${directory}/db`,
      `PRAGMA integrity_check; SELECT count(*), coalesce(max(n), 0), coalesce(sum(length(content) <> length), 0)
       FROM t;`,
    ]);
    const [, rows, last, wrong] = /^ok\n(\d+)\|(\d+)\|(\d+)\n$/.exec(answer)?.map(Number) ?? [];
    assert(rows !== undefined, `${this.name}: ${answer}`);
    assert.equal(wrong, 0, `${this.name}: rows with other contents`);
    assert.equal(rows, last, `${this.name}: rows are missing in between`);
    assert(rows >= this.#committed, `${this.name}: ${rows} rows, though ${this.#committed} were committed`);
    assert(rows <= this.#begun, `${this.name}: ${rows} rows, though ${this.#begun} were begun`);
    this.#committed = this.#begun = rows;
  }
}

/** A sqlite3 that takes statements and says when they are done. */
class Shell implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #output: ReadableStreamDefaultReader<Uint8Array>;
  readonly #errors: Promise<string>;
  #asked = 0;

  constructor(path: string) {
    this.#child = new Deno.Command("sqlite3", {
      args: ["-bail", "-batch", path],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#output = this.#child.stdout.getReader();
    this.#errors = new Response(this.#child.stderr).text();
  }

  /** Has statements executed. @throws if they were not */
  async ask(statements: string): Promise<void> {
    const mark = `done ${++this.#asked}\n`, decoder = new TextDecoder();
    await this.#input.write(new TextEncoder().encode(`${statements}\nSELECT 'done ${this.#asked}';\n`));
    for (let said = ""; !said.endsWith(mark);) {
      const { value, done } = await this.#output.read();
      if (done) throw new Error(`sqlite3 has ended: ${await this.#errors}`);
      said += decoder.decode(value, { stream: true });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close().catch(() => {}); // it may have ended by itself
    await this.#output.cancel();
    await this.#errors;
    await this.#child.status;
  }
}
