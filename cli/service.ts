/** Telling the service manager how far a program is, as sd_notify(3) does. */
import { openDatagrams } from "../ffi/datagram.ts";
import { inBackground } from "./background.ts";
import { logToTerminal } from "./log.ts";

/** Tells a state; may be told when the permission to open libraries has been given up. */
export type Notify = (state: "READY=1" | "STOPPING=1") => void;

/**
 * How to tell the service manager that waits for this program (`Type=notify`) of its state; without one, nothing is
 * done. A process in the background tells nothing: what the manager started has ended by then.
 */
export function openNotify(): Notify {
  const socket = Deno.env.get("NOTIFY_SOCKET");
  if (!socket || inBackground()) return () => {};
  const warn = (state: string, error: unknown) =>
    logToTerminal(`Cannot tell the service manager${state}: ${(error as Error).message}`);
  try {
    const sender = openDatagrams(socket);
    return (state) => {
      try {
        sender.send(new TextEncoder().encode(state));
      } catch (error) {
        warn(` ${state}`, error);
      }
    };
  } catch (error) {
    warn("", error);
    return () => {};
  }
}
