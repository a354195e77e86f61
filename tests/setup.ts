/** OS packages that a task needs, for tasks that are no shell script (`setup.sh`). */
import { fileURLToPath } from "node:url";

/** Installs what is missing, as far as that is allowed. @param needs each as `COMMAND:PACKAGE` of Debian */
export async function setUpPackages(needs: Iterable<string>): Promise<void> {
  const setup = fileURLToPath(new URL("setup.sh", import.meta.url));
  const args = ["-c", `. "$0" && setup_packages "$@"`, setup, ...needs];
  await new Deno.Command("bash", { args, stdin: "null", stdout: "inherit", stderr: "inherit" }).spawn()
    .status;
}
