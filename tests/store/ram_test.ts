import { RamStore } from "../../fs/store/ram.ts";
import { storeSuite } from "./conformance.ts";

storeSuite("RamStore", (quota) => Promise.resolve(new RamStore(quota === undefined ? {} : { quota })));
