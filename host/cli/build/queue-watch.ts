import { setTimeout as sleepFor } from 'node:timers/promises';
import { isBuildvisorError } from '../../../common/errors.ts';
import { connectApi } from '../../client/connect.ts';
import type { Machine } from '../../machine/machines.ts';
import type { Display } from './display.ts';
import { QueueStep } from './queue-step.ts';

/** Between two questions for a build that the VM does not know yet, in milliseconds. */
const askEveryMs = 500;

/**
 * Shows the place in the queue of a build that has not begun, until it has or the signal fires. For show only: whatever goes
 * wrong here, the build itself will tell.
 * @param trace the build's name until then
 */
export async function watchQueue(
  machine: Machine,
  trace: string,
  { display, signal }: { display: Display; signal: AbortSignal },
): Promise<void> {
  const client = connectApi(machine.apiSocket);
  const step = new QueueStep(display);
  try {
    while (!signal.aborted) {
      try {
        for await (const { queued, status, result } of client.watch(trace, { signal })) {
          if (queued) step.show(queued);
          if (status || result || queued?.position === 0) return;
        }
        return;
      } catch (error) {
        if (!isBuildvisorError(error, 'BUILD_UNKNOWN')) return;
      }
      await sleepFor(askEveryMs, undefined, { signal }).catch(() => undefined);
    }
  } finally {
    step.end();
    client.close();
  }
}
