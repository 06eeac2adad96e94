import { existsSync, readdirSync } from 'node:fs';
import { BuildvisorError, isBuildvisorError } from '../../common/errors.ts';
import { pollUntil } from '../../common/wait.ts';

/** How long to wait for something, and what ends the wait early. */
export interface Limit {
  /** Milliseconds. */
  limitMs: number;
  signal?: AbortSignal | undefined;
}

const sysNet = '/sys/class/net';

/**
 * Waits for the machine's network card: the first link, by name, with a device behind it. sysfs tells of no changes, so
 * it is looked at every 30 ms; its driver may still be loading.
 * @throws BuildvisorError `NETWORK_FAILED` with `found`, the links there are; `ABORTED`
 */
export async function waitForLink(limit: Limit): Promise<string> {
  try {
    return await pollUntil({ ...limit, what: 'a network card', everyMs: 30 }, findLink);
  } catch (error) {
    if (!isBuildvisorError(error, 'TIMED_OUT')) throw error;
    const found = readdirSync(sysNet).join(', ');
    throw new BuildvisorError('NETWORK_FAILED', `No network card after ${limit.limitMs / 1000} s`, {
      facts: { found, limitMs: limit.limitMs },
      hint: 'Attach one, or set network.mode = "none" in the boot config.',
      cause: error,
    });
  }
}

function findLink(): string | undefined {
  return readdirSync(sysNet)
    .sort()
    .find((name) => existsSync(`${sysNet}/${name}/device`));
}
