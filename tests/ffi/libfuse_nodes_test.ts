import assert from "node:assert/strict";
import fc from "fast-check";
import { Nodes, ROOT_NODE } from "../../ffi/libfuse_nodes.ts";
import { S_IFREG } from "../../fs/types.ts";
import { MemoryFilesystem } from "../model/memory_filesystem.ts";
import { strict } from "./mounts.ts";

function files(filesystem: MemoryFilesystem, count: number): number[] {
  return Array.from(
    { length: count },
    (_, i) =>
      filesystem.create(0, new TextEncoder().encode(`f${i}`), { mode: S_IFREG | 0o600, uid: 0, gid: 0 }),
  );
}

Deno.test("Nodes gives an inode one number while the kernel knows it, and holds it so long", strict, () => {
  const filesystem = new MemoryFilesystem();
  const nodes = new Nodes(filesystem);
  const [a, b] = files(filesystem, 2) as [number, number];
  const first = nodes.look(a);
  assert.equal(nodes.look(a), first);
  assert.notEqual(nodes.look(b), first);
  assert.notEqual(first, ROOT_NODE);
  nodes.forget(first, 1);
  assert.equal(nodes.ino(first), a);
  filesystem.unlink(0, new TextEncoder().encode("f0"));
  assert.equal(filesystem.attributes(a).nlink, 0);
  nodes.forget(first, 1);
  assert.throws(() => filesystem.attributes(a), { code: "ESTALE" });
  assert.throws(() => nodes.ino(first), { code: "ESTALE" });
});

Deno.test("Nodes uses a number again only with a new generation", strict, () => {
  const filesystem = new MemoryFilesystem();
  const nodes = new Nodes(filesystem);
  const [a, b] = files(filesystem, 2) as [number, number];
  const node = nodes.look(a);
  const generation = nodes.generation(node);
  nodes.forget(node, 1);
  assert.equal(nodes.look(b), node);
  assert.notEqual(nodes.generation(node), generation);
});

Deno.test(
  "Nodes gives a file another number after renewFiles(), and both give back what they hold",
  strict,
  () => {
    const filesystem = new MemoryFilesystem();
    const nodes = new Nodes(filesystem);
    const [ino] = files(filesystem, 1) as [number];
    const old = nodes.look(ino);
    nodes.open(old);
    nodes.renewFiles();
    const fresh = nodes.look(ino);
    assert.notEqual(fresh, old);
    assert.equal(nodes.ino(ROOT_NODE), 0);
    assert.deepEqual([nodes.ino(old), nodes.ino(fresh), nodes.look(ino)], [ino, ino, fresh]);
    assert.deepEqual(filesystem.held, { inodes: 2, references: 4 });
    nodes.close(old);
    nodes.forget(old, 1);
    assert.equal(nodes.look(ino), fresh);
    assert.deepEqual(filesystem.held, { inodes: 2, references: 2 });
    nodes.renewFiles();
    nodes.look(ino);
    filesystem.unlink(0, new TextEncoder().encode("f0"));
    nodes.clear();
    assert.deepEqual(filesystem.held, { inodes: 0, references: 0 });
  },
);

Deno.test("Nodes gives every reference back, whatever the kernel asked in whatever order", strict, () => {
  const steps = fc.array(fc.tuple(fc.constantFrom("look", "forget", "open", "close"), fc.nat(4)), {
    maxLength: 80,
  });
  fc.assert(fc.property(steps, (list) => {
    const filesystem = new MemoryFilesystem();
    const nodes = new Nodes(filesystem);
    const inos = files(filesystem, 5);
    const known = new Map<number, { node: number; looks: number; opens: number }>();
    for (const [step, i] of list) {
      const ino = inos[i]!;
      const state = known.get(ino);
      if (step === "look") {
        const node = nodes.look(ino);
        if (state) assert.equal(node, state.node);
        known.set(ino, { node, looks: (state?.looks ?? 0) + 1, opens: state?.opens ?? 0 });
      } else if (state && step === "open") {
        nodes.open(state.node);
        state.opens++;
      } else if (state && step === "close" && state.opens > 0) {
        nodes.close(state.node);
        state.opens--;
      } else if (state && step === "forget" && (state.looks > 1 || state.opens === 0)) {
        nodes.forget(state.node, 1);
        if (--state.looks === 0) known.delete(ino);
      }
      const references = [...known.values()].reduce((sum, { opens }) => sum + 1 + opens, 1);
      assert.deepEqual(filesystem.held, { inodes: known.size + 1, references });
      assert.equal(nodes.size, known.size + 1);
    }
    nodes.clear();
    assert.deepEqual(filesystem.held, { inodes: 0, references: 0 });
  }));
});
