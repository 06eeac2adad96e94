import { expect, test } from 'vitest';
import { addInterval, type Interval, spanOf } from '../../../../host/cli/progress/intervals.ts';

test('overlaps count once, gaps do not, what runs ends now', () => {
  const intervals: Interval[] = [];
  addInterval(intervals, 0, 10);
  addInterval(intervals, 5, 20);
  addInterval(intervals, 6, 7);
  addInterval(intervals, 100, undefined);
  expect(spanOf(intervals, 130)).toBe(50);
  addInterval(intervals, 100, 110);
  expect(spanOf(intervals, 130)).toBe(30);
  expect(spanOf([], 5)).toBe(0);
});
