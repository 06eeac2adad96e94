import { setTimeout as sleep } from 'node:timers/promises';
import { isBuildvisorError } from '../../common/errors.ts';
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

/** What {@link untilSilent} goes by. */
export interface Watch {
  /** Ends it. */
  signal: AbortSignal;
  /**
   * When the daemon's volume was last held by a freeze, performance.now(): now while it is. Who writes to it then hangs, and is
   * not dead. By default it never was.
   */
  heldAt?: () => number;
}

/**
 * Asks a buildkitd time and again whether it is alive.
 * @returns for how long it was silent, once that is too long; undefined when the signal fires first
 */
export async function untilSilent(
  socket: string,
  { everyMs, silentMs }: LivenessLimits,
  { signal, heldAt = () => Number.NEGATIVE_INFINITY }: Watch,
): Promise<number | undefined> {
  let heardAt = performance.now();
  while (!signal.aborted) {
    const askedAt = performance.now();
    if (await answers(socket, silentMs, signal)) heardAt = performance.now();
    // A machine that stood still as a whole, this process too, is not held against the daemon: only time spent asking counts.
    else if (performance.now() - askedAt > silentMs * 2) heardAt = performance.now();
    if (signal.aborted) return undefined;
    const silence = performance.now() - Math.max(heardAt, heldAt());
    if (silence >= silentMs) return Math.round(silence);
    await sleep(everyMs, undefined, { signal }).catch(() => undefined);
  }
  return undefined;
}

async function answers(socket: string, limitMs: number, signal: AbortSignal): Promise<boolean> {
  try {
    const ask = withLimit({ limitMs, what: 'buildkitd to answer', signal }, (inner) => askWorker(socket, inner));
    return (await ask) !== undefined;
  } catch (error) {
    // An answer that tells of no worker, or none in time: neither is a sign of life.
    if (isBuildvisorError(error, 'BUILDKITD_FAILED', 'TIMED_OUT', 'ABORTED')) return false;
    throw error;
  }
}
