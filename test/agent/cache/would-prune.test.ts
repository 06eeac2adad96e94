import { expect, test } from 'vitest';
import type { CacheRecord } from '../../../agent/cache/records.ts';
import { type Plan, wouldPrune } from '../../../agent/cache/would-prune.ts';

const day = 86_400_000;
const nowMs = 1000 * day;

function record(id: string, more: Partial<CacheRecord> = {}): CacheRecord {
  return {
    ...{ id, type: 'regular', description: '', sizeBytes: 100, createdAtMs: 0, lastUsedAtMs: nowMs, usageCount: 1 },
    ...{ inUse: false, shared: false, mutable: false, parents: [] },
    ...more,
  };
}

const all: Plan = {
  ...{ types: ['regular'], all: false, keepDurationMs: 0, reservedBytes: 0, maxUsedBytes: 0, minFreeBytes: 0 },
  ...{ nowMs, freeBytes: 1000 },
};
const idsOf = (records: CacheRecord[]): string[] => records.map(({ id }) => id);

test('takes what matches and nothing that is used, of another type, or shared', () => {
  const records = [
    record('a'),
    record('used', { inUse: true }),
    record('mount', { type: 'exec.cachemount' }),
    record('shared', { shared: true }),
  ];
  expect(idsOf(wouldPrune(records, all))).toEqual(['a']);
});

test('a layer goes only after those that stand on it', () => {
  const records = [record('base'), record('child', { parents: ['base'] }), record('top', { parents: ['child'] })];
  expect(idsOf(wouldPrune(records, all))).toEqual(['top', 'child', 'base']);
  const young = records.map((one) => (one.id === 'base' ? { ...one, lastUsedAtMs: 0 } : one));
  expect(wouldPrune(young, { ...all, keepDurationMs: day })).toEqual([]);
});

test('by age: what was used within it stays, what was never used goes', () => {
  const records = [
    record('old', { lastUsedAtMs: nowMs - 3 * day }),
    record('young', { lastUsedAtMs: nowMs - day }),
    record('never', { lastUsedAtMs: 0 }),
  ];
  expect(idsOf(wouldPrune(records, { ...all, keepDurationMs: 2 * day })).sort()).toEqual(['never', 'old']);
});

test('down to a size, the least used first', () => {
  const records = [
    record('often', { usageCount: 9, lastUsedAtMs: nowMs - 1 }),
    record('late', { usageCount: 2, lastUsedAtMs: nowMs - 2 }),
    record('rare', { usageCount: 1, lastUsedAtMs: nowMs - 3 }),
  ];
  expect(idsOf(wouldPrune(records, { ...all, maxUsedBytes: 250 }))).toEqual(['rare']);
  expect(idsOf(wouldPrune(records, { ...all, minFreeBytes: 1150 }))).toEqual(['rare', 'late']);
  // buildkitd goes on until it is below what may be kept, so one goes although there is room (pruneOnce).
  expect(idsOf(wouldPrune(records, { ...all, minFreeBytes: 500 }))).toEqual(['rare']);
  expect(wouldPrune(records, { ...all, maxUsedBytes: 100, reservedBytes: 301 })).toEqual([]);
});
