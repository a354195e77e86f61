import { CoverError } from "../../crypto/errors.ts";
import { Container } from "../../fs/container.ts";
import { checkContainer, type Finding } from "../../fs/fsck.ts";
import { withUnlocked } from "../container.ts";
import { FSCK_EXIT } from "../exit.ts";
import { interruptible } from "../interrupt.ts";
import { readingCommand } from "../options.ts";
import { escapeControls, nameText, print, printJson } from "../output.ts";
import { Progress } from "../progress.ts";

/** `coverfs fsck`: checks a container; its exit codes are those of fsck(8). */
export const fsckCommand = (setExitCode: (code: number) => void) =>
  readingCommand("fsck", "coverfs fsck container\ncoverfs fsck --scrub --json container")
    .description("check a container, without changing it")
    .argument("[CONTAINER]", "the container; else -c or COVERFS_CONTAINER")
    .option("--scrub", "read and verify all data too")
    .option("--json", "print one object")
    .option("-q, --quiet", "no progress")
    .action((argument, options) =>
      interruptible((signal) =>
        withUnlocked(
          options,
          { mode: "read", argument },
          async ({ store, keys, encryption, memory, name }) => {
            using progress = new Progress(options);
            const findings: Finding[] = [];
            if (encryption.other !== "same") {
              findings.push({
                severity: "fixable",
                code: "encryption-block",
                message: `Encryption block ${
                  "BA"[encryption.copy]
                } is ${encryption.other}; the other one serves`,
              });
            }
            const report = await checkContainer(store, keys, {
              scrub: options.scrub === true,
              onProgress: (done, all) => {
                signal.throwIfAborted();
                progress.show(`verified ${done} of ${all} blocks`);
              },
            });
            progress.clear();
            findings.push(...report.findings);
            const point = memory.point(keys.containerId),
              container = await Container.open(store, keys, { mode: "read" });
            if (point && !options.acceptRollback && !container.contains(point)) {
              throw new CoverError(
                "rollback",
                `The container is older than commit ${point.commit}, seen before`,
                {
                  hint: "If an old state was put back on purpose, use --accept-rollback once",
                },
              );
            }
            await memory.remember(name, keys.containerId, container.durable, {
              lower: options.acceptRollback,
            });
            const clean = findings.every(({ severity }) => severity === "note");
            setExitCode(clean ? FSCK_EXIT.clean : FSCK_EXIT.uncorrected);
            if (options.json) {
              return printJson({ container: name, clean, ...report, findings: findings.map(toJson) });
            }
            for (const finding of findings) {
              print(describe(finding));
            }
            const { files, dataBlocks, verifiedBlocks, commit } = report;
            const verified = options.scrub
              ? `${verifiedBlocks} of ${dataBlocks} data blocks verified`
              : "data not read";
            print(
              `${escapeControls(name)}: ${
                clean ? "clean" : "not clean"
              }, commit ${commit}, ${files} files, ${verified}`,
            );
          },
        )
      )
    );

function describe({ severity, message, path }: Finding): string {
  return `${severity}: ${message}${path && path.length > 0 ? ` (${escapeControls(nameText(path))})` : ""}`;
}

function toJson({ path, ...rest }: Finding): unknown {
  return path === undefined ? rest : { ...rest, path: nameText(path) };
}
