/** Telling the service manager how far a program is, as sd_notify(3) does. */
import { sendDatagram } from "../ffi/datagram.ts";
import { inBackground } from "./background.ts";
import { logToTerminal } from "./log.ts";

/**
 * Tells the service manager that waits for it (`Type=notify`) of a state; without one, does nothing. A process in the
 * background tells nothing: what the manager started has ended by then.
 */
export function notifyService(state: "READY=1" | "STOPPING=1"): void {
  const socket = Deno.env.get("NOTIFY_SOCKET");
  if (!socket || inBackground()) return;
  try {
    sendDatagram(socket, new TextEncoder().encode(state));
  } catch (error) {
    logToTerminal(`Cannot tell the service manager ${state}: ${(error as Error).message}`);
  }
}
