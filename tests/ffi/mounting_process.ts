/**
 * A program that mounts a filesystem in memory at the directory named, says so, and must end by itself when it is
 * unmounted; it unmounts when a directory `end` is made there. Its second argument holds the mount options, as JSON.
 */
import { mount } from "../../ffi/mod.ts";
import { MemoryFilesystem } from "../model/memory_filesystem.ts";

const [directory, options] = Deno.args;
const filesystem = new MemoryFilesystem();
filesystem.setAttributes(0, { uid: Deno.uid()!, gid: Deno.gid()! });
try {
  const mounted = await mount(filesystem, directory!, JSON.parse(options ?? "{}"));
  const create = filesystem.create.bind(filesystem);
  filesystem.create = (directory, name, spec) => {
    if (new TextDecoder().decode(name) === "end") setTimeout(() => mounted.unmount(), 0);
    return create(directory, name, spec);
  };
  console.log("mounted");
  console.log((await mounted.done).reason, filesystem.held.references);
} catch (error) {
  console.log((error as Error).message);
}
