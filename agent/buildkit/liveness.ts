import { setTimeout as sleep } from 'node:timers/promises';
import { withLimit } from '../../common/wait.ts';
import { askWorker } from './worker.ts';

/** When a daemon that runs is taken for dead, in milliseconds. */
export interface LivenessLimits {
  /** Between two questions. */
  everyMs: number;
  /** So long without an answer. */
  silentMs: number;
}

/**
 * A machine whose memory or disk is at its limit answers late and recovers: a restart would cost it every build. Go's runtime
 * answers a ListWorkers, which touches no database, in milliseconds otherwise.
 */
export const usualLiveness: LivenessLimits = { everyMs: 5_000, silentMs: 60_000 };

/**
 * Asks a buildkitd time and again whether it is alive.
 * @returns for how long it was silent, once that is too long; undefined when the signal fires first
 */
export async function untilSilent(
  socket: string,
  { everyMs, silentMs }: LivenessLimits,
  signal: AbortSignal,
): Promise<number | undefined> {
  let heardAt = performance.now();
  while (!signal.aborted) {
    const askedAt = performance.now();
    if (await answers(socket, silentMs, signal)) heardAt = performance.now();
    // A machine that stood still as a whole, this process too, is not held against the daemon: only time spent asking counts.
    else if (performance.now() - askedAt > silentMs * 2) heardAt = performance.now();
    if (signal.aborted) return undefined;
    const silence = performance.now() - heardAt;
    if (silence >= silentMs) return Math.round(silence);
    await sleep(everyMs, undefined, { signal }).catch(() => undefined);
  }
  return undefined;
}

async function answers(socket: string, limitMs: number, signal: AbortSignal): Promise<boolean> {
  try {
    const ask = withLimit({ limitMs, what: 'buildkitd to answer', signal }, (inner) => askWorker(socket, inner));
    return (await ask) !== undefined;
  } catch {
    // An error is an answer that tells of no worker; a limit is silence. Neither is a sign of life.
    return false;
  }
}
