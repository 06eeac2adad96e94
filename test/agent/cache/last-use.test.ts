import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { LastUse } from '../../../agent/cache/last-use.ts';
import { openLog } from '../../../agent/log.ts';

/** Measurings that end when they are told to, or when they are called off. */
class Measurings {
  begun = 0;
  calledOff = 0;
  #end: () => void = () => undefined;

  diskUsage = (signal?: AbortSignal): Promise<[]> => {
    this.begun++;
    return new Promise((resolve, reject) => {
      this.#end = () => resolve([]);
      signal?.addEventListener('abort', () => {
        this.calledOff++;
        reject(new Error('called off'));
      });
    });
  };

  end(): void {
    this.#end();
  }
}

const log = openLog('silent');
const wait = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);
beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test('measures once after the last of several builds, and not while one runs', async () => {
  const measurings = new Measurings();
  let running = 1;
  const lastUse = new LastUse(measurings, () => running, log);
  for (let build = 0; build < 3; build++) lastUse.due();
  await wait(1200);
  expect(measurings.begun).toBe(0);
  running = 0;
  await wait(1200);
  expect(measurings.begun).toBe(1);
  measurings.end();
  await lastUse.close();
  expect(measurings.begun).toBe(1);
});

test('a stop measures what is due, at once', async () => {
  const measurings = new Measurings();
  const lastUse = new LastUse(measurings, () => 0, log);
  lastUse.due();
  const closed = lastUse.close();
  await wait(0);
  expect(measurings.begun).toBe(1);
  measurings.end();
  await closed;
  lastUse.due();
  await wait(1200);
  expect(measurings.begun).toBe(1);
});

test('a stop waits for a measuring that goes on, and calls it off at the limit', async () => {
  const measurings = new Measurings();
  const lastUse = new LastUse(measurings, () => 0, log);
  lastUse.due();
  await wait(1100);
  expect(measurings.begun).toBe(1);
  let closed = false;
  const closing = lastUse.close().then(() => {
    closed = true;
  });
  await wait(4900);
  expect(closed).toBe(false);
  await wait(200);
  await closing;
  expect(measurings).toMatchObject({ begun: 1, calledOff: 1 });
});
