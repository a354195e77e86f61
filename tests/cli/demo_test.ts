/** The README's first command. */
import assert from "node:assert/strict";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

Deno.test("the main job is done from the beginning to the end, and leaves nothing behind", {
  sanitizeOps: true,
  sanitizeResources: true,
  ignore: Deno.build.os !== "linux",
}, async () => {
  const script = fileURLToPath(new URL("../../cli/demo/run.sh", import.meta.url));
  const folder = await Deno.makeTempDir();
  const env = { TMPDIR: folder, PATH: `${dirname(Deno.execPath())}:${Deno.env.get("PATH")}` };
  const ran = await new Deno.Command("bash", { args: [script], env }).output();
  const said = new TextDecoder().decode(ran.stdout), complaints = new TextDecoder().decode(ran.stderr);
  assert.equal(ran.code, 0, said + complaints);
  assert.match(said, /diff -r: equal/);
  assert.match(said, /: clean, commit \d+, 8859 files/);
  assert.doesNotMatch(complaints, /warning/);
  await Deno.remove(folder); // fails where it is not empty
});
