import { Argument } from "@commander-js/extra-typings";
import { readFile } from "node:fs/promises";
import { equalConstantTime } from "../../crypto/bytes.ts";
import { CoverError } from "../../crypto/errors.ts";
import { type EncryptionHeader, newestEncryptionBlock } from "../../crypto/mod.ts";
import type { BlockStore } from "../../fs/block/store.ts";
import { headerOf, readHeaderBackup, tryHeader } from "../../fs/header_backup.ts";
import {
  claimWriter,
  containerKeys,
  openExisting,
  readEncryption,
  unlock,
  writeEncryptionCopy,
} from "../container.ts";
import { chooseLocator, locatorName } from "../locator.ts";
import { writeNewFile } from "../new_file.ts";
import { type Access, writingCommand } from "../options.ts";
import { escapeControls, print } from "../output.ts";
import { readSecret } from "../passphrase.ts";
import { Terminal } from "../terminal.ts";

/** `coverfs header`: keeps what a container cannot be opened without, and puts it back. */
export const headerCommand = () =>
  writingCommand(
    "header",
    "coverfs header -c container backup header.bak\ncoverfs header -c container restore header.bak",
  )
    .description("back up or restore what a container cannot be opened without")
    .addArgument(new Argument("<ACTION>", "what to do").choices(["backup", "restore"] as const))
    .argument("<FILE>", "the backup")
    .option("-y, --yes", "restore without asking")
    .action(async (action, file, options) => {
      const locator = chooseLocator(options.container), name = locatorName(locator);
      await using store = await openExisting(locator, options, action === "backup" ? "read" : "write");
      if (action === "backup") return await backUp(store, file);
      await restore(store, file, { ...options, name });
    });

async function backUp(store: BlockStore, file: string): Promise<void> {
  const { header } = await readEncryption(store), bytes = await readHeaderBackup(store);
  await writeNewFile(file, bytes);
  print(`Wrote ${escapeControls(file)}: encryption block ${header.sequence} and superblocks`);
}

async function restore(
  store: BlockStore,
  file: string,
  options: Access & { readonly name: string; readonly yes?: true | undefined },
): Promise<void> {
  const backup = new Uint8Array(await readFile(file));
  const { header } = await newestEncryptionBlock(headerOf(backup, "key", 0), headerOf(backup, "key", 1));
  await refuseOther(store, header);
  using unlocked = await unlock(header, await readSecret(options, options.name));
  const keys = await containerKeys(header, unlocked.masterKeys);
  using _sealer = keys.sealer;
  const session = crypto.getRandomValues(new Uint8Array(16));
  await claimWriter(store, { header, unlocked, session, takeover: options.takeover });
  const { superblocks, commit } = await tryHeader(store, keys, backup);
  const parts = superblocks === "own" ? "both encryption blocks" : "both encryption blocks and superblocks";
  if (!options.yes) await confirm(`Overwrite ${parts} of ${options.name}? It then shows commit ${commit}.`);
  if (superblocks === "backup") {
    for (const copy of [0, 1] as const) {
      await store.writeHeader("super", copy, headerOf(backup, "super", copy));
      await store.flush();
    }
  }
  for (const copy of [0, 1] as const) await writeEncryptionCopy(store, copy, unlocked.header.bytes);
  print(`Restored ${parts}: commit ${commit}. Look after the rest with coverfs fsck --scrub`);
}

/** What the container has of an encryption block must not be another one's, or newer. */
async function refuseOther(store: BlockStore, header: EncryptionHeader): Promise<void> {
  let own: EncryptionHeader;
  try {
    own = (await readEncryption(store)).header;
  } catch (error) {
    if (error instanceof CoverError && error.kind === "damaged") return;
    throw error;
  }
  if (!equalConstantTime(own.containerId, header.containerId)) {
    throw new CoverError("rollback", "Cannot restore the header: it is of another container");
  }
  if (own.sequence > header.sequence) {
    throw new CoverError("rollback", "Cannot restore the header: that of the container is newer, and whole", {
      hint: "Where one copy of it is damaged, coverfs fsck --repair mends it",
    });
  }
}

async function confirm(question: string): Promise<void> {
  using terminal = Terminal.open();
  if (terminal === undefined) {
    throw new CoverError("usage", "Cannot ask whether to restore: there is no terminal", {
      hint: "Use --yes",
    });
  }
  if (!await terminal.confirm(escapeControls(question))) {
    throw new CoverError("failure", "Nothing was changed");
  }
}
