import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type GcPolicy, gcPolicies, parseConfig } from '../../../agent/config/index.ts';
import { isBuildvisorError } from '../../../common/errors.ts';
import { document, write } from './arbitrary.ts';

const gcOf = (toml: string) => parseConfig(`# buildvisor config 1\nscope = "a"\n${toml}`, 'boot.toml').gc;
const policies = (toml: string, diskBytes = 100e9) => gcPolicies(gcOf(toml), diskBytes);
const takesMounts = ({ filters }: GcPolicy) =>
  filters.length === 0 || filters.some((filter) => filter === 'type==exec.cachemount');

describe('cache-mounts-last', () => {
  test('takes contexts, layers, internal data, and then cache mounts, whose limit is higher', () => {
    expect(policies('').map(({ filters, all, maxUsedBytes }) => [...filters, all, maxUsedBytes / 1e9])).toEqual([
      ['type==source.local', 'type==source.git.checkout', false, 80],
      ['type!=exec.cachemount', false, 80],
      ['type!=exec.cachemount', false, 80],
      ['type!=exec.cachemount', true, 80],
      ['type==exec.cachemount', false, 90],
      ['type==exec.cachemount', false, 90],
    ]);
    expect(policies('').map(({ minFreeBytes }) => minFreeBytes / 1e9)).toEqual([20, 20, 20, 20, 0, 0]);
  });

  test('takes sizes of the user, in bytes or parts of the volume', () => {
    const [first] = policies('[gc]\nmax = "50GB"\nmin-free = "1%"\nkeep = 2000000');
    expect(first).toMatchObject({ maxUsedBytes: 50e9, minFreeBytes: 1e9, reservedBytes: 2_000_000 });
  });
});

test('buildkit takes cache mounts first, with the caps of BuildKit', () => {
  const [first, ...rest] = policies('[gc]\npreset = "buildkit"', 2 ** 40);
  expect(first).toMatchObject({ maxUsedBytes: 512e6, keepDurationMs: 48 * 3_600_000 });
  expect(first && takesMounts(first)).toBe(true);
  expect(rest[0]).toMatchObject({ maxUsedBytes: 100e9, reservedBytes: 10e9, minFreeBytes: 205e9 });
});

test('off takes nothing, and is not "no policy", for which buildkitd has its own', () => {
  const [only, ...rest] = policies('[gc]\npreset = "off"');
  expect(rest).toEqual([]);
  expect(only?.filters).toEqual(['id==buildvisor-keeps-all']);
});

test('rules come before the preset, and stand alone with off', () => {
  const rule = '[[gc.rule]]\nfilters = ["type==regular"]\nage = "2d"';
  expect(policies(rule)).toHaveLength(7);
  expect(policies(rule)[0]).toMatchObject({ filters: ['type==regular'], keepDurationMs: 172_800_000, maxUsedBytes: 0 });
  expect(policies(`[gc]\npreset = "off"\n${rule}`)).toHaveLength(1);
});

test('never keeps more than there is room for, so that it can always act', () => {
  const disk = 10e9;
  expect(policies('[gc]\nkeep = "50GB"', disk)[0]).toMatchObject({ reservedBytes: 8e9, minFreeBytes: 2e9 });
  expect(policies('[gc]\nmax = "50GB"', disk)[0]).toMatchObject({ maxUsedBytes: disk, minFreeBytes: 2e9 });
});

test('whatever is accepted: every policy is bounded, and no layer outlives a cache mount by default', () => {
  let tried = 0;
  fc.assert(
    fc.property(document, fc.integer({ min: 1e8, max: 2 ** 45 }), (given, diskBytes) => {
      const gc = accepted(write(given));
      if (!gc) return;
      tried++;
      const all = gcPolicies(gc, diskBytes);
      expect(all.length).toBeGreaterThan(0);
      for (const policy of all) expectBounded(policy, diskBytes);
      const preset = all.slice(gc.rules.length);
      const first = preset.findIndex(takesMounts);
      if (gc.preset !== 'cache-mounts-last') return;
      expect(first).toBe(4);
      for (const policy of preset.slice(0, first)) {
        expect(policy.maxUsedBytes).toBeLessThanOrEqual(preset[first]?.maxUsedBytes ?? 0);
        expect(policy.minFreeBytes).toBeGreaterThanOrEqual(preset[first]?.minFreeBytes ?? 0);
      }
    }),
    { numRuns: 500 },
  );
  expect(tried).toBeGreaterThan(100);
});

function expectBounded(policy: GcPolicy, diskBytes: number): void {
  const { reservedBytes, maxUsedBytes, minFreeBytes, keepDurationMs, filters } = policy;
  for (const value of [reservedBytes, maxUsedBytes, minFreeBytes, keepDurationMs])
    expect(Number.isSafeInteger(value) && value >= 0).toBe(true);
  if (maxUsedBytes > 0) expect(reservedBytes).toBeLessThanOrEqual(maxUsedBytes);
  if (minFreeBytes > 0) expect(reservedBytes).toBeLessThanOrEqual(Math.max(0, diskBytes - minFreeBytes));
  // Without any bound buildkitd empties the cache.
  const bounded = maxUsedBytes + minFreeBytes + keepDurationMs > 0;
  expect(bounded || filters[0] === 'id==buildvisor-keeps-all').toBe(true);
}

function accepted(text: string) {
  try {
    return parseConfig(text, 'boot.toml').gc;
  } catch (error) {
    if (isBuildvisorError(error, 'CONFIG_INVALID')) return undefined;
    throw error;
  }
}
