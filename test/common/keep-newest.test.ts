import { expect, test } from 'vitest';
import { keepNewest } from '../../common/keep-newest.ts';

test('a set keeps the last that were added', () => {
  const kept = new Set(['a', 'b', 'c', 'd']);
  keepNewest(kept, 2);
  expect([...kept]).toEqual(['c', 'd']);
});

test('a map keeps the last that were set, by the first time they were', () => {
  const kept = new Map([
    ['a', 1],
    ['b', 2],
    ['c', 3],
  ]);
  kept.set('a', 4);
  keepNewest(kept, 2);
  expect([...kept]).toEqual([
    ['b', 2],
    ['c', 3],
  ]);
});

test('what is not over its bound stays whole, and a bound of none keeps none', () => {
  const kept = new Set([1, 2]);
  keepNewest(kept, 2);
  keepNewest(kept, 3);
  expect([...kept]).toEqual([1, 2]);
  keepNewest(kept, 0);
  expect(kept.size).toBe(0);
});
