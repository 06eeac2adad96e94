import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Pairs, runPairs, type Side } from '../../bench/lib/pairs.ts';
import { report } from '../../bench/lib/report.ts';
import { median, quantile } from '../../bench/lib/statistics.ts';

/** A side that gives these times, and tells when it runs. */
const side = (name: string, times: number[], ran: string[] = []): Side => ({
  name,
  run: async (round) => {
    ran.push(`${name}${round}`);
    return round < 0 ? 1e6 : times[round];
  },
});

const pairs = (more: Partial<Pairs>): Pairs => ({
  ...{ name: 'x', subject: side('s', [2, 4, 90]), baseline: side('b', [1, 1, 30]), rounds: 3 },
  ...more,
});

test('takes the median of the ratios of pairs, not the ratio of medians', async () => {
  expect(await runPairs(pairs({}))).toEqual({
    name: 'x',
    ratio: 3,
    spread: [2.5, 3.5],
    subject: { name: 's', medianMs: 4 },
    baseline: { name: 'b', medianMs: 1 },
    rounds: 3,
  });
});

test('runs both in turn, another one first each time, after a warm-up that does not count', async () => {
  const ran: string[] = [];
  const told: number[][] = [];
  await runPairs(
    pairs({
      subject: side('s', [1, 1, 1], ran),
      baseline: side('b', [1, 1, 1], ran),
      warmUps: 2,
      onPair: (...pair) => told.push(pair),
    }),
  );
  expect(ran).toEqual(['s-2', 'b-2', 'b-1', 's-1', 's0', 'b0', 'b1', 's1', 's2', 'b2']);
  expect(told).toEqual([
    [0, 1, 1],
    [1, 1, 1],
    [2, 1, 1],
  ]);
});

test('times a run that does not time itself', async () => {
  const slow: Side = { name: 'slow', run: async () => sleep(40).then(() => undefined) };
  const quick: Side = { name: 'quick', run: async () => sleep(4).then(() => undefined) };
  const { ratio, subject } = await runPairs(pairs({ subject: slow, baseline: quick, warmUps: 0 }));
  expect(ratio).toBeGreaterThan(2);
  expect(subject.medianMs).toBeGreaterThan(35);
});

test('a run that fails, hangs or has no time ends it, and is named', async () => {
  const failing: Side = { name: 'f', run: () => Promise.reject(new Error('no')) };
  await expect(runPairs(pairs({ subject: failing }))).rejects.toMatchObject({
    code: 'COMMAND_FAILED',
    message: 'f, round -1 failed: Error: no',
  });
  const hanging: Side = { name: 'h', run: () => new Promise(() => undefined) };
  await expect(runPairs(pairs({ subject: hanging, limitMs: 20 }))).rejects.toMatchObject({ code: 'TIMED_OUT' });
  await expect(runPairs(pairs({ baseline: side('z', [0]) }))).rejects.toThrow('z, round 0 took 0 ms');
  await expect(runPairs(pairs({ rounds: 0 }))).rejects.toThrow('rounds is 0');
  await expect(runPairs(pairs({ signal: AbortSignal.abort() }))).rejects.toMatchObject({ code: 'ABORTED' });
});

test('the last line is one JSON object', async () => {
  const result = await runPairs(pairs({}));
  let text = '';
  report({ bench: 'warm', results: [result], facts: { steps: 3 }, aims: { x: 1.3 } }, (more) => {
    text += more;
  });
  const lines = text.trimEnd().split('\n');
  expect(lines).toHaveLength(3);
  expect(lines[1]).toContain('1.3 missed');
  expect(JSON.parse(lines.at(-1) ?? '')).toEqual({
    bench: 'warm',
    ratios: { x: 3 },
    spreads: { x: [2.5, 3.5] },
    ms: { x: [4, 1] },
    rounds: { x: 3 },
    aims: { x: 1.3 },
    steps: 3,
  });
});

test('half of the values lie on each side of the median', () => {
  expect(() => median([])).toThrow('nothing');
  expect([median([3]), median([1, 2]), quantile([1, 2, 3, 4, 5], 0.25)]).toEqual([3, 1.5, 2]);
  fc.assert(
    fc.property(fc.array(fc.integer(), { minLength: 1 }), (values) => {
      const middle = median(values);
      expect(values.filter((value) => value < middle).length).toBeLessThanOrEqual(values.length / 2);
      expect(values.filter((value) => value > middle).length).toBeLessThanOrEqual(values.length / 2);
    }),
  );
});
