/** Who waits for room, who goes on, who is refused. The volume is a number here; real ones are in test/native. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Pressure, type PressureOptions } from '../../../agent/cache/pressure.ts';
import type { CacheRecord } from '../../../agent/cache/records.ts';
import { Reserve } from '../../../agent/cache/reserve.ts';
import { openLog } from '../../../agent/log.ts';
import { pollUntil } from '../../../common/wait.ts';

const never = new AbortController().signal;
const size = 1000;
let dir: string;
let free: number;
let running: number;
let pressure: Pressure;
let swept: number;
let sweeping: boolean;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bv-pressure-'));
  [free, running, swept, sweeping] = [20, 0, 0, false];
});
afterEach(async () => {
  await pressure.stop();
  rmSync(dir, { recursive: true });
});

/** A watch over a volume of 1000 bytes with marks at 850 and 950, seen to be as full as it is. */
async function watch(more: Partial<PressureOptions> = {}): Promise<Pressure> {
  pressure = new Pressure({
    control: {
      diskUsage: async () => [],
      async *prune(): AsyncGenerator<CacheRecord, void, undefined> {
        // Nothing may be removed.
      },
    },
    policies: [],
    marks: { softBytes: 850, hardBytes: 950, softInodes: 850, hardInodes: 950, reserveBytes: 0 },
    reserve: new Reserve(join(dir, 'reserve'), 0),
    look: async () => ({ sizeBytes: size, freeBytes: free, inodes: size, inodesFree: size }),
    ready: () => true,
    running: () => running,
    sweeper: () => ({
      look: () => {
        swept++;
      },
      get busy() {
        return sweeping;
      },
    }),
    onChange: () => undefined,
    log: openLog('silent'),
    ...more,
  });
  pressure.start();
  await pollUntil({ limitMs: 5000, everyMs: 5, what: 'the first look' }, () =>
    pressure.level === 'none' && free < 50 ? undefined : true,
  );
  return pressure;
}

test('those who wait go one by one, the first first, once there is room', async () => {
  running = 1;
  await watch();
  const order: number[] = [];
  const entered = [1, 2, 3].map((number) => pressure.enter(never).then(() => order.push(number)));
  expect(pressure.waiting).toBe(3);
  free = 500;
  await Promise.all(entered);
  expect(order).toEqual([1, 2, 3]);
  expect(pressure.isOpen).toBe(true);
});

test('who comes while others wait does not overtake them', async () => {
  running = 1;
  await watch();
  const order: string[] = [];
  const first = pressure.enter(never).then(() => order.push('first'));
  free = 500;
  await pollUntil({ limitMs: 5000, everyMs: 1, what: 'the room to be seen' }, () =>
    pressure.level === 'none' ? true : undefined,
  );
  const second = pressure.enter(never).then(() => order.push('second'));
  await Promise.all([first, second]);
  expect(order).toEqual(['first', 'second']);
});

test('one that is called off is gone, and the others keep their place', async () => {
  running = 1;
  await watch();
  const controller = new AbortController();
  const called = pressure.enter(controller.signal);
  const stays = pressure.enter(never);
  controller.abort();
  await expect(called).rejects.toMatchObject({ code: 'ABORTED' });
  expect(pressure.waiting).toBe(1);
  free = 500;
  await stays;
  await expect(pressure.enter(AbortSignal.abort())).resolves.toBeUndefined();
});

test('with nothing running and nothing to remove they are refused; with a build running they are not', async () => {
  await watch();
  await expect(pressure.enter(never)).rejects.toMatchObject({ code: 'VOLUME_FULL', hint: expect.any(String) });
  running = 1;
  const waits = pressure.enter(never);
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(pressure.waiting).toBe(1);
  free = 500;
  await waits;
});

test('roots that were set aside are swept first, and nobody is refused while they are', async () => {
  sweeping = true;
  await watch();
  const waits = pressure.enter(never).then(
    () => 'passed',
    (error) => error.code,
  );
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(swept).toBeGreaterThan(0);
  expect(pressure.waiting).toBe(1);
  free = 500;
  expect(await waits).toBe('passed');
});

test('a machine that stops tells those who wait, and those who come', async () => {
  running = 1;
  await watch();
  const waits = pressure.enter(never);
  const stopped = pressure.stop();
  await expect(waits).rejects.toMatchObject({ code: 'DRAINING', retryable: true });
  await stopped;
  await expect(pressure.enter(never)).rejects.toMatchObject({ code: 'DRAINING' });
});
