import { Command } from "@commander-js/extra-typings";
import { CoverError } from "../../crypto/errors.ts";
import { DEFAULT_PORT, serve } from "../../net/mod.ts";
import { byteSize, wholeNumber } from "../options.ts";
import { print, printError } from "../output.ts";
import { notifyService } from "../service.ts";

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
    .action(async (options) => {
      const { ram, root, host, port, cert, key, maxSize } = options;
      if ((cert === undefined) !== (key === undefined)) {
        throw new CoverError("usage", "--cert and --key go together");
      }
      await using server = await serve({
        ...(ram ? {} : { root }),
        ...(host === undefined ? {} : { hostname: host }),
        port,
        ...(cert === undefined || key === undefined ? {} : { certificateFiles: { certificate: cert, key } }),
        ...(maxSize === undefined ? {} : { maxContainerBytes: maxSize }),
        log: printError,
      });
      const { promise: stopping, resolve: stop } = Promise.withResolvers<void>();
      for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, stop);
      print(`Serving on ${host ?? "all addresses"}, port ${server.port}`);
      print(`Fingerprint: ${server.fingerprint}`);
      if (server.firstToken !== undefined) {
        print(
          `Link, as secret as a password: ${server.link(server.firstToken, { host: host ?? "localhost" })}`,
        );
      }
      notifyService("READY=1");
      await stopping;
      notifyService("STOPPING=1");
    });
