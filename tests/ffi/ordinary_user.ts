/** Mounts a filesystem in memory at the directory named, says so, and ends when it is unmounted. */
import { mount } from "../../ffi/mod.ts";
import { MemoryFilesystem } from "../model/memory_filesystem.ts";

const filesystem = new MemoryFilesystem();
filesystem.setAttributes(0, { uid: Deno.uid()!, gid: Deno.gid()! });
const options = JSON.parse(Deno.args[1] ?? "{}");
try {
  const mounted = await mount(filesystem, Deno.args[0]!, options);
  console.log("mounted");
  console.log((await mounted.done).reason, JSON.stringify(filesystem.held));
} catch (error) {
  console.log((error as Error).message);
}
