import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type Progress, withElapsed } from '../../../agent/volumes/progress.ts';

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

test('what takes over a second is told each second, until it is over', async () => {
  const told: (Progress | undefined)[] = [];
  const work = Promise.withResolvers<never>();
  const options = { what: 'opening', limitMs: 60_000 };
  const waiting = withElapsed((progress) => told.push(progress), options, work.promise).catch((error: Error) => error);
  await vi.advanceTimersByTimeAsync(900);
  expect(told).toEqual([]);
  await vi.advanceTimersByTimeAsync(1200);
  work.reject(new Error('failed'));
  expect(await waiting).toMatchObject({ message: 'failed' });
  await vi.advanceTimersByTimeAsync(5000);
  const at = (done: number): Progress => ({ what: 'opening', done, total: 60_000, unit: 'ms' });
  expect(told).toEqual([at(1000), at(2000), undefined]);
});
