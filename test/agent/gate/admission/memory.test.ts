import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { defaultMaxBuilds } from '../../../../agent/gate/admission/default-max-builds.ts';
import { MemoryLimit } from '../../../../agent/gate/admission/memory-limit.ts';
import { type MemoryLook, openMemoryGauge } from '../../../../agent/gate/admission/memory-look.ts';
import { openLog } from '../../../../agent/log.ts';

const MiB = 1024 ** 2;

test.each([
  [2, 16 * 1024 * MiB, 4],
  [1, 16 * 1024 * MiB, 2],
  [16, 2048 * MiB, 8],
  [2, 600 * MiB, 2],
  [2, 100 * MiB, 1],
])('%i processors and %i bytes: %i builds at once', (cpus, memory, most) => {
  expect(defaultMaxBuilds(cpus, memory)).toBe(most);
});

describe('the gauge', () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'bv-memory-'));
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  const psi = (some: number, full: number): string =>
    `some avg10=${some.toFixed(2)} avg60=0.00 avg300=0.00 total=1\nfull avg10=${full.toFixed(2)} avg60=0.00 avg300=0.00 total=1\n`;

  test('reads a cgroup: its pressure, and its use less what can go at no cost; and the largest step', async () => {
    const own = join(dir, 'buildkitd');
    await mkdir(own);
    await mkdir(join(dir, 'step'));
    await writeFile(join(dir, 'memory.pressure'), psi(12.5, 3.25));
    await writeFile(join(dir, 'memory.max'), '1000\n');
    await writeFile(join(dir, 'memory.current'), '900\n');
    const stat = [
      'anon 100',
      'file_dirty 20',
      'file_writeback 30',
      'inactive_file 400',
      'active_file 40',
      'slab_reclaimable 10',
    ];
    await writeFile(join(dir, 'memory.stat'), `${stat.join('\n')}\n`);
    const gauge = openMemoryGauge({ all: dir, own: 'buildkitd' });
    expect(gauge.lacks).toBeUndefined();
    expect(gauge.look()).toEqual({ someAvg10: 12.5, fullAvg10: 3.25, used: 0.5, largest: 0 });
    await writeFile(join(own, 'memory.current'), '150\n');
    await writeFile(join(own, 'memory.stat'), 'anon 100\ninactive_file 50\n');
    await writeFile(join(dir, 'step', 'memory.current'), '90\n');
    await writeFile(join(dir, 'step', 'memory.stat'), 'anon 50\ninactive_file 20\n');
    expect(gauge.look()).toMatchObject({ used: 0.5, largest: 0.07 });
    // A step cannot have what is kept for buildkitd, clean or not.
    await writeFile(join(own, 'memory.min'), '120\n');
    expect(gauge.look()).toMatchObject({ used: 0.52 });
    await writeFile(join(own, 'memory.min'), '500\n');
    expect(gauge.look()).toMatchObject({ used: 0.55 });
    await writeFile(join(own, 'memory.min'), '0\n');
    // A cache of files that were read again and again fills a cgroup up to its limit, and keeps no build from running.
    await writeFile(join(dir, 'memory.stat'), 'anon 100\ninactive_file 100\nactive_file 700\n');
    expect(gauge.look().used).toBe(0.1);
    await writeFile(join(dir, 'memory.max'), 'max\n');
    expect(gauge.look()).toMatchObject({ used: undefined, largest: undefined });
  });

  test('reads the whole machine', async () => {
    await mkdir(join(dir, 'pressure'));
    await writeFile(join(dir, 'pressure', 'memory'), psi(0, 0));
    await writeFile(join(dir, 'meminfo'), 'MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:   250 kB\n');
    expect(openMemoryGauge(undefined, dir).look()).toEqual({
      someAvg10: 0,
      fullAvg10: 0,
      used: 0.75,
      largest: undefined,
    });
    expect(openMemoryGauge(undefined).look().used).toBeGreaterThan(0);
  });

  test('says what the kernel does not tell', () => {
    const gauge = openMemoryGauge(undefined, dir);
    expect(gauge.lacks).toContain('does not tell');
    expect(gauge.look()).toEqual({ someAvg10: undefined, fullAvg10: undefined, used: undefined, largest: undefined });
  });
});

describe('the limit', () => {
  beforeEach(() => vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] }));
  afterEach(() => vi.useRealTimers());

  const enough: MemoryLook = { someAvg10: 0, fullAvg10: 0, used: 0.3, largest: 0.1 };

  /** A limit of four, with what is read, and what runs, to be written. */
  function limited() {
    const now = { look: enough, running: 4, changes: 0 };
    const limit = new MemoryLimit({
      ...{
        most: 4,
        look: () => now.look,
        running: () => now.running,
        busy: () => now.running > 0,
        log: openLog('silent'),
      },
      onChange: () => now.changes++,
    });
    limit.watch();
    return { now, limit };
  }

  test.each([
    ['some tasks wait', { ...enough, someAvg10: 25 }],
    ['all tasks wait', { ...enough, fullAvg10: 6 }],
    ['nearly all is used', { someAvg10: undefined, fullAvg10: undefined, used: 0.95, largest: undefined }],
  ])('while %s fewer may run, at least one; then more again', (_, short) => {
    const { now, limit } = limited();
    vi.advanceTimersByTime(5000);
    expect(limit.limit).toBe(4);
    now.look = short;
    vi.advanceTimersByTime(2000);
    expect(limit.limit).toBe(3);
    vi.advanceTimersByTime(60_000);
    expect(limit.limit).toBe(1);
    expect(now.changes).toBe(3);
    // Less than short is not yet enough for one more: it would be short again with it.
    now.look = { ...enough, someAvg10: 12 };
    vi.advanceTimersByTime(60_000);
    expect(limit.limit).toBe(1);
    now.look = enough;
    now.running = 0;
    // Who was let in as the last one ended has ten seconds to show what it takes.
    vi.advanceTimersByTime(9000);
    expect(limit.limit).toBe(1);
    vi.advanceTimersByTime(1000);
    expect(limit.limit).toBe(2);
    vi.advanceTimersByTime(9000);
    expect(limit.limit).toBe(2);
    vi.advanceTimersByTime(12_000);
    expect(limit.limit).toBe(4);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('while much memory is used none is let in beside those that run', () => {
    const { now, limit } = limited();
    now.running = 2;
    vi.advanceTimersByTime(5000);
    expect(limit.limit).toBe(4);
    // As in a VM in which one step writes 1.5 GB.
    now.look = { ...enough, someAvg10: 3.21, fullAvg10: 3.03, used: 0.18 };
    vi.advanceTimersByTime(5000);
    expect(limit.limit).toBe(4);
    now.look = { ...enough, used: 0.8 };
    vi.advanceTimersByTime(1000);
    expect(limit.limit).toBe(2);
    vi.advanceTimersByTime(60_000);
    expect(limit.limit).toBe(2);
    now.running = 1;
    vi.advanceTimersByTime(1000);
    expect(limit.limit).toBe(1);
    now.running = 0;
    vi.advanceTimersByTime(1000);
    expect(limit.limit).toBe(1);
  });

  test('one more is let in only where a step like the largest would fit', () => {
    const { now, limit } = limited();
    now.running = 2;
    now.look = { ...enough, used: 0.95 };
    vi.advanceTimersByTime(3000);
    expect(limit.limit).toBe(1);
    // Of two such steps one has ended, its build not yet; with a further one it would be 0.92.
    now.look = { ...enough, used: 0.53, largest: 0.39 };
    vi.advanceTimersByTime(60_000);
    expect(limit.limit).toBe(1);
    now.look = { ...enough, used: 0.53, largest: 0.2 };
    vi.advanceTimersByTime(9000);
    expect(limit.limit).toBe(1);
    vi.advanceTimersByTime(1000);
    expect(limit.limit).toBe(2);
    vi.advanceTimersByTime(20_000);
    expect(limit.limit).toBe(4);
  });
});
