/**
 * Files of the kernel (/proc), read by libc: the runtime refuses them to a program that has given up any permission
 * (denoland/deno, `check_special_file`, as of 2.9).
 */
import { libc } from "./libc.ts";

const O_RDONLY = 0, O_CLOEXEC = 0o2000000;
const READ = 64 << 10;

/** Reads a text that the kernel makes; undefined where it cannot be read. */
export function readKernelFile(path: string): string | undefined {
  const functions = libc();
  if (functions === undefined) return undefined;
  const { open, read, close } = functions;
  const fd = open(new TextEncoder().encode(path + "\0"), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return undefined;
  const decoder = new TextDecoder(), part = new Uint8Array(READ);
  let text = "", count: number;
  while ((count = Number(read(fd, part, BigInt(READ)))) > 0) {
    text += decoder.decode(part.subarray(0, count), { stream: true });
  }
  close(fd);
  return count < 0 ? undefined : text;
}
