import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Idle } from '../../../agent/builds/idle.ts';

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

test('it tells after the limit, counted from the end of the last thing', () => {
  const onIdle = vi.fn();
  const idle = new Idle(1000, onIdle);
  vi.advanceTimersByTime(5000);
  expect(onIdle).not.toHaveBeenCalled();
  idle.start();
  vi.advanceTimersByTime(999);
  const first = idle.enter();
  const second = idle.enter();
  vi.advanceTimersByTime(5000);
  first();
  first();
  vi.advanceTimersByTime(5000);
  expect(onIdle).not.toHaveBeenCalled();
  second();
  vi.advanceTimersByTime(999);
  expect(onIdle).not.toHaveBeenCalled();
  vi.advanceTimersByTime(1);
  expect(onIdle).toHaveBeenCalledOnce();
});

test('things that began before it counts are counted', () => {
  const onIdle = vi.fn();
  const idle = new Idle(1000, onIdle);
  idle.add(1);
  idle.start();
  vi.advanceTimersByTime(5000);
  idle.add(-1);
  vi.advanceTimersByTime(1000);
  expect(onIdle).toHaveBeenCalledOnce();
});

test('a limit of 0 is never, and a stop is for good', () => {
  const onIdle = vi.fn();
  new Idle(0, onIdle).start();
  const idle = new Idle(1000, onIdle);
  idle.start();
  idle.stop();
  idle.enter()();
  vi.advanceTimersByTime(100_000);
  expect(onIdle).not.toHaveBeenCalled();
});
