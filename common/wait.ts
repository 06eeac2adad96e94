import { setTimeout as sleepFor } from 'node:timers/promises';
import { BuildvisorError, isBuildvisorError } from './errors.ts';

/** How long a wait may take, what it waits for (for the error's sentence), and what ends it early. */
export interface WaitOptions {
  /** Limit in milliseconds. */
  limitMs: number;
  /** What is waited for, as it reads after "waiting for". */
  what: string;
  /** Ends the wait with `ABORTED`, its reason kept as the cause. */
  signal?: AbortSignal | undefined;
}

/**
 * Runs `work` under a limit. `work` gets a signal that is aborted when the limit passes or the caller's signal fires, and
 * must stop by it; the wait itself ends at once either way.
 * @throws BuildvisorError `TIMED_OUT`, `ABORTED`, or whatever `work` throws first.
 */
export async function withLimit<T>(options: WaitOptions, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const { limitMs, what, signal } = options;
  if (signal?.aborted) throw abortedError(what, signal.reason);
  const inner = new AbortController();
  const ended = Promise.withResolvers<never>();
  const end = (error: BuildvisorError): void => {
    ended.reject(error);
    inner.abort(error);
  };
  const timer = setTimeout(() => {
    end(
      new BuildvisorError('TIMED_OUT', `Gave up waiting for ${what} after ${Number((limitMs / 1000).toFixed(2))} s`, {
        facts: { limitMs },
      }),
    );
  }, limitMs);
  const onAbort = (): void => end(abortedError(what, signal?.reason));
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([ended.promise, work(inner.signal)]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}

/** The error of a wait that was called off. */
function abortedError(what: string, reason: unknown): BuildvisorError {
  if (isBuildvisorError(reason)) return reason;
  return new BuildvisorError('ABORTED', `Stopped waiting for ${what}`, { cause: reason });
}

/**
 * Calls `probe` every `everyMs` until it gives something other than `undefined`.
 * @throws BuildvisorError `TIMED_OUT` or `ABORTED`; whatever `probe` throws.
 */
export async function pollUntil<T>(
  options: WaitOptions & { everyMs: number },
  probe: (signal: AbortSignal) => T | undefined | Promise<T | undefined>,
): Promise<T> {
  return withLimit(options, async (signal) => {
    for (;;) {
      signal.throwIfAborted();
      const found = await probe(signal);
      if (found !== undefined) return found;
      await sleepFor(options.everyMs, undefined, { signal });
    }
  });
}
