import { Command, Option } from "@commander-js/extra-typings";
import { CoverError } from "../../crypto/errors.ts";
import { DEFAULT_LIMITS, DEFAULT_PORT, serve } from "../../net/mod.ts";
import { ACCESS_FORMATS, openAccessLog } from "../access_log.ts";
import { describeError } from "../exit.ts";
import { ENDING_SIGNALS } from "../interrupt.ts";
import { byteSize, wholeNumber } from "../options.ts";
import { dropNative } from "../permissions.ts";
import { print, printError } from "../output.ts";
import { openNotify } from "../service.ts";

/** `coverfs serve`: keeps containers for others, and knows no keys. */
export const serveCommand = () =>
  new Command("serve")
    .addHelpText("after", "\nExample:\n  coverfs serve --root /srv/coverfs")
    .description("serve containers over TLS")
    .option("--root <DIR>", "where containers, certificate and tokens lie", ".")
    .option("--ram", "keep everything in RAM; gone at the end")
    .option("--host <ADDR>", "address to listen on (default: all)")
    .option("--port <PORT>", "port to listen on; 0 takes a free one", wholeNumber, DEFAULT_PORT)
    .option("--cert <FILE>", "a certificate of your own (PEM)")
    .option("--key <FILE>", "its key (PEM)")
    .option("--max-size <SIZE>", "largest container, in bytes, or with K, M or G", byteSize)
    .option("--max-connections <N>", "connections at most", wholeNumber, DEFAULT_LIMITS.connections)
    .option(
      "--max-address-connections <N>",
      "connections of one address at most",
      wholeNumber,
      DEFAULT_LIMITS.addressConnections,
    )
    .option("--access-log <FILE>", "write what clients do to a file")
    .addOption(
      new Option("--log-format <FORMAT>", "of the access log").choices(ACCESS_FORMATS).default(
        "text" as const,
      ),
    )
    .action(async (options, command) => {
      const { ram, root, host, port, cert, key, maxSize, accessLog, logFormat } = options;
      if ((cert === undefined) !== (key === undefined)) {
        throw new CoverError("usage", "--cert and --key go together");
      }
      const notify = openNotify();
      dropNative(command);
      await using server = await serve({
        ...(ram ? {} : { root }),
        ...(host === undefined ? {} : { hostname: host }),
        port,
        ...(cert === undefined || key === undefined ? {} : { certificateFiles: { certificate: cert, key } }),
        ...(maxSize === undefined ? {} : { maxContainerBytes: maxSize }),
        limits: {
          connections: options.maxConnections,
          addressConnections: options.maxAddressConnections,
        },
        log: printError,
        ...(accessLog === undefined ? {} : { access: openAccessLog(accessLog, logFormat) }),
      });
      const { promise: stopping, resolve: stop } = Promise.withResolvers<void>();
      const reloads = Deno.build.os !== "windows"; // there it is the console that is closed
      for (const signal of ENDING_SIGNALS) {
        if (signal !== "SIGHUP" || !reloads) Deno.addSignalListener(signal, stop);
      }
      if (reloads) {
        Deno.addSignalListener("SIGHUP", () => {
          server.reload().then(
            () => printError(`Certificate read again, fingerprint ${server.fingerprint}`),
            (error) => printError(describeError(error)),
          );
        });
      }
      print(`Serving on ${host ?? "all addresses"}, port ${server.port}`);
      print(`Fingerprint: ${server.fingerprint}`);
      if (server.firstToken !== undefined) {
        print(
          `Link, as secret as a password: ${server.link(server.firstToken, { host: host ?? "localhost" })}`,
        );
      }
      notify("READY=1");
      await stopping;
      notify("STOPPING=1");
    });
