import { isBuildvisorError } from '../../common/errors.ts';
import { stopLimitMs } from '../../common/protocol.ts';
import { withLimit } from '../../common/wait.ts';
import { connectApi } from '../client/connect.ts';
import type { RunningMachine } from './driver.ts';

/** Limits of the three ways to end a VM, in milliseconds. */
export interface StopLimits {
  /** For the guest to answer that it will shut down. */
  answerMs: number;
  /** For it then to stop BuildKit, unmount and power off; a full disk's dirty pages may have to be written. */
  orderedMs: number;
  /** For the guest to power off after the power button. */
  powerDownMs: number;
  /** For killed processes to be gone. */
  killMs: number;
}

/** The usual limits. */
export const stopLimits: StopLimits = { answerMs: 5_000, orderedMs: stopLimitMs, powerDownMs: 10_000, killMs: 15_000 };

/** How a VM was brought to its end. */
export type StopMeans = 'ordered' | 'power-button' | 'killed';

/**
 * Ends a VM: asks the guest over its API, then presses its power button, then kills it, each within its limit. Never throws for a guest that
 * does not do its part; each step that failed is told to `log`.
 */
export async function stopGuest(
  machine: RunningMachine,
  request: { apiSocket: string; reason: string; log: (line: string) => void; limits?: StopLimits },
): Promise<StopMeans> {
  const { apiSocket, reason, log, limits = stopLimits } = request;
  const ended = async (limitMs: number): Promise<boolean> => {
    try {
      await withLimit({ limitMs, what: 'the VM to end' }, () => machine.exited);
      return true;
    } catch (error) {
      if (isBuildvisorError(error, 'TIMED_OUT')) return false;
      throw error;
    }
  };
  try {
    await askGuest(apiSocket, reason, limits.answerMs);
    if (await ended(limits.orderedMs)) return 'ordered';
    log(`the guest said it would shut down and did not within ${limits.orderedMs / 1000} s`);
  } catch (error) {
    log(`the guest cannot be asked to shut down: ${messageOf(error)}`);
  }
  try {
    await machine.powerDown();
    if (await ended(limits.powerDownMs)) return 'power-button';
    log(`the guest did not answer its power button within ${limits.powerDownMs / 1000} s`);
  } catch (error) {
    log(`the power button cannot be pressed: ${messageOf(error)}`);
  }
  machine.kill();
  if (!(await ended(limits.killMs))) log(`killed processes did not end within ${limits.killMs / 1000} s`);
  return 'killed';
}

async function askGuest(apiSocket: string, reason: string, limitMs: number): Promise<void> {
  const client = connectApi(apiSocket);
  try {
    await client.shutdown(reason, { limitMs });
  } finally {
    client.close();
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
