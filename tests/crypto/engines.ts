/** The engines that the tests of sealing run over. */
import { type BlockEngine, webCryptoEngine } from "../../crypto/mod.ts";
import { openLibcrypto } from "../../ffi/libcrypto.ts";

/** Runs `work` with WebCrypto and, where the machine has it, with libcrypto. */
export async function withEngines(work: (engine: BlockEngine) => Promise<void>): Promise<void> {
  await work(webCryptoEngine);
  using libcrypto = await openLibcrypto();
  if (libcrypto !== undefined) await work(libcrypto);
}
