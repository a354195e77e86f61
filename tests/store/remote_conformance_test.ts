import { STORE_BEDS } from "./beds.ts";
import { storeSuite } from "./conformance.ts";

storeSuite("server", STORE_BEDS.server, { persistent: true, runs: 8 });
