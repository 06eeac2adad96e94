import { getEventListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test, vi } from 'vitest';
import { BuildvisorError } from '../../common/errors.ts';
import { pollUntil, withLimit } from '../../common/wait.ts';

const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
const never = (): Promise<never> => new Promise(() => undefined);

describe('withLimit', () => {
  test('gives what the work gives, and leaves nothing behind', async () => {
    const caller = new AbortController();
    const before = timers();
    const inner = await withLimit({ limitMs: 1000, what: 'it', signal: caller.signal }, async (signal) => signal);
    expect(inner.aborted).toBe(false);
    expect(getEventListeners(caller.signal, 'abort')).toEqual([]);
    expect(timers()).toBe(before);
  });

  test("passes the work's own error on", async () => {
    const error = new TypeError('x');
    const failing = withLimit({ limitMs: 1000, what: 'it' }, () => Promise.reject(error));
    await expect(failing).rejects.toBe(error);
  });

  test('ends at the limit though the work does not, and tells the work', async () => {
    let reason: unknown;
    const late = withLimit({ limitMs: 20, what: 'the drive' }, (signal) => {
      signal.addEventListener('abort', () => {
        reason = signal.reason;
      });
      return never();
    });
    await expect(late).rejects.toMatchObject({
      code: 'TIMED_OUT',
      message: 'Gave up waiting for the drive after 0.02 s',
      facts: { limitMs: 20 },
    });
    expect(reason).toMatchObject({ code: 'TIMED_OUT' });
  });

  test("ends with the caller's signal, the reason kept", async () => {
    const caller = new AbortController();
    const waiting = withLimit({ limitMs: 5000, what: 'it', signal: caller.signal }, never);
    caller.abort('SIGTERM');
    await expect(waiting).rejects.toMatchObject({
      code: 'ABORTED',
      message: 'Stopped waiting for it',
      cause: 'SIGTERM',
    });
    expect(getEventListeners(caller.signal, 'abort')).toEqual([]);
  });

  test('an abort for a reason of ours ends with that', async () => {
    const reason = new BuildvisorError('BUILDKITD_FAILED', 'died');
    const aborted = AbortSignal.abort(reason);
    await expect(withLimit({ limitMs: 5000, what: 'it', signal: aborted }, never)).rejects.toBe(reason);
  });

  test('does not begin the work when it is called off already', async () => {
    const work = vi.fn(never);
    const called = withLimit({ limitMs: 5000, what: 'it', signal: AbortSignal.abort() }, work);
    await expect(called).rejects.toMatchObject({ code: 'ABORTED' });
    expect(work).not.toHaveBeenCalled();
  });

  test('work that fails after the limit is no unhandled rejection', async () => {
    const unhandled = vi.fn();
    process.once('unhandledRejection', unhandled);
    const late = withLimit({ limitMs: 10, what: 'it' }, async () => {
      await sleep(30);
      throw new Error('too late to matter');
    });
    await expect(late).rejects.toMatchObject({ code: 'TIMED_OUT' });
    await sleep(50);
    process.removeListener('unhandledRejection', unhandled);
    expect(unhandled).not.toHaveBeenCalled();
  });
});

describe('pollUntil', () => {
  test('gives the first thing found, false and null included', async () => {
    for (const found of [1, false, null, '']) {
      const probe = vi.fn().mockReturnValueOnce(undefined).mockResolvedValueOnce(undefined).mockReturnValueOnce(found);
      expect(await pollUntil({ limitMs: 60_000, everyMs: 1, what: 'it' }, probe)).toBe(found);
      expect(probe).toHaveBeenCalledTimes(3);
    }
  });

  test('stops probing when the limit has passed', async () => {
    const probe = vi.fn();
    await expect(pollUntil({ limitMs: 40, everyMs: 10, what: 'it' }, probe)).rejects.toMatchObject({
      code: 'TIMED_OUT',
    });
    const calls = probe.mock.calls.length;
    expect(calls).toBeGreaterThan(1);
    await sleep(40);
    expect(probe).toHaveBeenCalledTimes(calls);
  });

  test('a probe that hangs does not outlast the limit', async () => {
    const hanging = pollUntil({ limitMs: 20, everyMs: 1, what: 'it' }, never);
    await expect(hanging).rejects.toMatchObject({ code: 'TIMED_OUT' });
  });

  test('a probe that throws ends it', async () => {
    const failing = pollUntil({ limitMs: 1000, everyMs: 1, what: 'it' }, () => {
      throw new TypeError('broken');
    });
    await expect(failing).rejects.toThrow('broken');
  });

  test('an abort between probes ends it at once', async () => {
    const caller = new AbortController();
    const waiting = pollUntil({ limitMs: 60_000, everyMs: 60_000, what: 'it', signal: caller.signal }, () => undefined);
    await sleep(5);
    caller.abort(new Error('gone'));
    await expect(waiting).rejects.toMatchObject({ code: 'ABORTED', cause: { message: 'gone' } });
  });
});
